"""Reading pictures, and converting them to a network's input tensor."""

from __future__ import annotations

import struct
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from deploycc.detector import InputSpec
from deploycc.errors import PictureError

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png")

# Raised by Pillow for damaged files: some errors of its decoders are not OSErrors.
_DAMAGED = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error)
_GREY = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601 luma of R, G, B


def find_pictures(folder: Path) -> list[Path]:
    """Return the pictures directly inside a folder (jpg, jpeg, png, bmp), sorted by name.

    Raises:
        PictureError: the folder is missing, unreadable, not a folder, or has no pictures.
    """
    try:
        pictures = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file())
    except OSError as error:
        raise PictureError(
            "picture-folder", "the folder of pictures cannot be read", context={"folder": folder}, note=error.strerror
        ) from None
    if not pictures:
        raise PictureError(
            "picture-folder-empty",
            "the folder has no pictures",
            context={"folder": folder},
            note=f"looked for {', '.join(SUFFIXES)}; subfolders are not searched",
        )
    return pictures


def read_picture(path: Path) -> NDArray[np.uint8]:
    """Read a picture as [height, width, 3] uint8, RGB, rotated by its EXIF orientation.

    The result is what viewers and OpenCV's ``imread`` show. Transparency is dropped, 16-bit grey keeps its high byte,
    and an animation gives its first frame.

    Raises:
        PictureError: missing, not a picture, truncated, too large, or of an unsupported kind.
    """
    context = {"file": path}
    try:
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image)
            if upright.mode in ("I", "F"):
                raise PictureError(
                    "picture-unsupported",
                    f"a picture of mode {upright.mode!r} has no fixed range of values",
                    context=context,
                    hint="save it with 8 bits per channel",
                )
            if upright.mode.startswith("I;16"):
                upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
            return np.asarray(upright.convert("RGB"))
    except FileNotFoundError:
        raise PictureError("picture-missing", "the picture does not exist", context=context) from None
    except Image.DecompressionBombError as error:
        raise PictureError("picture-too-large", "the picture is too large", context=context, note=str(error)) from None
    except _DAMAGED as error:
        raise PictureError(
            "picture-unreadable",
            "the file cannot be read as a picture",
            context=context,
            note=str(error) or type(error).__name__,
        ) from None


def prepare(picture: NDArray[np.uint8], spec: InputSpec) -> NDArray[np.float32]:
    """Convert a picture to the network's input: resize, order the channels, ``(pixel - mean) * scale``.

    The aspect ratio is not kept, as in SSD training. Pixels are rounded to integers after resizing, as OpenCV does.

    Args:
        picture: [height, width, 3] uint8, RGB.
        spec: size, colour order, mean and scale.

    Returns:
        [1, channels, spec.height, spec.width] float32, contiguous.
    """
    small = resize(picture, spec.height, spec.width)
    planes: NDArray[np.generic]
    if spec.colour == "GRAY":
        planes = np.rint(small @ _GREY)[None]
    else:
        planes = small.transpose(2, 0, 1)[:: 1 if spec.colour == "RGB" else -1]
    scale = np.array(spec.scale, np.float32).reshape(-1, 1, 1)
    mean = np.array(spec.mean, np.float32).reshape(-1, 1, 1)
    tensor = np.empty(spec.shape, np.float32)
    np.subtract(planes, mean, out=tensor[0], dtype=np.float32)
    tensor[0] *= scale
    return tensor


def resize(picture: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Resize by bilinear interpolation between pixel centres, without smoothing, like OpenCV's ``INTER_LINEAR``.

    Args:
        picture: [H, W, C] uint8.
        height: of the result.
        width: of the result.

    Returns:
        [height, width, C] uint8, within one grey level of OpenCV's (which computes with 11-bit weights).
    """
    if picture.shape[:2] == (height, width):
        return picture
    above, below, down = _taps(picture.shape[0], height)
    left, right, across = _taps(picture.shape[1], width)
    channels = picture.shape[2]
    flat = picture.reshape(picture.shape[0], -1)
    rows = _mix(flat[above], flat[below], down[:, None])
    columns = rows.reshape(height, -1, channels)
    mixed = _mix(columns[:, left], columns[:, right], across[:, None])
    mixed += 0.5  # the conversion below truncates
    return mixed.astype(np.uint8)


def _mix(first: NDArray[np.generic], second: NDArray[np.generic], weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return ``first + (second - first) * weight``."""
    base = first.astype(np.float32, copy=False)
    mixed: NDArray[np.float32] = np.subtract(second, base, dtype=np.float32)
    mixed *= weight
    mixed += base
    return mixed


@lru_cache(maxsize=64)
def _taps(source: int, target: int) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    """Return for each target pixel the two source pixels around its centre, and the weight of the second."""
    centre = np.clip((np.arange(target) + 0.5) * (source / target) - 0.5, 0, source - 1)
    low = np.floor(centre).astype(np.intp)
    return low, np.minimum(low + 1, source - 1), (centre - low).astype(np.float32)
