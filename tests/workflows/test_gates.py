"""Planning gates from Python: typed values in, a typed result out."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from call_counts import record_calls
from graph_text import run
from profiled_gates import COUNT, pretend_branches_pay, write_profiled

from deploycc import target
from deploycc.detector.picture_list import folder_pictures
from deploycc.detector.pictures import prepare, read_picture
from deploycc.documents.document import read_document
from deploycc.documents.gate_plan import GatePlan
from deploycc.documents.gates import GateReport
from deploycc.documents.utilisation import read_profile
from deploycc.errors import BudgetMissed
from deploycc.gate_planning.costs import GateCosts
from deploycc.graph.branches.regions import find_span
from deploycc.graph.channels.labels import channel_groups
from deploycc.graph.export import to_onnx
from deploycc.graph.gates.search import search_gates
from deploycc.importers import load
from deploycc.timing.machine import this_machine
from deploycc.workflows.gate_decision import record_decisions
from deploycc.workflows.gates import GatePlanning, plan_gates

RTOL, ATOL = 1e-4, 1e-4


@pytest.fixture(autouse=True)
def branches_pay(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_branches_pay(monkeypatch)


def plan(folder: Path, **how: float) -> GatePlanning:
    _, profile, detector = write_profiled(folder)
    return plan_gates(
        detector,
        read_profile(Path(profile)),
        target=target.load("x86-cpu"),
        pictures=folder_pictures(folder / "pictures"),
        costs=GateCosts(this_machine(1)),
        **how,
    )


def test_the_lowered_detector_gives_the_same_outputs(tmp_path: Path) -> None:
    planning = plan(tmp_path)
    detector = load(tmp_path / "gated.onnx")
    assert "If" in {node.op for node in planning.lowered.graph.nodes}
    for number in range(COUNT):
        x = prepare(read_picture(tmp_path / "pictures" / f"{number}.png"), detector.input)
        np.testing.assert_allclose(run(planning.lowered.graph, x)[0], run(detector.graph, x)[0], rtol=RTOL, atol=ATOL)


def test_what_is_written_is_what_was_returned(tmp_path: Path) -> None:
    planning = plan(tmp_path)
    planning.write(tmp_path / "out")
    assert read_document(tmp_path / "out", GatePlan) == planning.plan
    assert read_document(tmp_path / "out", GateReport) == planning.report
    digests = (planning.report.plan_sha256, planning.report.profile_sha256)
    files = (tmp_path / "out" / "gate-plan.json", tmp_path / "profile.json")
    assert digests == tuple(hashlib.sha256(file.read_bytes()).hexdigest() for file in files)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "deploycc-manifest.json", "gate-plan.json", "gates.html", "gates.json", "network.onnx",
    ]  # fmt: skip


def test_without_pictures_the_plan_is_predicted(tmp_path: Path) -> None:
    _, profile, detector = write_profiled(tmp_path)
    planning = plan_gates(detector, read_profile(Path(profile)), target=target.load("x86-cpu"))
    assert planning.plan.evidence.kind == "predicted"
    assert planning.report.timings is None


def test_the_hint_names_the_parameter(tmp_path: Path) -> None:
    with pytest.raises(BudgetMissed) as raised:
        plan(tmp_path, max_worst_case=0.7)
    assert raised.value.code == "gates-worst-case"
    assert "`max_worst_case=0.82`" in str(raised.value.hint)


def test_what_is_known_of_a_network_is_found_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Once to plan and once when the plan is carried out: networks that are only timed are copies with known facts."""
    _, profile, detector = write_profiled(tmp_path)
    searches = record_calls(monkeypatch, search_gates)
    analyses = record_calls(monkeypatch, channel_groups)
    spans = record_calls(monkeypatch, find_span)
    networks = record_calls(monkeypatch, to_onnx)
    pictures = folder_pictures(tmp_path / "pictures")
    plan_gates(detector, read_profile(Path(profile)), target=target.load("x86-cpu"), pictures=pictures)
    assert len(networks) >= 8  # timed and asked for decisions
    assert (
        len(searches) <= 3
    )  # the last one in the lowered network, whose description of its gates is brought up to date
    whole = [graph for graph, *_ in analyses if len(graph.nodes) > len(detector.graph.nodes) / 2]
    assert len(whole) <= 2  # the others are parts
    assert len(spans) <= 2 * 2  # of the gated layer and the one after it


@pytest.mark.parametrize(("most", "numbers"), [(None, range(COUNT)), (3, (0, 4, 7)), (1, (0,)), (100, range(COUNT))])
def test_pictures_are_taken_evenly(most: int | None, numbers: tuple[int, ...], tmp_path: Path) -> None:
    _, _, detector = write_profiled(tmp_path)
    gates, _ = search_gates(detector.graph)
    recorded = record_decisions(detector, gates, folder_pictures(tmp_path / "pictures"), threads=1, most=most)
    assert recorded.names == tuple(f"{number}.png" for number in numbers)
    assert recorded.active["gated"].shape == (len(recorded.tensors), gates[0].kernels)
