"""Whether a measurement is valid, and what to do next where it is not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

from pydantic import JsonValue

from deploycc.documents.latency import Constraints, LatencyReport, Run
from deploycc.report.environment import busy_with_others, changed_clocks, cpu_count, free_governors, load_average
from deploycc.report.row import typical_ms
from deploycc.report.stats import Stability, Summary, stability, summarise
from deploycc.report.telemetry import watched

MAX_DRIFT = 0.05
"""Change of the median between the halves of a run above which it had not reached a steady state."""

ROUNDING_S = 1e-3
"""Tools round what they write; a duration this close to its limit meets it."""

MAX_VARIATION = 0.10
MAX_OUTLIER_SHARE = 0.05
MAX_LOAD_PER_CPU = 0.5
MAX_OTHERS_PER_CPU = 0.1
"""CPUs that other programs kept busy during a run, for each CPU of the device."""
MIN_BUSY_SHARE = 0.5

Status = Literal["VALID", "INVALID", "NOT MEASURED"]
Disturbance = Literal["the machine was loaded", "clocks changed", "the device throttled"]


@dataclass(frozen=True)
class Advice:
    """Something about the conditions that weakens a figure.

    Attributes:
        text: what was seen.
        next_step: what to do about it.
    """

    text: str
    next_step: str

    def __str__(self) -> str:
        return f"{self.text}; {self.next_step}"


@dataclass(frozen=True)
class Verdict:
    """A run's verdict.

    Attributes:
        status: ``VALID`` where every constraint holds.
        failed: the constraints that do not hold, with both numbers; for a run that was not measured, the reason.
        warnings: conditions that weaken a valid figure without making it void.
        disturbances: those of the warnings that make a figure larger than the engine alone needs, or smaller. They
            belong to the verdict, and a comparison with such a run proves nothing.
    """

    status: Status
    failed: tuple[str, ...] = ()
    warnings: tuple[Advice, ...] = ()
    disturbances: tuple[Disturbance, ...] = ()

    @property
    def label(self) -> str:
        """The status as shown to the reader, with what disturbed the run: ``VALID, but the machine was loaded``."""
        if self.status == "NOT MEASURED" or not self.disturbances:
            return self.status
        link = ", but" if self.status == "VALID" else ";"
        return f"{self.status}{link} {' and '.join(self.disturbances)}"

    @property
    def tone(self) -> str:
        """Name of the colour: that of the status, or ``DISTURBED`` for a valid run that something else disturbed."""
        return "DISTURBED" if self.status == "VALID" and self.disturbances else self.status


@dataclass(frozen=True)
class Assessment:
    """A run with everything derived from it; without samples there are no statistics."""

    run: Run
    verdict: Verdict
    summary: Summary | None
    stability: Stability | None

    @property
    def typical_ms(self) -> float | None:
        """The median; of networks in a row what they typically take (`deploycc.report.row`). None without samples."""
        if self.summary is None:
            return None
        return self.summary.p50_ms if self.run.row is None else typical_ms(self.run)


def assess(report: LatencyReport) -> tuple[Assessment, ...]:
    """Derive the statistics and the verdict of every run, in the report's order."""
    return tuple(assess_run(run, report) for run in report.runs)


def assess_run(run: Run, report: LatencyReport) -> Assessment:
    """Derive the statistics and the verdict of one run."""
    if not run.samples_ms:
        return Assessment(run, judge(run, report), None, None)
    return Assessment(run, judge(run, report), summarise(run.samples_ms), stability(run.samples_ms))


def judge(run: Run, report: LatencyReport) -> Verdict:
    """Judge one run of a report.

    The file's own constraints may be stricter than the project's (10 s, 100 samples), never looser. The duration is
    read from the samples and their start times, so a file cannot claim more than it shows.
    """
    if run.status != "measured":
        return Verdict("NOT MEASURED", (run.reason or run.status,))
    failed = []
    floor = Constraints()
    seconds = min(run.duration_s, sum(_seconds(run, block) for block in run.block_slices()))
    min_seconds = max(run.constraints.min_duration_s, floor.min_duration_s)
    min_samples = max(run.constraints.min_samples, floor.min_samples)
    if report.quick:
        failed.append("measured with `quick`, which is for trying out")
    if seconds < min_seconds - ROUNDING_S:
        failed.append(f"ran for {seconds:.1f} s, {min_seconds:g} s needed")
    if len(run.samples_ms) < min_samples:
        failed.append(f"{len(run.samples_ms)} samples, {min_samples} needed")
    conditions, disturbances = _from_conditions(run, run.environment or report.environment)
    return Verdict(
        "INVALID" if failed else "VALID",
        tuple(failed),
        conditions + _from_samples(run),
        tuple(dict.fromkeys(disturbances)),
    )


