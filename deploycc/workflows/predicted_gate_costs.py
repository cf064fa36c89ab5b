"""Costs of gate planning on a board that is not here: convolutions, branches and whole networks, all predicted."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from deploycc.errors import Note
from deploycc.progress import Say, quiet

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs

    from deploycc.documents.costs import Convolution, Operation
    from deploycc.documents.gates import PredictedTimes
    from deploycc.gate_planning.costs import CostModel, GateCosts
    from deploycc.gate_planning.operations import Line
    from deploycc.prediction.costs import PredictedCosts
    from deploycc.prediction.launches import Kind

AnyGateCosts: TypeAlias = "GateCosts | PredictedGateCosts"

_STEP = 8  # channels between two predicted times: a divisor of every tile
_PARTS = 4  # of the input channels, over which a time grows evenly
_ELEMENTS = 1 << 20  # of the map by which a cost per element is told


@dataclass(frozen=True, eq=False)
class PredictedGateCosts:
    """What `deploycc.gate_planning.costs.GateCosts` measures, predicted.

    Attributes:
        costs: of the target.
        threads, builds, of_this_machine: as of measured costs; here nothing is measured.
    """

    costs: PredictedCosts
    threads: int = 0
    builds: bool = False
    of_this_machine: bool = False

    def describe(self) -> str:
        """Say what was predicted, and what was assumed."""
        return f"{self.costs.describe()}; {self.costs.basis.model.branch_us:g} us per branch are an assumption"

    def notes(self) -> tuple[Note, ...]:
        """Return a note ``gates-predicted``: no board ran any of it."""
        name = self.costs.target.name
        reason = (
            f"nothing was measured: {self.describe()}; `--device NAME` measures a plan and its worst case on a {name}, "
            "and drops what does not pay there"
        )
        return (Note("plan", "gates-predicted", reason),)

    def source(self) -> str:
        """Say what a plan's times come from."""
        return self.describe()

    def intervals(self, dense_ms: float, expected_ms: float, all_on_ms: float) -> PredictedTimes:
        """Return times of the whole network with their intervals of 90 %."""
        from deploycc.documents.gates import PredictedTimes
        from deploycc.prediction.network import interval

        dense, expected, all_on = (interval(self.costs.basis, ms) for ms in (dense_ms, expected_ms, all_on_ms))
        return PredictedTimes(dense=dense, expected=expected, all_on=all_on)

    @property
    def reading_ms(self) -> float:
        """What the host takes to read a decision between two networks: as of a branch, a copy to it and a wait."""
        return self.costs.basis.model.branch_us * 1e-3

    def network_ms(self, graph: gs.Graph) -> float:
        """Return the predicted time of a network with static shapes; of an ``If``, the costlier branch counts."""
        from deploycc.prediction.launches import count_branches
        from deploycc.prediction.network import predict_network

        basis = self.costs.basis
        branches_ms = count_branches(graph) * basis.model.branch_us * 1e-3
        return predict_network(graph, basis, self.costs.precision).time.ms + branches_ms

    def model(
        self,
        convolutions: Iterable[tuple[Convolution, bool]],
        say: Say = quiet,
        go_on: Callable[[], bool] = lambda: True,
        conditional: bool = True,
    ) -> CostModel:
        """Return the costs of convolutions by their channels, and of what branches add.

        Args:
            convolutions: each with all its channels, and whether its inputs may be narrowed.
            say: told how many convolutions are predicted.
            go_on: not asked: predicting takes no time to speak of.
            conditional: not asked: what branches would add is predicted all the same.
        """
        from deploycc.gate_planning.costs import CostModel, make_grid

        narrowing: dict[Convolution, bool] = {}
        for convolution, narrows in convolutions:
            narrowing[convolution] = narrows or narrowing.get(convolution, False)
        grids = {}
        for number, (convolution, narrows) in enumerate(narrowing.items()):
            say("predicting convolutions", number, len(narrowing))
            total = convolution.inputs
            inputs = sorted({max(1, total * part // _PARTS) for part in range(1, _PARTS + 1)}) if narrows else [total]
            kernels = sorted({*range(_STEP, convolution.kernels, _STEP), convolution.kernels})
            times = [[self.costs.time_ms(convolution.narrowed(i, k)) for k in kernels] for i in inputs]
            grids[convolution] = make_grid(inputs, kernels, times)
        return CostModel(grids, self._lines())

    def _lines(self) -> dict[Operation, Line]:
        """What each operation adds: a launch that moves the map, or a decision (`deploycc.gate_planning.operations`).

        A decision is a copy to the host and a wait. A map of zeros is written, everything else is read and written.
        """
        from deploycc.gate_planning.operations import Line

        branch_ms = self.costs.basis.model.branch_us * 1e-3
        zeros = self._line("copy", read=False)
        return {
            "branch": Line(branch_ms, 0.0),
            "multiply": self._line("elementwise", read=True),
            "pad": self._line("copy", read=True),
            "concat": self._line("copy", read=True),
            "zeros": Line(branch_ms + zeros.fixed_ms, zeros.element_ms),
        }

    def _line(self, kind: Kind, *, read: bool) -> Line:
        from deploycc.gate_planning.operations import Line
        from deploycc.prediction.launches import Launch
        from deploycc.prediction.times import LaunchTable, launch_times

        table = LaunchTable.of(
            [Launch(kind, kind, (kind,), read=count * read, written=count) for count in (0, _ELEMENTS)]
        )
        basis = self.costs.basis
        fixed_ms, whole_ms = launch_times(table, basis.gpu, basis.model, self.costs.precision).total.tolist()
        return Line(fixed_ms, (whole_ms - fixed_ms) / _ELEMENTS)
