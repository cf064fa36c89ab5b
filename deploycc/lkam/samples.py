"""Training batches that depend only on the seed and the step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from deploycc.evaluation.dataset import Dataset
from deploycc.lkam.augment import augment
from deploycc.progress import Say, quiet
from deploycc.trainable.matching import IGNORED

MEAN, SCALE = 128.0, 1 / 128  # of the network's input


@dataclass(frozen=True, eq=False)
class Batch:
    """Pictures [B, 3, size, size], boxes [B, N, 4] (0..1, padded) and labels [B, N] (0 padding, -1 difficult)."""

    pictures: Tensor
    boxes: Tensor
    labels: Tensor


class Samples:
    """A data set in memory, at most twice as large as the network's input.

    Args:
        dataset: read once, by the constructor.
        size: the network's input, pixels.
        seed: of order and augmentation.
        mirror_only: see `augment`.
        say: called with the number of pictures read.
    """

    def __init__(
        self,
        dataset: Dataset,
        size: int,
        seed: int,
        *,
        mirror_only: bool = False,
        say: Say = quiet,
    ) -> None:
        self.size = size
        self.mirror_only = mirror_only
        self.seed = seed
        self._pixels: list[NDArray[np.uint8]] = []
        self._boxes: list[NDArray[np.float32]] = []
        self._labels: list[NDArray[np.int64]] = []
        for number in range(len(dataset)):
            pixels, truth = dataset.sample(number)
            height, width = pixels.shape[:2]
            extent: NDArray[np.float32] = np.array([width, height, width, height], np.float32)
            self._boxes.append(truth.boxes / extent)
            self._labels.append(np.where(truth.difficult, IGNORED, truth.classes + 1))
            self._pixels.append(_shrink(pixels, 2 * size))
            say("reading pictures", number + 1, len(dataset))

    def __len__(self) -> int:
        return len(self._pixels)

    def batch(self, step: int, count: int) -> Batch:
        """Return the batch of a training step: data shuffled again in each epoch, pictures augmented."""
        places = np.arange(step * count, (step + 1) * count)
        epochs = {int(e) for e in places // len(self)}
        orders = {e: np.random.default_rng([self.seed, 0, e]).permutation(len(self)) for e in epochs}
        rows = []
        for place in places:
            number = int(orders[int(place) // len(self)][place % len(self)])
            rng = np.random.default_rng([self.seed, 1, int(place)])
            sample = (self._pixels[number], self._boxes[number], self._labels[number])
            rows.append(augment(*sample, self.size, rng, self.mirror_only))
        return _collate(rows)


def to_tensor(pixels: NDArray[np.uint8]) -> Tensor:
    """Convert [B, H, W, 3] uint8 to the network's input, channels last in memory."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float().sub_(MEAN).mul_(SCALE)


def _collate(rows: list[tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.int64]]]) -> Batch:
    most = max(len(labels) for _, _, labels in rows)
    boxes = torch.zeros(len(rows), most, 4)
    labels = torch.zeros(len(rows), most, dtype=torch.long)
    for index, (_, box, label) in enumerate(rows):
        boxes[index, : len(label)] = torch.from_numpy(box)
        labels[index, : len(label)] = torch.from_numpy(label)
    return Batch(to_tensor(np.stack([pixels for pixels, _, _ in rows])), boxes, labels)


def _shrink(pixels: NDArray[np.uint8], limit: int) -> NDArray[np.uint8]:
    height, width = pixels.shape[:2]
    if max(height, width) <= limit:
        return pixels
    image = Image.fromarray(pixels)
    return np.asarray(image.resize((min(width, limit), min(height, limit)), Image.Resampling.BOX))
