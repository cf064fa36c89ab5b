"""Files of costs measured on one machine: times of convolutions, and of what branches add beside them."""

from __future__ import annotations

import statistics
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from deploycc.documents.document import Document, Evidence, Record, Seconds, Sha256
from deploycc.documents.plan import Precision

Positive = Annotated[int, Field(gt=0)]
Pair = tuple[Positive, Positive]
Samples = Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1)]

Operation = Literal["branch", "multiply", "pad", "concat", "zeros"]
"""What conditional execution adds; `deploycc.gate_planning.operations` says how each is timed."""


class Machine(Record):
    """What ran: timings of another machine say nothing here.

    Attributes:
        processor: its name.
        onnxruntime: its release; None where another runtime ran.
        threads: CPU threads of ONNX Runtime.
        device: name of the device over SSH; None for the machine that the tool itself ran on.
        runtime: which, with its release, where it is not ONNX Runtime.
        precision: that networks were built in.
        power_mode, clocks: how the device was set; None where it tells nothing.
    """

    processor: str
    onnxruntime: str | None
    threads: Positive
    device: str | None = None
    runtime: str | None = None
    precision: Precision = "fp32"
    power_mode: str | None = None
    clocks: str | None = None

    def describe(self) -> str:
        """The machine in words."""
        runtime, settings = (
            f"ONNX Runtime {self.onnxruntime}",
            "1 thread" if self.threads == 1 else f"{self.threads} threads",
        )
        if self.runtime is not None:
            runtime, settings = self.runtime, self.precision
        said = [self.processor, runtime, settings]
        if self.device is not None:
            said.insert(0, self.device)
            said.append(f"power mode {self.power_mode or 'not told'}, clocks {self.clocks or 'not told'}")
        return ", ".join(said)


class Convolution(Record):
    """One convolution with static shapes, batch 1.

    Attributes:
        inputs, kernels: channels in and out.
        groups: 1, or as many as inputs for a depthwise one.
        kernel, stride, dilation: height and width.
        pads: top, left, bottom, right.
        size: height and width of the input.
    """

    inputs: Positive
    kernels: Positive
    groups: Positive
    kernel: Pair
    stride: Pair
    dilation: Pair
    pads: tuple[int, int, int, int]
    size: Pair

    def narrowed(self, inputs: int, kernels: int) -> Convolution:
        """The same with other numbers of channels; depthwise stays depthwise, other groups stay as many."""
        if self.groups == self.inputs and self.groups > 1:
            return self.model_copy(update={"inputs": inputs, "kernels": kernels, "groups": inputs})
        return self.model_copy(update={"inputs": inputs, "kernels": kernels})


class Timing(Record):
    """One convolution.

    Attributes:
        convolution: what ran.
        samples_ms: one number per round.
    """

    convolution: Convolution
    samples_ms: Samples

    @property
    def median_ms(self) -> float:
        """Median over the rounds."""
        return statistics.median(self.samples_ms)


class ProfiledLayer(Record):
    """One convolution of a network, as profiles of its engine tell it.

    Attributes:
        layer: its name.
        convolution: what ran, with the channels that are left.
        samples_ms: one number per profile that names it.
    """

    layer: str
    convolution: Convolution
    samples_ms: tuple[Annotated[float, Field(gt=0)], ...]


class ProfiledNetwork(Record):
    """An engine of a whole network, some of whose kernels were removed.

    Attributes:
        source_sha256: file of the network that the kernels were removed from.
        layers: its convolutions, no layer twice.
        others_ms: everything else that the profiles list, one sum per profile.
        seconds: that building and profiling took.
    """

    source_sha256: Sha256
    layers: tuple[ProfiledLayer, ...]
    others_ms: tuple[Annotated[float, Field(ge=0)], ...]
    seconds: Seconds

    @model_validator(mode="after")
    def _consistent(self) -> ProfiledNetwork:
        if len({row.layer for row in self.layers}) != len(self.layers):
            raise ValueError("a layer is listed twice")
        if any(len(row.samples_ms) > len(self.others_ms) for row in self.layers):
            raise ValueError("a layer has more samples than there are profiles")
        return self


class CostTable(Document):
    """The file.

    Attributes:
        evidence: measured, and on which machine.
        machine: the same, to compare.
        timings: no convolution twice.
        profiles: of whole networks.
    """

    FILE_NAME: ClassVar[str] = "convolution-costs.json"
    MADE_BY: ClassVar[str] = "deploycc prune --costs"
    ALWAYS_SEALED: ClassVar[bool] = False

    evidence: Evidence
    machine: Machine
    timings: tuple[Timing, ...]
    profiles: tuple[ProfiledNetwork, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> CostTable:
        if len({timing.convolution for timing in self.timings}) != len(self.timings):
            raise ValueError("a convolution is listed twice")
        return self


class OperationTiming(Record):
    """One operation on a map of one size.

    Attributes:
        operation: see `Operation`.
        elements: of the map.
        without_ms, with_ms: raw samples of the network without and with it.
    """

    operation: Operation
    elements: Positive
    without_ms: Samples
    with_ms: Samples

    @property
    def cost_ms(self) -> float:
        """Difference of the least times: what else the machine does only adds; 0 where noise hides the cost."""
        return max(0.0, min(self.with_ms) - min(self.without_ms))


class GateCostTable(Document):
    """The file.

    Attributes:
        evidence: measured, and on which machine.
        machine: the same, to compare.
        convolutions: no convolution twice.
        operations: raw samples; the lines are fitted on reading.
    """

    FILE_NAME: ClassVar[str] = "gate-costs.json"
    MADE_BY: ClassVar[str] = "deploycc gates --costs"
    ALWAYS_SEALED: ClassVar[bool] = False

    evidence: Evidence
    machine: Machine
    convolutions: tuple[Timing, ...]
    operations: tuple[OperationTiming, ...]
