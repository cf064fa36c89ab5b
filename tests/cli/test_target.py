"""``deploycc target``: what it prints, where, and its exit status."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from deploycc.cli import main
from deploycc.report.target import UNCONFIRMED
from deploycc.target import folder, load, names


def test_list_prints_every_target_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["target", "list"]) == 0
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split()[:3] == ["target", "tier", "runtime"]
    assert [line.split()[0] for line in lines] == names()
    assert "planned" in lines[names().index("jetson-tx2-jp461")]


def test_list_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["target", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [entry["name"] for entry in listed] == names()
    assert next(e for e in listed if e["name"] == "drive-px2-dgpu")["runtime_version"] is None


@pytest.mark.parametrize("name", names())
def test_show_marks_every_unconfirmed_fact_and_no_other(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["target", "show", name]) == 0
    lines = capsys.readouterr().out.splitlines()
    marked = {line.split()[0] for line in lines if line.endswith(UNCONFIRMED)}
    assert marked == set(load(name).unconfirmed)
    assert lines[0].startswith(f"{name}: ")
    assert lines[2].split()[:2] == ["tier", f"{load(name).tier}:"]


def test_show_says_what_follows_from_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    main(["target", "show", "jetson-tx2-jp461"])
    out = capsys.readouterr().out
    assert "real conditional; both branches must give the same shape" in out
    assert "efficient-nms; also raw" in out
    assert "opset up to 13, IR up to 7, INT64 is cast to INT32" in out
    assert "fp16         a flag of the builder" in out


@pytest.mark.parametrize(
    ("name", "meaning"),
    [
        ("x86-rtx", "the network itself is FP16 (typed)"),
        ("jetson-orin-jp62", "a flag of the builder"),
        ("drive-px2-dgpu", "refused: sm_61 does FP16 arithmetic at 1:64"),
    ],
)
def test_show_says_what_fp16_means_there(name: str, meaning: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(["target", "show", name])
    assert meaning in next(line for line in capsys.readouterr().out.splitlines() if line.startswith("fp16 "))


def test_show_says_what_was_assumed(capsys: pytest.CaptureFixture[str]) -> None:
    main(["target", "show", "drive-px2-igpu"])
    out = capsys.readouterr().out
    assert "the TensorRT version is read on the device; until then the oldest is assumed" in out
    assert "Caffe layers" in out


def test_show_as_json_holds_facts_and_capabilities(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["target", "show", "jetson-tx2-jp46", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["target"]["runtime_version"] == "8.0.1"
    assert shown["target"]["unconfirmed"] == ["fp16_tflops"]
    assert shown["capabilities"]["conditional"] == "select"
    assert "nothing was built" in shown["evidence"]


def test_show_of_an_unknown_target_is_one_error_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["target", "show", "jetson-tx2"]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error[target-unknown]: there is no target 'jetson-tx2'")
    assert "did you mean 'jetson-tx2-jp46'?" in shown.err


def test_check_of_everything_that_is_shipped(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["target", "check"]) == 0
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "10 targets are consistent" in shown.err


def test_check_lists_what_is_wrong_in_every_file_and_exits_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sound = (folder() / "jetson-tx2-jp461.toml").read_text(encoding="utf-8")
    slow = tmp_path / "slow.toml"
    slow.write_text(sound.replace("fp32_tflops = 0.666", "fp32_tflops = 0.1"), encoding="utf-8")
    odd = tmp_path / "odd.toml"
    odd.write_text(sound.replace("sm_count", "sm_cuont"), encoding="utf-8")
    assert main(["target", "check", str(slow), str(odd), str(folder() / "x86-cpu.toml")]) == 1
    shown = capsys.readouterr()
    assert [line.partition(": ")[0] for line in shown.out.splitlines()] == [str(slow)]
    assert "fp32_tflops 0.1 is not" in shown.out
    assert "did you mean 'sm_count'?" in shown.err
    assert "2 of 3 targets are wrong" in shown.err


def test_check_of_a_copy_passes_and_says_whose_name_it_carries(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "mine.toml"
    text = (folder() / "x86-cpu.toml").read_text(encoding="utf-8")
    copy.write_text(text, encoding="utf-8")
    assert main(["target", "check", str(copy)]) == 0
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "carries the name of the shipped target x86-cpu" in shown.err
    copy.write_text(text.replace('name = "x86-cpu"', 'name = "desk"'), encoding="utf-8")
    assert main(["target", "check", str(copy)]) == 0
    assert "carries the name" not in capsys.readouterr().err


def test_check_of_another_kind_of_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["target", "check", str(tmp_path / "board.yaml")]) == 1
    assert "a target file ends in .toml" in capsys.readouterr().err


def test_listing_targets_loads_no_onnx() -> None:
    code = (
        "import sys; from deploycc.cli import main; main(['target', 'list']);"
        "heavy = {'onnx', 'onnxruntime', 'onnx_graphsurgeon', 'numpy', 'matplotlib'} & set(sys.modules);"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
