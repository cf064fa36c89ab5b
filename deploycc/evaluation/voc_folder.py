"""Read a folder of pictures with Pascal VOC annotations: JPEGImages, Annotations, ImageSets/Main."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.parsers import expat

import numpy as np
from PIL import Image

from deploycc.detector.pictures import SUFFIXES
from deploycc.errors import InputError
from deploycc.evaluation.truth import Truth
from deploycc.files import read_bytes, read_text

VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class AnnotatedPicture:
    """A picture file and its annotation."""

    picture: Path
    annotation: Path
    truth: Truth


@dataclass(frozen=True)
class _Object:
    name: str
    box: tuple[float, float, float, float]
    difficult: bool
    line: int


def read_voc_folder(
    folder: Path, classes: Sequence[str] | None = None, split: str | None = None
) -> tuple[tuple[str, ...], list[AnnotatedPicture]]:
    """Read and check every annotation of a folder, or of one split of it.

    Args:
        folder: contains ``Annotations`` (or the XML files themselves) and ``JPEGImages`` (or the pictures themselves).
        classes: names that may occur, in this order; None takes those that occur, sorted.
        split: name of a list in ``ImageSets/Main``; None takes every annotation.

    Returns:
        The class names, and the pictures sorted by name.

    Raises:
        InputError: anything is missing, broken or contradictory; it names file, line and object of the first fault,
            and counts the others.
    """
    annotations = _part(folder, "Annotations")
    pictures = _part(folder, "JPEGImages")
    files = _listed(folder, annotations, split) if split else sorted(annotations.glob("*.xml"))
    if not files:
        raise InputError("data-empty", "there are no annotations", context={"folder": annotations})
    stems = {p.stem: p for p in sorted(pictures.iterdir()) if p.suffix.lower() in SUFFIXES and p.is_file()}
    faults: list[InputError] = []
    sound: list[tuple[Path, Path, list[_Object]]] = []
    for file in files:
        try:
            objects = _parse(file)
            picture = stems.get(file.stem)
            if picture is None:
                raise _fault("data-picture-missing", "the annotated picture is missing", file, 1, folder=pictures)
            _check(objects, picture, file, classes)
            sound.append((picture, file, objects))
        except InputError as fault:
            faults.append(fault)
    if faults:
        first = faults[0]
        if len(faults) > 1:
            others = ", ".join(f"{f.context['file']}:{f.context.get('line', 1)}" for f in faults[1:6])
            first.note = f"{len(faults) - 1} more files have faults: {others}{' ...' if len(faults) > 6 else ''}"
        raise first
    occurring = {item.name for _, _, objects in sound for item in objects}
    names = tuple(sorted(occurring) if classes is None else classes)
    return names, [AnnotatedPicture(picture, file, _truth(objects, names)) for picture, file, objects in sound]


def _part(folder: Path, name: str) -> Path:
    if not folder.is_dir():
        raise InputError("data-folder", "the data folder does not exist", context={"folder": folder})
    inner = folder / name
    return inner if inner.is_dir() else folder


def _listed(folder: Path, annotations: Path, split: str) -> list[Path]:
    lists = folder / "ImageSets" / "Main"
    path = lists / f"{split}.txt"
    if not path.is_file():
        known = sorted(p.stem for p in lists.glob("*.txt")) if lists.is_dir() else []
        raise InputError(
            "data-split",
            f"there is no split {split!r}",
            context={"file": path},
            hint=f"available splits: {', '.join(known) or 'none'}",
        )
    files = []
    try:
        rows = read_text(path).splitlines()
    except OSError as error:
        raise InputError(
            "data-split", "the list of pictures cannot be read", context={"file": path}, note=error.strerror
        ) from None
    for number, row in enumerate(rows, start=1):
        if not row.strip():
            continue
        file = annotations / f"{row.split()[0]}.xml"
        if not file.is_file():
            raise _fault("data-annotation-missing", f"{row.split()[0]} has no annotation", path, number, expected=file)
        files.append(file)
    return files


def _parse(file: Path) -> list[_Object]:
    """Read the objects of one file, each with its line."""
    reader = _Reader(file)
    try:
        reader.parser.Parse(read_bytes(file), True)
    except expat.ExpatError as error:
        raise _fault("data-xml", "the annotation is not well-formed XML", file, error.lineno, note=str(error)) from None
    except OSError as error:
        raise _fault("data-xml", "the annotation cannot be read", file, 1, note=error.strerror) from None
    return reader.objects


class _Reader:
    """Collects ``object`` elements with expat, which unlike ElementTree gives the line of each tag."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.objects: list[_Object] = []
        self.parser = expat.ParserCreate()
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._text
        self._path: list[str] = []
        self._values: dict[str, str] = {}
        self._line = 0

    def _start(self, name: str, _attributes: object) -> None:
        if not self._path and name != "annotation":
            line = self.parser.CurrentLineNumber
            raise _fault("data-xml", f"the root element is {name}, not annotation", self.file, line)
        self._path.append(name)
        if self._path == ["annotation", "object"]:
            self._values, self._line = {}, self.parser.CurrentLineNumber

    def _text(self, text: str) -> None:
        if self._path[:2] == ["annotation", "object"]:
            key = "/".join(self._path[2:])
            self._values[key] = self._values.get(key, "") + text

    def _end(self, _name: str) -> None:
        if self._path == ["annotation", "object"]:
            self.objects.append(self._finish())
        self._path.pop()

    def _finish(self) -> _Object:
        values = {key: value.strip() for key, value in self._values.items()}
        if not values.get("name"):
            raise _fault("data-object", "an object has no name", self.file, self._line)
        numbers = []
        for key in ("xmin", "ymin", "xmax", "ymax"):
            try:
                numbers.append(float(values[f"bndbox/{key}"]))
            except KeyError:
                raise _fault("data-object", f"an object has no {key}", self.file, self._line) from None
            except ValueError:
                text = values[f"bndbox/{key}"]
                raise _fault("data-object", f"{key} is {text!r}, not a number", self.file, self._line) from None
        # VOC counts pixels from 1 and includes the last one.
        box = (numbers[0] - 1, numbers[1] - 1, numbers[2], numbers[3])
        return _Object(values["name"], box, values.get("difficult", "0") == "1", self._line)


