"""Plans with two networks in a row: chosen where they are measured to be faster within the bounds, and only there."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from profiled_gates import pretend_branches_pay
from shared_gates import COUNT, FASTER, pretend_times, write_shared

from deploycc import target
from deploycc.agent_host import network_times
from deploycc.agent_host.devices import Device
from deploycc.detector.picture_list import folder_pictures
from deploycc.detector.pictures import prepare, read_picture
from deploycc.documents.document import read_document
from deploycc.documents.gate_plan import GatePlan
from deploycc.documents.gates import GateReport
from deploycc.documents.utilisation import read_profile
from deploycc.errors import BudgetMissed, TargetError
from deploycc.gate_planning.costs import GateCosts
from deploycc.prediction.costs import PredictedCosts
from deploycc.timing.machine import this_machine
from deploycc.workflows.compile import compile
from deploycc.workflows.compile_settings import CompileSettings
from deploycc.workflows.device_timer import DeviceTimer, device_machine
from deploycc.workflows.gate_plan_check import check_gate_plan
from deploycc.workflows.gates import GatePlanning, plan_gates
from deploycc.workflows.predicted_gate_costs import PredictedGateCosts
from deploycc.workflows.staged import StagedSession

CPU = target.load("x86-cpu")
PLENTY = 9.0  # stages of so small a network hold every weight several times


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Any, Any]:
    """Folder, detector and profile; what a convolution costs is not measured."""
    pretend_branches_pay(monkeypatch)
    _, profile, detector = write_shared(tmp_path)
    return tmp_path, detector, read_profile(Path(profile))


def plan(shared: tuple[Path, Any, Any], **how: Any) -> GatePlanning:
    folder, detector, profile = shared
    given = {"costs": GateCosts(this_machine(1)), "max_growth": PLENTY, "target": CPU, "staged": True, **how}
    return plan_gates(detector, profile, pictures=folder_pictures(folder / "pictures"), **given)


def test_two_networks_are_chosen_where_they_are_faster(
    shared: tuple[Path, Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = pretend_times(monkeypatch, FASTER)
    planning = plan(shared)
    assert asked[-2] == {"dense", "planned", "staged"}
    assert planning.plan.staged
    assert planning.staged is not None
    assert {layer.lowering for layer in planning.plan.layers} == {"variants"}
    record = planning.report.staged
    assert record is not None
    assert (record.chosen, record.why, record.composed) == (True, "", False)
    assert (record.dense_ms, record.planned_ms, record.expected_ms, record.worst_ms) == (5.0, 4.6, 4.0, 4.5)
    assert record.evidence.kind == "measured"
    session, folder = StagedSession(planning.staged), shared[0]
    tensors = [prepare(read_picture(path), shared[1].input) for path in sorted((folder / "pictures").iterdir())]
    counted = Counter(session.run(tensor)[0] for tensor in tensors)
    assert len(counted) > 1
    assert record.shares == pytest.approx([counted[number] / COUNT for number in range(len(record.shares))])


def test_the_folder_holds_the_networks_and_their_outputs_are_those_of_the_detector(
    shared: tuple[Path, Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_times(monkeypatch, FASTER)
    folder, detector, _ = shared
    planning = plan(shared)
    planning.write(folder / "out")
    names = {path.name for path in (folder / "out").iterdir()}
    second = [f"second-{number}.onnx" for number in range(len(planning.plan.layers[0].sizes))]
    assert names == {
        "deploycc-manifest.json", "gate-plan.json", "gates.html", "gates.json", "first.onnx", *second,
    }  # fmt: skip
    assert read_document(folder / "out", GatePlan) == planning.plan
    assert read_document(folder / "out", GateReport) == planning.report
    files = [ort.InferenceSession(folder / "out" / name) for name in ("first.onnx", *second)]
    whole = ort.InferenceSession(folder / "shared.onnx")
    decision = onnx.load(folder / "out" / "first.onnx").graph.output[0].name
    for path in sorted((folder / "pictures").iterdir()):
        tensor = prepare(read_picture(path), detector.input)
        made = {"x": tensor} | dict(
            zip([each.name for each in files[0].get_outputs()], files[0].run(None, {"x": tensor}), strict=True)
        )
        chosen = files[1 + int(made[decision][0])]
        found = chosen.run(None, {each.name: made[each.name] for each in chosen.get_inputs()})
        for one, other in zip(found, whole.run(None, {"x": tensor}), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "how", "why"),
    [
        ({"staged": 4.59}, {}, "it takes 0.918 of the dense network's time, and one network 0.920"),
        ({1: 5.3}, {}, "with the slowest second network it takes 1.060 of the dense network's time, more than 1.05"),
        ({"staged": 4.2}, {"max_time": 0.83, "planned": True}, "it takes 0.840 of the dense network's time, more than"),
    ],
)
def test_otherwise_one_network_is_and_the_reason_is_told(
    shared: tuple[Path, Any, Any],
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[Any, float],
    how: dict[str, Any],
    why: str,
) -> None:
    if how.pop("planned", False):
        changes = {**changes, "lowered": 4.1, "planned": 4.1}
    asked = pretend_times(monkeypatch, {**FASTER, **changes})
    planning = plan(shared, **how)
    record = planning.report.staged
    assert record is not None
    assert not record.chosen
    assert record.why.startswith(why)
    assert (planning.plan.staged, planning.staged) == (False, None)
    rounds = sum("staged" in turns for turns in asked)
    assert rounds == (1 if "one network" in why else 3)  # a busy moment alone does not drop them
    planning.write(shared[0] / "out")
    assert (shared[0] / "out" / "network.onnx").exists()


def test_where_one_network_is_too_slow_two_may_still_do(
    shared: tuple[Path, Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One network is faster on the pictures, but its worst case is beyond the bound: that would be refused."""
    pretend_times(monkeypatch, {**FASTER, "staged": 4.8, "lowered": 5.3, "planned": 4.6})
    assert plan(shared).plan.staged
    with pytest.raises(BudgetMissed):
        plan(shared, staged=False)


