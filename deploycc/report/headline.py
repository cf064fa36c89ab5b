"""The top of a report: the verdict in a sentence, and the key figures with their provenance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from deploycc.documents.compile import CompileReport, PredictedLatency
from deploycc.documents.document import Provenance
from deploycc.report.against_original import macs_label
from deploycc.report.format import bare_ms, change, count, milliseconds, rate, size
from deploycc.report.published import SOURCE, published_latency
from deploycc.report.row import composed_ms
from deploycc.report.scenario import describe_scenario
from deploycc.report.verdict import Assessment, Status, Verdict


@dataclass(frozen=True)
class Headline:
    """The verdict.

    Attributes:
        status: of all runs together: an invalid run makes the report invalid.
        label: the status as shown to the reader, with what disturbed a run.
        tone: name of its colour.
        sentences: the results, one per run of the compiled network.
        command: builds and measures on the board; None if the report has measurements.
    """

    status: Status
    label: str
    tone: str
    sentences: tuple[str, ...]
    command: str | None


@dataclass(frozen=True)
class KeyFigure:
    """One figure.

    Attributes:
        label: its name.
        value: with its unit.
        detail: related figures.
        provenance, source: see `deploycc.documents.document.Evidence`.
    """

    label: str
    value: str
    detail: str
    provenance: Provenance
    source: str


def headline(report: CompileReport, runs: Sequence[Assessment]) -> Headline:
    """Summarise the measurement, or state why there is none."""
    measured = [item for item in runs if item.summary]
    compiled = [item for item in runs if item.run.variant == "compiled"]
    if not measured:
        reasons = [
            _sentence(item)
            if item.run.status == "composed"
            else f"{item.run.precision}: {'; '.join(item.verdict.failed)}"
            for item in compiled
        ]
        reasons += [
            f"{engine.precision}: no engine was built: {engine.reason}"
            for engine in report.engines
            if engine.reason and not runs and engine.variant == "compiled"
        ]
        sentences = (_predicted(report), *reasons)
        return Headline("NOT MEASURED", "NOT MEASURED", "NOT MEASURED", sentences, report.next_command)
    status: Status = "VALID" if all(item.verdict.status == "VALID" for item in measured) else "INVALID"
    disturbances = tuple(dict.fromkeys(what for item in measured for what in item.verdict.disturbances))
    together = Verdict(status, disturbances=disturbances)
    warned = not disturbances and any(item.verdict.warnings for item in measured)
    label = together.label + (", with warnings" if warned else "")
    return Headline(status, label, together.tone, tuple(_sentence(item) for item in compiled), None)


def _predicted(report: CompileReport) -> str:
    """What is said where nothing was measured."""
    compiled = [each for each in report.predictions if each.variant == "compiled"]
    if not compiled:
        return "Nothing was measured for this target, and no latency is predicted."
    rows = {network.label for network in report.networks if network.second}
    times = ", ".join(
        f"{each.precision} {milliseconds(each.ms)} ({_interval(each)}{', composed' if each.label in rows else ''})"
        for each in compiled
    )
    return f"Nothing was measured for this target. Predicted, with the interval of 90 %: {times}."


def _interval(each: PredictedLatency) -> str:
    return f"{bare_ms(each.low_ms)} to {bare_ms(each.high_ms)}"


def key_figures(report: CompileReport, runs: Sequence[Assessment]) -> tuple[KeyFigure, ...]:
    """Return the latency, measured or predicted, then the sizes of network and engine, then a published latency."""
    figures = [
        KeyFigure(
            f"latency {item.run.precision}, {'median' if item.run.row is None else 'typical'}",
            milliseconds(item.typical_ms),
            f"p99 {milliseconds(item.summary.p99_ms)}, {rate(item.summary.throughput_fps)}",
            "measured",
            item.run.device,
        )
        for item in runs
        if item.summary and item.typical_ms is not None and item.run.variant == "compiled"
    ]
    measured = {item.run.label for item in runs if item.summary}
    figures += [
        KeyFigure(
            f"latency {each.precision}",
            milliseconds(each.ms),
            f"{_interval(each)} in 90 % of cases",
            each.evidence.kind,
            "; ".join((each.evidence.source, *each.remarks)),
        )
        for each in report.predictions
        if each.variant == "compiled" and each.label not in measured
    ]
    networks = [network for network in report.networks if network.steps and network.variant == "compiled"]
    if networks:
        first, last, counts = networks[0].steps[0].before, networks[0].steps[-1].after, networks[0].counts
        macs, params = first.macs, first.params
        if report.prunings and (total := report.prunings[0].part("total")) is not None:
            macs, params = total.macs[0], total.params[0]  # before any pruning, including an earlier one of the file
        for label, before, after in (
            (macs_label(networks[0]), macs, last.macs),
            ("parameters", params, last.params),
        ):
            detail = f"{change(before, after)} from {count(before)}" if before != after else "as imported"
            figures.append(KeyFigure(label, count(after), detail, counts.kind, counts.source))
    for engine in report.engines:
        if engine.total_bytes is not None and engine.variant == "compiled":
            source = f"size of {', '.join(engine.files)}"
            detail = " ".join(filter(None, (engine.builder, engine.builder_version)))
            value = size(engine.total_bytes)
            figures.append(KeyFigure(f"engine {engine.precision}", value, detail, "measured", source))
    published = published_latency(report)
    if published:
        value = milliseconds(published.latency_ms)
        figures.append(KeyFigure(f"{published.network} on this board", value, "in Caffe", "published", SOURCE))
    return tuple(figures)


def _sentence(item: Assessment) -> str:
    run, summary = item.run, item.summary
    if (ms := composed_ms(run)) is not None:
        return f"{run.precision} takes {milliseconds(ms)}, composed of engines timed by themselves on {run.device}."
    if summary is None or item.typical_ms is None:
        return f"{run.precision} was not measured: {'; '.join(item.verdict.failed)}."
    typical = f"median latency of {milliseconds(summary.p50_ms)}"
    if run.row is not None:
        typical = f"latency of {milliseconds(item.typical_ms)} (medians of networks in a row, by how often each ran)"
    text = f"{run.precision} has a {typical} and a 99th percentile of {milliseconds(summary.p99_ms)} on {run.device}."
    if scenario := describe_scenario(run):
        text += f" As a {scenario}."
    if item.verdict.failed:
        text += f" Not a valid measurement: {'; '.join(item.verdict.failed)}."
    if item.verdict.warnings:
        number = len(item.verdict.warnings)
        text += f" {number} {'warning' if number == 1 else 'warnings'} on this measurement: see Latency in the report."
    return text
