"""``plan.json``: everything the agent needs to build and measure the engines, and nothing it has to look up.

A plan and the files it names lie in one folder, which can be copied to the board as it is. The agent obeys the plan; it
knows no targets and no TensorRT dialects, so the command lines of NVIDIA's tools stand in the plan.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, model_validator

from deploycc.documents.document import Document, Record, Sha256, read_document

VALID_DURATION_S = 10.0
VALID_SAMPLES = 100


def _inside(name: str) -> str:
    """Refuse a name that could leave the plan's folder or be read as an option."""
    path = PurePosixPath(name)
    leaves = path.is_absolute() or ".." in path.parts or "\\" in name
    if leaves or name in ("", ".") or str(path) != name or name.startswith("-"):
        raise ValueError("must be a path inside the plan's folder")
    return name


FileName = Annotated[str, AfterValidator(_inside)]
Precision = Literal["fp32", "fp16"]
Variant = Literal["compiled", "original"]
"""``compiled``: what was asked for. ``original``: the trained network as imported, built and timed beside it."""


class Board(Record):
    """What the agent must know of the target; see `deploycc.target.Target` for the fields."""

    name: str
    architecture: str
    runtime: str
    runtime_version: str | None = None
    builder: Literal["onnxruntime", "tensorrt-rtx", "tensorrt-python", "trtexec", "tensorRT_optimization"]
    cuda_device: int | None = None
    compute_capability: str | None = None
    workspace_mib: Annotated[int, Field(gt=0)] | None = None
    device_python: str | None = None
    trtexec: str | None = None


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

    name: str
    shape: Annotated[tuple[Annotated[int, Field(gt=0)], ...], Field(min_length=1)]


class Network(Identified):
    """A network to build an engine from.

    Attributes:
        file, sha256: the ONNX file, or the prototxt.
        weights_file, weights_sha256: the caffemodel; None for ONNX.
        format: of the file.
        typed: the network itself carries the precision; otherwise it is FP32 and the builder is told.
        keep_fp32: layers that stay FP32 in an FP16 engine.
        input: the picture tensor.
        outputs: graph outputs.
    """

    file: FileName
    sha256: Sha256
    weights_file: FileName | None = None
    weights_sha256: Sha256 | None = None
    format: Literal["onnx", "caffe"] = "onnx"
    typed: bool
    keep_fp32: tuple[str, ...] = ()
    input: Tensor
    outputs: Annotated[tuple[str, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _weights_belong_to_caffe(self) -> Network:
        if (self.format == "caffe") != (self.weights_file is not None):
            raise ValueError("a caffe network has a weights file, an onnx network has none")
        if (self.weights_file is None) != (self.weights_sha256 is None):
            raise ValueError("weights_file and weights_sha256 go together")
        return self


class Commands(Record):
    """Command lines of NVIDIA's tools, run in the plan's folder.

    Attributes:
        build: writes ``<engine file>.partial``.
        measure: writes the query times to ``times_file``; None where the tool keeps no samples.
        profile: writes the layer times to ``profile_file``.
        warmup_in_times: the times hold the warm-up too, which must be dropped (trtexec up to 8.4).
        environment: variables set for all of them.
    """

    build: tuple[str, ...]
    measure: tuple[str, ...] | None = None
    profile: tuple[str, ...] | None = None
    times_file: FileName | None = None
    profile_file: FileName | None = None
    warmup_in_times: bool = False
    environment: dict[str, str] = Field(default_factory=dict)


class Engine(Identified):
    """An engine to build.

    Attributes:
        file: what the builder writes.
        network_sha256: the network it must be built from.
        fp16_flag: the builder is told to use FP16 (the network is not typed).
        commands: for the builders that are programs.
    """

    file: FileName
    network_sha256: Sha256
    fp16_flag: bool = False
    commands: Commands | None = None


class Measurement(Record):
    """How engines are timed: one picture at a time, warm-up dropped, at least so long and so many.

    Attributes:
        warmup_s: seconds run before the first sample.
        min_duration_s, min_samples: both must be reached.
        quick: cut short on purpose: the result is no valid measurement.
        threads: CPU threads of the runtime.
        seed: of the random input.
    """

    warmup_s: Annotated[float, Field(ge=0)] = 1.0
    min_duration_s: Annotated[float, Field(gt=0)] = VALID_DURATION_S
    min_samples: Annotated[int, Field(gt=0)] = VALID_SAMPLES
    quick: bool = False
    threads: Annotated[int, Field(gt=0)] = 1
    seed: int = 0

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

    source_sha256: Sha256
    target: Board
    networks: Annotated[tuple[Network, ...], Field(min_length=1)]
    engines: Annotated[tuple[Engine, ...], Field(min_length=1)]
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
            if engine.network_sha256 != networks[label].sha256:
                raise ValueError(f"the {label} engine names another network than the {label} one")
        if len({engine.file for engine in self.engines}) < len(self.engines):
            raise ValueError("two engines have the same file")
        if {engine.file for engine in self.engines} & {network.file for network in self.networks}:
            raise ValueError("an engine would overwrite a network")
        return self

    def network(self, precision: str, variant: Variant = "compiled") -> Network:
        """Return the network of a precision and variant, which must be there."""
        return next(each for each in self.networks if (each.precision, each.variant) == (precision, variant))


def read_plan(path: Path) -> BuildPlan:
    """Read a plan, given the file or its folder.

    Raises:
        ArtefactError: missing, not JSON, of another schema, or with fields missing, unknown or wrong.
    """
    return read_document(path, BuildPlan)
