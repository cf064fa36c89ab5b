"""How long planning gates takes on a device that builds engines: said before it starts, and bounded by a budget."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deploycc.errors import InputError
from deploycc.timing.effort import Effort

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs

    from deploycc.gate_planning.costs import GateCosts
    from deploycc.gate_planning.regions import PlannedLayer
    from deploycc.graph.branches.gated_network import GatedNetwork
    from deploycc.progress import Say
    from deploycc.workflows.predicted_gate_costs import AnyGateCosts

_WHOLE = 3  # engines of the whole network: multiplying, lowered, lowered with every kernel on
_AT_THE_END = 5  # engines that are compared at the end: two for the worst case, three for the result
_WAYS = 4  # that a region is lowered in, at most; one of them is multiplying


@dataclass(frozen=True)
class Outlook:
    """What is to be done.

    Attributes:
        device: that does it.
        effort: what its first engine showed.
        cost_engines: engines for costs that are not known yet.
        regions: regions that may become branches, at most.
        candidates: networks of shared decisions that are timed as a whole.
        stages: networks that may run in a row, at most.
        seconds: for each comparison of engines that stay loaded.
    """

    device: str
    effort: Effort
    cost_engines: int
    regions: int
    candidates: int
    seconds: float
    stages: int = 0

    @property
    def most_engines(self) -> int:
        """Engines at most, besides the first."""
        return self.cost_engines + self.candidates + _WHOLE + (_WAYS - 1) * self.regions + self.stages

    def rest_s(self) -> float:
        """Seconds that the end takes, after the regions are judged."""
        return self.effort.seconds(_WHOLE, _AT_THE_END, self.seconds / 3)

    def comparing_s(self, ways: int) -> float:
        """Seconds to judge a region that can be lowered in so many ways."""
        return self.effort.seconds(ways - 1, ways, self.seconds / 2 / ways)

    def staging_s(self) -> float:
        """Seconds to time networks that may run in a row."""
        return self.effort.seconds(self.stages, 0, 0.0)

    def sentence(self, budget_s: float | None = None) -> str:
        """Say what is to be done, and how long it takes."""
        first = f"the first took {self.effort.build_s:.0f} s to build and {self.effort.start_s:.1f} s to start and time"
        least_s = self.effort.seconds(self.cost_engines + self.candidates, 0, 0.0) + self.rest_s()
        most_s = least_s + self.regions * self.comparing_s(_WAYS) + self.staging_s()
        said = (
            f"{self.device} builds {self.cost_engines} engines for costs and at most "
            f"{self.most_engines - self.cost_engines} of the whole network: about {_minutes(least_s)} to "
            f"{_minutes(most_s)} minutes, as {first}"
        )
        if budget_s is not None:
            said += f"; the budget is {_minutes(budget_s)} minutes"
        return said


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f}" if seconds >= 600 else f"{seconds / 60:.1f}"


def check_budget(costs: AnyGateCosts, budget_s: float | None) -> None:
    """Refuse a budget that is none, or that is for a machine without engines to build; raises InputError."""
    if budget_s is None:
        return
    if not 0 < budget_s < math.inf:
        raise InputError("gates-option", f"a budget of {budget_s / 60:g} minutes is not above 0", hint="`budget=30m`")
    if not costs.builds:
        raise InputError(
            "gates-option",
            "a budget bounds building engines, and no engine is built here",
            context={"costs": costs.describe()},
            hint="leave it out; `seconds` says how long networks are compared",
        )


def look_ahead(
    dense: gs.Graph,
    network: GatedNetwork,
    layers: Sequence[PlannedLayer],
    costs: GateCosts,
    seconds: float,
    say: Say,
) -> Outlook | None:
    """Let a device build its first engine, and return what is to be done; None where nothing is built.

    Args:
        dense: the network without gates.
        network: with gates.
        layers: of the network, as they are planned.
        costs: that know the machine.
        seconds: for each comparison of engines that stay loaded.
        say: progress.
    """
    from deploycc.gate_planning.check import graph_session
    from deploycc.gate_planning.shared_decisions import MOST_CANDIDATES
    from deploycc.gate_planning.stages import MOST_STAGES
    from deploycc.graph.gates.search import gates_by_decision

    if not costs.builds:
        return None
    say("building the first engine")
    effort = costs.timer.effort(graph_session(dense, costs.timer))
    if effort is None:
        return None
    shared = sum(len(gates) > 1 for gates in gates_by_decision(network.gates))
    gated = sum(layer.gated for layer in layers)
    cost_engines = costs.engines((layer.convolution, layer.joins) for layer in layers)
    device = costs.machine.device or costs.machine.processor
    stages = MOST_STAGES if shared else 0
    return Outlook(device, effort, cost_engines, gated, MOST_CANDIDATES * shared, seconds, stages)


class Allowance:
    """Time that is left of a budget; without a budget there is always enough."""

    def __init__(
        self,
        outlook: Outlook | None,
        budget_s: float | None,
        start_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take what is to be done.

        Args:
            outlook: None: nothing is built.
            budget_s: seconds; None: as many as it takes.
            start_s: when it began, by the clock.
            clock: seconds.
        """
        self._outlook, self._clock = outlook, clock
        self._end_s = None if budget_s is None else start_s + budget_s

    def for_an_engine(self) -> bool:
        """Return whether there is time for an engine more, and afterwards for the end."""
        return self._outlook is None or self._has(self._outlook.effort.seconds(1, 0, 0.0) + self._outlook.rest_s())

    def for_ways(self, ways: int) -> bool:
        """Return whether a region can be judged that can be lowered in so many ways, and afterwards the end follow."""
        return self._outlook is None or self._has(self._outlook.comparing_s(ways) + self._outlook.rest_s())

    def for_stages(self) -> bool:
        """Return whether networks that may run in a row can be timed; nothing follows then."""
        return self._outlook is None or self._has(self._outlook.staging_s())

    def _has(self, seconds: float) -> bool:
        return self._end_s is None or self._clock() + seconds <= self._end_s
