"""Accuracy of the networks of one compilation, for its report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from deploycc.progress import Say

if TYPE_CHECKING:
    from deploycc.detector import Detector
    from deploycc.documents.compile import AccuracyRecord
    from deploycc.documents.plan import Variant
    from deploycc.evaluation.dataset import Dataset


def score_variants(
    networks: Mapping[Variant, Detector], dataset: Dataset, class_names: Sequence[str], say: Say
) -> tuple[AccuracyRecord, ...]:
    """Score networks in FP32 on this machine's CPU, on the same pictures.

    Args:
        networks: with operators that ONNX Runtime knows.
        dataset: annotated pictures.
        class_names: the networks' class names in order, where they do not know them.
        say: progress.

    Raises:
        InputError: no picture shows an object, or the classes cannot be matched.
        ModelError, MeasureError: a network cannot run, or its outputs cannot be decoded.
    """
    from deploycc.documents.compile import AccuracyRecord
    from deploycc.evaluation.accuracy import measure_accuracies

    records = []
    accuracies = measure_accuracies(list(networks.values()), dataset, names=tuple(class_names), say=say)
    for variant, accuracy in zip(networks, accuracies, strict=True):
        summary = accuracy.summary()
        records.append(
            AccuracyRecord(
                precision="fp32",
                variant=variant,
                evidence=accuracy.evidence,
                data=dataset.spelling,
                pictures=len(dataset),
                map50=summary["map50_area"],
                map50_11point=summary["map50_11point"],
                coco_map=summary["coco_map"],
            )
        )
    return tuple(records)
