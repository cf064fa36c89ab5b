"""Gates planned for a board that is not here, by predicted times alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from graph_text import network
from profiled_gates import write_profiled

from deploycc.cli import main
from deploycc.documents.costs import Convolution
from deploycc.documents.document import read_document
from deploycc.documents.gate_plan import GatePlan
from deploycc.documents.gates import read_gate_report
from deploycc.prediction.costs import PredictedCosts
from deploycc.prediction.network import predict_network
from deploycc.target import load
from deploycc.workflows.predicted_gate_costs import PredictedGateCosts

TARGET = "jetson-tx2-jp461"


@pytest.fixture(scope="module")
def costs() -> PredictedGateCosts:
    return PredictedGateCosts(PredictedCosts(load(TARGET)))


@pytest.fixture(scope="module")
def profiled(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    return write_profiled(tmp_path_factory.mktemp("gates"))[:2]


def gates(profiled: tuple[str, str], *arguments: str) -> int:
    model, profile = profiled
    return main(["gates", model, "--profile", profile, "-t", TARGET, *arguments])


def test_a_convolution_costs_what_is_predicted_at_every_tile(costs: PredictedGateCosts) -> None:
    whole = Convolution(
        inputs=64, kernels=96, groups=1, kernel=(3, 3), stride=(1, 1), dilation=(1, 1), pads=(1, 1, 1, 1), size=(40, 40)
    )
    model = costs.model([(whole, True), (replace_inputs(whole), False)])
    for inputs, kernels in ((64, 96), (64, 64), (32, 40), (16, 8)):
        predicted = costs.costs.time_ms(whole.narrowed(inputs, kernels))
        assert float(model.grids[whole](inputs, kernels)) == pytest.approx(predicted, rel=1e-9, abs=0)
    narrow = model.grids[replace_inputs(whole)]
    assert narrow.inputs.tolist() == [0, 32]


def replace_inputs(convolution: Convolution) -> Convolution:
    return convolution.model_copy(update={"inputs": 32})


def test_a_multiplication_costs_the_launch_that_a_network_with_it_has_more(costs: PredictedGateCosts) -> None:
    line = costs.model([]).lines["multiply"]
    text = """<ir_version: 8, opset_import: ["": 13]>
    g (float[1,8,40,40] x, float[8,8,1,1] w, float[1,8,1,1] f) => (float[1,8,40,40] y) {{ {nodes} }}"""
    with_it = network(text.format(nodes="a = Conv (x, w) b = Relu (a) y = Mul (b, f)"), seed=1)
    without = network(text.format(nodes="a = Conv (x, w) y = Relu (a)").replace(", float[1,8,1,1] f", ""), seed=1)
    basis, precision = costs.costs.basis, costs.costs.precision
    times = [predict_network(detector.graph, basis, precision).time.ms for detector in (with_it, without)]
    assert line(8 * 40 * 40) == pytest.approx(times[0] - times[1], rel=0.02, abs=0)
    branch = costs.model([]).lines["branch"]
    assert branch.fixed_ms == basis.model.branch_us * 1e-3


def test_a_plan_that_costs_time_is_refused_with_the_intervals(
    profiled: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gates(profiled, "-o", str(tmp_path / "out")) == 3
    said = " ".join(capsys.readouterr().err.split())
    assert "gates-worst-case" in said
    assert f"predicted: {TARGET} fp16" in said
    assert "100 us per branch are an assumption" in said
    assert "planned, every kernel on: " in said
    assert not (tmp_path / "out").exists()


def test_a_predicted_plan_says_so_with_its_interval_and_worst_case(
    profiled: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert gates(profiled, "--max-worst-case", "9", "--max-time", "9", "-o", str(out)) == 0
    said = capsys.readouterr()
    plan, report = read_document(out, GatePlan), read_gate_report(out)
    assert plan.evidence.kind == report.predicted.kind == "predicted"
    assert TARGET in plan.evidence.source
    assert report.timings is None
    assert report.intervals is not None
    for time, ms in (
        (report.intervals.dense, report.predicted_dense_ms),
        (report.intervals.expected, report.predicted_expected_ms),
        (report.intervals.all_on, report.predicted_all_on_ms),
    ):
        assert time.low_ms < time.ms == ms < time.high_ms
    assert "nothing was measured" in " ".join(said.err.split())
    assert f"{report.intervals.all_on.low_ms:.3f} to" in said.out


def test_branches_are_planned_where_they_would_pay(
    profiled: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With free decisions and launches, skipping the kernels that are off is what a plan is for."""
    init = PredictedCosts.__init__

    def free(self: PredictedCosts, target: object) -> None:
        init(self, target)  # type: ignore[arg-type]
        model = self.basis.model.model_copy(update={"branch_us": 0.0, "launch_cycles": 0.0, "bandwidth": 1e6})
        self.basis = replace(self.basis, model=model)

    monkeypatch.setattr(PredictedCosts, "__init__", free)
    out = tmp_path / "out"
    assert gates(profiled, "--max-worst-case", "9", "--max-time", "9", "--max-growth", "9", "-o", str(out)) == 0
    report = read_gate_report(out)
    assert any(choice.lowering != "multiply" for choice in report.considered)
    assert report.predicted_expected_ms <= report.predicted_all_on_ms
