"""Costs: interpolated, measured once, of this machine only."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from planned_layers import convolution

from deploycc.documents.costs import GateCostTable, Machine, OperationTiming, Timing
from deploycc.documents.document import Evidence, read_document, this_tool
from deploycc.errors import ArtefactError
from deploycc.gate_planning import costs as module
from deploycc.gate_planning.costs import GateCosts, make_grid
from deploycc.gate_planning.operations import OPERATIONS
from deploycc.timing.machine import this_machine


def few_operations(timer: object) -> tuple[OperationTiming, ...]:
    return tuple(
        OperationTiming(operation=name, elements=n, without_ms=(1.0,), with_ms=(1.0 + n * 1e-6,))
        for name in OPERATIONS
        for n in (100, 1000)
    )


def test_a_grid_interpolates_and_gives_nothing_for_no_channels() -> None:
    grid = make_grid([8, 16], [8, 32], [[1.0, 4.0], [2.0, 8.0]])
    assert float(grid(16, 32)) == 8
    assert float(grid(8, 20)) == pytest.approx(2.5, rel=1e-12, abs=0)
    assert float(grid(12, 20)) == pytest.approx((2.5 + 5) / 2, rel=1e-12, abs=0)
    np.testing.assert_array_equal(grid(np.array([0, 16]), np.array([32, 0])), [0, 0])
    assert grid(np.array([[8], [16]]), np.array([[8, 32]])).tolist() == [[1.0, 4.0], [2.0, 8.0]]


def test_noise_that_makes_fewer_channels_slower_is_cut_off() -> None:
    grid = make_grid([8, 16], [8, 16], [[9.0, 2.0], [1.5, 3.0]])
    assert grid.times_ms[1:, 1:].tolist() == [[1.5, 2.0], [1.5, 3.0]]


def test_measured_once_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "time_operations", lambda timer, known: iter([few_operations(timer), (), (), (), ()]))
    asked = [(convolution(8, 16, 6), False), (convolution(16, 8, 6), True)]
    first = GateCosts(this_machine(1))
    model = first.model(asked)
    table = first.table()
    assert {(t.convolution.inputs, t.convolution.kernels) for t in table.convolutions} == {(8, 8), (8, 16), (16, 8)}
    table.write(tmp_path / "c.json")
    monkeypatch.setattr(module, "time_operations", None)  # not again
    again = GateCosts(this_machine(1), read_document(tmp_path / "c.json", GateCostTable))
    same = again.model(asked)
    assert again.table() == table
    for key, grid in model.grids.items():
        np.testing.assert_array_equal(grid.times_ms, same.grids[key].times_ms)
    assert model.lines == same.lines
    assert model.lines["multiply"](2000) == pytest.approx(0.002, rel=1e-6, abs=0)
    narrow, full = (min(t.samples_ms) for t in table.convolutions if t.convolution.inputs == 8)
    assert float(model.grids[asked[0][0]](8, 16)) == full
    assert float(model.grids[asked[0][0]](8, 8)) == min(narrow, full)


def test_costs_of_another_machine_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "time_operations", lambda timer, known: iter([few_operations(timer), (), (), (), ()]))
    table = GateCosts(Machine(processor="other", onnxruntime="1", threads=1)).table()
    with pytest.raises(ArtefactError) as raised:
        GateCosts(this_machine(1), table)
    assert raised.value.code == "costs-other-machine"


@pytest.mark.parametrize(("most", "said"), [(1.1, []), (1.6, ["costs-spread"])])
def test_samples_that_spread_are_told(most: float, said: list[str]) -> None:
    samples = (1.0, most, most)
    table = GateCostTable(
        tool=this_tool(),
        evidence=Evidence(kind="measured", source="here"), machine=this_machine(1), operations=few_operations(1),
        convolutions=tuple(Timing(convolution=convolution(8, kernels, 6), samples_ms=samples) for kernels in (8, 16)),
    )  # fmt: skip
    notes = GateCosts(this_machine(1), table).notes()
    assert [note.code for note in notes] == said
    assert all("1.60" in note.reason for note in notes)
