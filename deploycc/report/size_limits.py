"""Limits on what a compiled network is, beside its latency: MACs, engine size and accuracy, against a baseline."""

from __future__ import annotations

from collections.abc import Callable

from deploycc.documents.compile import CompileReport
from deploycc.errors import ArtefactError, BudgetMissed

Figures = dict[str, float]  # by precision


def check_macs(baseline: CompileReport, candidate: CompileReport, max_growth: float) -> None:
    """Refuse a candidate that does more multiply-accumulates than allowed; 0.05 allows 5 % more.

    Raises:
        ArtefactError: ``report-nothing-to-compare``.
        BudgetMissed: ``macs-growth``.
    """
    _check_growth("macs-growth", "MACs per picture", baseline, candidate, _macs, max_growth)


def check_engine_size(baseline: CompileReport, candidate: CompileReport, max_growth: float) -> None:
    """Refuse a candidate with a larger engine file than allowed; 0.05 allows 5 % more.

    Raises:
        ArtefactError: ``report-nothing-to-compare``.
        BudgetMissed: ``engine-growth``.
    """
    _check_growth("engine-growth", "bytes of the engine", baseline, candidate, _engine_bytes, max_growth)


def check_accuracy(baseline: CompileReport, candidate: CompileReport, max_loss: float) -> None:
    """Refuse a candidate whose mAP50 is lower than allowed, in points of 0 to 100.

    Raises:
        ArtefactError: ``report-nothing-to-compare``: not scored, or not on the same pictures.
        BudgetMissed: ``accuracy-loss``.
    """
    before, after = _scores(baseline), _scores(candidate)
    shared = [key for key in before if key in after]
    if not shared:
        raise _nothing("mAP50 on the same pictures", candidate, "compile both with `score`")
    missed = [
        f"{precision} on {data}: mAP50 {100 * before[precision, data]:.1f} -> {100 * after[precision, data]:.1f}"
        for precision, data in shared
        if 100 * (before[precision, data] - after[precision, data]) > max_loss
    ]
    if missed:
        allowed = f"-{max_loss:g} points"
        raise BudgetMissed("accuracy-loss", "; ".join(missed), context=_context(candidate, allowed))


def _check_growth(
    code: str,
    what: str,
    baseline: CompileReport,
    candidate: CompileReport,
    read: Callable[[CompileReport], Figures],
    max_growth: float,
) -> None:
    before, after = read(baseline), read(candidate)
    shared = [precision for precision in before if precision in after]
    if not shared:
        raise _nothing(what, candidate, "compile both with the same `precision`")
    missed = [
        f"{precision}: {what} {before[precision]:.0f} -> {after[precision]:.0f}"
        for precision in shared
        if after[precision] > before[precision] * (1 + max_growth)
    ]
    if missed:
        raise BudgetMissed(code, "; ".join(missed), context=_context(candidate, f"{max_growth:+.1%}"))


def _nothing(what: str, candidate: CompileReport, hint: str) -> ArtefactError:
    context = {"target": candidate.target.name}
    return ArtefactError("report-nothing-to-compare", f"no {what} in both reports", context=context, hint=hint)


def _context(candidate: CompileReport, allowed: str) -> dict[str, str]:
    return {"target": candidate.target.name, "allowed": allowed}


def _macs(report: CompileReport) -> Figures:
    networks = (network for network in report.networks if network.variant == "compiled" and network.steps)
    return {network.precision: network.steps[-1].after.macs for network in networks}


def _engine_bytes(report: CompileReport) -> Figures:
    engines = (engine for engine in report.engines if engine.variant == "compiled")
    return {engine.precision: engine.total_bytes for engine in engines if engine.total_bytes is not None}


def _scores(report: CompileReport) -> dict[tuple[str, str], float]:
    scores = (score for score in report.accuracy if score.variant == "compiled")
    return {(score.precision, score.data): score.map50 for score in scores}
