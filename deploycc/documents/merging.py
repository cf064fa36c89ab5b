"""Results that come after others for the same plan: what was built or measured stays where the new ones have nothing.

A board builds what this machine cannot, and this machine may measure what a board could not. A document that holds
facts of several machines says for each which one it was.
"""

from __future__ import annotations

from collections.abc import Mapping

from deploycc.documents.build import BuildResult, BuiltEngine
from deploycc.documents.document import this_tool
from deploycc.documents.latency import LatencyReport, Run


def merge_builds(old: BuildResult | None, new: BuildResult) -> BuildResult:
    """Return what is built after a build: one of the documents as it is where it holds everything."""
    before = {engine.label: engine for engine in old.engines} if old is not None else {}
    engines = tuple(_better_engine(before.get(engine.label), engine) for engine in new.engines)
    if old is None or not set(map(id, engines)) & set(map(id, old.engines)):
        return new
    if all(engine is before.get(engine.label) for engine in engines if engine.status == "built"):
        return old  # nothing was built: neither this machine nor its reasons matter
    engines = tuple(
        engine.model_copy(update={"environment": engine.environment or old.environment})
        if engine is before.get(engine.label)
        else engine
        for engine in engines
    )
    return new.model_copy(update={"tool": this_tool(), "engines": engines})


def _better_engine(old: BuiltEngine | None, new: BuiltEngine) -> BuiltEngine:
    if old is None or old.status != "built" or old.network_sha256 != new.network_sha256:
        return new
    return old if new.status != "built" or new.digests == old.digests else new


def merge_latencies(
    old: LatencyReport | None, new: LatencyReport | None, engines: Mapping[str, tuple[str, ...]]
) -> LatencyReport | None:
    """Return what is measured after a measurement, or after engines were built anew.

    Args:
        old: before.
        new: just measured; None: nothing was.
        engines: the SHA-256 of the files of each engine that is built, by its label.

    Returns:
        one of the documents as it is where it holds everything; None where no figure belongs to these engines.
    """
    if old is None:
        return new
    measured = [run for run in old.runs if run.has_times and _may_be_of(run, engines)]
    if new is None:
        runs = tuple(run for run in old.runs if not run.has_times or run in measured)
        if runs == old.runs:
            return old
        return old.model_copy(update={"tool": this_tool(), "runs": runs}) if measured else None
    done = {run.label for run in new.runs if run.has_times}
    if not done:
        return old if any(run.has_times for run in old.runs) else new
    kept = {
        run.label: run.model_copy(update={"environment": run.environment or old.environment})
        for run in measured
        if run.label not in done
    }
    if not kept or (old.target, old.quick) != (new.target, new.quick):
        return new
    runs = tuple(kept.pop(run.label, run) for run in new.runs)
    return new.model_copy(update={"tool": this_tool(), "runs": (*runs, *kept.values())})


def _may_be_of(run: Run, engines: Mapping[str, tuple[str, ...]]) -> bool:
    """Return whether a run was measured on one of these engines, as far as they are known."""
    return run.label not in engines or (run.engine is not None and run.engine.digests == engines[run.label])