def _check(objects: Sequence[_Object], picture: Path, file: Path, classes: Sequence[str] | None) -> None:
    try:
        with Image.open(picture) as image:
            width, height = image.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise _fault("data-picture-unreadable", "the picture cannot be read", file, 1, picture=picture) from None
    for item in objects:
        if classes is not None and item.name not in classes:
            raise _fault(
                "data-class",
                f"the class {item.name!r} is unknown",
                file,
                item.line,
                hint=f"classes: {', '.join(classes)}",
            )
        xmin, ymin, xmax, ymax = item.box
        # Some tools count from 0: allow one pixel of slack on either side, but part of the box must be in the picture.
        across = -1 <= xmin < xmax <= width + 1 and xmin < width and xmax > 0
        down = -1 <= ymin < ymax <= height + 1 and ymin < height and ymax > 0
        if not (across and down):
            shown = f"{xmin + 1:g} {ymin + 1:g} {xmax:g} {ymax:g}"
            raise _fault(
                "data-box",
                f"the box {shown} of {item.name!r} is empty or outside the picture of {width}x{height}",
                file,
                item.line,
                picture=picture,
            )


def _truth(objects: Sequence[_Object], names: Sequence[str]) -> Truth:
    return Truth(
        np.array([o.box for o in objects], np.float32).reshape(-1, 4),
        np.array([names.index(o.name) for o in objects], np.int64),
        np.array([o.difficult for o in objects], np.bool_),
    )


def _fault(
    code: str, message: str, file: Path, line: int, note: str | None = None, hint: str | None = None, **context: object
) -> InputError:
    return InputError(code, message, context={"file": file, "line": line, **context}, note=note, hint=hint)
