"""How each TensorRT release spells a plan, checked against the flags each release knows."""

from __future__ import annotations

import itertools

import pytest

from deploycc.documents.plan import Board, Measurement, Network, Tensor
from deploycc.engine import dialect
from deploycc.errors import TargetError

RELEASES = ["6.0", "7.0", "7.1", "7.2", "8.0", "8.2", "8.4", "8.5", "8.6", "9.3"]
RELEASES += ["10.0", "10.3", "10.7", "10.13", "10.16", "11.0", "11.1"]
TIMING = Measurement(warmup_s=0.5, min_duration_s=10.0, min_samples=200)


def board(version: str | None, **changes: object) -> Board:
    fields: dict[str, object] = {
        "name": "board",
        "architecture": "aarch64",
        "runtime": "tensorrt",
        "runtime_version": version,
        "builder": "trtexec",
        "workspace_mib": 256,
        "trtexec": "/usr/src/tensorrt/bin/trtexec",
    }
    return Board(**{**fields, **changes})


def network(precision: str = "fp32", typed: bool = False, caffe: bool = False, **changes: object) -> Network:
    fields: dict[str, object] = {
        "file": "net.prototxt" if caffe else "net.onnx",
        "sha256": "a" * 64,
        "precision": precision,
        "typed": typed,
        "input": Tensor(name="data", shape=(1, 3, 300, 300)),
        "outputs": ("loc", "conf"),
    }
    if caffe:
        fields |= {"format": "caffe", "weights_file": "net.caffemodel", "weights_sha256": "b" * 64}
    return Network(**{**fields, **changes})


def flags_of(arguments: list[str]) -> list[str]:
    return [argument.partition("=")[0] for argument in arguments[1:]]


@pytest.mark.parametrize("version", RELEASES)
def test_every_argument_is_a_flag_of_the_release(version: str) -> None:
    release = tuple(map(int, version.split(".")))
    lists = []
    for precision, typed, caffe in itertools.product(["fp32", "fp16"], [False, True], [False, True]):
        given = board(version, cuda_device=0)
        described = network(precision, typed, caffe)
        possible = not (
            (caffe and release >= (9, 0))
            or (typed and precision == "fp16" and release < (9, 0))
            or (not typed and precision == "fp16" and release >= (11, 0))
        )
        if possible:
            lists.append(dialect.trtexec_build(given, described, "e.engine"))
            lists.append(dialect.trtexec_measure(given, described, "e.engine", TIMING))
            lists.append(dialect.trtexec_profile(given, described, "e.engine"))
        else:
            with pytest.raises(TargetError):
                dialect.trtexec_build(given, described, "e.engine")
    for arguments in lists:
        assert arguments[0] == "/usr/src/tensorrt/bin/trtexec"
        unknown = [flag for flag in flags_of(arguments) if not dialect.knows(release, flag)]
        assert unknown == []
        assert "--device=0" in arguments


def test_every_flag_of_the_table_is_used() -> None:
    used: set[str] = set()
    for version in RELEASES:
        for described in (network(), network("fp16"), network("fp16", typed=True), network(caffe=True)):
            for spell in (dialect.trtexec_build, dialect.trtexec_profile):
                try:
                    used |= set(flags_of(spell(board(version, cuda_device=0), described, "e")))
                except TargetError:
                    continue
            used |= set(flags_of(dialect.trtexec_measure(board(version), described, "e", TIMING)))
    used |= set(flags_of(dialect.trtexec_build(board("8.4"), network("fp16", keep_fp32=("head",)), "e")))
    assert set(dialect.flag_releases()) == used


@pytest.mark.parametrize(
    ("version", "spelled"),
    [
        ("7.1.3", "--onnx=net.onnx --explicitBatch --saveEngine=e.partial --buildOnly --workspace=256 --fp16 --noTF32"),
        ("8.0.1", "--onnx=net.onnx --saveEngine=e.partial --buildOnly --workspace=256 --fp16 --noTF32"),
        (
            "8.2.1",
            "--onnx=net.onnx --saveEngine=e.partial --buildOnly --workspace=256 --fp16 --noTF32 "
            "--profilingVerbosity=detailed",
        ),
        (
            "8.5.2",
            "--onnx=net.onnx --saveEngine=e.partial --buildOnly --memPoolSize=workspace:256 --fp16 --noTF32 "
            "--profilingVerbosity=detailed",
        ),
        (
            "10.3.0",
            "--onnx=net.onnx --saveEngine=e.partial --skipInference --memPoolSize=workspace:256 --fp16 --noTF32 "
            "--profilingVerbosity=detailed",
        ),
    ],
)
def test_building_fp16_by_flag(version: str, spelled: str) -> None:
    assert dialect.trtexec_build(board(version), network("fp16"), "e")[1:] == spelled.split()


