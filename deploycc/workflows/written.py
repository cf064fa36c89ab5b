"""Networks that become files of the user's only once they could be read back, as the next command will read them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from deploycc.errors import DeployError, ModelError
from deploycc.files import replacing

if TYPE_CHECKING:
    from deploycc.detector import Detector

T = TypeVar("T")

_CAFFE = (".prototxt", ".caffemodel")


def read_back(file: Path, *, weights: Path | None = None, named: Path | None = None) -> Detector:
    """Read a network that was just written, as the next command will.

    Args:
        file: ONNX, or a Caffe definition.
        weights: the Caffe weights.
        named: what the user will know the file by; default: ``file``.

    Raises:
        ModelError: ``written-unreadable``.
    """
    from deploycc import importers

    known = named or file
    try:
        return importers.load(file, weights=weights)
    except DeployError as error:
        raise ModelError(
            "written-unreadable",
            f"{known.name}, which was just written, cannot be read back",
            context={**error.context, "file": known, "error": error.code},
            note=error.note or error.message,
            hint="this is a fault of deploycc: please report it with the model",
        ) from None


def save_network(detector: Detector, path: Path) -> str:
    """Write a detector to one ONNX file, which appears only if it can be read back; returns its SHA-256.

    Raises:
        ArtefactError: ``file-unwritable``.
        ModelError: ``written-unreadable``.
    """
    from deploycc.detector.file import save

    return checked((path,), lambda file: save(detector, file))


def checked(paths: tuple[Path, ...], write: Callable[..., T]) -> T:
    """Write the files of a network, and give them their names once they could be read back.

    Args:
        paths: the network, and its weights where they are a file of their own.
        write: takes as many paths, beside those, and writes the files.

    Raises:
        ArtefactError: ``file-unwritable``.
        ModelError: ``written-unreadable``; the files that were there before stay.
    """
    with ExitStack() as stack:
        files = [stack.enter_context(_beside(path)) for path in paths]
        result = write(*files)
        read_back(files[0], weights=files[1] if len(files) > 1 else None, named=paths[0])
    return result


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """Yield a path beside the file, of its format, that takes its name at the end."""
    with replacing(path) as partial:
        suffix = path.suffix if path.suffix in _CAFFE else ".onnx"  # any name may be given to an ONNX file
        file = partial.with_name(partial.name + suffix)
        try:
            yield file
            file.replace(partial)
        finally:
            file.unlink(missing_ok=True)
