"""plan.json: what it holds, that it survives a round trip, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError
from small_networks import SOURCE, conv_model, plan_folder

from deploycc import target
from deploycc.documents.plan import (
    QUICK,
    BuildPlan,
    Measurement,
    Network,
    Tensor,
    read_plan,
)
from deploycc.engine.plan import make_plan
from deploycc.errors import ArtefactError, TargetError
from deploycc.files import sha256_of

DIGEST = "a" * 64


def network(precision: str = "fp32", **changes: object) -> Network:
    fields: dict[str, object] = {
        "file": f"network-{precision}.onnx",
        "sha256": DIGEST,
        "precision": precision,
        "typed": False,
        "input": Tensor(name="data", shape=(1, 3, 300, 300)),
        "outputs": ("loc", "conf"),
    }
    return Network(**{**fields, **changes})


def suited(board: target.Target, precision: str) -> Network:
    """A network of the format and typing that a target's runtime takes."""
    caffe = {
        "file": f"{precision}.prototxt",
        "format": "caffe",
        "weights_file": "w.caffemodel",
        "weights_sha256": "b" * 64,
    }
    return network(
        precision,
        typed=target.capabilities(board).fp16 == "typed",
        **(caffe if board.model_format == "caffe" else {}),
    )


@pytest.mark.parametrize("name", target.names())
def test_every_target_can_be_planned_in_every_precision_it_builds(name: str, tmp_path: Path) -> None:
    board = target.load(name)
    plan = make_plan(board, [suited(board, precision) for precision in board.precisions], source_sha256=SOURCE)
    plan.write(tmp_path / "plan.json")
    assert read_plan(tmp_path) == plan
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]
    assert [engine.precision for engine in plan.engines] == list(board.precisions)
    for engine in plan.engines:
        assert engine.network_sha256 == plan.network(engine.precision).sha256 == DIGEST
    text = (tmp_path / "plan.json").read_text()
    assert "trtexec" not in text.replace('"builder": "trtexec"', "")  # a plan names no program and no option
    assert "--" not in text


def test_the_plan_names_the_bytes_of_its_networks(tmp_path: Path) -> None:
    plan = plan_folder(tmp_path, target.load("x86-cpu"), {"fp32": conv_model()})
    assert plan.networks[0].sha256 == sha256_of(tmp_path / "network-fp32.onnx")
    assert plan.engines[0].network_sha256 == plan.networks[0].sha256
    assert plan.source_sha256 == SOURCE


def test_untyped_fp16_is_refused_where_no_flag_exists() -> None:
    with pytest.raises(TargetError) as caught:
        make_plan(target.load("x86-rtx"), [network("fp16")], source_sha256=SOURCE)
    assert caught.value.code == "fp16-needs-typed-network"


@pytest.mark.parametrize(
    "name", ["../network.onnx", "/etc/passwd", "a/../../b", "", ".", "-o", "a\\b", "a//b", "./a", "..", "a/"]
)
def test_a_file_name_cannot_leave_the_folder(name: str) -> None:
    with pytest.raises(ValidationError, match="inside the plan's folder"):
        network(file=name)


@pytest.mark.parametrize("name", ["network.onnx", "sub/network.onnx", "mit leer.onnx", "Größe.onnx", "..a"])
def test_ordinary_names_are_taken(name: str) -> None:
    assert network(file=name).file == name


def test_a_caffe_network_needs_its_weights() -> None:
    with pytest.raises(ValidationError, match="caffe network has a weights file"):
        network(format="caffe")
    with pytest.raises(ValidationError, match="go together"):
        network(format="caffe", weights_file="a.caffemodel")


@pytest.mark.parametrize("limits", [{"min_duration_s": 9.9}, {"min_samples": 99}])
def test_a_short_measurement_must_say_that_it_is_quick(limits: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match="is a quick measurement"):
        Measurement(**limits)
    assert Measurement(quick=True, **limits).quick


def changed(plan: BuildPlan, **changes: object) -> str:
    return json.dumps({**json.loads(plan.model_dump_json(by_alias=True)), **changes})


