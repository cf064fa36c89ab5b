"""Combinations for CI: what is combined, how it is named, and what each system reads."""

from __future__ import annotations

import json
from typing import Any

import pytest

from deploycc import target
from deploycc.cli import main
from deploycc.errors import InputError
from deploycc.workflows.matrix import MOST, combinations, matrix

CPU, TX2, PX2 = (target.load(name) for name in ("x86-cpu", "jetson-tx2-jp461", "drive-px2-dgpu"))


def test_a_target_is_combined_with_the_precisions_that_it_does() -> None:
    found = combinations(["a/m.onnx", "b/m.onnx"], [TX2, PX2], [], {"plain": "", "pruned": "--below 0.05"})
    assert len(found) == 2 * (len(TX2.precisions) + len(PX2.precisions)) * 2
    assert len({each.name for each in found}) == len(found)
    assert (found[0].name, found[0].options) == ("m.onnx-jetson-tx2-jp461-fp32-plain", "")
    assert {each.precision for each in found if each.target == PX2.name} == set(PX2.precisions)
    assert [each.precision for each in combinations(["m"], [TX2], ["fp16"], {"plain": ""})] == ["fp16"]


def test_what_cannot_be_a_matrix_is_refused() -> None:
    many = combinations([f"m{number}" for number in range(300)], [CPU], ["fp32"], {"plain": ""})
    cases: list[tuple[Any, str]] = [
        (lambda: combinations(["m"], [PX2], ["fp16"], {"plain": ""}), "matrix-empty"),
        (lambda: combinations(["m"], [CPU], [], {"plain": "--x 'y"}), "matrix-option"),
        (lambda: matrix(many[: MOST["github"] + 1], "github"), "matrix-too-large"),
        (lambda: matrix(many[: MOST["gitlab"] + 1], "gitlab"), "matrix-too-large"),
    ]
    for make, code in cases:
        with pytest.raises(InputError) as caught:
            make()
        assert caught.value.code == code


def test_the_command_prints_what_each_system_reads(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["matrix", "m $x.onnx", "-t", "x86-cpu", "-p", "fp32", "--variant", "pruned=--data d --below=0.05"]
    assert main(arguments) == 0
    [job] = json.loads(capsys.readouterr().out)["include"]
    assert job == {
        "name": "m-x.onnx-x86-cpu-fp32-pruned",
        "model": "m $x.onnx",
        "target": "x86-cpu",
        "precision": "fp32",
        "variant": "pruned",
        "options": "--data d --below=0.05",
    }
    assert main([*arguments, "--gitlab"]) == 0
    pipeline = json.loads(capsys.readouterr().out)["deploycc"]
    [variables] = pipeline["parallel"]["matrix"]
    assert variables["MODEL"] == "m $x.onnx"
    assert all(f"${name}" in pipeline["script"][0] for name in ("MODEL", "TARGET", "PRECISION", "OPTIONS", "NAME"))
    assert main(["matrix", "m", "-t", "x86-cpu", "--variant", "pruned"]) == 2
