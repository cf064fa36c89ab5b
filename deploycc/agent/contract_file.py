"""``contract.json``: reading what the agent needs of it, and the arrays that it lists.

Nothing in a contract is trusted: it may come from anywhere. The same rules hold where it is written
(``deploycc/documents/contract.py``), which has more fields, for applications.
"""

import os
from typing import Any, Dict, List, Optional

from . import decoding, fields, files, plan_file, seal
from .outcome import Failed

FILE_NAME = "contract.json"
MOST_BYTES = 64 << 20
_MOST_ARRAY_BYTES = 1 << 30
_LARGEST = 3.5e38  # a threshold may be the lowest float32
_HINT = "compile again"

_FILE = fields.text("[A-Za-z0-9][A-Za-z0-9._-]*", 255, "the name of a file beside the contract")
_SHA256 = fields.text("[0-9a-f]{64}", what="a SHA-256 in lower case")
_NAME = fields.text()
_NUMBER = fields.number(-_LARGEST, _LARGEST)
_COUNT = fields.whole(1, 10**7)
_LIMIT = fields.whole(-(1 << 31), (1 << 31) - 1)


def _object_of(of_value: "fields.Check") -> "fields.Check":
    """An object whose values hold to a check, whatever its fields are called."""

    def check(value: "Any", where: str) -> "Dict[str, Any]":
        if not isinstance(value, dict):
            raise fields.Wrong(where, "must be an object")
        return {_NAME(name, where): of_value(each, "{}.{}".format(where, name)) for name, each in value.items()}

    return check


def _detection(value: "Any", where: str) -> "List[float]":
    """A class, its score and four corners."""
    return fields.list_of(_NUMBER, 6, 6)(value, where)  # type: ignore[no-any-return]


_INPUT = fields.record(
    {
        "shape": fields.list_of(fields.whole(1, 1 << 20), 4, 4),
        "colour": fields.one_of("RGB", "BGR", "GRAY"),
        "mean": fields.list_of(_NUMBER, 1, 3),
        "scale": fields.list_of(_NUMBER, 1, 3),
        "resize": fields.record({"grey": fields.list_of(_NUMBER, 3, 3)}, others=True),
    },
    others=True,
)
_HEADS = fields.record(
    {
        "locations": _NAME,
        "scores": _NAME,
        "classes": _COUNT,
        "background": fields.optional(fields.whole(-(1 << 31), (1 << 31) - 1)),
        "box_coding": fields.one_of("center_size", "corner", "corner_size"),
        "variance_encoded": fields.flag,
        "y_first": fields.flag,
        "clip": fields.flag,
        "prior_count": _COUNT,
        "priors": _FILE,
        "variances": _FILE,
    },
    others=True,
)
_DETECTIONS = fields.record(
    {
        "boxes": _NAME,
        "scores": _NAME,
        "classes": _NAME,
        "count": fields.optional(_NAME),
        "layout": fields.one_of("columns", "rows"),
    },
    others=True,
)
_SMOKE = fields.record(
    {
        "pictures": _FILE,
        "score_threshold": fields.number(0.0, 1.0),
        "outputs": _object_of(_FILE),
        "detections": fields.list_of(fields.list_of(_detection, 0, 100000), 1, 100),
    },
    others=True,
)
_NETWORK = fields.record(
    {
        "precision": fields.one_of("fp32", "fp16"),
        "variant": fields.one_of("compiled", "original"),
        "decoding": fields.one_of("host", "network", "unknown"),
        "heads": fields.optional(_HEADS),
        "detections": fields.optional(_DETECTIONS),
        "smoke": fields.optional(_SMOKE),
    },
    {"variant": "compiled", "heads": None, "detections": None, "smoke": None},
    others=True,
)
_CONTRACT = fields.record(
    {
        "input": _INPUT,
        "nms": fields.record(
            {"score_threshold": _NUMBER, "iou_threshold": _NUMBER, "top_k": _LIMIT, "keep_top_k": _LIMIT}, others=True
        ),
        "networks": fields.list_of(_NETWORK, 1, 100),
        "files": fields.list_of(fields.record({"name": fields.text(), "sha256": _SHA256}, others=True), 0, 10000),
    },
    others=True,
)


def read_contract(folder: str) -> "Optional[Dict[str, Any]]":
    """Return the contract of a folder; None where there is none.

    Raises:
        Failed: it cannot be used, or was changed.
    """
    path = os.path.join(folder, FILE_NAME)
    if not os.path.lexists(path):
        return None
    raw = files.read_json(path, MOST_BYTES)
    try:
        contract = _CONTRACT(raw, "")  # type: Dict[str, Any]
        _check_input(contract["input"])
        for index, network in enumerate(contract["networks"]):
            if {"host": network["heads"], "network": network["detections"]}.get(network["decoding"], True) is None:
                raise fields.Wrong("networks.{}".format(index), "does not describe its decoding")
            if network["smoke"] is not None and network["decoding"] == "unknown":
                raise fields.Wrong("networks.{}.smoke".format(index), "needs a decoding that is known")
    except fields.Wrong as error:
        raise Failed("{} is not valid: {}".format(FILE_NAME, error), hint=_HINT) from error
    seal.check(raw, FILE_NAME)
    return contract


