"""``plan.json``: reading it, and finding its parts.

Nothing in a plan is trusted: it may come from anywhere. The same rules hold where it is written
(``deploycc/documents/plan.py``), so a plan that was written is a plan that can be read.
"""

import os
from typing import Any, Dict, List

from . import fields, files, seal
from .outcome import Failed
from .progress import say

MOST_BYTES = 64 << 20
MOST_ELEMENTS = 1 << 28  # of the picture tensor: 1 GiB
LONGEST_S = 86400.0
MOST_SECOND = 16  # networks that may follow the first of a row
MOST_HANDED = 1000  # tensors that it hands over
PROGRAMS = ("trtexec", "tensorRT_optimization")  # builders that are programs of NVIDIA's
VALID = {"min_duration_s": 10.0, "min_samples": 100}  # what a measurement needs that was not cut short on purpose

_ENGINE_NAME = r"engine[A-Za-z0-9._-]{0,100}\.(engine|onnx|bin)"
_NOT_CONTROL = r"[^\x00-\x1f\x7f-\x9f]*"


def _file_name(value: "Any", where: str) -> str:
    name = fields.text(_NOT_CONTROL, 1024, "the name of a file")(value, where)  # type: str
    parts = name.split("/")
    if "\\" in name or name.startswith("-") or any(part in ("", ".", "..") for part in parts):
        raise fields.Wrong(where, "must be a path inside the plan's folder")
    return name


def _shape(value: "Any", where: str) -> "List[int]":
    shape = fields.list_of(fields.whole(1, (1 << 31) - 1), 1, 8)(value, where)  # type: List[int]
    elements = 1
    for size in shape:
        elements *= size
    if elements > MOST_ELEMENTS:
        raise fields.Wrong(where, "must have at most {} elements".format(MOST_ELEMENTS))
    return shape


_SHA256 = fields.text("[0-9a-f]{64}", what="a SHA-256 in lower case")
_NAME = fields.text()
_TOOL = fields.text(".*", most=100)
_IDENTIFIED = {"precision": fields.one_of("fp32", "fp16"), "variant": fields.one_of("compiled", "original")}
_VARIANT = {"variant": "compiled"}

_BOARD = fields.record(
    {
        "name": fields.text(most=200),
        "architecture": fields.text("[A-Za-z0-9_]{1,32}", what="an architecture such as aarch64"),
        "runtime": fields.one_of("onnxruntime", "tensorrt", "tensorrt-rtx"),
        "runtime_version": fields.optional(
            fields.text(r"[0-9]{1,4}(\.[0-9]{1,6}){1,3}", what="a version such as 8.2.1")
        ),
        "builder": fields.one_of("onnxruntime", "tensorrt-rtx", "tensorrt-python", *PROGRAMS),
        "cuda_device": fields.optional(fields.whole(0, 127)),
        "compute_capability": fields.optional(fields.text(r"[0-9]{1,2}\.[0-9]", what="a number such as 8.7")),
        "workspace_mib": fields.optional(fields.whole(1, 1 << 20)),
        "device_python": fields.optional(fields.text(most=20)),
    },
    {
        "runtime_version": None,
        "cuda_device": None,
        "compute_capability": None,
        "workspace_mib": None,
        "device_python": None,
    },
    ignored=("trtexec",),
)

_TENSOR = fields.record({"name": _NAME, "shape": _shape})
_READS = fields.list_of(_NAME, 1, MOST_HANDED)
_ROW = fields.record(
    {
        "decision": _NAME,
        "handed": fields.list_of(_TENSOR, 0, MOST_HANDED),
        "second": fields.list_of(
            fields.record({"file": _file_name, "sha256": _SHA256, "reads": _READS}), 2, MOST_SECOND
        ),
        "shares": fields.list_of(fields.number(0.0, 1.0), 0, MOST_SECOND),
    },
    {"shares": []},
)

