"""How each TensorRT release spells a plan, checked against the flags each release knows."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from deploycc.agent import trtexec_commands, trtexec_flags
from deploycc.agent.outcome import Failed
from deploycc.documents.plan import Board, Network, Tensor
from deploycc.engine import limits
from deploycc.errors import TargetError

RELEASES = ["6.0", "7.0", "7.1", "7.2", "8.0", "8.2", "8.4", "8.5", "8.6", "9.3"]
RELEASES += ["10.0", "10.3", "10.7", "10.13", "10.16", "11.0", "11.1"]
BOARD: dict[str, Any] = {"workspace_mib": 256, "cuda_device": None}
TIMING = {"warmup_s": 0.5, "min_duration_s": 10.0, "min_samples": 200}
PATHS = {"file": "/d/net.onnx", "weights_file": "/d/net.caffemodel"}


def numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def network(precision: str = "fp32", typed: bool = False, caffe: bool = False, **changes: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "precision": precision,
        "typed": typed,
        "format": "caffe" if caffe else "onnx",
        "keep_fp32": [],
        "input": {"name": "data", "shape": [1, 3, 300, 300]},
        "outputs": ["loc", "conf"],
    }
    return {**fields, **changes}


def build(version: str, described: dict[str, Any], **board: Any) -> list[str]:
    return trtexec_commands.build_arguments(numbers(version), {**BOARD, **board}, described, PATHS)


def measure(version: str, described: dict[str, Any], **board: Any) -> list[str]:
    plan = {"target": {**BOARD, **board}, "measurement": TIMING}
    return trtexec_commands.measure_arguments(numbers(version), plan, described, "/d/engine-fp32.engine")


def profile(version: str, described: dict[str, Any], **board: Any) -> list[str]:
    plan = {"target": {**BOARD, **board}, "measurement": TIMING}
    return trtexec_commands.profile_arguments(numbers(version), plan, described, "/d/engine-fp32.engine")


def answer(version: str, described: dict[str, Any], **board: Any) -> list[str]:
    plan = {"target": {**BOARD, **board}, "measurement": TIMING}
    return trtexec_commands.answer_arguments(numbers(version), plan, described, "/d/engine-fp32.engine")


def flags_of(arguments: list[str]) -> set[str]:
    return {argument.partition("=")[0] for argument in arguments}


CASES = [
    network(precision, typed, caffe)
    for precision, typed, caffe in itertools.product(["fp32", "fp16"], [False, True], [False, True])
]
CASES += [network("fp16", keep_fp32=[name]) for name in ("head", "a:0", "it's")]
CASES += [network(input={"name": name, "shape": [1, 3, 4, 4]}) for name in ("image:0", "a,b", "it's")]


@pytest.mark.parametrize("version", ["5.1", *RELEASES])
def test_the_host_refuses_what_the_agent_cannot_say(version: str) -> None:
    """And every argument of what it can say is a flag of the release."""
    board = Board(
        name="b", architecture="aarch64", runtime="tensorrt", runtime_version=f"{version}.1", builder="trtexec"
    )
    for described in CASES:
        weights = {"weights_file": "w", "weights_sha256": "b" * 64} if described["format"] == "caffe" else {}
        fields = {**described, "input": Tensor(**{**described["input"], "shape": tuple(described["input"]["shape"])})}
        fields |= {"outputs": ("loc", "conf"), "keep_fp32": tuple(described["keep_fp32"]), **weights}
        try:
            limits.check(board, Network(file="n", sha256="a" * 64, **fields))
            possible = True
        except TargetError:
            possible = False
        try:
            lists = [spell(version, described, cuda_device=0) for spell in (build, measure, profile)]
        except Failed:
            assert not possible, described
            continue
        assert possible, described
        for arguments in lists:
            unknown = [flag for flag in flags_of(arguments) if not trtexec_flags.knows(numbers(version), flag)]
            assert unknown == []
            assert "--device=0" in arguments


def test_every_flag_of_the_table_is_used() -> None:
    used: set[str] = set()
    for version, described in itertools.product(RELEASES, CASES):
        for spell in (build, measure, profile, answer):
            try:
                used |= flags_of(spell(version, described, cuda_device=0))
            except Failed:
                continue
    assert set(trtexec_flags.RELEASES) == used


@pytest.mark.parametrize(
    ("version", "spelled"),
    [
        ("7.1.3", "--onnx=/d/net.onnx --explicitBatch --saveEngine=engine.out --buildOnly --workspace=256 --fp16 --noTF32"),
        ("8.0.1", "--onnx=/d/net.onnx --saveEngine=engine.out --buildOnly --workspace=256 --fp16 --noTF32 --timingCacheFile=timing.cache"),
        (
            "8.2.1",
            "--onnx=/d/net.onnx --saveEngine=engine.out --buildOnly --workspace=256 --fp16 --noTF32 "
            "--profilingVerbosity=detailed --timingCacheFile=timing.cache",
        ),
        (
            "8.5.2",
            "--onnx=/d/net.onnx --saveEngine=engine.out --buildOnly --memPoolSize=workspace:256 --fp16 --noTF32 "
            "--profilingVerbosity=detailed --timingCacheFile=timing.cache",
        ),
        (
            "10.3.0",
            "--onnx=/d/net.onnx --saveEngine=engine.out --skipInference --memPoolSize=workspace:256 --fp16 --noTF32 "
            "--profilingVerbosity=detailed --timingCacheFile=timing.cache",
        ),
    ],
)  # fmt: skip
def test_building_fp16_by_flag(version: str, spelled: str) -> None:
    assert build(version, network("fp16")) == spelled.split()


def test_fp32_is_no_tf32() -> None:
    assert "--noTF32" not in build("7.0", network())
    for version in ("7.1", "8.5", "11.1"):
        assert "--noTF32" in build(version, network(typed=version == "11.1"))


def test_building_a_typed_network() -> None:
    for version in ("10.13", "11.1"):
        arguments = build(version, network("fp16", typed=True))
        assert "--stronglyTyped" in arguments
        assert "--fp16" not in arguments


def test_caffe_goes_through_trtexec_up_to_its_last_parser() -> None:
    assert build("8.2.1", network(caffe=True))[:5] == [
        "--deploy=/d/net.onnx", "--model=/d/net.caffemodel", "--output=loc", "--output=conf", "--batch=1",
    ]  # fmt: skip
    with pytest.raises(Failed, match="reads no Caffe files"):
        build("10.0", network(caffe=True))


def test_kept_layers() -> None:
    kept = network("fp16", keep_fp32=["conv4_3_norm", "mbox/loc"])
    arguments = build("8.5.2", kept)
    assert "--precisionConstraints=obey" in arguments
    assert "--layerPrecisions=conv4_3_norm:fp32,mbox/loc:fp32" in arguments
    for version in ("8.2.1", "8.3"):
        with pytest.raises(Failed, match="cannot keep single layers in FP32"):
            build(version, kept)
    with pytest.raises(Failed, match="cannot be told of the layer"):
        build("8.5.2", network("fp16", keep_fp32=["conv:0"]))
    fp32 = build("8.2.1", network("fp32", keep_fp32=["conv:0"]))
    assert not any("recision" in argument for argument in fp32)


def test_measuring_on_tx2() -> None:
    """More than 10 s are asked for where 10 s are needed: the last query may end earlier than the clock says."""
    assert measure("8.2.1", network()) == [
        "--loadEngine=/d/engine-fp32.engine",
        "--loadInputs=data:input.raw",
        "--shapes=data:1x3x300x300",
        "--warmUp=500",
        "--duration=11",
        "--iterations=200",
        "--avgRuns=1",
        "--exportTimes=times.json",
        "--exposeDMA",
        "--useSpinWait",
    ]


@pytest.mark.parametrize(
    ("version", "stated"),
    [("6.0", True), ("7.1", True), ("8.0", True), ("8.2", True), ("8.4", False), ("8.5", False), ("10.3", False)],
)
def test_a_loaded_engine_is_run_with_an_explicit_batch(version: str, stated: bool) -> None:
    """Up to 8.2 trtexec takes a loaded engine without stated shapes for one with an implicit batch."""
    for spell in (measure, profile):
        assert ("--shapes=data:1x3x300x300" in spell(version, network())) is stated
        assert not any("--batch" in argument for argument in spell(version, network()))
    assert "--batch=1" in measure("8.2", network(caffe=True))
    assert not any("--shapes" in argument for argument in measure("8.2", network(caffe=True)))


def test_names_that_lists_of_tensors_cannot_hold() -> None:
    colon = network(input={"name": "image:0", "shape": [1, 3, 8, 8]})
    assert "--loadInputs=image:0:input.raw" in measure("8.2", colon)
    for version, described in (("7.0", colon), ("8.2", network(input={"name": "a,b", "shape": [1]}))):
        with pytest.raises(Failed, match="cannot be told of the input"):
            measure(version, described)


def test_measuring_with_11_undoes_its_new_defaults() -> None:
    assert measure("11.0", network())[-2:] == ["--includeDataTransfers", "--noCudaGraph"]


@pytest.mark.parametrize(("version", "included"), [("7.1.3", True), ("8.2.1", True), ("8.4.1", True), ("8.5.2", False)])
def test_which_releases_export_the_warmup(version: str, included: bool) -> None:
    assert trtexec_commands.warmup_in_times(numbers(version)) is included


def test_a_release_that_exports_no_samples() -> None:
    for spell in (build, measure, profile, answer):
        with pytest.raises(Failed, match=r"TensorRT 5\.1\.6 cannot export its samples"):
            spell("5.1.6", network())


def test_drive_px2() -> None:
    arguments = trtexec_commands.tensorrt_optimization_arguments(network("fp16", caffe=True), PATHS)
    assert arguments == [
        "--prototxt=/d/net.onnx",
        "--caffemodel=/d/net.caffemodel",
        "--inputBlobs=data",
        "--outputBlobs=loc,conf",
        "--half2=1",
        "--batchSize=1",
        "--out=engine.out",
    ]
    assert "--half2=0" in trtexec_commands.tensorrt_optimization_arguments(network(caffe=True), PATHS)
    assert trtexec_commands.tensorrt_optimization_environment({"cuda_device": 1}) == {"CUDA_VISIBLE_DEVICES": "1"}
    assert trtexec_commands.tensorrt_optimization_environment({"cuda_device": None}) == {}
    with pytest.raises(Failed, match="untyped Caffe networks only"):
        trtexec_commands.tensorrt_optimization_arguments(network(), PATHS)
    with pytest.raises(Failed, match="cannot keep single layers"):
        trtexec_commands.tensorrt_optimization_arguments(network("fp16", caffe=True, keep_fp32=["a"]), PATHS)
