"""Pictures drawn by what the teacher sees in them: without labels, too, classes that few pictures show are taught.

A class that a teacher sees in one picture of a hundred is taught by one view of a hundred, and what pruning took from
it comes back last. Pictures that show a rare class are drawn more often (repeat factors, Gupta et al., LVIS, 2019,
section 4.3; here from expected detections instead of labels), and some of those additional views zoom in on what the
teacher sees of it, which may be large enough there for a teacher that doubted it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deploycc.detector import Detector
from deploycc.distillation.agreement import DOUBTFUL
from deploycc.evaluation.detect import OnnxRuntimeDetector
from deploycc.evaluation.nms import Detections

MOST_OFTEN = 8.0
"""A picture is drawn at most so many times as often as one of frequent classes: more would teach it by heart."""
_ZOOMED = 0.5  # share of the additional views of a picture

Floats = NDArray[np.float64]
Look = Callable[[NDArray[np.uint8]], Detections]


@dataclass(frozen=True)
class Balance:
    """How pictures are drawn.

    Attributes:
        look: what the teacher detects in a picture, [H, W, 3] uint8, red first.
        power: a class that is seen in 1 / r of the pictures of a class of mean frequency is drawn r ** power as often:
            0.5 evens out half of the difference in magnitude, 1 all of it.
    """

    look: Look
    power: float


def balance_by(teacher: Detector, power: float) -> Balance | None:
    """Let a teacher decide how pictures are drawn; None for a power of 0, which draws all alike."""
    return Balance(OnnxRuntimeDetector(teacher).detect, power) if power else None


@dataclass(frozen=True, eq=False)
class Draws:
    """How often each picture is drawn, and where views of it zoom in.

    Attributes:
        factors: [pictures] of the pictures in their order, at least 1.
        targets: for each picture the boxes to zoom in on, [N, 4] corners, 0..1 of the picture.
        shares: for each picture, [N]: how likely a view zooms in on each of its boxes; the rest does not zoom.
    """

    factors: Floats
    targets: tuple[NDArray[np.float32], ...]
    shares: tuple[Floats, ...]

    def counts(self, total: int) -> NDArray[np.int64]:
        """Share out a number of views to the pictures, as even as whole numbers allow, [pictures]."""
        ends = np.rint(np.cumsum(self.factors) / self.factors.sum() * total).astype(np.int64)
        return np.diff(ends, prepend=0)

    def target(self, picture: int, rng: np.random.Generator) -> NDArray[np.float32] | None:
        """Choose what a view of a picture zooms in on, [4]; None: it does not."""
        place = int(np.searchsorted(np.cumsum(self.shares[picture]), rng.random(), side="right"))
        return self.targets[picture][place] if place < len(self.shares[picture]) else None


def draws(seen: Sequence[Detections], power: float) -> Draws:
    """Decide how often pictures are drawn.

    Args:
        seen: the teacher's detections in each picture.
        power: see `Balance`.
    """
    counted = [found.scores >= DOUBTFUL for found in seen]
    classes = sorted({int(k) for found, kept in zip(seen, counted, strict=True) for k in found.classes[kept]})
    # The square of the best score: networks with sigmoids doubt every class in most pictures, and so many doubts would
    # outweigh what is seen, so that no class looked rare. Crowds count as one: they are one picture.
    shown = np.zeros((len(seen), len(classes)))
    for row, found, kept in zip(shown, seen, counted, strict=True):
        for column, k in enumerate(classes):
            row[column] = float(found.scores[kept & (found.classes == k)].max(initial=0.0)) ** 2
    often = shown.sum(0)
    rarity = np.clip((often.mean() / often) ** power, 1.0, MOST_OFTEN) if classes else np.ones(0)
    factors = 1 + (shown * (rarity - 1)).max(1, initial=0.0)
    excess = {k: float(value) - 1 for k, value in zip(classes, rarity, strict=True)}
    targets, shares = [], []
    for found, kept, factor in zip(seen, counted, factors, strict=True):
        worth = found.scores[kept] * np.array([excess[int(k)] for k in found.classes[kept]], np.float64)
        rare = worth > 0
        targets.append(np.clip(found.boxes[kept][rare], 0.0, 1.0))
        shares.append(_ZOOMED * (1 - 1 / factor) * worth[rare] / max(float(worth.sum()), 1e-12))
    return Draws(factors, tuple(targets), tuple(shares))
