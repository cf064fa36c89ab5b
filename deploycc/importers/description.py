"""The detector description: a TOML file beside the model with facts about the detector that the model file lacks.

An example with every common key::

    class_names = ["background", "face"]          # or class_names_file = "names.txt", one name per line

    [input]
    size = [240, 320]                             # height, width; only if the network leaves them open
    colour = "RGB"
    mean = 127.0                                  # one value, or a list with one per channel in the order of `colour`
    scale = 0.0078125

    [heads]
    locations = "boxes"                           # tensor of P x 4 offsets; default: recognised by shape
    scores = "scores"                             # tensor of P x C scores; default: recognised by shape
    activation = "softmax"                        # maps the scores to 0..1; appended if the network lacks it
    background = 0                                # index, or "none"
    variance = [0.1, 0.1, 0.2, 0.2]               # of x y w h, for priors that state none
    # priors = "priors.npy"                       # [P, 4], or [P, 8] with variances; or the layers below

    [[heads.prior_box]]                           # as in Caffe's PriorBox layer, one per feature map, in order
    feature = [30, 40]                            # height, width
    min_size = [10.0, 16.0, 24.0]                 # pixels

    [nms]
    iou_threshold = 0.45

Every key is optional; `DESCRIPTION.md` beside this file lists all of them. A single value may replace a list.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator

from deploycc.detector import BoxCoding, Colour
from deploycc.errors import ModelError
from deploycc.files import parse_toml, read_text

SUFFIX = ".detector.toml"
_LEAST_FLOAT, _LARGEST_FLOAT = (float(limit) for limit in (np.finfo(np.float32).tiny, np.finfo(np.float32).max))


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    @field_validator("*")
    @classmethod
    def _fit_float32(cls, value: Any) -> Any:
        numbers = value if isinstance(value, tuple) else (value,)
        for number in numbers:
            if isinstance(number, float) and number and not _LEAST_FLOAT <= abs(number) <= _LARGEST_FLOAT:
                raise ValueError(f"{number:g} is 0 or infinite as a number of 32 bits")
        return value


def _not_zero(factor: float) -> float:
    if factor == 0:
        raise ValueError("a factor of 0 makes every picture the same")
    return factor


class InputDescription(_Strict):
    """How pictures enter the network."""

    name: str | None = None
    size: tuple[int, int] | None = None
    """Height and width, pixels."""
    colour: Colour | None = None
    mean: tuple[float, ...] | None = None
    scale: tuple[Annotated[float, AfterValidator(_not_zero)], ...] | None = None


class PriorBoxDescription(_Strict):
    """One PriorBox layer; sizes in pixels."""

    feature: tuple[int, int]
    """Height and width of the feature map."""
    min_size: tuple[float, ...] = Field(min_length=1)
    max_size: tuple[float, ...] = ()
    aspect_ratio: tuple[float, ...] = ()
    flip: bool = True
    clip: bool = False
    variance: tuple[float, float, float, float] | None = None
    """Of x y w h; default: that of the heads."""
    step: tuple[float, float] | None = None
    """Height and width of a feature-map cell in pixels; default: picture size / feature size."""
    offset: float = 0.5


class HeadsDescription(_Strict):
    """The raw head tensors and how they are decoded to boxes."""

    locations: str | None = None
    scores: str | None = None
    activation: Literal["softmax", "sigmoid", "none"] | None = None
    background: int | Literal["none"] | None = None
    box_coding: BoxCoding = "center_size"
    y_first: bool = False
    variance_encoded: bool = False
    clip: bool = False
    variance: tuple[float, float, float, float] = (0.1, 0.1, 0.2, 0.2)
    priors: str | None = None
    """A .npy file beside the description: [P, 4], or [P, 8] with the variances in the last four columns."""
    priors_form: Literal["corners", "centers"] = "corners"
    """xmin ymin xmax ymax, or centre x, centre y, width, height; 0..1 of the picture."""
    prior_box: tuple[PriorBoxDescription, ...] = ()

    @property
    def has_priors(self) -> bool:
        """Whether the description gives priors, as a file or as PriorBox parameters."""
        return self.priors is not None or bool(self.prior_box)


class NmsDescription(_Strict):
    """Suppression parameters to change; see `deploycc.detector.Nms`."""

    score_threshold: float | None = None
    iou_threshold: float | None = None
    top_k: int | None = None
    keep_top_k: int | None = None


class Description(_Strict):
    """One ``.detector.toml`` file."""

    class_names: tuple[str, ...] | None = None
    class_names_file: str | None = None
    """A text file beside the description, one name per line."""
    input: InputDescription = InputDescription()
    heads: HeadsDescription = HeadsDescription()
    nms: NmsDescription = NmsDescription()
    path: Path = Field(default=Path(), exclude=True)
    """The description file; paths in it are relative to its folder."""

    def names(self) -> tuple[str, ...] | None:
        """Return the class names from either key, or None.

        Raises:
            ModelError: the file of names cannot be read.
        """
        if self.class_names_file is None:
            return self.class_names
        source = self.path.parent / self.class_names_file
        try:
            lines = read_text(source).splitlines()
        except OSError as reason:
            raise ModelError(
                "description-file",
                "the class names cannot be read",
                context={"file": self.path, "key": "class_names_file", "names": source},
                note=reason.strerror,
            ) from None
        return tuple(line.strip() for line in lines if line.strip())


def find_description(model: Path) -> Path | None:
    """Return ``name.detector.toml`` beside ``name.onnx`` or ``name.prototxt`` if it exists."""
    if not model.name:  # the root folder
        return None
    beside = model.with_name(model.stem + SUFFIX)
    return beside if beside.is_file() else None


def read_description(path: Path) -> Description:
    """Read a description.

    Raises:
        ModelError: the file is missing or not TOML, or has an unknown key or a wrong value.
    """
    try:
        text = read_text(path)
    except OSError as reason:
        raise ModelError(
            "description-unreadable",
            "the detector description cannot be read",
            context={"file": path},
            note=reason.strerror,
        ) from None
    try:
        table = parse_toml(text)
    except ValueError as reason:
        raise ModelError(
            "description-syntax", "the detector description is not valid TOML", context={"file": path}, note=str(reason)
        ) from None
    if "path" in table:
        raise _wrong(path, "path", "is not a key of a detector description", None)
    try:
        described = Description.model_validate_json(json.dumps(_with_lists(table, Description), default=str))
    except ValidationError as invalid:
        raise _explain(path, invalid) from None
    if described.class_names is not None and described.class_names_file is not None:
        raise _wrong(path, "class_names_file", "and class_names are both given; keep one of them", None)
    heads = described.heads
    if heads.priors is not None and heads.prior_box:
        raise _wrong(path, "heads.priors", "and [[heads.prior_box]] are both given; keep one of them", None)
    if "priors_form" in heads.model_fields_set and heads.priors is None:
        raise _wrong(path, "heads.priors_form", "describes a file of priors, but heads.priors names none", None)
    if "variance" in heads.model_fields_set and not heads.has_priors:
        raise _wrong(path, "heads.variance", "belongs to priors, but the description gives none", None)
    return described.model_copy(update={"path": path})


def _with_lists(table: dict[str, Any], model: type[BaseModel]) -> dict[str, Any]:
    """Return the table with a list wherever ``model`` wants one and a single value is given.

    A list of fixed length repeats the value: ``size = 300`` is ``size = [300, 300]``.
    """
    result = dict(table)
    for key, field in model.model_fields.items():
        if key not in table:
            continue
        value, wanted = table[key], _inner_type(field.annotation)
        if get_origin(wanted) is tuple:
            members = get_args(wanted)
            if not isinstance(value, list):
                value = [value] if members[-1] is Ellipsis else [value] * len(members)
            if isinstance(members[0], type) and issubclass(members[0], BaseModel):
                value = [_with_lists(entry, members[0]) if isinstance(entry, dict) else entry for entry in value]
            result[key] = value
        elif isinstance(wanted, type) and issubclass(wanted, BaseModel) and isinstance(value, dict):
            result[key] = _with_lists(value, wanted)
    return result


def _inner_type(annotation: Any) -> Any:
    """Return the type that an optional annotation allows besides None."""
    if get_origin(annotation) is tuple or isinstance(annotation, type):
        return annotation
    return next((kind for kind in get_args(annotation) if kind is not type(None)), annotation)


def _explain(path: Path, invalid: ValidationError) -> ModelError:
    first, *others = invalid.errors(include_url=False)
    key = _key(first["loc"])
    note = f"also wrong: {', '.join(_key(error['loc']) for error in others[:5])}" if others else None
    if len(others) > 5:
        note = f"{note} and {len(others) - 5} more"
    if first["type"] != "extra_forbidden":
        said = str(first["msg"])
        return _wrong(path, key, f"cannot be {first['input']!r}: {said[:1].lower()}{said[1:]}", note)
    known = _keys_beside(first["loc"])
    close = difflib.get_close_matches(str(first["loc"][-1]), known, n=1)
    guess = f"did you mean {close[0]}? " if close else ""
    return _wrong(path, key, "is not a key of a detector description", note, f"{guess}allowed here: {', '.join(known)}")


def _key(location: Sequence[int | str]) -> str:
    """Return the key as a user writes it: without pydantic's names of types, tables counted from 1."""
    parts = [part for part in location if not (isinstance(part, str) and "[" in part)]
    text = ""
    for part in parts:
        text += f"[{part + 1}]" if isinstance(part, int) else f".{part}"
    return text.lstrip(".")


def _keys_beside(where: Sequence[int | str]) -> list[str]:
    tables: dict[str, type[BaseModel]] = {
        "input": InputDescription,
        "heads": HeadsDescription,
        "nms": NmsDescription,
        "prior_box": PriorBoxDescription,
    }
    parents = [tables[str(part)] for part in where[:-1] if str(part) in tables]
    return sorted(set((parents[-1] if parents else Description).model_fields) - {"path"})


def _wrong(path: Path, key: str, what: str, note: str | None, hint: str | None = None) -> ModelError:
    return ModelError("description-key", f"{key} {what}", context={"file": path, "key": key}, note=note, hint=hint)
