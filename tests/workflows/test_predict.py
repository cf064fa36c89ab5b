"""Predicting detectors: without weights, on several targets, with gates, for Caffe."""

from __future__ import annotations

from pathlib import Path

import pytest
from gated_networks import Spelling, gated
from profiled_gates import write_profiled

import deploycc
from deploycc.detector.file import save
from deploycc.documents.prediction import read_prediction_report
from deploycc.documents.utilisation import UtilisationProfile, read_profile
from deploycc.errors import ArtefactError, InputError, ModelError, TargetError
from deploycc.graph.cost import measure_cost
from deploycc.report.prediction import bounds_table
from deploycc.workflows.predict import predict, write_prediction

TINY = Path(__file__).parents[1] / "models" / "tiny_ssd.prototxt"


def test_a_definition_needs_no_weights_and_every_figure_is_predicted() -> None:
    report = deploycc.predict(TINY, "jetson-tx2-jp46")
    assert [each.precision for each in report.predictions] == ["fp32", "fp16"]
    assert report.source.random_weights == 0
    for each in report.predictions:
        assert each.evidence.kind == "predicted"
        assert "TensorRT 8.0.1" in each.evidence.source
        assert each.time.low_ms < each.time.ms < each.time.high_ms
        assert each.macs == measure_cost(deploycc.load(TINY, random_weights=0).graph).macs
        table = bounds_table(each)
        assert sum(int(launches) for _, launches, *_ in table.rows) == len(each.launches)
        shares = [int(of_time.rstrip(" %")) for _, _, _, of_time, *_ in table.rows]
        assert shares == sorted(shares, reverse=True)
        beside = each.network_ms / each.time.ms
        assert sum(shares) / 100 == pytest.approx(1 - beside, rel=0, abs=0.005 * len(shares))
        (launch_bound,) = [row for row in table.rows if row[0] == "launch"]
        assert "remove whole layers" in launch_bound[-1]
    fp32, fp16 = report.predictions
    assert fp16.time.ms < fp32.time.ms


def test_weights_change_no_time() -> None:
    times = [
        predict(deploycc.load(TINY, random_weights=seed), "jetson-tx2-jp46", precisions=["fp16"]).predictions[0].time
        for seed in (1, 2)
    ]
    assert times[0] == times[1]


def test_of_several_targets_the_others_are_predicted_where_one_is_refused(tmp_path: Path) -> None:
    report = predict(TINY, ["jetson-tx2-jp461", "x86-cpu", "jetson-xavier-jp512"], precisions=["fp16"])
    assert [each.target.name for each in report.predictions] == ["jetson-tx2-jp461", "jetson-xavier-jp512"]
    assert [(each.target, each.code) for each in report.refused] == [("x86-cpu", "prediction-none")]
    tx2, xavier = report.predictions
    assert xavier.time.ms < tx2.time.ms
    write_prediction(report, tmp_path / "out")
    assert read_prediction_report(tmp_path / "out") == report


def test_targets_that_cannot_be_predicted_are_an_error() -> None:
    with pytest.raises(TargetError) as one:
        predict(TINY, "x86-cpu")
    assert one.value.code == "prediction-none"
    with pytest.raises(TargetError, match="none of the targets can be predicted") as several:
        predict(TINY, ["x86-cpu", "x86-rtx"])
    assert set(several.value.context) == {"x86-cpu", "x86-rtx"}
    with pytest.raises(TargetError) as precision:
        predict(TINY, "drive-px2-dgpu", precisions=["fp16"])
    assert precision.value.code == "target-refuses-precision"
    with pytest.raises(ModelError):
        predict("missing.prototxt", "jetson-tx2-jp46")


def test_caffe_launches_every_node_and_takes_longer() -> None:
    (caffe,) = predict(TINY, "jetson-tx2-jp46", runtime="caffe").predictions
    (own, _) = predict(TINY, "jetson-tx2-jp46").predictions
    assert caffe.precision == "fp32"
    assert len(caffe.launches) > len(own.launches)
    assert caffe.time.ms > own.time.ms
    assert "white paper" in caffe.evidence.source
    with pytest.raises(InputError, match="is not a runtime") as caught:
        predict(TINY, "jetson-tx2-jp46", runtime="pytorch")
    assert caught.value.code == "prediction-runtime"


def test_gates_are_predicted_by_a_share_and_by_the_recorded_vectors(tmp_path: Path) -> None:
    model, path, _ = write_profiled(tmp_path)
    detector, profile = deploycc.load(model), read_profile(Path(path))
    everything = predict(detector, "jetson-tx2-jp46", precisions=["fp16"], active=1.0).predictions[0]
    assert everything.skipping is not None
    # TensorRT 8.0 computes both sides of a branch, so no cost of a branch is added to the bound
    assert everything.skipping.ms == pytest.approx(everything.time.ms, rel=0.05, abs=0)
    assert "executes both branches" in everything.gates
    recorded = predict(detector, "jetson-tx2-jp461", precisions=["fp16"], profile=profile).predictions[0]
    assert recorded.skipping is not None
    assert f"gate vectors of {profile.pictures.count} pictures" in recorded.gates
    assert "assumption" in recorded.gates
    assert predict(detector, "jetson-tx2-jp46", precisions=["fp16"]).predictions[0].skipping is None


def test_what_is_said_of_gates_must_fit_the_network(tmp_path: Path) -> None:
    model, path, _ = write_profiled(tmp_path)
    detector = deploycc.load(model)
    profile: UtilisationProfile = read_profile(Path(path))
    with pytest.raises(InputError) as both:
        predict(detector, "jetson-tx2-jp46", profile=profile, active=0.5)
    assert both.value.code == "active-and-profile"
    with pytest.raises(InputError) as share:
        predict(detector, "jetson-tx2-jp46", active=1.5)
    assert share.value.code == "active-share"
    with pytest.raises(InputError) as none:
        predict(TINY, "jetson-tx2-jp46", active=0.5)
    assert none.value.code == "predict-no-gates"
    other = tmp_path / "other.onnx"
    save(gated(Spelling(group="gather", layout="after-activation")), other)
    with pytest.raises(ArtefactError) as stranger:
        predict(deploycc.load(other), "jetson-tx2-jp46", profile=profile)
    assert stranger.value.code == "profile-other-model"
