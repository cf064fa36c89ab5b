"""The compiled network beside the original one: size, latency and accuracy, and what was pruned in between."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from deploycc.documents.compile import CompileReport, NetworkRecord
from deploycc.documents.document import Provenance
from deploycc.documents.latency import LatencyReport
from deploycc.report.format import change as relative
from deploycc.report.format import count, milliseconds, size
from deploycc.report.stats import CONFIDENCE
from deploycc.report.variants import VariantComparison, describe_order, variant_comparisons


@dataclass(frozen=True)
class Side:
    """One figure of both networks.

    Attributes:
        label: what it is.
        original, compiled: with their units.
        change: of the compiled network against the original one.
        provenance, source: see `deploycc.documents.document.Evidence`.
    """

    label: str
    original: str
    compiled: str
    change: str
    provenance: Provenance
    source: str


def against_original(report: CompileReport, latency: LatencyReport | None) -> tuple[Side, ...]:
    """Compare what was compiled with the network that it was made from; empty where the two are the same."""
    if not report.prunings and all(network.variant == "compiled" for network in report.networks):
        return ()
    return (*_sizes(report), *_files(report), *_latencies(latency), *_accuracies(report))


def sentence(sides: Sequence[Side]) -> str | None:
    """The comparison in one sentence; None where there is nothing to compare."""
    if not sides:
        return None
    return "Against the original network: " + ", ".join(f"{side.label} {side.change}" for side in sides) + "."


def _network(report: CompileReport, variant: str) -> NetworkRecord | None:
    return next((network for network in report.networks if network.variant == variant and network.steps), None)


def _sizes(report: CompileReport) -> list[Side]:
    """MACs, parameters and kernels: of both networks after the same passes, else as the prunings recorded them."""
    compiled, original = _network(report, "compiled"), _network(report, "original")
    if compiled is None:
        return []
    after = compiled.steps[-1].after
    if original is not None:
        before = (original.steps[-1].after.macs, original.steps[-1].after.params)
        source = "counted after the same passes"
    else:
        total = report.prunings[0].part("total") if report.prunings else None
        if total is None:
            return []
        before, source = (total.macs[0], total.params[0]), "counted when it was pruned; its files are not here"
    sides = [
        _counted(macs_label(compiled), before[0], after.macs, source),
        _counted("parameters", before[1], after.params, source),
    ]
    if report.prunings:
        first, last = report.prunings[0].layers, report.prunings[-1].layers
        kernels = sum(layer.kernels[0] for layer in first), sum(layer.kernels[1] for layer in last)
        shown = (f"{kernels[0]}", f"{kernels[1]}", relative(*kernels))
        sides.append(Side("kernels", *shown, "predicted", "counted when it was pruned"))
    return sides


def macs_label(network: NetworkRecord) -> str:
    """Say what the MACs of a network are counted for."""
    return "MACs per picture" + (", at most" if network.skips_work else "")


def _counted(label: str, before: int, after: int, source: str) -> Side:
    return Side(label, count(before), count(after), relative(before, after), "predicted", source)


def _files(report: CompileReport) -> list[Side]:
    engines = {(engine.precision, engine.variant): engine.total_bytes for engine in report.engines}
    return [
        Side(f"{engine.precision} engine", size(before), size(after), relative(before, after), "measured", "file sizes")
        for engine in report.engines
        if engine.variant == "compiled"
        and (after := engine.total_bytes) is not None
        and (before := engines.get((engine.precision, "original"))) is not None
    ]


def _latencies(latency: LatencyReport | None) -> list[Side]:
    return [_latency(compared) for compared in (variant_comparisons(latency) if latency else ())]


def _latency(compared: VariantComparison) -> Side:
    before, after, change = compared.original.typical_ms, compared.compiled.typical_ms, compared.change
    assert before is not None
    assert after is not None
    row = compared.compiled.run.row
    return Side(
        f"{compared.precision} latency, {'median' if row is None else 'typical'}",
        milliseconds(before),
        milliseconds(after),
        "not significant" if change.direction == "not significant" else f"{change.ratio - 1:+.1%}",
        "measured",
        f"{change.low - 1:+.1%} to {change.high - 1:+.1%} at {CONFIDENCE:.0%} confidence, "
        f"{describe_order(compared)}, {compared.compiled.run.device}",
    )


def _accuracies(report: CompileReport) -> list[Side]:
    scores = {score.variant: score for score in report.accuracy}
    if not {"compiled", "original"} <= scores.keys():
        return []
    before, after = scores["original"], scores["compiled"]
    show: Callable[[float], str] = lambda share: f"{100 * share:.1f}"  # noqa: E731
    source = f"{after.pictures} pictures of {after.data}, {after.evidence.source}"
    points = f"{100 * (after.map50 - before.map50):+.1f} points"
    return [Side("mAP50", show(before.map50), show(after.map50), points, "measured", source)]
