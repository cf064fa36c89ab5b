"""Writing gated layers as branches: prefix widths, blocks, and layers joined inside the branches of another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import onnx_graphsurgeon as gs

from deploycc.documents.gate_plan import LayerPlan
from deploycc.errors import Note
from deploycc.graph.branches.conditions import Decided, all_on
from deploycc.graph.branches.narrowed_part import Keep, narrowed
from deploycc.graph.branches.regions import VECTOR, Region
from deploycc.graph.branches.writer import Writer, evaluated


@dataclass(frozen=True, eq=False)
class Layer:
    """A layer of a plan, found in the network, with its kernels in the planned order."""

    region: Region
    plan: LayerPlan


class _Refused(Exception):  # noqa: N818 - carries a note, not an error
    def __init__(self, note: Note) -> None:
        super().__init__(note.reason)
        self.note = note


def write_layers(graph: gs.Graph, chain: Sequence[Layer]) -> tuple[Note, ...]:
    """Replace a layer, and those joined to it, by branches.

    Args:
        graph: changed in place, unless a part cannot be narrowed.
        chain: the layer, followed by those that are each joined to the one before.

    Returns:
        Nothing, or a note ``gate-not-narrowed`` if a channel cannot be left out; the graph is unchanged then.
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
    last.exit.inputs.clear()  # the nodes that made it are dead now
    producer = result.inputs[0]
    producer.outputs = [last.exit]
    return ()


