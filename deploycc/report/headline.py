"""What a report says first: the verdict in a sentence, and the key figures, each with where it comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from deploycc.documents.compile import CompileReport
from deploycc.documents.document import Provenance
from deploycc.report.format import change, count, milliseconds, rate, size
from deploycc.report.published import SOURCE, published_latency
from deploycc.report.verdict import Assessment, Status


@dataclass(frozen=True)
class Headline:
    """The verdict.

    Attributes:
        status: of all runs together: one invalid run makes the report invalid.
        label: the status as the reader sees it.
        sentences: what was found, one per run of the compiled network.
        command: what measures it, where nothing was measured.
    """

    status: Status
    label: str
    sentences: tuple[str, ...]
    command: str | None


@dataclass(frozen=True)
class KeyFigure:
    """One figure.

    Attributes:
        label: what it is.
        value: with its unit.
        detail: further figures of the same group.
        provenance, source: see `deploycc.documents.document.Evidence`.
    """

    label: str
    value: str
    detail: str
    provenance: Provenance
    source: str


def headline(report: CompileReport, runs: Sequence[Assessment]) -> Headline:
    """Say how the measurement went."""
    measured = [item for item in runs if item.summary]
    compiled = [item for item in runs if item.run.variant == "compiled"]
    if not measured:
        reasons = [f"{item.run.precision}: {'; '.join(item.verdict.failed)}" for item in compiled]
        reasons += [
            f"{engine.precision}: no engine was built here: {engine.reason}"
            for engine in report.engines
            if engine.reason and not runs and engine.variant == "compiled"
        ]
        told = ("Nothing was measured for this target. This report holds no latency, and predicts none.", *reasons)
        return Headline("NOT MEASURED", "NOT MEASURED", told, report.next_command)
    status: Status = "VALID" if all(item.verdict.status == "VALID" for item in measured) else "INVALID"
    warned = ", with warnings" if any(item.verdict.warnings for item in measured) else ""
    return Headline(status, status + warned, tuple(_sentence(item) for item in compiled), None)


def key_figures(report: CompileReport, runs: Sequence[Assessment]) -> tuple[KeyFigure, ...]:
    """Latency where it was measured, then the size of network and engine, then what was published."""
    figures = [
        KeyFigure(
            f"latency {item.run.precision}, median",
            milliseconds(item.summary.p50_ms),
            f"p99 {milliseconds(item.summary.p99_ms)}, {rate(item.summary.throughput_fps)}",
            "measured",
            item.run.device,
        )
        for item in runs
        if item.summary and item.run.variant == "compiled"
    ]
    networks = [network for network in report.networks if network.steps and network.variant == "compiled"]
    if networks:
        first, last, counts = networks[0].steps[0].before, networks[0].steps[-1].after, networks[0].counts
        macs, params = first.macs, first.params
        if report.prunings and (total := report.prunings[0].part("total")) is not None:
            macs, params = total.macs[0], total.params[0]  # before any pruning, also of a file that was pruned before
        for label, before, after in (
            ("MACs per picture", macs, last.macs),
            ("parameters", params, last.params),
        ):
            detail = f"{change(before, after)} from {count(before)}" if before != after else "as imported"
            figures.append(KeyFigure(label, count(after), detail, counts.kind, counts.source))
    for engine in report.engines:
        if engine.size_bytes is not None and engine.variant == "compiled":
            source = f"size of {engine.file}"
            detail = " ".join(filter(None, (engine.builder, engine.builder_version)))
            figures.append(KeyFigure(f"engine {engine.precision}", size(engine.size_bytes), detail, "measured", source))
    published = published_latency(report)
    if published:
        value = milliseconds(published.latency_ms)
        figures.append(KeyFigure(f"{published.network} on this board", value, "in Caffe", "published", SOURCE))
    return tuple(figures)


def _sentence(item: Assessment) -> str:
    run, summary = item.run, item.summary
    if summary is None:
        return f"{run.precision} was not measured: {'; '.join(item.verdict.failed)}."
    text = (
        f"{run.precision} takes {milliseconds(summary.p50_ms)} in the median and {milliseconds(summary.p99_ms)} "
        f"in the 99th percentile on {run.device}."
    )
    if item.verdict.failed:
        text += f" Not a valid measurement: {'; '.join(item.verdict.failed)}."
    if item.verdict.warnings:
        number = len(item.verdict.warnings)
        weaken = "warning weakens" if number == 1 else "warnings weaken"
        text += f" {number} {weaken} this figure; the report lists them."
    return text