_NETWORK = fields.record(
    dict(
        _IDENTIFIED,
        file=_file_name,
        sha256=_SHA256,
        weights_file=fields.optional(_file_name),
        weights_sha256=fields.optional(_SHA256),
        format=fields.one_of("onnx", "caffe"),
        typed=fields.flag,
        keep_fp32=fields.list_of(_NAME, 0, 100000),
        input=_TENSOR,
        outputs=fields.list_of(_NAME, 1, 10000),
        row=fields.optional(_ROW),
    ),
    dict(_VARIANT, weights_file=None, weights_sha256=None, format="onnx", keep_fp32=[], row=None),
)

_ENGINE_FILE = fields.text(_ENGINE_NAME, what="the name of an engine, such as engine-fp32.engine")
_ENGINE = fields.record(
    dict(
        _IDENTIFIED,
        file=_ENGINE_FILE,
        network_sha256=_SHA256,
        fp16_flag=fields.flag,
        second=fields.list_of(fields.record({"file": _ENGINE_FILE, "network_sha256": _SHA256}), 0, MOST_SECOND),
    ),
    dict(_VARIANT, fp16_flag=False, second=[]),
    ignored=("commands",),
)

_MEASUREMENT = fields.record(
    {
        "warmup_s": fields.number(0.0, 600.0),
        "min_duration_s": fields.number(0.0, LONGEST_S, above=True),
        "min_samples": fields.whole(1, 10**7),
        "quick": fields.flag,
        "threads": fields.whole(1, 1024),
        "seed": fields.whole(0, (1 << 32) - 1),
    },
    {"warmup_s": 1.0, "min_duration_s": 10.0, "min_samples": 100, "quick": False, "threads": 1, "seed": 0},
)

_PLAN = fields.record(
    {
        "schema": fields.whole(files.SCHEMA, files.SCHEMA),
        "tool": fields.record({"deploycc": _TOOL, "agent": fields.optional(_TOOL)}, {"agent": None}),
        "source_sha256": _SHA256,
        "target": _BOARD,
        "networks": fields.list_of(_NETWORK, 1, 4),
        "engines": fields.list_of(_ENGINE, 1, 4),
        "measurement": _MEASUREMENT,
    }
)


def read_plan(path: str) -> "Dict[str, Any]":
    """Return a plan, with the values of fields that it leaves out.

    Raises:
        Failed: missing, not JSON, of another schema, or with fields missing, unknown or wrong.
    """
    return checked(files.read_json(path, MOST_BYTES), path)


def checked(raw: "Any", path: str) -> "Dict[str, Any]":
    """Return the plan that the content of a file is; see `read_plan`."""
    if not isinstance(raw, dict) or raw.get("schema") != files.SCHEMA or isinstance(raw.get("schema"), bool):
        raise Failed("{} is not a plan of schema {}".format(path, files.SCHEMA))
    content = {key: value for key, value in raw.items() if key != seal.FIELD}
    try:
        plan = _PLAN(content, "")  # type: Dict[str, Any]
        _check_whole(plan)
    except fields.Wrong as error:
        raise Failed("{} is not a valid plan: {}".format(path, error), hint="compile again") from error
    seal.check(raw, path)
    if raw["target"].get("trtexec") or any(engine.get("commands") for engine in raw["engines"]):
        say("the command lines of {} are not used: the agent makes its own".format(os.path.basename(path)))
    return plan


