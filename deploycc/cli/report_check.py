"""``deploycc report check``: measurements and sizes against limits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deploycc.cli.options import argument, option, switch, takes_options
from deploycc.cli.shared_options import AsJson
from deploycc.terminal import console

if TYPE_CHECKING:
    from deploycc.workflows.report_check import Limits


def _percent(text: str) -> float:
    """Read ``5%`` or ``5`` as 0.05."""
    try:
        value = float(text.strip().removesuffix("%"))
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise typer.BadParameter(f"{text!r} is not a percentage such as 5%")
    return value / 100


def _share(name: str, help: str) -> Any:
    return option("PERCENT", help, name, parser=_percent)


@dataclass(frozen=True)
class LimitOptions:
    """What is allowed; each field is one of `deploycc.workflows.report_check.Limits`."""

    regression: Annotated[
        float | None, _share("--max-regression", "Largest increase of B's median over A's median, such as 5%.")
    ] = None
    budget_ms: Annotated[
        float | None, option("MS", "Largest 99th percentile of every precision, in milliseconds.", min=0)
    ] = None
    missed: Annotated[
        float | None, _share("--max-missed", "Largest share of missed deadlines in a constant stream, such as 0.1%.")
    ] = None
    macs: Annotated[float | None, _share("--max-macs", "Largest increase of B's MACs over A's MACs.")] = None
    engine_size: Annotated[
        float | None, _share("--max-size", "Largest increase of B's engine file over A's engine file.")
    ] = None
    accuracy_loss: Annotated[
        float | None, option("POINTS", "Largest loss of mAP50, in points of 0 to 100.", "--max-accuracy-loss", min=0)
    ] = None

    def limits(self, *, compared: bool) -> Limits:
        """The limits, as far as they fit what is checked.

        Args:
            compared: there is a baseline.

        Raises:
            typer.BadParameter: there is no limit for what is given.
        """
        from deploycc.workflows.report_check import Limits

        limits = Limits(**vars(self))
        if limits.compares and not compared:
            raise typer.BadParameter("comparing needs both A and B")
        if compared and not limits.compares:
            raise typer.BadParameter("comparing needs a limit, such as --max-regression")
        if limits == Limits():
            raise typer.BadParameter("give --budget-ms, --max-missed, or B with --max-regression")
        return limits


@takes_options
def command(
    *,
    first: Annotated[Path, argument("A", "Report or output folder to check; with B, the baseline.")],
    second: Annotated[Path | None, argument("B", "Candidate, compared with A.")] = None,
    baseline: Annotated[
        Path | None, option("STORE", "Compare A with the nearest earlier commit in this folder of `report baseline`.")
    ] = None,
    commit: Annotated[str | None, option("COMMIT", "With --baseline: compare with this commit.")] = None,
    allowed: LimitOptions,
    accept_invalid: Annotated[bool, switch("--accept-invalid", "Also judge measurements that are not valid.")] = False,
    junit: Annotated[Path | None, option("FILE", "Also write the outcomes as JUnit XML, for CI.")] = None,
    as_json: AsJson = False,
) -> None:
    """Exit with 3 if a limit is missed: latency, MACs, size, accuracy.

    A regression must be proven; where the measurements cannot tell, the exit status is 4. Folders that hold the output
    of several targets are checked target by target.
    """
    from deploycc.files import write_text
    from deploycc.report.terminal import measured_json, measured_table
    from deploycc.workflows.baselines import find_baseline
    from deploycc.workflows.report_check import check_reports, junit_xml, worst

    limits = allowed.limits(compared=second is not None or baseline is not None)
    if commit is not None and baseline is None:
        raise typer.BadParameter("--commit names a commit of a --baseline")
    if baseline is not None:
        if second is not None:
            raise typer.BadParameter("the --baseline takes the place of A: give the candidate alone")
        first, second = find_baseline(baseline, first, commit), first
        console.note(f"compared with {first}")
    checked = list(check_reports(first, second, limits, accept_invalid=accept_invalid))
    outcomes = [outcome for target in checked for outcome in target.outcomes]
    measured = [(target.latency, target.comparison) for target in checked if target.latency]
    values = [measured_json(*each) for each in measured]
    console.show(as_json, values[0] if len(values) == 1 else values, *(measured_table(*each) for each in measured))
    for target in checked:
        for warning in target.comparison.warnings if target.comparison else ():
            console.warn(warning)
    if junit is not None:
        write_text(junit, junit_xml(outcomes))
        console.wrote(junit)
    decisive = worst(outcomes)
    for outcome in outcomes:
        if outcome.error is not None and outcome.error is not decisive:
            console.fail(outcome.error)
    if decisive is not None:
        raise decisive
