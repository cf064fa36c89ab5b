"""Training runs as tables and sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean, pstdev
from typing import Any, Protocol

from deploycc.report.table import Table


class Agreement(Protocol):
    """How far a network agrees with its teacher, see `deploycc.distillation.agreement.Agreement`."""

    @property
    def map50(self) -> float:
        """Mean over the classes, 0..1."""

    @property
    def by_class(self) -> Mapping[int, tuple[float, float]]:
        """Class index to average precision relative to the teacher's, and how many objects the teacher expects."""


def scores_table(result: Mapping[str, Any]) -> Table:
    """Average precision of a detector that was trained on labels.

    Args:
        result: that of `deploycc.lkam.assess.assess`.
    """
    rows = [(name, _percent(value)) for name, value in result["classes"].items()]
    rows.append(("mean", _percent(result["map50_area"])))
    return Table(f"{result['data']}: {result['pictures']} pictures", ("class", "AP50"), tuple(rows))


def agreement_table(agreement: Agreement, class_names: Mapping[int, str]) -> Table:
    """How far a gated network agrees with the network that it was made from."""
    rows = [
        (class_names[number], f"{objects:.1f}", _percent(precision))
        for number, (precision, objects) in sorted(agreement.by_class.items())
    ]
    rows.append(("mean", "", _percent(agreement.map50)))
    title = "agreement with the network without gates: expected AP50, % of its own, on pictures held out"
    return Table(title, ("class", "objects", "agreement"), tuple(rows))


def recovery_table(before: Agreement, after: Agreement, class_names: Mapping[int, str]) -> Table:
    """How far a network agrees with its teacher before and after training."""
    rows = [
        (class_names[number], f"{objects:.1f}", _percent(before.by_class[number][0]), _percent(precision))
        for number, (precision, objects) in sorted(after.by_class.items())
    ]
    rows.append(("mean", "", _percent(before.map50), _percent(after.map50)))
    title = "agreement with the teacher: expected AP50, % of its own, on pictures held out"
    return Table(title, ("class", "objects", "before", "after"), tuple(rows))


def record_sentence(record: Mapping[str, float], teacher: str) -> str:
    """Say where a training is.

    Args:
        record: of its history.
        teacher: what the network learns from, in words.
    """
    stage = f"stage {record['stage']}, " if "stage" in record else ""
    terms = ("scores", "locations", "maps", "labels")
    losses = " + ".join(f"{record[name]:.3f}" for name in terms if name in record)
    engaged = f", gated MACs engaged {100 * record['engaged']:.1f} %" if "engaged" in record else ""
    agreement = f"agreement with the {teacher} {100 * record['agreement']:.1f} %"
    return f"{stage}step {record['step']}: loss {losses}, {agreement}{engaged}"


def gates_sentence(engaged: Sequence[float], gated_share: float) -> str:
    """Say what gates switch off.

    Args:
        engaged: share of the gated MACs that each picture engages.
        gated_share: of the network's MACs, which the gated layers have.
    """
    off = [100 * (1 - share) for share in engaged]
    saved = saved_sentence({"mean": mean(off), "std": pstdev(off), "min": min(off), "max": max(off)})
    return f"{saved}; the layers with gates have {_percent(gated_share)} % of the network's"


def saved_sentence(percent: Mapping[str, float]) -> str:
    """Say what gates switch off, from the statistics over the pictures."""
    spread = f"(std {percent['std']:.1f}, {percent['min']:.1f} to {percent['max']:.1f})"
    return f"gates switch off {percent['mean']:.1f} % of their MACs {spread}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"
