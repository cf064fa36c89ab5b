"""`gates` from files to files, and `compile` with the plan it writes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from graph_text import run
from numpy.typing import NDArray
from profiled_gates import COUNT, pretend_branches_pay, write_profiled
from shared_gates import FASTER, pretend_times, write_shared

from deploycc.cli import main
from deploycc.detector.pictures import prepare, read_picture
from deploycc.documents.document import read_document
from deploycc.documents.gate_plan import GatePlan
from deploycc.documents.gates import read_gate_report
from deploycc.gate_planning import check, costs, operations
from deploycc.importers import load

RTOL, ATOL = 1e-4, 1e-4


@pytest.fixture
def branches_pay(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_branches_pay(monkeypatch)


def gates(*arguments: str) -> int:
    return main(["gates", *arguments, "--threads", "1", "--seconds", "0.2"])


def test_a_plan_is_written_whose_network_says_the_same(branches_pay: None, tmp_path: Path) -> None:
    model, profile, detector = write_profiled(tmp_path)
    out = tmp_path / "out"
    assert gates(model, "--profile", profile, "-o", str(out)) == 0
    plan = read_document(out, GatePlan)
    assert [layer.lowering for layer in plan.layers] != ["multiply"]
    assert plan.evidence.kind == "measured"
    lowered = load(out / "network.onnx")
    assert "If" in {node.op for node in lowered.graph.nodes}
    for number in range(COUNT):
        x = prepare(read_picture(tmp_path / "pictures" / f"{number}.png"), detector.input)
        np.testing.assert_allclose(run(lowered.graph, x)[0], run(detector.graph, x)[0], rtol=RTOL, atol=ATOL)
    report = read_gate_report(out)
    assert report.timings is not None
    assert [each.name for each in report.timings.pictures] == [f"{number}.png" for number in range(COUNT)]
    assert len({each.saved_macs for each in report.timings.pictures}) > 1
    assert all(each.saved_macs_with_inputs >= each.saved_macs for each in report.timings.pictures)
    assert report.regions[0].kept
    assert report.regions[0].measured_saved_ms == pytest.approx(1.0, rel=1e-9, abs=0)
    assert "<svg" in (out / "gates.html").read_text(encoding="utf-8")


def test_compile_carries_the_plan_out(branches_pay: None, tmp_path: Path) -> None:
    model, profile, _ = write_profiled(tmp_path)
    plan = tmp_path / "out" / "gate-plan.json"
    assert gates(model, "--profile", profile, "-o", str(plan.parent)) == 0
    made = tmp_path / "made"
    assert (
        main(["compile", model, "-t", "x86-cpu", "-p", "fp32", "--gate-plan", str(plan), "--no-build", "-o", str(made)])
        == 0
    )
    network = onnx.load(made / "network-fp32.onnx")
    assert "If" in {node.op_type for node in network.graph.node}
    assert main(["compile", model, "-t", "x86-cpu", "-p", "fp32", "--no-build", "-o", str(tmp_path / "plain")]) == 0
    plain = onnx.load(tmp_path / "plain" / "network-fp32.onnx")
    assert "If" not in {node.op_type for node in plain.graph.node}


def test_a_plan_of_another_network_or_target_is_refused(
    branches_pay: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, profile, _ = write_profiled(tmp_path)
    plan = str(tmp_path / "out" / "gate-plan.json")
    assert gates(model, "--profile", profile, "-o", str(tmp_path / "out")) == 0
    (tmp_path / "other").mkdir()
    other, other_profile, _ = write_profiled(tmp_path / "other", seed=4)
    assert main(["compile", other, "-t", "x86-cpu", "--gate-plan", plan, "-o", str(tmp_path / "made")]) == 1
    assert "gate-plan-other-model" in capsys.readouterr().err
    assert main(["compile", model, "-t", "x86-rtx", "--gate-plan", plan, "-o", str(tmp_path / "made")]) == 1
    assert "gate-plan-other-target" in capsys.readouterr().err
    assert gates(model, "--profile", other_profile, "-o", str(tmp_path / "out2")) == 1
    assert "profile-other-model" in capsys.readouterr().err
    assert not (tmp_path / "made").exists()


def test_where_branches_do_not_pay_gates_multiply(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Really measured, on few small maps: branches around a convolution of 8 kernels on 6x6 only cost."""
    monkeypatch.setattr(operations, "SIZES", ((16, 6), (16, 12)))
    monkeypatch.setattr(costs, "time_operations", partial(operations.time_operations, rounds=3))
    model, profile, detector = write_profiled(tmp_path)
    arguments = (model, "--profile", profile, "--max-worst-case", "50", "--costs", str(tmp_path / "c.json"))
    arguments += ("--max-time", "50")
    assert gates(*arguments, "--json", "--explain", "-o", str(tmp_path / "out")) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["measured"]["pictures"] == COUNT
    assert facts["measured"]["lowered_ms"] > 0
    assert {each["lowering"] for each in facts["considered"]} >= {"multiply"}
    kept = [layer for region in facts["regions"] if region["kept"] for layer in region["layers"]]
    plan = read_document(tmp_path / "out", GatePlan)
    assert [layer.layer for layer in plan.layers if layer.lowering != "multiply"] == kept
    lowered = load(tmp_path / "out" / "network.onnx")
    x = prepare(read_picture(tmp_path / "pictures" / "0.png"), detector.input)
    np.testing.assert_allclose(run(lowered.graph, x)[0], run(detector.graph, x)[0], rtol=RTOL, atol=ATOL)
    before = (tmp_path / "c.json").read_bytes()
    assert gates(*arguments, "-o", str(tmp_path / "again")) == 0
    assert (tmp_path / "c.json").read_bytes() == before


