"""Shipped targets, capabilities by version, and the errors of wrong files."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from deploycc.errors import TargetError
from deploycc.target import Target, capabilities, contract, load, names
from deploycc.target import target as targets

FILES = sorted(targets.folder().glob("*.toml"))
MINIMAL = {
    "name": "board",
    "title": "A board",
    "tier": "planned",
    "architecture": "aarch64",
    "runtime": "tensorrt",
    "builder": "trtexec",
}


def tensorrt(version: str | None, model_format: str = "onnx") -> Target:
    return Target.model_validate({**MINIMAL, "runtime_version": version, "model_format": model_format})


def write(folder: Path, text: str, name: str = "board.toml") -> str:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def body(**changes: str | None) -> str:
    """TOML of MINIMAL with raw values changed; None leaves a key out."""
    values = {key: f'"{value}"' for key, value in MINIMAL.items()} | changes
    return "".join(f"{key} = {value}\n" for key, value in values.items() if value is not None)


def test_the_ten_targets_are_shipped() -> None:
    assert names() == [
        "drive-px2-dgpu",
        "drive-px2-igpu",
        "jetson-orin-jp62",
        "jetson-thor-jp70",
        "jetson-tx2-jp46",
        "jetson-tx2-jp461",
        "jetson-xavier-jp512",
        "x86-cpu",
        "x86-dgpu-trt10",
        "x86-rtx",
    ]
    assert targets.DEFAULT in names()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_shipped_target_is_small_and_every_hardware_fact_has_its_source(path: Path) -> None:
    assert load(path.stem) == load(str(path))
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 60
    assert max(len(line) for line in lines) <= 160
    sourced = {"sm_count", "cuda_cores", "gpu_clock_mhz", "memory_mib", "memory_bandwidth_gb_s", "fp32_tflops"}
    for number, line in enumerate(lines):
        key = line.partition(" = ")[0]
        if key in sourced:
            near = "#" in line or lines[number - 1].startswith("#")
            assert near, f"{path.name}:{number + 1} states {key} without a source"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_what_a_comment_calls_general_knowledge_is_marked_unconfirmed(path: Path) -> None:
    unconfirmed = load(str(path)).unconfirmed
    for line in path.read_text(encoding="utf-8").splitlines():
        key, _, rest = line.partition(" = ")
        if "general knowledge" in rest:
            assert key in unconfirmed, f"{path.name}: {key}"


def test_tiers_claim_no_more_than_was_done_here() -> None:
    tiers = {name: load(name).tier for name in names()}
    assert tiers.pop("x86-cpu") == "measured"
    assert tiers.pop("x86-rtx") == "built"
    assert set(tiers.values()) == {"planned"}


def test_fp16_is_refused_for_the_discrete_gpu_of_px2_with_the_rate() -> None:
    board = load("drive-px2-dgpu")
    assert board.precisions == ("fp32",)
    assert "1:64" in board.refused_precisions["fp16"]


@pytest.mark.parametrize(
    ("version", "conditional", "detections", "opset", "ir", "int64", "fp16"),
    [
        ("5.0.6", "none", ("raw",), 9, 3, False, "flag"),
        ("6.0.1", "none", ("raw",), 10, 5, False, "flag"),
        ("7.0.0", "none", ("raw",), 11, 6, False, "flag"),
        ("7.1.3", "constant", ("nms-plugin", "raw"), 11, 6, False, "flag"),
        ("7.2.2", "constant", ("nms-plugin", "raw"), 11, 6, False, "flag"),
        ("8.0.1", "select", ("efficient-nms", "raw"), 13, 6, False, "flag"),
        ("8.2.1", "plain", ("efficient-nms", "raw"), 13, 7, False, "flag"),
        ("8.4.1", "unconnected", ("efficient-nms", "raw"), 17, 8, False, "flag"),
        ("8.5.2", "plain", ("efficient-nms", "raw"), 17, 8, False, "flag"),
        ("8.6.2", "plain", ("efficient-nms", "raw"), 17, 8, False, "flag"),
        ("9.0", "plain", ("efficient-nms", "onnx-nms", "raw"), 19, 9, True, "flag"),
        ("10.3.0", "equal-shapes", ("efficient-nms", "onnx-nms", "raw"), 20, 10, True, "flag"),
        ("10.10.0", "equal-shapes", ("efficient-nms", "onnx-nms", "raw"), 22, 10, True, "flag"),
        ("10.11.0", "equal-ranks", ("efficient-nms", "onnx-nms", "raw"), 22, 11, True, "flag"),
        ("10.16.1", "equal-ranks", ("efficient-nms", "onnx-nms", "raw"), 24, 11, True, "flag"),
        ("11.1.0", "equal-ranks", ("efficient-nms", "onnx-nms", "raw"), 24, 13, True, "typed"),
    ],
)
def test_capabilities_follow_from_the_tensorrt_version(
    version: str, conditional: str, detections: tuple[str, ...], opset: int, ir: int, int64: bool, fp16: str
) -> None:
    able = capabilities(tensorrt(version))
    assert able.conditional == conditional
    assert able.detections == detections
    assert (able.max_opset, able.max_ir, able.int64, able.fp16) == (opset, ir, int64, fp16)
    assert able.remarks == ()


def test_an_unknown_tensorrt_version_is_read_as_the_oldest_with_a_remark() -> None:
    unknown, oldest = capabilities(tensorrt(None)), capabilities(tensorrt("5.0.6"))
    assert (unknown.conditional, unknown.detections, unknown.max_opset) == ("none", ("raw",), oldest.max_opset)
    assert not unknown.int64
    assert "read on the device" in unknown.remarks[0]


def test_a_caffe_target_has_raw_heads_and_no_conditional_whatever_its_version() -> None:
    able = capabilities(tensorrt("8.2.1", model_format="caffe"))
    assert (able.conditional, able.detections) == ("none", ("raw",))
    assert "Caffe" in able.remarks[0]


def test_capabilities_of_the_runtimes_on_x86() -> None:
    cpu, rtx = capabilities(load("x86-cpu")), capabilities(load("x86-rtx"))
    assert (cpu.conditional, cpu.detections, cpu.fp16) == ("any", ("raw", "onnx-nms"), "typed")
    assert (rtx.conditional, rtx.detections, rtx.fp16) == ("equal-ranks", ("raw",), "typed")


@pytest.mark.parametrize(
    ("name", "parser", "version"),
    [
        ("x86-cpu", "onnxruntime", ()),
        ("x86-rtx", "tensorrt-rtx", ()),
        ("x86-dgpu-trt10", "tensorrt-onnx", (10, 16, 1)),
        ("jetson-tx2-jp461", "tensorrt-onnx", (8, 2, 1)),
        ("drive-px2-igpu", "tensorrt-caffe", ()),
    ],
)
def test_the_contract_names_the_parser_and_carries_the_capabilities(
    name: str, parser: str, version: tuple[int, ...]
) -> None:
    agreed, able = contract(load(name)), capabilities(load(name))
    assert (agreed.parser, agreed.version) == (parser, version)
    assert (agreed.max_opset, agreed.max_ir, agreed.int64) == (able.max_opset, able.max_ir, able.int64)


def test_an_unknown_name_lists_the_targets_and_proposes_the_nearest() -> None:
    with pytest.raises(TargetError) as failure:
        load("jetson-tx2-461")
    text = failure.value.render()
    assert failure.value.code == "target-unknown"
    assert "did you mean 'jetson-tx2-jp461'?" in text
    assert all(name in text for name in names())


def test_a_name_like_no_other_is_told_how_to_list() -> None:
    with pytest.raises(TargetError, match="deploycc target list"):
        load("zzz")


def test_an_installed_package_reads_the_targets_inside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = tmp_path / "deploycc" / "_targets"
    shipped.mkdir(parents=True)
    write(shipped, body())
    monkeypatch.setattr(targets, "__file__", str(tmp_path / "deploycc" / "target" / "target.py"))
    assert names() == ["board"]
    assert load("board").title == "A board"


def test_a_file_of_the_users_own_is_read_by_its_path(tmp_path: Path) -> None:
    path = write(tmp_path, body(name='"mine"', sm_count="2", memory_bandwidth_gb_s="51"), "mine.toml")
    own = load(path)
    assert (own.name, own.sm_count, own.memory_bandwidth_gb_s) == ("mine", 2, 51.0)


@pytest.mark.parametrize(
    ("changes", "where", "what"),
    [
        ({"sm_cuont": "2"}, "line 7, sm_cuont", "no such field; did you mean 'sm_count'?"),
        ({"title": None}, "title", "this field is required"),
        ({"tier": '"gold"'}, "line 3, tier", "input should be 'measured', 'built' or 'planned'"),
        ({"runtime": '"tensorflow"'}, "line 5, runtime", "input should be 'onnxruntime', 'tensorrt' or 'tensorrt-rtx'"),
        ({"cuda_cores": '"256"'}, "line 7, cuda_cores", "input should be a valid integer"),
        ({"cuda_cores": "-1"}, "line 7, cuda_cores", "input should be greater than 0"),
        ({"runtime_version": "8.2"}, "line 7, runtime_version", "input should be a valid string"),
        ({"runtime_version": '"v8.2"'}, "line 7, runtime_version", "string should match pattern"),
        ({"precisions": '["fp32", "int8"]'}, "line 7, precisions.1", "input should be 'fp32' or 'fp16'"),
        ({"precisions": "[]"}, "line 7, precisions", "tuple should have at least 1 item"),
        ({"compute_capability": '"sm_62"'}, "line 7, compute_capability", "string should match pattern"),
    ],
)
def test_a_wrong_field_is_named_with_its_line_and_what_is_wrong(
    tmp_path: Path, changes: dict[str, str | None], where: str, what: str
) -> None:
    with pytest.raises(TargetError) as failure:
        load(write(tmp_path, body(**changes)))
    assert failure.value.code == "target-invalid"
    assert "one field is wrong" in failure.value.message
    context = failure.value.context
    assert what in context[where]
    assert context["file"].endswith("board.toml")


def test_a_field_inside_a_table_is_found_in_it(tmp_path: Path) -> None:
    with pytest.raises(TargetError) as failure:
        load(write(tmp_path, body() + '[refused_precisions]\nint4 = "too small"\n'))
    assert "line 7, refused_precisions.int4" in failure.value.context


def test_all_wrong_fields_are_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(TargetError) as failure:
        load(write(tmp_path, body(tier='"gold"', title=None, colour='"red"')))
    assert "3 fields are wrong" in failure.value.message
    assert set(failure.value.context) == {"file", "line 2, tier", "title", "line 6, colour"}


@pytest.mark.parametrize(
    ("content", "code"),
    [(b'name = "x', "target-not-toml"), (b"\xff\xfe", "target-unreadable"), (None, "target-missing")],
)
def test_a_file_that_cannot_be_read_is_diagnosed(tmp_path: Path, content: bytes | None, code: str) -> None:
    path = tmp_path / "board.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(TargetError) as failure:
        load(str(path))
    assert failure.value.code == code
    assert failure.value.context["file"] == str(path)


def test_a_folder_named_like_a_target_file_is_diagnosed(tmp_path: Path) -> None:
    (tmp_path / "board.toml").mkdir()
    with pytest.raises(TargetError) as failure:
        load(str(tmp_path / "board.toml"))
    assert failure.value.code == "target-unreadable"


def test_not_toml_says_where(tmp_path: Path) -> None:
    with pytest.raises(TargetError) as failure:
        load(write(tmp_path, 'name = "board"\ntitle = \n'))
    assert re.search(r"line 2", failure.value.message)


def test_a_date_where_text_belongs_is_one_error_and_no_crash(tmp_path: Path) -> None:
    with pytest.raises(TargetError):
        load(write(tmp_path, body(cuda_cores="2020-01-01")))
