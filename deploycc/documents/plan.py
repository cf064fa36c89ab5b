"""``plan.json``: everything the agent needs to build and measure the engines, and nothing it has to look up.

A plan and the files it names lie in one folder, which can be copied to the board as it is. A plan is data: it names no
program, no option of one and no path outside its folder, and its numbers have limits. The agent derives every command
from these facts and from what it finds on the board, and checks a plan by the same rules
(``deploycc/agent/plan_file.py``), because a folder may come from anywhere.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, model_validator

from deploycc.documents.document import Document, Record, Sha256, read_document

VALID_DURATION_S = 10.0
VALID_SAMPLES = 100
MOST_SECOND = 16
"""Networks that may follow the first of a row."""
MOST_HANDED = 1000
"""Tensors that the first network of a row hands over."""


_MOST_ELEMENTS = 1 << 28  # of the picture tensor: 1 GiB


def _inside(name: str) -> str:
    """Refuse a name that could leave the plan's folder, be read as an option, or hide in what is printed."""
    path = PurePosixPath(name)
    leaves = path.is_absolute() or ".." in path.parts or "\\" in name
    if leaves or name in ("", ".") or str(path) != name or name.startswith("-"):
        raise ValueError("must be a path inside the plan's folder")
    if any(ord(character) < 0x20 or 0x7F <= ord(character) < 0xA0 for character in name):
        raise ValueError("must be the name of a file, without control characters")
    return name


def _countable(shape: tuple[int, ...]) -> tuple[int, ...]:
    if math.prod(shape) > _MOST_ELEMENTS:
        raise ValueError(f"must have at most {_MOST_ELEMENTS} elements")
    return shape


def _of_all(shares: tuple[float, ...]) -> tuple[float, ...]:
    if shares and not math.isclose(math.fsum(shares), 1, abs_tol=1e-3):
        raise ValueError("must sum to 1: each picture needs one of the second networks")
    return shares


FileName = Annotated[str, Field(max_length=1024), AfterValidator(_inside)]
EngineName = Annotated[str, Field(pattern=r"^engine[A-Za-z0-9._-]{0,100}\.(engine|onnx|bin)$")]
"""Of a file beside the plan; no other file of an output folder has such a name."""
Name = Annotated[str, Field(max_length=4096, pattern=r"^[^\x00]*$")]
Shares = Annotated[
    tuple[Annotated[float, Field(ge=0, le=1)], ...], Field(max_length=MOST_SECOND), AfterValidator(_of_all)
]
"""For each second network of a row, the share of the pictures that need it; empty where that is not known."""
Precision = Literal["fp32", "fp16"]
Variant = Literal["compiled", "original"]
"""``compiled``: what was asked for. ``original``: the trained network as imported, built and timed beside it."""


