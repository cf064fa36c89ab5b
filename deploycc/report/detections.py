"""Detections as tables and as a contact sheet in HTML."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from markupsafe import Markup

from deploycc.documents.detections import DetectedBox, DetectionReport, PictureRecord
from deploycc.report.page import page_template
from deploycc.report.table import Table

TEMPLATE = "detections.html.j2"


@dataclass(frozen=True)
class Drawn:
    """A picture with the detections of one network.

    Attributes:
        thumbnail: as a ``data:`` address.
        file: the whole picture, beside the page.
    """

    thumbnail: str
    file: str


def detections_table(report: DetectionReport) -> Table:
    """One row per picture: what each network detects in it, and how many detections only one has."""
    names = [network.model for network in report.networks]
    compared = report.agreement is not None
    rows = []
    for picture in report.pictures:
        cells = [picture.name, *(summary_of(found) for found in picture.detections)]
        rows.append((*cells, str(picture.unmatched)) if compared else tuple(cells))
    title = f"{report.picture_source}: {len(report.pictures)} pictures, score at least {report.score_threshold:g}"
    return Table(title, ("picture", *names, *(["differ"] if compared else [])), tuple(rows))


def summary_of(found: tuple[DetectedBox, ...]) -> str:
    """Return ``2 car, 1 person``; ``nothing`` for no detection."""
    counted = Counter(each.name for each in found)
    return ", ".join(f"{count} {name}" for name, count in counted.most_common()) or "nothing"


def agreement_lines(report: DetectionReport) -> list[str]:
    """Say how far two networks agree; no line for one network."""
    found = report.agreement
    if found is None:
        return []
    first, second = (network.model for network in report.networks)
    lines = [
        f"{found.matched} detections are in both (same class, IoU at least {found.match_iou:g}); "
        f"{found.only_first} only in {first}, {found.only_second} only in {second}"
    ]
    if found.max_score_difference is not None and found.min_iou is not None:
        score, iou = f"{found.max_score_difference:.4f}", f"{found.min_iou:.3f}"
        lines.append(f"over the pairs: largest score difference {score}, smallest IoU {iou}")
    lines.append(f"{found.pictures_that_differ} of {len(report.pictures)} pictures differ")
    return lines


def render_detections_html(report: DetectionReport, drawn: Mapping[str, tuple[Drawn, ...]]) -> str:
    """Return the contact sheet.

    Args:
        report: what was detected.
        drawn: for each picture to show, by name, its drawing per network, in the order of the page.
    """
    pictures = {picture.name: picture for picture in report.pictures}
    shown = [(pictures[name], tuple(map(_cell, pictures[name].detections, sides))) for name, sides in drawn.items()]
    return page_template(TEMPLATE).render(
        report=report,
        shown=shown,
        lines=agreement_lines(report),
        totals=[
            sum(len(picture.detections[side]) for picture in report.pictures) for side in range(len(report.networks))
        ],
        empty=empty_networks(report),
    )


def _cell(found: tuple[DetectedBox, ...], drawn: Drawn) -> tuple[str, Markup, str]:
    return summary_of(found), Markup(drawn.thumbnail), drawn.file


def empty_networks(report: DetectionReport) -> list[str]:
    """Return the networks that detect nothing anywhere."""
    return [
        network.model
        for side, network in enumerate(report.networks)
        if not any(picture.detections[side] for picture in report.pictures)
    ]


def most_different(report: DetectionReport) -> list[PictureRecord]:
    """Return the pictures with those first in which two networks differ most; for one network, in their order."""
    return sorted(report.pictures, key=lambda picture: -picture.unmatched)