def _check_input(spec: "Dict[str, Any]") -> None:
    batch, channels = spec["shape"][:2]
    if batch != 1 or channels != (1 if spec["colour"] == "GRAY" else 3):
        raise fields.Wrong("input.shape", "must be one picture with the channels of its colour")
    for name in ("mean", "scale"):
        if len(spec[name]) not in (1, channels):
            raise fields.Wrong("input." + name, "must have one value, or one per channel")


def network_of(contract: "Dict[str, Any]", network: "Dict[str, Any]") -> "Optional[Dict[str, Any]]":
    """Return what the contract says of a network of the plan; None where it says nothing.

    Raises:
        Failed: it speaks of another input or of outputs that the network does not have.
    """
    for each in contract["networks"]:
        if plan_file.key_of(each) == plan_file.key_of(network):
            _check_fits(contract, each, network)
            return each  # type: ignore[no-any-return]
    return None


def _check_fits(contract: "Dict[str, Any]", described: "Dict[str, Any]", network: "Dict[str, Any]") -> None:
    if contract["input"]["shape"] != network["input"]["shape"]:
        raise Failed("{} describes another input than the plan".format(FILE_NAME), hint=_HINT)
    heads, found = described["heads"] or {}, described["detections"] or {}
    named = [heads[name] for name in ("locations", "scores") if heads]
    named += [found[name] for name in ("boxes", "scores", "classes", "count") if found and found[name] is not None]
    named += sorted((described["smoke"] or {"outputs": {}})["outputs"])
    for name in named:
        if name not in network["outputs"]:
            raise Failed("{} names an output that the network does not have: {}".format(FILE_NAME, name), hint=_HINT)


def tables_of(contract: "Dict[str, Any]", described: "Dict[str, Any]", folder: str) -> "Any":
    """Return priors and variances of a network of the contract; None where it decodes itself.

    Raises:
        Failed: they are not the files that the contract lists, or do not fit it.
    """
    heads = described["heads"]
    if heads is None:
        return None
    for name in ("priors", "variances"):
        array_of(contract, folder, heads[name], (heads["prior_count"], 4), "f")
    return decoding.load_tables(described, folder)


def array_of(contract: "Dict[str, Any]", folder: str, name: str, shape: "Any", kind: str) -> "Any":
    """Return an array that the contract lists by its digest.

    Args:
        contract: as read.
        folder: of the contract.
        name: of the file.
        shape: that it must have; None for a size that may be any.
        kind: of its elements, as NumPy's ``dtype.kind`` says it.

    Raises:
        Failed: not listed, changed, or another array.
    """
    import numpy

    listed = [file["sha256"] for file in contract["files"] if file["name"] == name]
    if not listed:
        raise Failed("{} does not list {}".format(FILE_NAME, name), hint=_HINT)
    path = files.checked(folder, name, listed[0])
    if os.path.getsize(path) > _MOST_ARRAY_BYTES:
        raise Failed("{} is larger than {} bytes".format(name, _MOST_ARRAY_BYTES), hint=_HINT)
    try:
        values = numpy.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError, MemoryError) as error:
        raise Failed("{} is not an array: {}".format(name, error), hint=_HINT) from error
    fits = isinstance(values, numpy.ndarray) and values.dtype.kind == kind and values.ndim == len(shape)
    if not fits or any(size not in (None, real) for size, real in zip(shape, values.shape)):  # noqa: B905
        raise Failed("{} is not the array that {} describes".format(name, FILE_NAME), hint=_HINT)
    return values


def detections(contract: "Dict[str, Any]", described: "Dict[str, Any]", tables: "Any", outputs: "Any") -> "Any":
    """Return what `decoding.read_outputs` does, of outputs that fit the contract.

    Raises:
        Failed: an output has another size than the contract says.
    """
    heads = described["heads"]
    if described["decoding"] == "host":
        for name, width in ((heads["locations"], 4), (heads["scores"], heads["classes"])):
            _check_size(outputs, name, heads["prior_count"] * width)
    elif described["detections"]["layout"] == "rows":
        _check_multiple(outputs, described["detections"]["boxes"], 7)
    else:
        _check_columns(described["detections"], outputs)
    return decoding.read_outputs(described, contract["nms"], tables, outputs)


def _size(outputs: "Dict[str, Any]", name: str) -> int:
    import numpy

    return int(numpy.asarray(outputs[name]).size)


def _check_size(outputs: "Dict[str, Any]", name: str, wanted: int) -> None:
    if _size(outputs, name) != wanted:
        raise Failed(
            "the output {} has {} elements, and {} asks for {}".format(name, _size(outputs, name), FILE_NAME, wanted),
            hint=_HINT,
        )


def _check_multiple(outputs: "Dict[str, Any]", name: str, width: int) -> None:
    if _size(outputs, name) % width:
        raise Failed("the output {} does not hold rows of {} numbers".format(name, width), hint=_HINT)


def _check_columns(found: "Dict[str, Any]", outputs: "Dict[str, Any]") -> None:
    rows = _size(outputs, found["scores"])
    _check_size(outputs, found["boxes"], 4 * rows)
    _check_size(outputs, found["classes"], rows)
    if found["count"] is not None:
        _check_size(outputs, found["count"], 1)