class Board(Record):
    """What the agent must know of the target; see `deploycc.target.Target` for the fields."""

    name: Annotated[Name, Field(max_length=200)]
    architecture: Annotated[str, Field(pattern=r"^[A-Za-z0-9_]{1,32}$")]
    runtime: Literal["onnxruntime", "tensorrt", "tensorrt-rtx"]
    runtime_version: Annotated[str, Field(pattern=r"^[0-9]{1,4}(\.[0-9]{1,6}){1,3}$")] | None = None
    builder: Literal["onnxruntime", "tensorrt-rtx", "tensorrt-python", "trtexec", "tensorRT_optimization"]
    cuda_device: Annotated[int, Field(ge=0, le=127)] | None = None
    compute_capability: Annotated[str, Field(pattern=r"^[0-9]{1,2}\.[0-9]$")] | None = None
    workspace_mib: Annotated[int, Field(gt=0, le=1 << 20)] | None = None
    device_python: Annotated[Name, Field(max_length=20)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _drop_program(cls, fields: Any) -> Any:
        return _without(fields, "trtexec")


def _without(fields: Any, name: str) -> Any:
    """Drop a field of version 0.1, which held what the agent derives now; nobody reads it."""
    return {key: value for key, value in fields.items() if key != name} if isinstance(fields, dict) else fields


class Identified(Record):
    """What tells the networks of a plan apart, and their engines and runs likewise: no pair occurs twice.

    Attributes:
        precision: what the engine computes in.
        variant: see `Variant`.
    """

    precision: Precision
    variant: Variant = "compiled"

    @property
    def label(self) -> str:
        """``fp32`` for the compiled network, ``fp32 original`` for the other."""
        return self.precision if self.variant == "compiled" else f"{self.precision} {self.variant}"


def check_unique(records: Iterable[Identified], what: str) -> None:
    """Refuse records that nothing tells apart.

    Args:
        records: of one kind.
        what: the kind, in the plural.

    Raises:
        ValueError: two of them have the same precision and variant.
    """
    labels = [record.label for record in records]
    if len(set(labels)) < len(labels):
        raise ValueError(f"two {what} have the same precision and variant")


class Tensor(Record):
    """A graph input: name and static shape."""

    name: Name
    shape: Annotated[
        tuple[Annotated[int, Field(gt=0, lt=1 << 31)], ...],
        Field(min_length=1, max_length=8),
        AfterValidator(_countable),
    ]


class SecondNetwork(Record):
    """A network that may follow the first one of a row.

    Attributes:
        file, sha256: the ONNX file.
        reads: its inputs: tensors that the first network hands over, or the picture.
    """

    file: FileName
    sha256: Sha256
    reads: Annotated[tuple[Name, ...], Field(min_length=1, max_length=MOST_HANDED)]


class Row(Record):
    """Networks that run in a row instead of one: the first decides, and the host starts the engine of that width.

    Attributes:
        decision: output of the first network, one number: the place in ``second`` of the network that is to follow.
        handed: the first network's other outputs, which second networks read; float32.
        second: the networks that may follow, each with more kernels than the one before.
        shares: for each of them, the share of the pictures that need it; empty where that is not known.
    """

    decision: Name
    handed: Annotated[tuple[Tensor, ...], Field(max_length=MOST_HANDED)]
    second: Annotated[tuple[SecondNetwork, ...], Field(min_length=2, max_length=MOST_SECOND)]
    shares: Shares = ()

    @model_validator(mode="after")
    def _consistent(self) -> Row:
        if self.shares and len(self.shares) != len(self.second):
            raise ValueError("not every second network has a share of the pictures")
        if self.decision in {tensor.name for tensor in self.handed}:
            raise ValueError("the decision is not handed over")
        return self


class Network(Identified):
    """A network to build an engine from, or several that run in a row.

    Attributes:
        file, sha256: the ONNX file, or the prototxt; of a row that of the first network.
        weights_file, weights_sha256: the caffemodel; None for ONNX.
        format: of the file.
        typed: the network itself carries the precision; otherwise it is FP32 and the builder is told.
        keep_fp32: layers that stay FP32 in an FP16 engine.
        input: the picture tensor.
        outputs: graph outputs; of a row those of each second network.
        row: the networks that follow the first; None for a single network.
    """

    file: FileName
    sha256: Sha256
    weights_file: FileName | None = None
    weights_sha256: Sha256 | None = None
    format: Literal["onnx", "caffe"] = "onnx"
    typed: bool
    keep_fp32: Annotated[tuple[Name, ...], Field(max_length=100_000)] = ()
    input: Tensor
    outputs: Annotated[tuple[Name, ...], Field(min_length=1, max_length=10_000)]
    row: Row | None = None

    @property
    def files(self) -> dict[str, str]:
        """The SHA-256 of every file, by name."""
        files = {self.file: self.sha256}
        if self.weights_file is not None and self.weights_sha256 is not None:
            files[self.weights_file] = self.weights_sha256
        return files | {each.file: each.sha256 for each in (self.row.second if self.row is not None else ())}

    @model_validator(mode="after")
    def _weights_belong_to_caffe(self) -> Network:
        if (self.format == "caffe") != (self.weights_file is not None):
            raise ValueError("a caffe network has a weights file, an onnx network has none")
        if (self.weights_file is None) != (self.weights_sha256 is None):
            raise ValueError("weights_file and weights_sha256 go together")
        if self.row is not None and self.format == "caffe":
            raise ValueError("caffe networks do not run in a row")
        known = {self.input.name, *(tensor.name for tensor in self.row.handed)} if self.row is not None else set()
        if self.row is not None and any(set(second.reads) - known for second in self.row.second):
            raise ValueError("a second network reads what the first one does not hand over")
        return self


class SecondEngine(Record):
    """The engine of a second network of a row; see `Engine`."""

    file: EngineName
    network_sha256: Sha256


class Engine(Identified):
    """An engine to build, or those of a row.

    Attributes:
        file: what the builder writes; of a row the first network's.
        network_sha256: the network it must be built from.
        fp16_flag: the builder is told to use FP16 (the network is not typed).
        second: of a row, one per second network.
    """

    file: EngineName
    network_sha256: Sha256
    fp16_flag: bool = False
    second: Annotated[tuple[SecondEngine, ...], Field(max_length=MOST_SECOND, strict=False)] = ()

    @property
    def files(self) -> tuple[str, ...]:
        """Names of all files."""
        return (self.file, *(each.file for each in self.second))

    @model_validator(mode="before")
    @classmethod
    def _drop_commands(cls, fields: Any) -> Any:
        return _without(fields, "commands")


class Measurement(Record):
    """How engines are timed: one picture at a time, warm-up dropped, at least so long and so many.

    Attributes:
        warmup_s: seconds run before the first sample.
        min_duration_s, min_samples: both must be reached.
        quick: cut short on purpose: the result is no valid measurement.
        threads: CPU threads of the runtime.
        seed: of the random input.
    """

    warmup_s: Annotated[float, Field(ge=0, le=600)] = 1.0
    min_duration_s: Annotated[float, Field(gt=0, le=86_400)] = VALID_DURATION_S
    min_samples: Annotated[int, Field(gt=0, le=10_000_000)] = VALID_SAMPLES
    quick: bool = False
    threads: Annotated[int, Field(gt=0, le=1024)] = 1
    seed: Annotated[int, Field(ge=0, lt=1 << 32)] = 0

    @model_validator(mode="after")
    def _valid_unless_quick(self) -> Measurement:
        if not self.quick and (self.min_duration_s < VALID_DURATION_S or self.min_samples < VALID_SAMPLES):
            raise ValueError(f"less than {VALID_DURATION_S:g} s or {VALID_SAMPLES} samples is a quick measurement")
        return self


QUICK = Measurement(warmup_s=0.1, min_duration_s=0.5, min_samples=10, quick=True)


class BuildPlan(Document):
    """The whole file.

    Attributes:
        source_sha256: the trained files the networks came from.
        target: the board.
        networks, engines: one per precision and variant.
        measurement: how the engines are timed.
    """

    FILE_NAME: ClassVar[str] = "plan.json"
    ALWAYS_SEALED: ClassVar[bool] = False

    source_sha256: Sha256
    target: Board
    networks: Annotated[tuple[Network, ...], Field(min_length=1, max_length=4)]
    engines: Annotated[tuple[Engine, ...], Field(min_length=1, max_length=4)]
    measurement: Measurement

    @model_validator(mode="after")
    def _engines_match_networks(self) -> BuildPlan:
        check_unique(self.networks, "networks")
        check_unique(self.engines, "engines")
        networks = {network.label: network for network in self.networks}
        engines = {engine.label: engine for engine in self.engines}
        if networks.keys() != engines.keys():
            raise ValueError("networks and engines must have the same precisions and variants")
        for label, engine in engines.items():
            row = networks[label].row
            wanted = [networks[label].sha256, *(each.sha256 for each in (row.second if row is not None else ()))]
            if [engine.network_sha256, *(each.network_sha256 for each in engine.second)] != wanted:
                raise ValueError(f"the {label} engine names another network than the {label} one")
        written = [name for engine in self.engines for name in engine.files]
        if len(set(written)) < len(written):
            raise ValueError("two engines have the same file")
        if {name for network in self.networks for name in network.files} & set(written):
            raise ValueError("an engine would overwrite a network")
        return self

    @property
    def has_row(self) -> bool:
        """Whether networks run in a row."""
        return any(network.row is not None for network in self.networks)

    def network(self, precision: str, variant: Variant = "compiled") -> Network:
        """Return the network of a precision and variant, which must be there."""
        return next(each for each in self.networks if (each.precision, each.variant) == (precision, variant))


def read_plan(path: Path) -> BuildPlan:
    """Read a plan, given the file or its folder.

    Raises:
        ArtefactError: missing, not JSON, of another schema, or with fields missing, unknown or wrong.
    """
    return read_document(path, BuildPlan)
