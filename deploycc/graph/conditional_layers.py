"""Writing gated layers as branches: prefix widths, groups, and layers joined inside the branches of another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import onnx_graphsurgeon as gs

from deploycc.errors import Note
from deploycc.gate_plan import LayerPlan
from deploycc.graph.branches import Writer, above, evaluated, largest
from deploycc.graph.gated_regions import VECTOR, Region
from deploycc.graph.parts import Keep, narrowed


@dataclass(frozen=True, eq=False)
class Layer:
    """One layer of a plan, found in the network; its kernels stand in the planned order."""

    region: Region
    plan: LayerPlan


class _Refused(Exception):  # noqa: N818 - carries a note, no error
    def __init__(self, note: Note) -> None:
        super().__init__(note.reason)
        self.note = note


def write_layers(graph: gs.Graph, chain: Sequence[Layer]) -> tuple[Note, ...]:
    """Replace a layer, and those joined to it, by branches.

    Args:
        graph: changed in place, unless a part cannot be narrowed.
        chain: the first stands alone, each other one is joined to the one before it.

    Returns:
        Notes; one ``gate-not-narrowed`` with nothing changed where a channel cannot be left out.
    """
    first, last = chain[0].region, chain[-1].region
    writer = Writer(graph)
    before = len(graph.nodes)
    try:
        result = _Chain(chain).write(writer, 0, first.entry, None)
    except _Refused as refused:
        for node in graph.nodes[before:]:
            node.inputs.clear()
            node.outputs.clear()
        del graph.nodes[before:]
        return (Note(first.layer, "gate-not-narrowed", f"{refused.note.node}: {refused.note.reason}"),)
    last.exit.inputs.clear()  # what made it is dead now
    made_by = result.inputs[0]
    made_by.outputs = [last.exit]
    return ()


class _Chain:
    """Layers that are computed inside one another's branches."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        self._layers = layers

    def write(self, writer: Writer, index: int, entry: gs.Tensor, kept: Keep | None) -> gs.Tensor:
        """Write layer ``index`` and those behind it.

        Args:
            writer: of the graph or branch that they stand in.
            index: of the layer.
            entry: what it reads.
            kept: which channels of its full input ``entry`` has; None: all of them.

        Returns:
            What the last layer makes, all its maps.
        """
        region, plan = self._layers[index].region, self._layers[index].plan
        if region.gate is None:
            result = writer.paste(self._narrow(region.body, region, kept), {region.entry.name: entry})
            return self._behind(writer, index, result, region.kernels)
        vector = self._vector(writer, region, entry, kept)
        if plan.lowering == "groups":
            return self._groups(writer, index, entry, kept, vector)
        return self._widths(writer, index, entry, kept, vector)

    def _widths(self, writer: Writer, index: int, entry: gs.Tensor, kept: Keep | None, vector: gs.Tensor) -> gs.Tensor:
        layer = self._layers[index]
        sizes = layer.plan.sizes
        flags = _flags(writer, layer, vector)
        shape = self._layers[-1].region.exit.shape

        def between(writer: Writer, low: int, high: int) -> gs.Tensor:
            """Widths ``low`` to ``high``: halve them until one is left."""
            if low == high:
                return self._width(writer, index, entry, kept, vector, low)
            middle = (low + high + 1) // 2
            return writer.choose(
                f"{layer.region.layer}/{sizes[middle]}",
                flags[middle - 1],
                shape,
                lambda inner: between(inner, middle, high),
                lambda inner: between(inner, low, middle - 1),
            )

        return between(writer, 0, len(sizes) - 1)

    def _width(
        self, writer: Writer, index: int, entry: gs.Tensor, kept: Keep | None, vector: gs.Tensor, number: int
    ) -> gs.Tensor:
        region, sizes = self._layers[index].region, self._layers[index].plan.sizes
        width = sizes[number]
        if width == 0:
            return self._off(writer, index)
        all_on = number > 0 and _all_on(region, sizes[number - 1], width)
        result = self._kernels(writer, region, entry, kept, vector, (0, width), all_on=all_on)
        return self._behind(writer, index, result, width)

    def _behind(self, writer: Writer, index: int, result: gs.Tensor, width: int) -> gs.Tensor:
        """What follows a layer of which the first ``width`` maps are there."""
        if index == len(self._layers) - 1:
            return writer.pad(result, self._layers[index].region.kernels)
        kernels = self._layers[index].region.kernels
        kept = None if width == kernels else np.arange(kernels) < width
        return self.write(writer, index + 1, result, kept)

    def _groups(self, writer: Writer, index: int, entry: gs.Tensor, kept: Keep | None, vector: gs.Tensor) -> gs.Tensor:
        region, plan = self._layers[index].region, self._layers[index].plan
        parts: list[gs.Tensor] = []
        ends = np.cumsum([plan.always, *plan.sizes]).tolist()
        if plan.always:
            parts.append(self._kernels(writer, region, entry, kept, vector, (0, plan.always)))
        for span in pairwise(ends):
            stem = f"{region.layer}/{span[0]}-{span[1]}"
            shape = [1, span[1] - span[0], *region.exit.shape[2:]]
            any_on = above(writer, f"{stem}_any", largest(writer, f"{stem}_most", writer.cut(vector, *span)), 0.5)

            def on(inner: Writer, span: tuple[int, int] = span) -> gs.Tensor:
                all_on = _one_unit(region, *span)
                return self._kernels(inner, region, entry, kept, vector, span, all_on=all_on)

            def off(inner: Writer, stem: str = stem, shape: list[int] = shape) -> gs.Tensor:
                return inner.spread(f"{stem}_off", np.zeros(shape, np.float32))

            parts.append(writer.choose(stem, any_on, shape, on, off))
        if len(parts) == 1:
            return parts[0]
        return writer.node("Concat", f"{region.layer}_groups", parts, region.exit.shape, axis=1)

    def _kernels(
        self,
        writer: Writer,
        region: Region,
        entry: gs.Tensor,
        kept: Keep | None,
        vector: gs.Tensor,
        span: tuple[int, int],
        *,
        all_on: bool = False,
    ) -> gs.Tensor:
        """Some kernels of a layer, in a row, multiplied with their gates unless those are known to be on."""
        there = np.arange(region.kernels)
        body = self._narrow(region.body, region, kept, (there >= span[0]) & (there < span[1]))
        if all_on:
            product = body.nodes.pop()
            body.outputs = [product.inputs[0]]
        feeds = {region.entry.name: entry}
        if not all_on:
            feeds[VECTOR] = writer.cut(vector, *span)
        body.inputs = [tensor for tensor in body.inputs if tensor.name in feeds]
        return writer.paste(body, feeds)

    def _narrow(self, part: gs.Graph, region: Region, kept: Keep | None, kernels: Keep | None = None) -> gs.Graph:
        keep = {region.entry.name: kept, VECTOR: kernels}
        given = {name: each for name, each in keep.items() if each is not None and not each.all()}
        found = narrowed(part, given)
        if isinstance(found, Note):
            raise _Refused(found)
        return found

    def _vector(self, writer: Writer, region: Region, entry: gs.Tensor, kept: Keep | None) -> gs.Tensor:
        """The gate's vector, [1, kernels, 1, 1] float32, whatever its own form."""
        vector: gs.Tensor | None = region.vector
        if entry is not region.entry and region.decision is not None:
            part = self._narrow(region.decision, region, kept)
            vector = writer.paste(part, {region.entry.name: entry})
        if vector is None:
            raise ValueError(f"{region.layer} has no gate")
        wanted = [1, region.kernels, 1, 1]
        if vector.dtype != np.float32:
            vector = writer.node("Cast", f"{region.layer}_vector", [vector], vector.shape, to=1)
        if list(vector.shape) != wanted:
            shape = writer.constant(f"{region.layer}_vector_shape", np.array(wanted))
            vector = writer.node("Expand", f"{region.layer}_vector", [vector, shape], wanted)
        return vector

    def _off(self, writer: Writer, index: int) -> gs.Tensor:
        """What the last layer makes where all kernels of layer ``index`` are off: the same for every picture."""
        shape = self._layers[-1].region.exit.shape
        stem = f"{self._layers[index].region.layer}_off"
        if index == len(self._layers) - 1:
            return writer.spread(stem, np.zeros(shape, np.float32))
        alone = gs.Graph(opset=writer.graph.opset, import_domains=writer.graph.import_domains)
        inner = Writer(alone)
        result: gs.Tensor = inner.constant("zero", np.zeros(self._layers[index].region.exit.shape, np.float32))
        for layer in self._layers[index + 1 :]:
            region = layer.region
            feeds = {region.entry.name: result}
            if region.decision is not None:
                feeds[VECTOR] = self._vector(inner, region, result, None)
            result = inner.paste(region.body, feeds)
        alone.outputs = [result]
        return writer.spread(stem, evaluated(alone))


