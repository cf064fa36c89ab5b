from __future__ import annotations

import numpy as np
import pytest

from deploycc.detector import InputSpec
from deploycc.verification.pictures import seeded_picture


@pytest.mark.parametrize("colour", ["RGB", "GRAY"])
def test_a_seed_gives_one_picture_of_pixels_in_the_whole_range(colour: str) -> None:
    channels = 1 if colour == "GRAY" else 3
    spec = InputSpec("x", 100, 60, colour, (10.0,) * channels, (0.5,) * channels)  # type: ignore[arg-type]
    picture = seeded_picture(spec, 3)
    pixels = picture / 0.5 + 10
    assert picture.shape == spec.shape
    assert picture.dtype == np.float32
    np.testing.assert_array_equal(pixels, np.rint(pixels))
    assert (pixels.min() < 50, pixels.max() > 205) == (True, True)
    np.testing.assert_array_equal(picture, seeded_picture(spec, 3))
    assert (picture != seeded_picture(spec, 4)).any()
