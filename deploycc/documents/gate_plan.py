"""How each kernel gate of a network is lowered: what the planner decided and `lower_gates` carries out.

A gate switches kernels of one convolution on and off. Multiplying by it saves no time; conditional branches skip the
kernels that are off. Every lowering is exact: the outputs are those of the multiplication.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from deploycc.documents.document import Count, Document, Evidence, Record, Sha256
from deploycc.documents.plan import MOST_SECOND, Shares

Lowering = Literal["multiply", "blocks", "widths", "variants"]
"""What a gate becomes.

``multiply``: all kernels are computed, and multiplied by the gate. ``blocks``: each block of kernels is computed where
one of them is on. ``widths``: the fewest planned kernels from the front that cover all that are on are computed.
``variants``: as widths, for all layers that one decision switches, and all that lies between and after them, at once.
"""


class LayerPlan(Record):
    """One convolution.

    Attributes:
        layer: name of the node.
        lowering: see `Lowering`.
        order: [kernels] the kernel at each position, as the network numbers them now.
        sizes: ``blocks``: number of kernels of each block, in order, after the first `always`. ``widths``: number of
            kernels that each branch computes, ascending up to all of them; the first may be 0, which skips the whole
            layer where no kernel is on. ``variants``: number of kernels in each variant of the network, ascending up
            to all of them. ``multiply``: empty.
        always: ``blocks``: number of kernels from the front that are computed outside any branch.
        joined: whether it is computed inside the branches of the layer before it in the plan, from that layer's active
            channels only. That layer has ``widths``, and nothing but this convolution and its gate reads its output.
            A convolution without a gate may be joined too: ``widths`` with all kernels as the only size.
    """

    layer: Annotated[str, Field(min_length=1)]
    lowering: Lowering
    order: Annotated[tuple[Count, ...], Field(min_length=1)]
    sizes: tuple[Count, ...] = ()
    always: Count = 0
    joined: bool = False

    @property
    def kernels(self) -> int:
        """Number of kernels."""
        return len(self.order)

    @model_validator(mode="after")
    def _consistent(self) -> LayerPlan:
        if sorted(self.order) != list(range(self.kernels)):
            raise ValueError(f"the order of layer {self.layer} does not name each of its kernels once")
        if self.lowering == "multiply" and (self.sizes or self.joined):
            raise ValueError(f"layer {self.layer} is multiplied by its gate, so it has no sizes and is not joined")
        if self.lowering != "blocks" and self.always:
            raise ValueError(f"layer {self.layer} has no blocks, so it has no kernels outside of them")
        if self.lowering == "blocks" and (0 in self.sizes or sum(self.sizes) + self.always != self.kernels):
            raise ValueError(f"the blocks of layer {self.layer} do not hold its {self.kernels} kernels")
        if self.lowering == "widths" and len(set(self.sizes)) < len(self.sizes):
            raise ValueError(f"the widths of layer {self.layer} do not ascend")
        if self.lowering in ("widths", "variants") and (sorted(self.sizes) != list(self.sizes) or not self.sizes):
            raise ValueError(f"the {self.lowering} of layer {self.layer} do not ascend")
        if self.lowering in ("widths", "variants") and self.sizes[-1] != self.kernels:
            raise ValueError(f"the last of the {self.lowering} of layer {self.layer} is not its {self.kernels} kernels")
        if self.lowering == "variants" and (self.joined or 0 in self.sizes):
            raise ValueError(f"layer {self.layer} has variants, so it is not joined and has a kernel in each of them")
        return self


class GatePlan(Document):
    """The file.

    Attributes:
        evidence: where the times come from that decided.
        source_sha256: digest of the trained files (`deploycc.detector.Source`).
        random_weights: seed of the weights; None for trained ones.
        network: name of the network.
        target: name of the target; on another one branches have other costs.
        layers: in graph order, a joined layer right after the one whose branches hold it.
        staged: the ``variants`` are second networks, of which the host starts one, and not branches of a single
            network. The other gates multiply then.
        shares: of a plan that is staged, for each second network the share of the pictures that need it; empty where
            that is not known.
    """

    FILE_NAME: ClassVar[str] = "gate-plan.json"
    MADE_BY: ClassVar[str] = "deploycc gates"

    evidence: Evidence
    source_sha256: Sha256
    random_weights: int | None
    network: str
    target: str
    layers: tuple[LayerPlan, ...]
    staged: bool = False
    shares: Shares = ()

    @model_validator(mode="after")
    def _consistent(self) -> GatePlan:
        check_layers(self.layers)
        lowerings = {layer.lowering for layer in self.layers}
        if self.staged and ("variants" not in lowerings or lowerings - {"variants", "multiply"}):
            raise ValueError("a plan that is staged has variants, and beside them only gates that multiply")
        sizes = {len(each.sizes) for each in self.layers if each.sizes}
        if self.staged and max(sizes) > MOST_SECOND:
            raise ValueError(f"at most {MOST_SECOND} second networks may follow the first one of a plan that is staged")
        if self.shares and (not self.staged or sizes != {len(self.shares)}):
            raise ValueError("a plan that is staged has a share of the pictures for each second network")
        return self


def check_layers(layers: Iterable[LayerPlan]) -> None:
    """Refuse layers that contradict one another.

    Raises:
        ValueError: a layer is listed twice, or is joined to one without ``widths``.
    """
    before, seen = None, set()
    for layer in layers:
        if layer.layer in seen:
            raise ValueError(f"layer {layer.layer} is listed twice")
        if layer.joined and (before is None or before.lowering != "widths"):
            raise ValueError(f"layer {layer.layer} is joined, but the layer before it has no widths")
        seen.add(layer.layer)
        before = layer
