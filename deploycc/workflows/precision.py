"""FP16 against FP32 on the user's pictures, whatever the target: outputs, layers and detections."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from deploycc.detector import Detector
    from deploycc.detector.picture_list import PictureList
    from deploycc.documents.compile import LayerError, OutputError, PrecisionComparison
    from deploycc.passes.options import Prune
    from deploycc.precision.comparison import TensorDifference
    from deploycc.progress import Say
    from deploycc.target import Target

_LAYERS_KEPT = 20


def compare(
    detector: Detector, target: Target, pictures: PictureList, keep_fp32: Sequence[str], prune: Prune | None, say: Say
) -> PrecisionComparison:
    """Run every picture through the FP32 network and an FP16 one, both with raw heads.

    The FP16 network is the typed one also where the target's builder takes a flag instead: no builder of TensorRT
    runs on this machine, so storage is rounded as FP16 storage would be, and arithmetic stays FP32.

    Raises:
        PictureError: a picture cannot be read.
    """
    from deploycc.detector.pictures import prepare
    from deploycc.documents.compile import DetectionDifference, PrecisionComparison
    from deploycc.documents.document import Evidence
    from deploycc.evaluation.detect import OnnxRuntimeDetector
    from deploycc.evaluation.difference import MATCH_IOU, SCORE_THRESHOLD, DetectionDifferences
    from deploycc.passes import PIPELINE, run
    from deploycc.passes.for_target import options_for
    from deploycc.precision.comparison import compare_precision, store_as_half

    count = len(pictures.names)
    options = replace(options_for(target, detection="raw", keep_fp32=keep_fp32), prune=prune)
    fp32 = run(detector, replace(options, keep_fp32=frozenset()), PIPELINE).detector
    fp16 = run(detector, replace(options, precision="fp16", typed=True), PIPELINE).detector

    def tensors() -> Iterator[NDArray[np.float32]]:
        for number in range(count):
            say("comparing FP16 with FP32", number + 1, count)
            yield prepare(pictures.read(number), fp32.input)

    report = compare_precision(fp32, fp16, tensors())
    detections = None
    if fp32.heads is not None:
        found = DetectionDifferences()
        in_fp32 = OnnxRuntimeDetector(fp32)
        in_fp16 = OnnxRuntimeDetector(replace(fp16, graph=store_as_half(fp16.graph)))
        for number in range(count):
            say("comparing detections", number + 1, count)
            picture = pictures.read(number)
            found.add(in_fp32.detect(picture), in_fp16.detect(picture))
        detections = DetectionDifference(
            score_threshold=SCORE_THRESHOLD,
            match_iou=MATCH_IOU,
            reference=found.reference,
            other=found.other,
            matched=found.matched,
            max_score_difference=found.max_score_difference,
            min_iou=found.min_iou,
        )
    worst = [*report.overflowing, *(layer for layer in report.worst(_LAYERS_KEPT) if not layer.overflows)]
    return PrecisionComparison(
        evidence=Evidence(kind="measured", source=report.device),
        pictures=report.pictures,
        picture_source=pictures.source,
        outputs=tuple(_output(output) for output in report.outputs),
        layers=tuple(_layer(layer) for layer in worst[:_LAYERS_KEPT]),
        detections=detections,
    )


def _output(difference: TensorDifference) -> OutputError:
    from deploycc.documents.compile import OutputError

    return OutputError(
        tensor=difference.name,
        max_abs_error=difference.max_abs_error,
        relative_rms_error=difference.relative_error,
        reference_max_abs=difference.largest,
    )


def _layer(difference: TensorDifference) -> LayerError:
    from deploycc.documents.compile import LayerError

    return LayerError(
        node=difference.name,
        op=difference.op,
        max_abs_error=difference.max_abs_error,
        relative_rms_error=difference.relative_error,
        overflowed=difference.overflows,
        fp32=not difference.half,
    )
