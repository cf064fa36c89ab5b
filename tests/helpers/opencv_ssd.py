"""Real Caffe SSDs run by OpenCV: raw outputs, priors, and what its DetectionOutput layer makes of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from deploycc.detector import InputSpec, Nms, SsdHeads
from deploycc.detector.pictures import prepare, read_picture
from deploycc.evaluation.nms import Detections


@dataclass(frozen=True)
class CaffeSsd:
    """A model of the assets; the names of its head blobs are those of every SSD in Caffe."""

    folder: str
    topology: str
    weights: str
    input: InputSpec
    nms: Nms
    pictures: tuple[str, ...]


VOC21 = CaffeSsd(
    "voc21_ssd_mobilenet",
    "voc21_ssd_mnv1_075.prototxt",
    "voc21_ssd_mnv1_075.caffemodel",
    InputSpec("data", 300, 300, "RGB", (128.0,) * 3, (1 / 128,) * 3),
    Nms(),
    ("voc100/JPEGImages/2007_000033.jpg", "test_images/dog.jpg", "test_images/horses.jpg"),
)
RES10 = CaffeSsd(
    "res10_face_ssd",
    "deploy.prototxt",
    "res10_300x300_ssd_iter_140000.caffemodel",
    InputSpec("data", 300, 300, "BGR", (104.0, 177.0, 123.0)),
    Nms(),
    ("res10_face_ssd/test_faces.jpg", "test_images/person.jpg", "voc100/JPEGImages/2007_000027.jpg"),
)
YUFACE = CaffeSsd(
    "yufacedetect_v2",
    "yufacedetectnet-open-v2.prototxt",
    "yufacedetectnet-open-v2.caffemodel",
    InputSpec("data", 240, 320, "BGR", (104.0, 117.0, 123.0)),
    Nms(iou_threshold=0.15, top_k=100, keep_top_k=50),
    ("res10_face_ssd/test_faces.jpg", "test_images/person.jpg", "voc100/JPEGImages/2007_000027.jpg"),
)
MODELS = (VOC21, RES10, YUFACE)


@dataclass(frozen=True, eq=False)
class Seen:
    """One picture through one model.

    Attributes:
        picture: the file's path.
        heads, nms: how the raw outputs are to be read.
        offsets, scores: [P, 4] and [P, C].
        detections: of OpenCV's DetectionOutput layer, by descending score, then class.
    """

    picture: Path
    heads: SsdHeads
    nms: Nms
    offsets: NDArray[np.float32]
    scores: NDArray[np.float32]
    detections: Detections


def run_caffe(assets: Path, model: CaffeSsd, *, prepared: bool = False) -> list[Seen]:
    """Run a model on its pictures, prepared by OpenCV or by this project (which differs by a grey level at most)."""
    folder = assets / model.folder
    network = cv2.dnn.readNetFromCaffe(str(folder / model.topology), str(folder / model.weights))
    size = (model.input.width, model.input.height)
    seen = []
    for name in model.pictures:
        picture = cv2.imread(str(assets / name))
        assert len(set(model.input.scale)) == 1
        swap = model.input.colour == "RGB"
        blob = cv2.dnn.blobFromImage(picture, model.input.scale[0], size, model.input.mean, swap)
        network.setInput(prepare(read_picture(assets / name), model.input) if prepared else blob)
        locations, scores, priors, rows = network.forward(
            ["mbox_loc", "mbox_conf_flatten", "mbox_priorbox", "detection_out"]
        )
        offsets = locations.reshape(-1, 4).copy()
        boxes, variances = priors.reshape(2, -1, 4).copy()
        heads = SsdHeads("locations", "scores", boxes, variances, classes=scores.size // len(offsets))
        seen.append(
            Seen(assets / name, heads, model.nms, offsets, scores.reshape(len(offsets), -1).copy(), read_rows(rows))
        )
    return seen


def read_rows(rows: NDArray[np.float32]) -> Detections:
    """OpenCV's [1, 1, N, 7]: image, class, score, corners; unused rows have the score 0."""
    found = rows.reshape(-1, 7)
    found = found[found[:, 2] > 0]
    found = found[np.lexsort((found[:, 1], -found[:, 2]))]
    return Detections(found[:, 3:].copy(), found[:, 2].copy(), found[:, 1].astype(np.int64))
