"""Options of the passes. Passes know options, never targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from deploycc.documents.gate_plan import LayerPlan
    from deploycc.graph.blocks.search import Key
    from deploycc.parsers.support import Contract

Detection = Literal["raw", "onnx-nms", "efficient-nms", "nms-plugin"]
Precision = Literal["fp32", "fp16"]


@dataclass(frozen=True)
class Prune:
    """Kernels and blocks to remove for good, and gates to replace by constants.

    Attributes:
        kernels: layer name to the kernels whose output, after bias and folded BatchNorm, counts as zero; numbered as
            they are without the blocks.
        carriers: likewise; these stay, of zeros, as far as they carry the constants of kernels that go
            (`deploycc.graph.channels.carriers`).
        dead: also remove every channel that holds a constant in the network as it is, for example because all
            weights of its kernel are zero.
        coefficients: gated layer to the constants that replace its gate, one per kernel, none negative
            (`deploycc.passes.fold_gates`).
        blocks: that go whole, before the kernels, in this order (`deploycc.graph.blocks`).
    """

    kernels: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    carriers: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    dead: bool = False
    coefficients: Mapping[str, Sequence[float]] = field(default_factory=dict)
    blocks: tuple[Key, ...] = ()


@dataclass(frozen=True)
class Options:
    """One network's compilation.

    Attributes:
        detection: where decoding and suppression happen: on the host (``raw``), as ONNX ``NonMaxSuppression``, as the
            ``EfficientNMS_TRT`` plugin node, or as the older ``NMS_TRT`` plugin node.
        precision: numeric type of weights and activations.
        typed: the network itself carries the precision (TensorRT 11, TensorRT-RTX, ONNX Runtime); otherwise it stays
            FP32 and the builder is told.
        keep_fp32: names of nodes that stay FP32 in a typed FP16 network.
        contract: what the parser that will read the network accepts.
        prune: kernels to remove and gates to replace, or None.
        gate_plan: how gates are carried out; layers that are missing stay a multiply.
        no_conditional: why the runtime cannot skip a branch; empty where it can.
        plain_conditionals: the parser handles only an `If` with one output that is not inside another.
    """

    contract: Contract
    detection: Detection = "raw"
    precision: Precision = "fp32"
    typed: bool = False
    keep_fp32: frozenset[str] = field(default_factory=frozenset)
    prune: Prune | None = None
    gate_plan: tuple[LayerPlan, ...] = ()
    no_conditional: str = ""
    plain_conditionals: bool = False
