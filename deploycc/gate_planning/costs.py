"""Costs that gate planning is based on: measured times of convolutions by channel counts, and of what branches add."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deploycc.documents.costs import Convolution, CostTable, GateCostTable, Machine, Operation
from deploycc.documents.document import this_tool
from deploycc.errors import BudgetMissed, Note
from deploycc.gate_planning.operations import OPERATIONS, Line, fit_lines, sizes_to_time, time_operations
from deploycc.progress import Say, quiet
from deploycc.timing.convolutions import Costs
from deploycc.timing.machine import check_machine
from deploycc.timing.timer import Timer
from deploycc.timing.turns import spread

_ROUNDS = 9
_SPREAD = 1.25  # median of the samples divided by the least; up to 1.15 if nothing else runs
_PARTS = 4  # a convolution is timed with a quarter, a half... of its channels; times between these are interpolated
_NETWORKS_PER_SIZE = 2 * len(OPERATIONS) - 2  # three operations are added to the same network
_BLOCK = 8  # channels that vector units process at once: a partial block takes as long as a whole one

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Grid:
    """Time of one convolution over its channel counts.

    Attributes:
        inputs, kernels: counts that were timed, ascending, from 0.
        times_ms: [inputs, kernels]; 0 if either count is 0.
    """

    inputs: Array
    kernels: Array
    times_ms: Array

    def __call__(self, inputs: ArrayLike, kernels: ArrayLike) -> Array:
        """Return times in ms, interpolated between the counts that were timed; the arguments broadcast."""
        x, y = np.broadcast_arrays(np.asarray(inputs, np.float64), np.asarray(kernels, np.float64))
        row, across = _cell(self.inputs, x)
        column, along = _cell(self.kernels, y)
        t = self.times_ms
        low = t[row, column] * (1 - along) + t[row, column + 1] * along
        high = t[row + 1, column] * (1 - along) + t[row + 1, column + 1] * along
        result: Array = low * (1 - across) + high * across
        return result


@dataclass(frozen=True, eq=False)
class CostModel:
    """Predicted times, as a pure function of what was measured.

    Attributes:
        grids: for each convolution with all its channels.
        lines: for each operation.
    """

    grids: Mapping[Convolution, Grid]
    lines: Mapping[Operation, Line]


class GateCosts:
    """Measured costs; those that are not known yet are measured on demand."""

    def __init__(self, machine: Machine, table: GateCostTable | None = None, timer: Timer | None = None) -> None:
        """Start with a table of the machine, or with nothing; see `deploycc.timing.convolutions.Costs`.

        Raises:
            ArtefactError: ``costs-other-machine``.
        """
        known = None
        if table is not None:
            check_machine(table.machine, machine)
            known = CostTable(
                tool=table.tool, evidence=table.evidence, machine=table.machine, timings=table.convolutions
            )
        self._convolutions = Costs(machine, known, rounds=_ROUNDS, timer=timer, together=True)
        self._operations = table.operations if table is not None else ()

    def model(
        self,
        convolutions: Iterable[tuple[Convolution, bool]],
        say: Say = quiet,
        go_on: Callable[[], bool] = lambda: True,
        conditional: bool = True,
    ) -> CostModel:
        """Measure what is missing, and return the model.

        Args:
            convolutions: each with all its channels, and whether its inputs may be narrowed.
            say: told how many convolutions are timed.
            go_on: asked before each step whether there is time for it.
            conditional: whether a branch skips work there; False: what branches add is not timed and counts as nothing.

        Raises:
            MeasureError: ``onnxruntime-refuses``.
            BudgetMissed: ``gates-budget``: there is no time left.
        """
        counts = _grids(convolutions)
        missing = sizes_to_time(self.timer, self._operations) if conditional else []
        if missing:
            steps = time_operations(self.timer, known=self._operations)
            for number in range(len(missing)):
                self._check_time(go_on, f"{number} of {len(missing)} sizes of maps, and no convolution, are timed")
                say("timing what branches add", number, len(missing))
                self._operations += next(steps)
        # One by one: all convolutions of VGG-SSD300 together take 3.7 GB.
        for number, (convolution, (inputs, kernels)) in enumerate(counts.items()):
            narrowed = [convolution.narrowed(i, k) for i in inputs for k in kernels]
            if self._convolutions.unknown(narrowed):
                self._check_time(go_on, f"{number} of {len(counts)} convolutions are timed")
            say("timing convolutions", number, len(counts))
            self._convolutions.measure(narrowed)
        grids = {}
        for convolution, (inputs, kernels) in counts.items():
            times = [[self._least_ms(convolution.narrowed(i, k)) for k in kernels] for i in inputs]
            grids[convolution] = make_grid(inputs, kernels, times)
        nothing = {operation: Line(0.0, 0.0) for operation in OPERATIONS}
        return CostModel(grids, fit_lines(self._operations) if conditional else nothing)

    def engines(self, convolutions: Iterable[tuple[Convolution, bool]]) -> int:
        """Return about how many engines a machine that builds them needs for `model`."""
        new = sum(
            bool(self._convolutions.unknown(convolution.narrowed(i, k) for i in inputs for k in kernels))
            for convolution, (inputs, kernels) in _grids(convolutions).items()
        )
        return new + _NETWORKS_PER_SIZE * len(sizes_to_time(self.timer, self._operations))

    def _check_time(self, go_on: Callable[[], bool], how_far: str) -> None:
        if not go_on():
            raise BudgetMissed(
                "gates-budget",
                "the budget is over before the costs of branches are measured",
                context={"device": self.machine.device, "so far": how_far},
                note="no plan was made: it follows these costs, and time for the check of the plan must be left",
                hint="give a longer `budget`, or the same one again: what `costs=FILE` names keeps every measured cost",
            )

    def _least_ms(self, convolution: Convolution) -> float:
        """Return the least sample: whatever else the machine does only adds time."""
        return min(self._convolutions.samples_ms(convolution))

    @property
    def machine(self) -> Machine:
        """The machine that measures."""
        return self._convolutions.machine

    @property
    def threads(self) -> int:
        """CPU threads of the measurements."""
        return self.machine.threads

    @property
    def builds(self) -> bool:
        """Whether an engine is built for each network that is timed."""
        return self.timer.builds

    @property
    def of_this_machine(self) -> bool:
        """Whether this machine measures, and not a device."""
        return self.machine.device is None

    def describe(self) -> str:
        """Say what measures."""
        return self.machine.describe()

    def source(self) -> str:
        """Say what a plan's times come from."""
        return f"from convolutions, branches and variants, timed on {self.describe()}"

    def intervals(self, dense_ms: float, expected_ms: float, all_on_ms: float) -> None:
        """Return nothing: what follows from measured times of parts has no interval."""

    @property
    def timer(self) -> Timer:
        """What measures there."""
        return self._convolutions.timer

    def notes(self) -> tuple[Note, ...]:
        """Return a note ``costs-spread`` if samples differ as much as they do while other processes run."""
        spreads = [spread(timing.samples_ms) for timing in self._convolutions.table().timings]
        typical = statistics.median(spreads or [1.0])
        if typical <= _SPREAD:
            return ()
        reason = (
            f"the median of a convolution's times is {typical:.2f} times the least: the machine was busy, and the plan "
            "may be a poor one; measure again when it is idle, into another file"
        )
        return (Note("measured costs", "costs-spread", reason),)

    def table(self) -> GateCostTable:
        """Return everything that is known, as a document."""
        known = self._convolutions.table()
        return GateCostTable(
            tool=this_tool(),
            evidence=known.evidence,
            machine=known.machine,
            convolutions=known.timings,
            operations=self._operations,
        )