def test_a_plan_that_is_slower_than_no_gates_is_not_written(
    branches_pay: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last measurement finds it slower, although every single step before it paid."""
    timed = check.time_pictures
    last: list[int] = []

    def busy_at_last(sessions: Mapping[str, Any], *arguments: Any, **more: Any) -> dict[str, NDArray[np.float64]]:
        times = timed(sessions, *arguments, **more)
        if {"dense", "multiply", "lowered"} <= set(sessions):
            last.append(1)
            times = {**times, "lowered": times["dense"] * 1.11}
        return times

    monkeypatch.setattr(check, "time_pictures", busy_at_last)
    model, profile, _ = write_profiled(tmp_path)
    assert gates(model, "--profile", profile, "-o", str(tmp_path / "out")) == 3
    said = capsys.readouterr().err
    assert "error[gates-slower]: with its gates the network takes 1.110 of the dense one's time, more than 1" in said
    assert len(last) == 3  # a busy moment alone does not refuse a plan
    assert not (tmp_path / "out").exists()
    assert gates(model, "--profile", profile, "--max-time", "1.2", "-o", str(tmp_path / "out")) == 0


def test_what_falls_back_is_told(branches_pay: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def slower(
        sessions: Mapping[str, Any], pictures: Sequence[Any], *_: Any, **__: Any
    ) -> dict[str, NDArray[np.float64]]:
        return {name: np.full((1, len(pictures)), 1.0 if name == "multiply" else 2.0) for name in sessions}

    monkeypatch.setattr(check, "time_pictures", slower)
    model, profile, _ = write_profiled(tmp_path)
    assert gates(model, "--profile", profile, "-o", str(tmp_path / "out")) == 0
    assert {layer.lowering for layer in read_document(tmp_path / "out", GatePlan).layers} == {"multiply"}
    region = read_gate_report(tmp_path / "out").regions[0]
    assert (region.kept, region.why) == (False, "it does not make the network faster than multiplying")
    assert region.measured_saved_ms == -1.0


def test_the_worst_case_is_bounded(
    branches_pay: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, profile, _ = write_profiled(tmp_path)
    assert gates(model, "--profile", profile, "--max-worst-case", "0.7", "-o", str(tmp_path / "out")) == 3
    said = capsys.readouterr().err
    assert "gates-worst-case" in said
    assert "measured" in said
    assert not (tmp_path / "out").exists()


def test_weights_in_branches_are_bounded(
    branches_pay: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, profile, _ = write_profiled(tmp_path)
    assert gates(model, "--profile", profile, "--max-growth", "0", "--json", "-o", str(tmp_path / "none")) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["added_bytes"] == 0
    assert "widths" not in {layer.lowering for layer in read_document(tmp_path / "none", GatePlan).layers}
    assert gates(model, "--profile", profile, "--max-growth", "3", "--explain", "-o", str(tmp_path / "some")) == 0
    assert "3 times as much" in " ".join(capsys.readouterr().out.split())
    report = read_gate_report(tmp_path / "some")
    assert 0 < report.added_bytes <= 3 * report.weight_bytes
    assert report.added_bytes == sum(each.added_bytes for each in report.considered if each.chosen)


def test_without_pictures_everything_is_predicted_and_said_so(
    branches_pay: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, profile, _ = write_profiled(tmp_path)
    (tmp_path / "pictures").rename(tmp_path / "gone")
    assert gates(model, "--profile", profile, "-o", str(tmp_path / "out")) == 0
    said = capsys.readouterr()
    assert "predicted" in said.out
    assert "nothing was run" in said.err
    assert read_document(tmp_path / "out", GatePlan).evidence.kind == "predicted"
    assert read_gate_report(tmp_path / "out").timings is None


def test_other_refusals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, profile, _ = write_profiled(tmp_path)
    missing = {"jetson-tx2-jp46": "executes both branches", "x86-rtx": "no constants of prediction are near"}
    for target, reason in missing.items():
        assert gates(model, "--profile", profile, "-t", target, "-o", str(tmp_path / "out")) == 1
        said = " ".join(capsys.readouterr().err.split())
        assert "gates-not-measurable" in said
        assert reason in said
        assert (f"--target {target}` gives a bound" in said) == (target != "x86-rtx")
    assert (
        gates(model, "--profile", profile, "--costs", str(tmp_path / "no" / "c.json"), "-o", str(tmp_path / "out")) == 1
    )
    assert "file-unwritable" in capsys.readouterr().err
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").touch()
    assert gates(model, "--profile", profile, "-o", str(tmp_path / "notes")) == 1
    assert "output-not-empty" in capsys.readouterr().err


def test_report_shows_the_gates_report(branches_pay: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, profile, _ = write_profiled(tmp_path)
    out = tmp_path / "out"
    assert gates(model, "--profile", profile, "-o", str(out)) == 0
    capsys.readouterr()
    assert main(["report", "show", str(out), "--html", str(tmp_path / "page.html")]) == 0
    assert "20.0%" in capsys.readouterr().out  # 4 ms instead of 5
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == (out / "gates.html").read_text(encoding="utf-8")
    assert main(["report", "show", str(out / "gates.json"), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["measured"]["provenance"] == "measured"
    assert facts["measured"]["worst_case"] == pytest.approx(0.8, rel=1e-9, abs=0)
    assert facts["predicted"]["kind"] == "predicted"


def test_two_networks_in_a_row_are_shown_and_planned_if_asked_for(
    branches_pay: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pretend_times(monkeypatch, FASTER)
    model, profile, _ = write_shared(tmp_path)
    arguments = (model, "--profile", profile, "--max-growth", "9")
    assert gates(*arguments, "-o", str(tmp_path / "one")) == 0
    said = capsys.readouterr()
    assert "Two networks in a row" in said.out
    assert "`deploycc gates --staged` plans it" in " ".join(said.out.split())
    assert gates(*arguments, "--staged", "-o", str(tmp_path / "two")) == 0
    capsys.readouterr()
    assert main(["report", "show", str(tmp_path / "two"), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)["staged"]
    assert (shown["chosen"], shown["provenance"], shown["relative_time"]) == (True, "measured", 0.8)
    for folder in ("one", "two"):
        plan = str(tmp_path / folder / "gate-plan.json")
        made = str(tmp_path / f"made {folder}")
        assert main(["compile", model, "-t", "x86-cpu", "--gate-plan", plan, "--no-build", "-o", made]) == 0
    assert (tmp_path / "made two" / "network-fp32-second-1.onnx").exists()
