"""How long networks take on a target: measured in turns on this machine, or predicted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs

    from deploycc.detector import Detector
    from deploycc.documents.document import Evidence
    from deploycc.prediction.costs import PredictedCosts
    from deploycc.progress import Say
    from deploycc.timing.convolutions import Costs

SECONDS = 6.0  # for a network and the original in turns, about


class LatencyClock(Protocol):
    """Tells how long versions of one network take.

    Attributes:
        before_ms: latency of the original.
    """

    before_ms: float

    def network_ms(self, detector: Detector) -> float:
        """Return the latency of a version of the network."""

    def evidence(self) -> Evidence:
        """Return where the latencies come from."""


class PredictedClock:
    """Predicts the latency of a network as a target's passes leave it."""

    def __init__(self, original: Detector, costs: PredictedCosts, say: Say) -> None:
        """Predict the original."""
        self._costs, self._say = costs, say
        self.before_ms = self.network_ms(original)

    def network_ms(self, detector: Detector) -> float:
        """Return the predicted latency in milliseconds."""
        from deploycc.prediction.network import predict_network
        from deploycc.workflows.networks import run_passes

        self._say(f"predicting for {self._costs.target.name}")
        graph = run_passes(detector, self._costs.target, self._costs.precision).detector.graph
        return predict_network(graph, self._costs.basis, self._costs.precision).time.ms

    def evidence(self) -> Evidence:
        """Return the target and the constants."""
        from deploycc.documents.document import Evidence

        return Evidence(kind="predicted", source=self._costs.describe())


class MeasuredClock:
    """Times a network in turns with the original, so that other work on the machine meets both alike."""

    def __init__(self, original: Detector, costs: Costs, say: Say) -> None:
        """Time the original beside itself."""
        self._original, self._costs, self._say = original, costs, say
        self.before_ms = 0.0
        self.network_ms(original)

    def network_ms(self, detector: Detector) -> float:
        """Return the latency in milliseconds: that of the original times the median ratio of the rounds."""
        import numpy as np

        from deploycc.pruning.whole_network import network_times

        def networks() -> Iterator[tuple[str, gs.Graph]]:
            yield "original", self._original.graph
            yield "version", detector.graph

        times_ms = network_times(networks(), self._costs.timer, self._say, SECONDS)
        self.before_ms = self.before_ms or float(np.median(times_ms["original"]))
        return self.before_ms * float(np.median(times_ms["version"] / times_ms["original"]))

    def evidence(self) -> Evidence:
        """Return the machine."""
        from deploycc.documents.document import Evidence

        return Evidence(kind="measured", source=self._costs.describe())


def latency_clock(original: Detector, costs: Costs | PredictedCosts, say: Say) -> LatencyClock:
    """Return the clock that costs belong to.

    Raises:
        MeasureError: ONNX Runtime refuses the network.
        ModelError: the target's parser refuses it.
    """
    from deploycc.prediction.costs import PredictedCosts

    if isinstance(costs, PredictedCosts):
        return PredictedClock(original, costs, say)
    return MeasuredClock(original, costs, say)