def test_fp32_is_no_tf32() -> None:
    assert "--noTF32" not in dialect.trtexec_build(board("7.0"), network(), "e")
    for version in ("7.1", "8.5", "11.1"):
        assert "--noTF32" in dialect.trtexec_build(board(version), network(typed=version == "11.1"), "e")


def test_building_a_typed_network() -> None:
    for version in ("10.13", "11.1"):
        arguments = dialect.trtexec_build(board(version), network("fp16", typed=True), "e")
        assert "--stronglyTyped" in arguments
        assert "--fp16" not in arguments


def test_caffe_goes_through_trtexec_up_to_its_last_parser() -> None:
    arguments = dialect.trtexec_build(board("8.2.1"), network(caffe=True), "e")
    assert arguments[1:6] == [
        "--deploy=net.prototxt", "--model=net.caffemodel", "--output=loc", "--output=conf", "--batch=1",
    ]  # fmt: skip
    with pytest.raises(TargetError) as caught:
        dialect.trtexec_build(board("10.0"), network(caffe=True), "e")
    assert caught.value.code == "caffe-parser-removed"


def test_kept_layers() -> None:
    kept = network("fp16", keep_fp32=("conv4_3_norm", "mbox/loc"))
    arguments = dialect.trtexec_build(board("8.5.2"), kept, "e")
    assert "--precisionConstraints=obey" in arguments
    assert "--layerPrecisions=conv4_3_norm:fp32,mbox/loc:fp32" in arguments
    for version in ("8.2.1", "8.3"):
        with pytest.raises(TargetError) as caught:
            dialect.trtexec_build(board(version), kept, "e")
        assert caught.value.code == "layer-precision-too-old"
        assert "conv4_3_norm" in caught.value.render()
    with pytest.raises(TargetError) as caught:
        dialect.trtexec_build(board("8.5.2"), network("fp16", keep_fp32=("conv:0",)), "e")
    assert caught.value.code == "layer-name-not-spellable"
    fp32 = dialect.trtexec_build(board("8.2.1"), network("fp32", keep_fp32=("conv:0",)), "e")
    assert not any("recision" in argument for argument in fp32)


def test_measuring_on_tx2() -> None:
    assert dialect.trtexec_measure(board("8.2.1"), network(), "engine-fp32.engine", TIMING)[1:] == [
        "--loadEngine=engine-fp32.engine",
        "--warmUp=500",
        "--duration=10",
        "--iterations=200",
        "--avgRuns=1",
        "--exportTimes=engine-fp32.engine.times.partial",
        "--exposeDMA",
        "--useSpinWait",
    ]


def test_measuring_with_11_undoes_its_new_defaults() -> None:
    arguments = dialect.trtexec_measure(board("11.0"), network(), "e", TIMING)
    assert arguments[-2:] == ["--includeDataTransfers", "--noCudaGraph"]


@pytest.mark.parametrize(("version", "included"), [("7.1.3", True), ("8.2.1", True), ("8.4.1", True), ("8.5.2", False)])
def test_which_releases_export_the_warmup(version: str, included: bool) -> None:
    assert dialect.warmup_in_times(board(version)) is included


@pytest.mark.parametrize(("version", "code"), [(None, "tensorrt-version-unknown"), ("5.1.6", "trtexec-too-old")])
def test_releases_that_trtexec_cannot_serve(version: str | None, code: str) -> None:
    with pytest.raises(TargetError) as caught:
        dialect.trtexec_build(board(version), network(), "e")
    assert caught.value.code == code


def test_drive_px2() -> None:
    px2 = board(None, builder="tensorRT_optimization", cuda_device=1)
    assert dialect.tensorrt_optimization(px2, network("fp16", caffe=True), "engine-fp16.bin") == [
        "tensorRT_optimization",
        "--prototxt=net.prototxt",
        "--caffemodel=net.caffemodel",
        "--inputBlobs=data",
        "--outputBlobs=loc,conf",
        "--half2=1",
        "--batchSize=1",
        "--out=engine-fp16.bin.partial",
    ]
    assert "--half2=0" in dialect.tensorrt_optimization(px2, network(caffe=True), "e")
    assert dialect.tensorrt_optimization_environment(px2) == {"CUDA_VISIBLE_DEVICES": "1"}
    with pytest.raises(TargetError) as caught:
        dialect.tensorrt_optimization(px2, network(), "e")
    assert caught.value.code == "builder-needs-caffe"
    with pytest.raises(TargetError) as caught:
        dialect.tensorrt_optimization(px2, network("fp16", caffe=True, keep_fp32=("a",)), "e")
    assert caught.value.code == "layer-precision-too-old"