class _Chain:
    """Layers that are computed inside one another's branches."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        self._layers = layers

    def write(self, writer: Writer, index: int, entry: gs.Tensor, kept: Keep | None) -> gs.Tensor:
        """Write layer ``index`` and those after it.

        Args:
            writer: for the graph or branch that holds them.
            index: position of the layer in the chain.
            entry: the map that the layer reads.
            kept: which channels of its full input ``entry`` holds; None: all of them.

        Returns:
            The output of the last layer, with all its maps.
        """
        region, plan = self._layers[index].region, self._layers[index].plan
        if region.gate is None:
            [result] = writer.paste(self._narrow(region.body, region, kept), {region.entry.name: entry})
            return self._after(writer, index, result, region.kernels)
        decided = self._decide(writer, region, entry, kept)
        if plan.lowering == "blocks":
            return self._blocks(writer, index, entry, kept, decided)
        return self._widths(writer, index, entry, kept, decided)

    def _widths(self, writer: Writer, index: int, entry: gs.Tensor, kept: Keep | None, decided: Decided) -> gs.Tensor:
        layer = self._layers[index]
        sizes = layer.plan.sizes
        stem = f"{layer.region.layer}_beyond"
        kernels = layer.region.kernels
        flags = [decided.any_on(writer, f"{stem}_{size}", range(size, kernels)) for size in sizes[:-1]]
        shape = self._layers[-1].region.exit.shape

        def between(writer: Writer, low: int, high: int) -> gs.Tensor:
            """Choose among the widths ``low`` to ``high``: halve them until one is left."""
            if low == high:
                return self._width(writer, index, entry, kept, decided, low)
            middle = (low + high + 1) // 2
            [result] = writer.choose(
                f"{layer.region.layer}/{sizes[middle]}",
                flags[middle - 1],
                [shape],
                lambda inner: [between(inner, middle, high)],
                lambda inner: [between(inner, low, middle - 1)],
            )
            return result

        return between(writer, 0, len(sizes) - 1)

    def _width(
        self, writer: Writer, index: int, entry: gs.Tensor, kept: Keep | None, decided: Decided, number: int
    ) -> gs.Tensor:
        region, sizes = self._layers[index].region, self._layers[index].plan.sizes
        width = sizes[number]
        if width == 0:
            return self._off(writer, index)
        tested = (sizes[number - 1], width) if number else None
        result = self._kernels(writer, region, entry, kept, decided, (0, width), tested)
        return self._after(writer, index, result, width)

    def _after(self, writer: Writer, index: int, result: gs.Tensor, width: int) -> gs.Tensor:
        """Write what follows a layer of which only the first ``width`` maps were computed."""
        if index == len(self._layers) - 1:
            return writer.pad(result, self._layers[index].region.kernels)
        kernels = self._layers[index].region.kernels
        kept = None if width == kernels else np.arange(kernels) < width
        return self.write(writer, index + 1, result, kept)

    def _blocks(self, writer: Writer, index: int, entry: gs.Tensor, kept: Keep | None, decided: Decided) -> gs.Tensor:
        region, plan = self._layers[index].region, self._layers[index].plan
        parts: list[gs.Tensor] = []
        ends = np.cumsum([plan.always, *plan.sizes]).tolist()
        if plan.always:
            parts.append(self._kernels(writer, region, entry, kept, decided, (0, plan.always), None))
        for span in pairwise(ends):
            stem = f"{region.layer}/{span[0]}-{span[1]}"
            shape = [1, span[1] - span[0], *region.exit.shape[2:]]
            any_on = decided.any_on(writer, f"{stem}_any", range(*span))

            def on(inner: Writer, span: tuple[int, int] = span) -> list[gs.Tensor]:
                return [self._kernels(inner, region, entry, kept, decided, span, span)]

            def off(inner: Writer, stem: str = stem, shape: list[int] = shape) -> list[gs.Tensor]:
                return [inner.spread(f"{stem}_off", np.zeros(shape, np.float32))]

            parts += writer.choose(stem, any_on, [shape], on, off)
        if len(parts) == 1:
            return parts[0]
        return writer.node("Concat", f"{region.layer}_blocks", parts, region.exit.shape, axis=1)

    def _kernels(
        self,
        writer: Writer,
        region: Region,
        entry: gs.Tensor,
        kept: Keep | None,
        decided: Decided,
        span: tuple[int, int],
        tested: tuple[int, int] | None,
    ) -> gs.Tensor:
        """Write consecutive kernels of a layer, multiplied by their gates unless these are known to be on.

        Args:
            writer: for the branch.
            region: of the layer.
            entry: the map that it reads.
            kept: which channels of its full input ``entry`` holds.
            decided: what the gate has decided.
            span: first kernel, and the one after the last.
            tested: the same for kernels of which one is known to be on; None: nothing is known.
        """
        kernels = np.arange(region.kernels)
        body = self._narrow(region.body, region, kept, (kernels >= span[0]) & (kernels < span[1]))
        feeds = {region.entry.name: entry}
        tested_kernels = range(0) if tested is None else range(*tested)
        if region.gate is not None and all_on(region.gate, range(*span), tested_kernels):
            multiplication = body.nodes.pop()
            body.outputs = [multiplication.inputs[0]]
        else:
            feeds[VECTOR] = decided.mask(writer, f"{region.layer}_mask", range(*span))
        body.inputs = [tensor for tensor in body.inputs if tensor.name in feeds]
        [result] = writer.paste(body, feeds)
        return result

    def _narrow(self, part: gs.Graph, region: Region, kept: Keep | None, kernels: Keep | None = None) -> gs.Graph:
        keep = {region.entry.name: kept, VECTOR: kernels}
        result = narrowed(part, {name: mask for name, mask in keep.items() if mask is not None and not mask.all()})
        if isinstance(result, Note):
            raise _Refused(result)
        return result

    def _decide(self, writer: Writer, region: Region, entry: gs.Tensor, kept: Keep | None) -> Decided:
        """Write the gate; nodes of it that turn out to be unused are cleaned up later."""
        vector: gs.Tensor | None = region.vector
        comparison = region.comparison
        if entry is not region.entry and region.decision is not None:
            part = self._narrow(region.decision, region, kept)
            vector, *scores = writer.paste(part, {region.entry.name: entry})
            comparison = replace(comparison, scores=scores[0]) if comparison is not None else None
        if vector is None:
            raise ValueError(f"{region.layer} has no gate")
        wanted = [1, region.kernels, 1, 1]
        if vector.dtype != np.float32:
            vector = writer.node("Cast", f"{region.layer}_vector", [vector], vector.shape, to=1)
        if list(vector.shape) != wanted:
            shape = writer.constant(f"{region.layer}_vector_shape", np.array(wanted))
            vector = writer.node("Expand", f"{region.layer}_vector", [vector, shape], wanted)
        return Decided(vector, comparison)

    def _off(self, writer: Writer, index: int) -> gs.Tensor:
        """Write the output of the last layer where all kernels of layer ``index`` are off: a constant."""
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
                feeds[VECTOR] = self._decide(inner, region, result, None).vector
            [result] = inner.paste(region.body, feeds)
        alone.outputs = [result]
        return writer.spread(stem, evaluated(alone))