def test_where_they_are_not_asked_for_they_are_shown_and_not_chosen(
    shared: tuple[Path, Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_times(monkeypatch, FASTER)
    planning = plan(shared, staged=False)
    record = planning.report.staged
    assert record is not None
    assert (record.chosen, record.expected_ms) == (False, 4.0)
    assert "--staged" in record.why
    assert (planning.plan.staged, planning.staged) == (False, None)


def test_copies_of_weights_are_bounded(shared: tuple[Path, Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_times(monkeypatch, FASTER)
    planning = plan(shared, max_growth=0.1)
    assert planning.report.staged is None
    assert "MiB more weights" in next(note.reason for note in planning.notes if note.code == "gate-not-staged")


def test_compile_takes_a_staged_plan_with_the_shares_of_its_networks(
    shared: tuple[Path, Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_times(monkeypatch, FASTER)
    planning = plan(shared)
    assert planning.report.staged is not None
    assert planning.plan.shares == planning.report.staged.shares
    assert planning.warnings == ()
    check_gate_plan(planning.plan, shared[1], CPU)
    folder = shared[0] / "compiled"
    settings = CompileSettings(quick=True, threads=1, original=False, measure=False)
    [report] = compile(shared[1], CPU, folder, settings, gate_plan=planning.plan)
    [engine] = report.compiled.engines
    assert engine.status == "built"
    assert len(engine.second) == len(planning.plan.shares)


def test_a_target_that_reads_caffe_has_no_networks_in_a_row(
    shared: tuple[Path, Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_times(monkeypatch, FASTER)
    board = target.load("drive-px2-igpu")
    made = plan(shared).plan.model_copy(update={"target": board.name})
    with pytest.raises(TargetError) as caught:
        check_gate_plan(made, shared[1], board)
    assert caught.value.code == "gate-plan-staged"


def test_without_pictures_they_are_composed_and_not_chosen(shared: tuple[Path, Any, Any]) -> None:
    """Really timed, each by itself."""
    _, detector, profile = shared
    planning = plan_gates(
        detector, profile, target=CPU, costs=GateCosts(this_machine(1)), max_growth=PLENTY, max_time=99, max_worst_case=99
    )  # fmt: skip
    record = planning.report.staged
    assert record is not None
    assert record.parts is not None
    assert not record.chosen
    assert "no pictures" in record.why
    assert sum(record.shares) == pytest.approx(1)


def test_predicted_ones_count_the_reading_and_are_not_chosen(shared: tuple[Path, Any, Any]) -> None:
    board = target.load("jetson-tx2-jp461")
    costs = PredictedGateCosts(PredictedCosts(board))
    _, detector, profile = shared
    planning = plan_gates(
        detector, profile, target=board, costs=costs, max_growth=PLENTY, max_time=99, max_worst_case=99
    )
    record = planning.report.staged
    assert record is not None
    assert record.parts is not None
    assert record.evidence.kind == "predicted"
    assert record.parts.reading_ms == costs.costs.basis.model.branch_us / 1e3 > 0
    assert record.expected_ms > min(record.parts.first_ms) + record.parts.reading_ms
    assert not record.chosen
    assert "predicted" in record.why


def test_where_branches_skip_nothing_predicted_ones_are_planned_if_asked_for(shared: tuple[Path, Any, Any]) -> None:
    """TensorRT 8.0 runs both branches of an If: networks in a row are the only way to skip work."""
    board = target.load("jetson-tx2-jp46")
    _, detector, profile = shared
    costs = PredictedGateCosts(PredictedCosts(board))
    given: dict[str, Any] = {"target": board, "costs": costs, "max_growth": PLENTY}
    with pytest.raises(TargetError, match="gates-not-measurable") as refused:
        plan_gates(detector, profile, **given)
    assert "staged" in str(refused.value.hint)
    with pytest.raises(BudgetMissed) as missed:
        plan_gates(detector, profile, staged=True, max_time=0.5, max_worst_case=99, **given)
    assert missed.value.code == "gates-in-a-row"
    assert "composed" in missed.value.context["in a row, slowest"]
    planning = plan_gates(detector, profile, staged=True, max_time=99, max_worst_case=99, **given)
    record = planning.report.staged
    assert record is not None
    assert (record.chosen, record.composed, record.evidence.kind) == (True, True, "predicted")
    assert planning.plan.staged
    assert planning.plan.evidence.kind == "predicted"
    folder = shared[0] / "compiled"
    [compiled] = compile(detector, board, folder, CompileSettings(build=False), gate_plan=planning.plan)
    predicted = next(each for each in compiled.compiled.predictions if each.variant == "compiled")
    assert any("composed" in remark for remark in predicted.remarks)
    assert ", composed)" in (folder / "report.md").read_text()
    operators = {node.op_type for node in onnx.load(folder / "network-fp32-first.onnx").graph.node}
    assert "GatherND" not in operators  # TensorRT 8.0 has no importer for it


@pytest.mark.parametrize("name", ["jetson-tx2-jp46", "jetson-tx2-jp461", "jetson-xavier-jp512", "jetson-thor-jp70"])
def test_a_device_times_each_network_by_itself_and_the_sum_decides(
    shared: tuple[Path, Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The first network takes 1 ms, the second ones 2, 3 and so on, and the network without gates 8 in the same job."""
    asked: list[list[str]] = []

    def timed(
        device: object, folders: list[Path], pictures: list[Path], check: object, **_: object
    ) -> list[list[list[float]]]:
        asked.append([folder.name for folder in folders])
        if pictures:
            return [[[7.8, 7.9]] * len(folders)] * len(pictures)
        return [[[ms, ms + 1] for ms in (8.0, 1.0, 2.0, 3.0, 4.0, 5.0)[: len(folders)]]]

    monkeypatch.setattr(network_times, "time_networks", timed)
    board = target.load(name)
    device = Device(name="bench 1", url="ssh://board", target=name)
    machine = device_machine(device, board, 1, {})
    folder = tmp_path / "networks"
    folder.mkdir()
    timer = DeviceTimer(device, board, machine, folder)
    timer.builds = False  # else the first engine's effort is measured, which needs more of a device
    planning = plan(shared, costs=GateCosts(machine, None, timer), target=board)
    record = planning.report.staged
    assert record is not None
    assert record.composed
    assert record.evidence.source.startswith("bench 1")
    assert record.dense_ms == 8.0
    seconds = [2.0 + number for number in range(len(record.shares))]
    expected = 1.0 + sum(share * ms for share, ms in zip(record.shares, seconds, strict=True))
    assert record.expected_ms == pytest.approx(expected, rel=1e-9, abs=0)
    assert record.worst_ms == pytest.approx(1 + seconds[-1], rel=1e-9, abs=0)
    assert planning.plan.staged
    assert len(asked[-1]) == 2 + len(record.shares)
