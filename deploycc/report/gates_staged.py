"""Two networks in a row beside the best plan in one: what the gates report shows of them."""

from __future__ import annotations

from typing import Any

from deploycc.documents.gates import GateReport
from deploycc.documents.staged_times import StagedRecord
from deploycc.report.format import bare_ms
from deploycc.report.gates_plots import least_ms
from deploycc.report.table import Table

HOW = (
    "The first network computes what the decision needs and what does not depend on it; the host reads the decision "
    "and starts that second network."
)
_TITLE = "Two networks in a row, of which the first decides which second one the host starts"


def staged_evidence(record: StagedRecord) -> str:
    """Say where the times come from: those of networks that were timed apart are sums, and measured by nobody."""
    return f"composed, parts {record.evidence.kind}" if record.composed else record.evidence.kind


def staged_table(report: GateReport) -> Table | None:
    """Return two networks in a row beside the best plan in one; None where no decision is shared."""
    record = report.staged
    if record is None:
        return None
    rows = (
        ("layers that the decision switches", f"{record.layers[0]} > ... {len(record.layers)} layers"),
        (
            "kernels of the second networks",
            " > ".join(dict.fromkeys("/".join(map(str, sizes)) for sizes in record.sizes)),
        ),
        ("share of the pictures", "/".join(f"{share:.0%}" for share in record.shares)),
        ("evidence", staged_evidence(record)),
        ("dense network, ms", bare_ms(record.dense_ms)),
        ("in a row, mean, ms", bare_ms(record.expected_ms)),
        ("in a row, of the dense time", f"{record.relative_time:.3f}"),
        ("worst case, of the dense time", f"{record.worst_case:.3f}"),
        ("best plan in one network, of the dense time", f"{one_network(report):.3f}"),
        ("weights added, MiB", f"{record.added_bytes / 2**20:.1f}"),
        ("chosen", "yes" if record.chosen else f"no: {record.why}"),
    )
    return Table(_TITLE, ("figure", "value"), rows)


def one_network(report: GateReport) -> float:
    """Return the time of the best plan in one network, divided by the dense network's.

    Where both were timed in a row, it took turns with them; else this is the check of the plan, or its prediction.
    """
    record, timings = report.staged, report.timings
    if record is not None and record.planned_ms is not None:
        return record.planned_ms / record.dense_ms
    if timings is not None:
        return float(least_ms(timings.lowered_ms).mean() / least_ms(timings.dense_ms).mean())
    return report.predicted_expected_ms / report.predicted_dense_ms


def staged_json(record: StagedRecord) -> dict[str, Any]:
    """Return the figures without the samples that they follow from."""
    facts = record.model_dump(mode="json", exclude={"whole", "parts"})
    reading = {} if record.parts is None else {"reading_ms": record.parts.reading_ms}
    return {
        **facts,
        **reading,
        "provenance": staged_evidence(record),
        "dense_ms": record.dense_ms,
        "expected_ms": record.expected_ms,
        "worst_ms": record.worst_ms,
        "relative_time": record.relative_time,
        "worst_case": record.worst_case,
    }