@pytest.fixture
def plan() -> BuildPlan:
    return make_plan(target.load("x86-cpu"), [network()], source_sha256=SOURCE, measurement=QUICK)


@pytest.mark.parametrize(
    ("changes", "code", "said"),
    [
        ({"surprise": 1}, "artefact-invalid", "surprise"),
        ({"schema": 2}, "artefact-schema", "2"),
        ({"schema": True}, "artefact-schema", "true"),
        ({"source_sha256": "short"}, "artefact-invalid", "source_sha256"),
        ({"engines": []}, "artefact-invalid", "engines"),
        ({"networks": "all"}, "artefact-invalid", "networks"),
    ],
)
def test_a_wrong_file_is_refused(
    plan: BuildPlan, tmp_path: Path, changes: dict[str, object], code: str, said: str
) -> None:
    (tmp_path / "plan.json").write_text(changed(plan, **changes))
    with pytest.raises(ArtefactError) as caught:
        read_plan(tmp_path)
    assert caught.value.code == code
    assert said in caught.value.render()


@pytest.mark.parametrize("content", [b'{"schema": 1,', b"\xff\xfe", b"[" * 100_000])
def test_what_is_not_json_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "plan.json").write_bytes(content)
    with pytest.raises(ArtefactError) as caught:
        read_plan(tmp_path)
    assert caught.value.code == "artefact-not-json"


def test_a_missing_plan_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError) as caught:
        read_plan(tmp_path)
    assert caught.value.code == "artefact-missing"


def test_engines_and_networks_must_agree(plan: BuildPlan) -> None:
    engine = plan.engines[0]
    with pytest.raises(ValidationError, match="names another network"):
        BuildPlan(**{**dict(plan), "engines": (engine.model_copy(update={"network_sha256": "c" * 64}),)})
    with pytest.raises(ValidationError, match="the same precision and variant"):
        BuildPlan(**{**dict(plan), "engines": (engine, engine)})
    with pytest.raises(ValidationError, match="the same precisions and variants"):
        BuildPlan(**{**dict(plan), "engines": (engine.model_copy(update={"precision": "fp16"}),)})
    with pytest.raises(ValidationError, match="the same precisions and variants"):
        BuildPlan(**{**dict(plan), "engines": (engine.model_copy(update={"variant": "original"}),)})
    with pytest.raises(ValidationError, match="overwrite"):
        BuildPlan(**{**dict(plan), "engines": (engine.model_copy(update={"file": plan.networks[0].file}),)})


def test_the_original_network_is_planned_beside_the_compiled_one(tmp_path: Path) -> None:
    original = network(file="original.onnx", sha256="b" * 64, variant="original")
    plan = make_plan(target.load("x86-cpu"), [network(), original], source_sha256=SOURCE)
    plan.write(tmp_path / "plan.json")
    assert read_plan(tmp_path) == plan
    assert [(engine.variant, engine.file, engine.network_sha256) for engine in plan.engines] == [
        ("compiled", "engine-fp32.onnx", DIGEST),
        ("original", "engine-fp32-original.onnx", "b" * 64),
    ]
    assert plan.network("fp32").file == "network-fp32.onnx"
    assert plan.network("fp32", "original") is original
    with pytest.raises(ValidationError, match="two networks have the same precision and variant"):
        make_plan(target.load("x86-cpu"), [original, original], source_sha256=SOURCE)
    swapped = [engine.model_copy(update={"file": "engine.onnx"}) for engine in plan.engines]
    with pytest.raises(ValidationError, match="two engines have the same file"):
        BuildPlan(**{**dict(plan), "engines": tuple(swapped)})


def test_a_full_disk_leaves_no_partial_plan(plan: BuildPlan, tmp_path: Path) -> None:
    (tmp_path / "plan.json").mkdir()  # the final rename fails
    with pytest.raises(ArtefactError, match="cannot be written"):
        plan.write(tmp_path / "plan.json")
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]