def make_grid(inputs: Iterable[int], kernels: Iterable[int], times_ms: Iterable[Iterable[float]]) -> Grid:
    """Return a grid of times for ascending counts, [inputs, kernels].

    Noise only adds time, so a time that exceeds one for more channels is lowered to that.
    """
    times = np.array([list(row) for row in times_ms], np.float64)
    for axis in (0, 1):
        times = np.flip(np.minimum.accumulate(np.flip(times, axis), axis), axis)
    rows, columns = (np.array([0, *counts], np.float64) for counts in (inputs, kernels))
    return Grid(rows, columns, np.pad(times, ((1, 0), (1, 0))))


def _grids(convolutions: Iterable[tuple[Convolution, bool]]) -> dict[Convolution, tuple[list[int], list[int]]]:
    """Return the counts of inputs and of kernels that each convolution is timed with."""
    narrowing: dict[Convolution, bool] = {}
    for convolution, narrows in convolutions:
        narrowing[convolution] = narrows or narrowing.get(convolution, False)
    return {
        convolution: (_counts(convolution.inputs) if narrows else [convolution.inputs], _counts(convolution.kernels))
        for convolution, narrows in narrowing.items()
    }


def _counts(channels: int) -> list[int]:
    """Return the counts to time: about equal parts, in whole blocks, and all channels."""
    parts = {_BLOCK * round(channels * part / _PARTS / _BLOCK) for part in range(1, _PARTS)}
    return sorted(count for count in {*parts, channels} if 0 < count <= channels)


def _cell(points: Array, values: Array) -> tuple[NDArray[np.intp], Array]:
    """Return the index of the point below each value, and how far the value is towards the next point, 0..1."""
    below = np.clip(np.searchsorted(points, values, side="right") - 1, 0, len(points) - 2)
    return below, (values - points[below]) / (points[below + 1] - points[below])
