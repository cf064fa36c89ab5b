"""How each kernel gate of a network is carried out: the planner's decision, which `lower_gates` obeys.

A gate switches kernels of one convolution on and off. As a product it saves nothing; as conditional branches it skips
the kernels that are off. Both lowerings are exact: whatever the gate says, the outputs are those of the product.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from deploycc.documents.document import Count, Document, Evidence, Record, Sha256

Lowering = Literal["multiply", "groups", "widths", "variants"]


class LayerPlan(Record):
    """One convolution.

    Attributes:
        layer: the node.
        lowering: ``multiply``: all kernels are computed and multiplied with the gate; ``groups``: the first `always`
            kernels are computed outside any branch, each group of the others only where one of its kernels is on;
            ``widths``: the smallest width that covers every kernel that is on is computed; ``variants``: as that, for
            all layers of one decision and all that lies between and behind them at once.
        order: which kernel stands at each position, [kernels]: position -> kernel as the network numbers them now.
        sizes: ``groups``: kernels of each group, in order, behind the first `always`; ``widths``: how many kernels from
            the front each branch computes, ascending, the last all of them; the first may be 0: with all kernels off
            the whole layer is skipped. ``variants``: kernels from the front that are there in each variant of the
            network, the last all of them. Empty for ``multiply``.
        always: ``groups``: kernels from the front that stand outside any branch.
        joined: computed inside the branches of the layer before it in the plan, reading only its active channels. That
            layer has ``widths``, and nothing but this convolution and its gate reads its output. A convolution
            without gate may be joined likewise: ``widths`` with all kernels as the only size.
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
            raise ValueError(f"layer {self.layer} stays a multiply: it has no sizes and joins nothing")
        if self.lowering != "groups" and self.always:
            raise ValueError(f"layer {self.layer} has no groups, so no kernels outside of them")
        if self.lowering == "groups" and (0 in self.sizes or sum(self.sizes) + self.always != self.kernels):
            raise ValueError(f"the groups of layer {self.layer} do not hold its {self.kernels} kernels")
        if self.lowering == "widths" and len(set(self.sizes)) < len(self.sizes):
            raise ValueError(f"the widths of layer {self.layer} do not ascend")
        if self.lowering in ("widths", "variants") and (sorted(self.sizes) != list(self.sizes) or not self.sizes):
            raise ValueError(f"the {self.lowering} of layer {self.layer} do not ascend")
        if self.lowering in ("widths", "variants") and self.sizes[-1] != self.kernels:
            raise ValueError(f"the last of the {self.lowering} of layer {self.layer} is not its {self.kernels} kernels")
        if self.lowering == "variants" and (self.joined or 0 in self.sizes):
            raise ValueError(f"layer {self.layer} has variants: it joins nothing, and each holds some of its kernels")
        return self


class GatePlan(Document):
    """The file.

    Attributes:
        evidence: where the times that decided come from.
        source_sha256: the trained files of the network (`deploycc.detector.Source`).
        random_weights: the seed, where nothing was trained.
        network: its name.
        target: name of the target that it was made for: another one has other costs.
        layers: in graph order, a joined layer right behind the one whose branches hold it.
    """

    FILE_NAME: ClassVar[str] = "gate-plan.json"
    MADE_BY: ClassVar[str] = "deploycc gates"

    evidence: Evidence
    source_sha256: Sha256
    random_weights: int | None
    network: str
    target: str
    layers: tuple[LayerPlan, ...]

    @model_validator(mode="after")
    def _consistent(self) -> GatePlan:
        check_layers(self.layers)
        return self


def check_layers(layers: Iterable[LayerPlan]) -> None:
    """Refuse layers that contradict one another.

    Raises:
        ValueError: a layer stands there twice, or is joined to one without ``widths``.
    """
    before, seen = None, set()
    for layer in layers:
        if layer.layer in seen:
            raise ValueError(f"layer {layer.layer} stands there twice")
        if layer.joined and (before is None or before.lowering != "widths"):
            raise ValueError(f"layer {layer.layer} is joined, but the layer before it has no widths")
        seen.add(layer.layer)
        before = layer