def _seconds(run: Run, block: slice) -> float:
    """Time from the start of a block's first sample to the end of its last."""
    first: int = block.start
    last: int = block.stop - 1
    return run.start_offsets_s[last] + run.samples_ms[last] / 1000 - run.start_offsets_s[first]


def _from_conditions(
    run: Run, environment: Mapping[str, JsonValue]
) -> tuple[tuple[Advice, ...], tuple[Disturbance, ...]]:
    found: list[Advice] = []
    disturbances: list[Disturbance] = []
    governors = free_governors(environment)
    if governors:
        found.append(
            Advice(
                f"clocks follow the load ({', '.join(governors)})",
                "fix them (`sudo jetson_clocks` on a Jetson, "
                "`sudo cpupower frequency-set -g performance` on a PC) and measure again",
            )
        )
    seen_inside = watched(run)
    if seen_inside is not None and (seen_inside.throttled or seen_inside.held_back):
        disturbances.append("the device throttled")
        said = [f"{count} of {kind}" for kind, count in seen_inside.throttled.items()]
        said += [f"{why} in {count} of {seen_inside.readings} readings" for why, count in seen_inside.held_back.items()]
        events = ", ".join(said)
        found.append(
            Advice(f"the device throttled while it was measured ({events})", "cool it, or look at its power supply")
        )
    if seen_inside is not None and seen_inside.moved:
        disturbances.append("clocks changed")
        moved = "clocks moved while samples were taken: " + ", ".join(map(str, seen_inside.moved))
        found.append(Advice(moved, "fix the clocks, look for heat, and measure again"))
    clocks = changed_clocks(environment, run.environment_after)
    if clocks:
        disturbances.append("clocks changed")
        found.append(
            Advice(
                "clocks changed during the run: " + ", ".join(map(str, clocks[:3])),
                "fix the clocks, look for heat, and measure again",
            )
        )
    cpus, others = cpu_count(environment), busy_with_others(run.environment_after)
    # The load average also counts what this tool did in the minute before, so it only serves where nothing better is.
    load = load_average(environment) if others is None else None
    if others is not None and others > MAX_OTHERS_PER_CPU * cpus:
        disturbances.append("the machine was loaded")
        seen = f"other programs kept {others:.2f} of {cpus} CPUs busy during the run"
        found.append(Advice(seen, "stop them and measure again"))
    elif load is not None and load > MAX_LOAD_PER_CPU * cpus:
        disturbances.append("the machine was loaded")
        seen = f"the load average before the run was {load:.2f} on {cpus} CPUs: programs were running"
        found.append(Advice(seen, "stop them and measure again"))
    return tuple(found), tuple(disturbances)


def _steady_samples(run: Run) -> Sequence[float]:
    """Return samples that are alike on a steady machine: of networks in a row, over the median of those that ran."""
    if run.row is None or not run.row.second:
        return run.samples_ms
    taken: dict[int, list[float]] = {}
    for number, ms in zip(run.row.second, run.samples_ms, strict=True):
        taken.setdefault(number, []).append(ms)
    medians = {number: median(samples) for number, samples in taken.items()}
    return [ms / medians[number] for number, ms in zip(run.row.second, run.samples_ms, strict=True)]


def _from_samples(run: Run) -> tuple[Advice, ...]:
    found = []
    state = stability(_steady_samples(run))
    outlier_share = state.outliers / len(run.samples_ms)
    busy = sum(run.samples_ms) / 1000 / run.duration_s if run.duration_s else 1.0
    if abs(state.drift) > MAX_DRIFT:
        found.append(
            Advice(
                f"the second half of the samples is {abs(state.drift):.1%} {'slower' if state.drift > 0 else 'faster'} "
                "than the first",
                "warm up longer, or look for heat and changing clocks",
            )
        )
    if state.variation > MAX_VARIATION:
        found.append(
            Advice(
                f"latency varies by {state.variation:.0%} (standard deviation over mean)",
                "look at the samples over time for what disturbs the run",
            )
        )
    if outlier_share > MAX_OUTLIER_SHARE:
        found.append(
            Advice(
                f"{state.outliers} of {len(run.samples_ms)} samples ({outlier_share:.1%}) are outliers",
                "look for other programs and interrupts on the device",
            )
        )
    if busy < MIN_BUSY_SHARE and run.period_ms is None:  # a constant stream waits on purpose
        found.append(
            Advice(
                f"the device was busy for only {busy:.0%} of the run, so it may have clocked down between pictures",
                "measure with pictures one directly after the other",
            )
        )
    return tuple(found)
