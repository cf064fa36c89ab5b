"""Pictures are read and prepared as OpenCV does; a file that is not a picture is refused."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from numpy.typing import NDArray
from PIL import Image
from strategies import pictures

from deploycc.detector import InputSpec
from deploycc.detector.pictures import find_pictures, prepare, read_picture, resize
from deploycc.errors import ModelError, PictureError


def gradient(height: int = 20, width: int = 30) -> NDArray[np.uint8]:
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 8, y * 12, (x + y) * 5], axis=2).astype(np.uint8)


# ---- resizing -------------------------------------------------------------------------------------------------------


@given(pictures())
def test_resizing_is_opencvs_within_a_grey_level(case: tuple[NDArray[np.uint8], int, int]) -> None:
    picture, height, width = case
    expected = cv2.resize(picture, (width, height), interpolation=cv2.INTER_LINEAR).reshape(height, width, 3)
    difference = np.abs(resize(picture, height, width).astype(int) - expected)
    assert difference.max() <= 1


def test_resizing_a_photograph_is_opencvs(assets: Path) -> None:
    picture = read_picture(assets / "test_images" / "dog.jpg")
    for size in ((300, 300), (240, 320), (900, 700)):
        difference = resize(picture, *size).astype(int) - cv2.resize(picture, size[::-1])
        assert np.abs(difference).max() <= 1
        assert np.abs(difference).mean() < 0.15  # OpenCV cuts bits off that are rounded here


def test_a_picture_of_the_right_size_stays() -> None:
    picture = gradient()
    assert resize(picture, 20, 30) is picture


# ---- preparing ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("colour", ["RGB", "BGR"])
def test_preparing_is_opencvs(assets: Path, colour: str) -> None:
    path = assets / "test_images" / "dog.jpg"
    spec = InputSpec("data", 240, 320, colour, (104, 117, 123), (1 / 64,) * 3)  # type: ignore[arg-type]
    tensor = prepare(read_picture(path), spec)
    blob = cv2.dnn.blobFromImage(cv2.imread(str(path)), 1 / 64, (320, 240), (104, 117, 123), colour == "RGB")
    assert tensor.shape == spec.shape == blob.shape
    assert tensor.dtype == np.float32
    assert tensor.flags.c_contiguous
    assert np.allclose(tensor, blob, rtol=0, atol=1.001 / 64)


def test_each_channel_has_its_own_mean_and_scale() -> None:
    picture = np.zeros((2, 2, 3), np.uint8)
    picture[:] = (10, 20, 30)
    spec = InputSpec("data", 2, 2, "BGR", (1, 2, 3), (1, 10, 100))
    assert prepare(picture, spec)[0, :, 0, 0].tolist() == [29, 180, 700]


def test_grey_is_opencvs_grey() -> None:
    picture = gradient()
    tensor = prepare(picture, InputSpec("data", 20, 30, "GRAY", (0,), (1,)))
    assert tensor.shape == (1, 1, 20, 30)
    assert np.allclose(tensor[0, 0], cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), rtol=0, atol=1)


# ---- reading --------------------------------------------------------------------------------------------------------


def test_reading_a_photograph_is_opencvs(assets: Path) -> None:
    path = assets / "voc100" / "JPEGImages" / "2007_000033.jpg"
    assert np.array_equal(read_picture(path), cv2.imread(str(path))[:, :, ::-1])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_picture_is_read_upright_as_opencv_does(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(gradient()).save(tmp_path / "turned.jpg", exif=exif, quality=95)
    expected = cv2.imread(str(tmp_path / "turned.jpg"))[:, :, ::-1]
    assert np.array_equal(read_picture(tmp_path / "turned.jpg"), expected)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_any_usual_kind_of_picture_is_read(tmp_path: Path, mode: str) -> None:
    file = tmp_path / ("x.jpg" if mode == "CMYK" else "x.png")
    Image.fromarray(gradient()).convert(mode).save(file)
    picture = read_picture(file)
    assert picture.shape == (20, 30, 3)
    assert picture.dtype == np.uint8


def test_sixteen_bits_keep_the_high_byte(tmp_path: Path) -> None:
    grey = (np.arange(600).reshape(20, 30) * 100).astype(np.uint16)
    cv2.imwrite(str(tmp_path / "deep.png"), grey)
    expected = np.repeat((grey >> 8).astype(np.uint8)[:, :, None], 3, axis=2)
    assert np.array_equal(read_picture(tmp_path / "deep.png"), expected)


@pytest.mark.parametrize("name", ["x.png", "x.jpg", "x.bmp"])
@pytest.mark.parametrize("part", [0.0, 0.1, 0.5, 0.9])
def test_a_truncated_picture_is_refused(tmp_path: Path, name: str, part: float) -> None:
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8)).save(tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(PictureError) as caught:
        read_picture(tmp_path / name)
    assert caught.value.code == "picture-unreadable"
    assert caught.value.context["file"] == str(tmp_path / name)
    assert caught.value.note


def test_a_missing_picture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PictureError) as caught:
        read_picture(tmp_path / "none.png")
    assert caught.value.code == "picture-missing"


def test_a_text_a_folder_and_a_float_picture_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("not a picture")
    Image.fromarray(np.zeros((2, 2), np.float32)).save(tmp_path / "float.tiff")
    codes = []
    for name in ("text.jpg", "", "float.tiff"):
        with pytest.raises(PictureError) as caught:
            read_picture(tmp_path / name)
        codes.append(caught.value.code)
    assert codes == ["picture-unreadable", "picture-unreadable", "picture-unsupported"]


def test_a_picture_that_would_not_fit_in_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(gradient()).save(tmp_path / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(PictureError) as caught:
        read_picture(tmp_path / "large.png")
    assert caught.value.code == "picture-too-large"


# ---- folders --------------------------------------------------------------------------------------------------------


def test_pictures_are_found_by_suffix_and_sorted(tmp_path: Path) -> None:
    for name in ("b.JPG", "a.png", "c.bmp", "d.jpeg", "notes.txt", ".hidden"):
        (tmp_path / name).touch()
    (tmp_path / "folder.jpg").mkdir()
    assert [path.name for path in find_pictures(tmp_path)] == ["a.png", "b.JPG", "c.bmp", "d.jpeg"]


def test_an_empty_a_missing_folder_and_a_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    codes = []
    for name in ("empty", "missing", "file"):
        with pytest.raises(PictureError) as caught:
            find_pictures(tmp_path / name)
        codes.append(caught.value.code)
    assert codes == ["picture-folder-empty", "picture-folder", "picture-folder"]


@pytest.mark.parametrize(
    ("mean", "scale"),
    [
        (np.nan, 1.0),
        (np.inf, 1.0),
        (1e39, 1.0),
        (0.0, np.nan),
        (0.0, np.inf),
        (0.0, 0.0),
        (0.0, 1e-50),
        (3e38, 1e38),
        (1e12, 1.0),
    ],
)
def test_a_preparation_that_makes_all_pictures_the_same_is_refused(mean: float, scale: float) -> None:
    """Also in FP32: 1e39 is infinite there, 1e-50 is zero, and 255 - 1e12 is -1e12."""
    with pytest.raises(ModelError) as caught:
        InputSpec("x", 4, 4, "RGB", (mean,) * 3, (scale,) * 3)
    assert caught.value.code == "input-preparation"
