"""Checking output folders against limits: one outcome per target and limit, for people and for CI."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from deploycc.errors import ArtefactError, BudgetMissed, DeployError, InputError, Undecided

if TYPE_CHECKING:
    from deploycc.documents.compile import CompileReport
    from deploycc.documents.latency import LatencyReport
    from deploycc.report.compare import Comparison

Result = Literal["passed", "missed", "undecided", "not checked"]


@dataclass(frozen=True)
class Limits:
    """What is allowed; None where it is not checked.

    Attributes:
        regression: relative growth of the median latency.
        budget_ms: 99th percentile of the candidate, of every precision.
        missed: share of the candidate's deadlines in a constant stream, of every precision.
        macs: relative growth of the MACs.
        engine_size: relative growth of the engine file.
        accuracy_loss: points of mAP50, 0 to 100, that may be lost.
    """

    regression: float | None = None
    budget_ms: float | None = None
    missed: float | None = None
    macs: float | None = None
    engine_size: float | None = None
    accuracy_loss: float | None = None

    @property
    def compares(self) -> bool:
        """Return whether a limit needs a baseline."""
        return any(limit is not None for limit in (self.regression, self.macs, self.engine_size, self.accuracy_loss))


@dataclass(frozen=True, eq=False)
class Outcome:
    """One limit of one target.

    Attributes:
        target: name of the target's folder, or of the folder that was given.
        limit: what was checked.
        error: why it did not pass; None where it did.
    """

    target: str
    limit: str
    error: DeployError | None = None

    @property
    def result(self) -> Result:
        """What came out."""
        if self.error is None:
            return "passed"
        if isinstance(self.error, BudgetMissed):
            return "missed"
        return "undecided" if isinstance(self.error, Undecided) else "not checked"


@dataclass(frozen=True, eq=False)
class Checked:
    """What was checked of one target.

    Attributes:
        latency: the candidate's latest latency report; None where no limit asks for it.
        comparison: with the baseline's; None without a baseline.
        outcomes: one per limit.
    """

    latency: LatencyReport | None
    comparison: Comparison | None
    outcomes: tuple[Outcome, ...]


def check_reports(
    first: Path, second: Path | None, limits: Limits, *, accept_invalid: bool = False
) -> Iterator[Checked]:
    """Check a report, or a candidate against a baseline; folders that hold several targets target by target.

    Args:
        first: report to check; with ``second`` the baseline. A file, an output folder, or a folder of output folders.
        second: the candidate.
        limits: what is allowed.
        accept_invalid: also judge measurements that are not valid.

    Raises:
        InputError: ``check-targets``: the baseline has a target that the candidate does not have.
        ArtefactError: a report cannot be read.
    """
    from deploycc.workflows.report import output_folders_in

    baselines, candidates = output_folders_in(first), output_folders_in(second) if second else None
    if candidates is None:
        pairs: list[tuple[str, Path | None, Path]] = [(name, None, path) for name, path in baselines.items()]
    elif len(baselines) == len(candidates) == 1:
        [(only, after)], [before] = candidates.items(), baselines.values()
        pairs = [(only, before, after)]
    else:
        lost = [name for name in baselines if name not in candidates]
        if lost:
            raise InputError(
                "check-targets",
                f"the candidate has no folder for {', '.join(lost)}",
                context={"baseline": first, "candidate": second},
                hint="compile both for the same targets",
            )
        pairs = [(name, path, candidates[name]) for name, path in baselines.items()]
    for name, baseline, candidate in pairs:
        yield _check(name, baseline, candidate, limits, accept_invalid)


def worst(outcomes: Sequence[Outcome]) -> DeployError | None:
    """Return the error that decides the exit status: a missed limit, else what could not be checked, else a doubt."""
    for result in ("missed", "not checked", "undecided"):
        for outcome in outcomes:
            if outcome.result == result:
                return outcome.error
    return None


def junit_xml(outcomes: Sequence[Outcome]) -> str:
    """Return the outcomes as JUnit XML, which CI systems show: a suite per target, a case per limit."""
    from xml.etree import ElementTree

    root = ElementTree.Element("testsuites", name="deploycc report check")
    for target in dict.fromkeys(outcome.target for outcome in outcomes):
        cases = [outcome for outcome in outcomes if outcome.target == target]
        counts = {
            "tests": len(cases),
            "failures": sum(case.result == "missed" for case in cases),
            "errors": sum(case.result == "not checked" for case in cases),
            "skipped": sum(case.result == "undecided" for case in cases),
        }
        attributes = {"name": target} | {key: str(count) for key, count in counts.items()}
        suite = ElementTree.SubElement(root, "testsuite", attributes)
        for case in cases:
            element = ElementTree.SubElement(suite, "testcase", classname=f"deploycc.{target}", name=case.limit)
            if case.error is not None:
                kind = {"missed": "failure", "not checked": "error", "undecided": "skipped"}[case.result]
                found = ElementTree.SubElement(element, kind, message=case.error.message, type=case.error.code)
                found.text = case.error.render()
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _check(name: str, baseline: Path | None, candidate: Path, limits: Limits, accept_invalid: bool) -> Checked:
    from deploycc.report.compare import compare_reports
    from deploycc.report.latency_limits import check_budget, check_deadlines, check_regression, require_valid
    from deploycc.report.size_limits import check_accuracy, check_engine_size, check_macs
    from deploycc.workflows.report import read_measurements

    outcomes: list[Outcome] = []

    def hold(limit: str, check: Callable[[], None]) -> None:
        try:
            check()
        except DeployError as error:
            outcomes.append(Outcome(name, limit, error))
        else:
            outcomes.append(Outcome(name, limit))

    latency = comparison = None
    if any(limit is not None for limit in (limits.regression, limits.budget_ms, limits.missed)):
        latency, *later = read_measurements(candidate)
        before, *earlier = read_measurements(baseline) if baseline else [None]
        reports = [report for report in (before, latency) if report is not None]
        valid = Outcome(name, "valid measurements")
        if not accept_invalid:
            try:
                require_valid(reports)
            except ArtefactError as error:
                valid = Outcome(name, "valid measurements", error)
                outcomes.append(valid)
        if before is not None:
            comparison = compare_reports(before, latency, more_baselines=earlier, more_candidates=later)  # type: ignore[arg-type]
        if valid.error is None and limits.budget_ms is not None:
            hold("latency budget", lambda: check_budget(latency, limits.budget_ms))  # type: ignore[arg-type]
        if valid.error is None and limits.missed is not None:
            hold("missed deadlines", lambda: check_deadlines(latency, limits.missed))  # type: ignore[arg-type]
        if valid.error is None and comparison is not None and limits.regression is not None:
            hold("latency regression", lambda: check_regression(comparison, limits.regression))  # type: ignore[arg-type]
    if baseline is not None:
        for limit, allowed, check in (
            ("MACs", limits.macs, check_macs),
            ("engine size", limits.engine_size, check_engine_size),
            ("accuracy", limits.accuracy_loss, check_accuracy),
        ):
            if allowed is not None:
                hold(limit, lambda check=check, allowed=allowed: check(*_compiled(baseline, candidate), allowed))  # type: ignore[misc]
    return Checked(latency, comparison, tuple(outcomes))


def _compiled(*folders: Path) -> list[CompileReport]:
    from deploycc.documents.compile import read_compile_report

    return [read_compile_report(folder) for folder in folders]
