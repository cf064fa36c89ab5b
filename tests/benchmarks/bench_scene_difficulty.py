"""How far one gets on the generated street scenes without a detector: template matching and colour thresholds.

    python tests/benchmarks/bench_scene_difficulty.py

Both may look at 400 annotated pictures of one stream and are scored on 100 of another. The template matcher keeps
40 crops a class and slides them over the picture at five sizes by normalised cross-correlation (OpenCV). The colour
threshold learns for each class how much more often a colour occurs on its objects than elsewhere, thresholds the
picture by that and takes connected regions. Exit status 1 where either reaches a mean average precision of 0.3.
"""

from __future__ import annotations

import argparse
import sys

import cv2
import numpy as np
from numpy.typing import NDArray

from deploycc.detector import Nms
from deploycc.evaluation.nms import suppress
from deploycc.evaluation.truth import Predictions, Truth
from deploycc.evaluation.voc import mean_ap, voc_scores
from deploycc.scenes import CLASS_NAMES, Scene, draw_scene

LIMIT = 0.3
SIZE = 160
CLASSES = len(CLASS_NAMES)
TEMPLATES = 40
SCALES = (0.6, 0.8, 1.0, 1.25, 1.6)
BINS = 12
NMS = Nms(score_threshold=0.0, iou_threshold=0.3, top_k=200, keep_top_k=60)


def found_of(boxes: NDArray[np.float32], scores: NDArray[np.float32], labels: NDArray[np.int64]) -> Predictions:
    """Suppress candidates of all classes, boxes in pixels."""
    table = np.zeros((len(boxes), CLASSES), np.float32)
    table[np.arange(len(boxes)), labels] = scores
    kept = suppress(boxes / SIZE, table, NMS, background=None)
    return Predictions(kept.boxes * np.float32(SIZE), kept.classes, kept.scores)


class TemplateMatcher:
    """Crops of annotated objects, compared with every place of a picture."""

    def __init__(self, scenes: list[Scene], rng: np.random.Generator) -> None:
        crops: list[list[NDArray[np.uint8]]] = [[] for _ in CLASS_NAMES]
        for scene in scenes:
            for box, label in zip(scene.boxes[~scene.difficult], scene.classes[~scene.difficult], strict=True):
                x0, y0, x1, y1 = (round(float(v)) for v in box)
                crops[label].append(scene.pixels[y0:y1, x0:x1])
        self.templates = [
            (label, of_class[k])
            for label, of_class in enumerate(crops)
            for k in rng.permutation(len(of_class))[:TEMPLATES]
        ]

    def detect(self, pixels: NDArray[np.uint8]) -> Predictions:
        boxes, scores, labels = [], [], []
        for label, template in self.templates:
            for scale in SCALES:
                w, h = (max(6, round(scale * n)) for n in (template.shape[1], template.shape[0]))
                if w >= SIZE or h >= SIZE:
                    continue
                match = cv2.matchTemplate(pixels, cv2.resize(template, (w, h)), cv2.TM_CCOEFF_NORMED)
                for place in np.argpartition(match.ravel(), -3)[-3:]:
                    y, x = divmod(int(place), match.shape[1])
                    boxes.append([x, y, x + w, y + h])
                    scores.append(match[y, x])
                    labels.append(label)
        return found_of(np.array(boxes, np.float32), np.array(scores, np.float32), np.array(labels, np.int64))


class ColourThreshold:
    """Regions whose colours are typical of a class."""

    def __init__(self, scenes: list[Scene]) -> None:
        on = np.ones((CLASSES, BINS**3))
        everywhere = np.ones(BINS**3)
        for scene in scenes:
            codes = self._codes(scene.pixels)
            everywhere += np.bincount(codes.ravel(), minlength=BINS**3)
            for box, label in zip(scene.boxes, scene.classes, strict=True):
                x0, y0, x1, y1 = (round(float(v)) for v in box)
                on[label] += np.bincount(codes[y0:y1, x0:x1].ravel(), minlength=BINS**3)
        self.share = on / everywhere
        self.share /= self.share.mean(1, keepdims=True)

    def detect(self, pixels: NDArray[np.uint8]) -> Predictions:
        codes = self._codes(pixels)
        boxes, scores, labels = [], [], []
        for label in range(CLASSES):
            typical = cv2.blur(self.share[label][codes].astype(np.float32), (5, 5))
            for threshold in (1.5, 2.0, 3.0, 4.0):
                count, _, stats, _ = cv2.connectedComponentsWithStats((typical > threshold).astype(np.uint8))
                for x, y, w, h, area in stats[1:count]:
                    if w >= 6 and h >= 6:
                        boxes.append([x, y, x + w, y + h])
                        scores.append(threshold * area / (w * h))
                        labels.append(label)
        if not boxes:
            return Predictions(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, np.float32))
        return found_of(np.array(boxes, np.float32), np.array(scores, np.float32), np.array(labels, np.int64))

    @staticmethod
    def _codes(pixels: NDArray[np.uint8]) -> NDArray[np.int64]:
        parts = pixels.astype(np.int64) * BINS // 256
        return (parts[..., 0] * BINS + parts[..., 1]) * BINS + parts[..., 2]


def main() -> int:
    """Print both figures; 1 where one reaches the limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--learn", type=int, default=400, help="annotated pictures to look at")
    parser.add_argument("--pictures", type=int, default=100, help="pictures to be scored on")
    options = parser.parse_args()
    known = [draw_scene(1, index, SIZE) for index in range(options.learn)]
    unseen = [draw_scene(2, index, SIZE) for index in range(options.pictures)]
    truths = [Truth(s.boxes, s.classes, s.difficult) for s in unseen]
    worst = 0.0
    baselines = {
        "template matching": TemplateMatcher(known, np.random.default_rng(0)),
        "colour threshold": ColourThreshold(known),
    }
    for name, baseline in baselines.items():
        table = voc_scores(truths, [baseline.detect(scene.pixels) for scene in unseen], CLASSES)
        worst = max(worst, mean_ap(table))
        rows = ", ".join(f"{c} {s.area:.3f}" for c, s in zip(CLASS_NAMES, table, strict=True))
        print(f"{name}: mAP50 {mean_ap(table):.3f} ({rows})")
    return 0 if worst < LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