def _check_whole(plan: "Dict[str, Any]") -> None:
    """Refuse parts that do not fit together."""
    networks, engines, limits = plan["networks"], plan["engines"], plan["measurement"]
    for kind, parts in (("networks", networks), ("engines", engines)):
        if len({key_of(part) for part in parts}) < len(parts):
            raise fields.Wrong(kind, "two have the same precision and variant")
    if {key_of(part) for part in networks} != {key_of(part) for part in engines}:
        raise fields.Wrong("engines", "must have the precisions and variants of the networks")
    for index, network in enumerate(networks):
        where = "networks.{}".format(index)
        if (network["format"] == "caffe") != (network["weights_file"] is not None):
            raise fields.Wrong(where, "a caffe network has a weights file, an onnx network has none")
        if (network["weights_file"] is None) != (network["weights_sha256"] is None):
            raise fields.Wrong(where, "weights_file and weights_sha256 go together")
        if network["row"] is not None:
            _check_row(network, where)
    for index, engine in enumerate(engines):
        digests = [part["network_sha256"] for part in engine_parts(engine)]
        if digests != [part["sha256"] for part in parts_of(network_of(plan, engine))]:
            raise fields.Wrong("engines.{}".format(index), "names another network than the one of its precision")
    read = {part[name] for network in networks for part in parts_of(network) for name in ("file", "weights_file")}
    written = [part["file"] for engine in engines for part in engine_parts(engine)]
    if len(set(written)) < len(written):
        raise fields.Wrong("engines", "two have the same file")
    if read & set(written):
        raise fields.Wrong("engines", "an engine would overwrite a network")
    if not limits["quick"] and any(limits[name] < least for name, least in VALID.items()):
        raise fields.Wrong("measurement", "less than 10 s or 100 samples is a quick measurement")


def _check_row(network: "Dict[str, Any]", where: str) -> None:
    row = network["row"]
    if network["format"] == "caffe":
        raise fields.Wrong(where, "caffe networks do not run in a row")
    if row["shares"] and len(row["shares"]) != len(row["second"]):
        raise fields.Wrong(where + ".row", "not every second network has a share of the pictures")
    if row["shares"] and abs(sum(row["shares"]) - 1) > 1e-3:
        raise fields.Wrong(where + ".row.shares", "must sum to 1: each picture needs one of the second networks")
    handed = {tensor["name"] for tensor in row["handed"]}
    if row["decision"] in handed:
        raise fields.Wrong(where + ".row", "the decision is not handed over")
    if any(set(second["reads"]) - handed - {network["input"]["name"]} for second in row["second"]):
        raise fields.Wrong(where + ".row", "a second network reads what the first one does not hand over")


def parts_of(network: "Dict[str, Any]") -> "List[Dict[str, Any]]":
    """Return the networks that a network of a plan is: itself, or those of a row, the first one first.

    Each has ``file``, ``sha256``, ``inputs`` (name and shape of each), ``outputs``, and what the builder must know.
    """
    row = network["row"]
    first = dict(network, inputs=[network["input"]], row=None)
    if row is None:
        return [first]
    first["outputs"] = [row["decision"]] + [tensor["name"] for tensor in row["handed"]]
    known = {tensor["name"]: tensor for tensor in [network["input"]] + row["handed"]}
    second = dict(network, row=None)
    return [first] + [
        dict(second, file=each["file"], sha256=each["sha256"], inputs=[known[name] for name in each["reads"]])
        for each in row["second"]
    ]


def inputs_of(network: "Dict[str, Any]") -> "List[Dict[str, Any]]":
    """Return name and shape of each input: the picture, or what a second network of a row reads."""
    return network.get("inputs", [network["input"]])  # type: ignore[no-any-return]


def engine_parts(engine: "Dict[str, Any]") -> "List[Dict[str, Any]]":
    """Return the engines that an engine of a plan or of ``build.json`` is: itself, or those of a row."""
    return [engine, *engine.get("second", [])]


def key_of(part: "Dict[str, Any]") -> "Any":
    """What tells networks apart, and engines and their rows likewise."""
    return part["precision"], part["variant"]


def network_of(plan: "Dict[str, Any]", engine: "Dict[str, Any]") -> "Dict[str, Any]":
    """Return the network that an engine is built from."""
    return next(network for network in plan["networks"] if key_of(network) == key_of(engine))


def engine_of(plan: "Dict[str, Any]", file: str) -> "Dict[str, Any]":
    """Return the engine of this file name.

    Raises:
        Failed: the plan has none.
    """
    for engine in plan["engines"]:
        if engine["file"] == file:
            return engine  # type: ignore[no-any-return]
    raise Failed("the plan has no engine {}".format(file))
