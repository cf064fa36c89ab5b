"""Accuracy as a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deploycc.report.table import Table


def accuracy_table(summary: Mapping[str, Any]) -> Table:
    """One row per class, then the mean.

    Args:
        summary: that of `deploycc.evaluation.accuracy.Accuracy`.
    """
    rows = [(row["class"], str(row["objects"]), *_percents(row)) for row in summary["classes"]]
    mean = {
        "ap50_area": summary["map50_area"],
        "ap50_11point": summary["map50_11point"],
        "coco_ap": summary["coco_map"],
    }
    rows.append(("mean", str(sum(row["objects"] for row in summary["classes"])), *_percents(mean)))
    evidence = summary["evidence"]
    title = f"{summary['data']}: {summary['pictures']} pictures, {evidence['kind']} with {evidence['source']}"
    return Table(title, ("class", "objects", "AP50 area", "AP50 11-point", "COCO AP"), tuple(rows))


def _percents(values: Mapping[str, float | None]) -> tuple[str, ...]:
    scores = (values[key] for key in ("ap50_area", "ap50_11point", "coco_ap"))
    return tuple("-" if score is None else f"{100 * score:.1f}" for score in scores)
