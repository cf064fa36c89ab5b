from __future__ import annotations

import pytest

from deploycc.importers.caffe.layer import EMITTERS
from deploycc.importers.caffe.typos import meant


@pytest.mark.parametrize(
    ("written", "known"),
    [
        ("Convolutoin", "Convolution"),
        ("Convoluton", "Convolution"),
        ("Convollution", "Convolution"),
        ("Convolutiun", "Convolution"),
        ("relu", "ReLU"),
        ("Batch_Norm", "BatchNorm"),
        ("Normalise", "Normalize"),
        ("Poolling", "Pooling"),
    ],
)
def test_misspelt_types_are_recognised(written: str, known: str) -> None:
    assert meant(written, EMITTERS) == known


@pytest.mark.parametrize(
    "other",
    ["BatchNorm2", "Swosh", "RReLU", "PReLUs", "ReLU1", "Conv", "BNL", "Unpooling", "Upsampling", "Softmin", "Tile3",
     "Convolution3D", "Permutate", "Sigmoids", "Expo", "Biass", ""],
)  # fmt: skip
def test_other_computations_are_not_suggested(other: str) -> None:
    assert meant(other, EMITTERS) is None


@pytest.mark.parametrize(
    ("written", "known"), [("kernal_size", "kernel_size"), ("num_outpt", "num_output"), ("pad_x", None)]
)
def test_misspelt_attributes_are_recognised(written: str, known: str | None) -> None:
    assert meant(written, EMITTERS["Convolution"].fields) == known