def _flags(writer: Writer, layer: Layer, vector: gs.Tensor) -> list[gs.Variable]:
    """For each width but the first: whether a kernel beyond the width before it is on.

    Each kernel knows the number of the first width that covers it; the largest number among kernels that are on is
    that of the width to choose.
    """
    name, sizes = layer.region.layer, np.array(layer.plan.sizes)
    if len(sizes) == 1:
        return []
    number = np.searchsorted(sizes, np.arange(layer.region.kernels), side="right").astype(np.float32)
    marked = vector
    if (number != 1).any():
        numbers = writer.constant(f"{name}_numbers", number.reshape(1, -1, 1, 1))
        marked = writer.node("Mul", f"{name}_numbered", [vector, numbers], vector.shape)
    needed = largest(writer, f"{name}_needed", marked)
    narrower = enumerate(layer.plan.sizes[:-1])
    return [above(writer, f"{name}_beyond_{size}", needed, place + 0.5) for place, size in narrower]


def _all_on(region: Region, narrower: int, width: int) -> bool:
    """Whether all of the first ``width`` kernels are on where one of those from ``narrower`` on is the last that is."""
    if region.gate is None:
        return False
    units = np.array(region.gate.unit_of)
    if region.gate.granularity == "nested":  # a decision is on only with all before it
        return bool(units[:width].max() <= units[narrower:width].min())
    return _one_unit(region, 0, width)


def _one_unit(region: Region, start: int, stop: int) -> bool:
    """Whether one decision switches all these kernels."""
    return region.gate is not None and len(set(region.gate.unit_of[start:stop])) == 1
