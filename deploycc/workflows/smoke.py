"""The pictures that a folder ships, and what its networks compute of them in FP32: a smoke test of every engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from deploycc.errors import MeasureError, ModelError
from deploycc.progress import Say

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from deploycc.detector import InputSpec
    from deploycc.detector.picture_list import PictureList
    from deploycc.evaluation.detect import OnnxRuntimeDetector
    from deploycc.integration.contract_files import Expected
    from deploycc.workflows.networks import WrittenNetwork
    from deploycc.workflows.row_files import CompiledRow

PICTURES = 2
MOST_TRIED = 100
"""Pictures that are looked at for one that each second network of a row runs on."""
SCORE_THRESHOLD = 0.3
_SEED = 20


def smoke_pictures(spec: InputSpec, pictures: PictureList | None) -> NDArray[np.uint8]:
    """Return [N, height, width, 3] uint8, red first: of the user's pictures, else generated street scenes.

    Args:
        spec: the input that they are resized to.
        pictures: of the user.
    """
    import numpy as np

    from deploycc.detector.pictures import resize
    from deploycc.scenes import draw_scene

    if pictures is not None:
        chosen = np.linspace(0, len(pictures.names) - 1, min(PICTURES, len(pictures.names))).astype(int)
        shown = [pictures.read(int(number)) for number in chosen]
    else:
        shown = [draw_scene(_SEED, number, 160).pixels for number in range(PICTURES)]
    return np.stack([resize(picture, spec.height, spec.width) for picture in shown])


def pictures_of_row(row: CompiledRow, spec: InputSpec, pictures: PictureList | None, say: Say) -> NDArray[np.uint8]:
    """Return pictures as `smoke_pictures` does, one for each second network of a row that any of them needs.

    Args:
        row: of the network.
        spec: the input that they are resized to.
        pictures: of the user.
        say: progress.

    Raises:
        MeasureError: the row does not run.
    """
    import numpy as np

    from deploycc.detector.pictures import prepare, resize
    from deploycc.graph.session import GraphRunner, cut_at
    from deploycc.scenes import draw_scene

    say("looking for pictures that need each network in a row")
    decide = GraphRunner(cut_at(row.first.graph, [row.decision]), 1, {"network": row.second[0].name})
    count = MOST_TRIED if pictures is None else min(MOST_TRIED, len(pictures.names))
    found: dict[int, list[NDArray[np.uint8]]] = {}
    for number in range(count):
        pixels = draw_scene(_SEED, number, 160).pixels if pictures is None else pictures.read(number)
        picture = resize(pixels, spec.height, spec.width)
        needed = int(decide({spec.name: prepare(picture, spec)})[row.decision][0])
        found.setdefault(needed, []).append(picture)
        if len(found) == len(row.second) and sum(map(len, found.values())) >= PICTURES:
            break
    first = [shown[0] for _, shown in sorted(found.items())]
    others = [picture for shown in found.values() for picture in shown[1:]]
    return np.stack([*first, *others[: max(0, PICTURES - len(first))]])


def expected_of(networks: Sequence[WrittenNetwork], pictures: NDArray[np.uint8], say: Say) -> dict[str, Expected]:
    """Return what each variant computes of the pictures, by variant: in FP32 where an FP32 network was written.

    A network that ONNX Runtime cannot run, or whose outputs are not detections, has no entry.
    """
    from deploycc.evaluation.detect import OnnxRuntimeDetector

    expected: dict[str, Expected] = {}
    for written in sorted(networks, key=lambda each: each.network.precision, reverse=True):
        detector, variant = written.compiled.detector, written.network.variant
        if variant in expected or (detector.heads is None and detector.detections is None):
            continue
        say("running the pictures of the smoke test")
        try:
            expected[variant] = _run(OnnxRuntimeDetector(detector), pictures)
        except (MeasureError, ModelError):
            continue
    return expected


def _run(runner: OnnxRuntimeDetector, pictures: NDArray[np.uint8]) -> Expected:
    import numpy as np

    from deploycc.detector.pictures import prepare
    from deploycc.integration.contract_files import Expected

    heads = runner.detector.heads
    raw: dict[str, list[NDArray[np.float32]]] = {}
    detections = []
    for picture in pictures:
        outputs = runner.run(prepare(picture, runner.detector.input))
        found = runner.read(outputs)
        likely = (found.scores >= SCORE_THRESHOLD) & np.isfinite(found.boxes).all(axis=1)
        columns = (found.classes[likely].tolist(), found.scores[likely].tolist(), found.boxes[likely].tolist())
        detections.append(tuple((label, score, *box) for label, score, box in zip(*columns, strict=True)))
        for name in () if heads is None else (heads.locations, heads.scores):
            raw.setdefault(name, []).append(outputs[name].astype(np.float32).reshape(-1))
    stacked = {name: np.stack(values) for name, values in raw.items()}
    return Expected(pictures, SCORE_THRESHOLD, stacked, tuple(detections))
