"""A choice among several variants in plain conditionals: one output per `If`, and no `If` inside a branch.

TensorRT 8.2 to 9.x mishandles other forms (`deploycc.parsers.conditionals`). Each variant gets an `If` of its own whose
other branch returns zeros, and the results are added up: all but one of them are zeros, so the sum is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx_graphsurgeon as gs

from deploycc.graph.branches.writer import Writer

Write = Callable[[Writer], Sequence[gs.Tensor]]


def choose_one(
    writer: Writer, stem: str, flags: Sequence[gs.Tensor], shapes: Sequence[Sequence[int]], variants: Sequence[Write]
) -> tuple[gs.Tensor, ...]:
    """Write the last variant whose flag is true, and the first variant where none is.

    Args:
        writer: for the graph that computes the flags.
        stem: start of the new names.
        flags: scalar bools, one for each variant but the first; a flag is true only together with all before it.
        shapes: of the outputs, which all variants share.
        variants: write the outputs of one variant each into a branch.

    Returns:
        The outputs, each made by a node of its own.
    """
    pack = _Pack(stem, shapes)
    if len(variants) == 2:
        second, first = variants[1], variants[0]
        chosen: gs.Tensor = writer.choose(stem, flags[0], [pack.shape], pack.packed(second), pack.packed(first))[0]
        return pack.unpack(writer, chosen)
    parts: list[gs.Tensor] = []
    for number, variant in enumerate(variants):
        condition, write, zeros = _condition(writer, stem, flags, number), pack.packed(variant), pack.zeros
        yes, no = (write, zeros) if number else (zeros, write)
        parts += writer.choose(f"{stem}/{number}", condition, [pack.shape], yes, no)
    total = parts[0]
    for part in parts[1:]:
        total = writer.node("Add", f"{stem}_sum", [total, part], pack.shape)
    return pack.unpack(writer, total)


def _condition(writer: Writer, stem: str, flags: Sequence[gs.Tensor], number: int) -> gs.Tensor:
    """Return what is true for this variant alone; for the first one, what is true for all others."""
    if number in (0, len(flags)):
        return flags[max(number - 1, 0)]
    no_more = writer.node("Not", f"{stem}_at_most_{number}", [flags[number]], [], np.bool_)
    return writer.node("And", f"{stem}_exactly_{number}", [flags[number - 1], no_more], [], np.bool_)


class _Pack:
    """Several tensors as one row, so that an `If` has one output; a single tensor keeps its shape."""

    def __init__(self, stem: str, shapes: Sequence[Sequence[int]]) -> None:
        self.stem, self.shapes = stem, [list(shape) for shape in shapes]
        self.sizes = [int(np.prod(shape)) for shape in self.shapes]
        self.shape = self.shapes[0] if len(self.shapes) == 1 else [1, sum(self.sizes)]

    def packed(self, write: Write) -> Write:
        """Return a writer of a variant's outputs as one tensor."""

        def packing(branch: Writer) -> Sequence[gs.Tensor]:
            results = write(branch)
            if len(results) == 1:
                return results
            rows = [self._reshape(branch, result, [1, size]) for result, size in zip(results, self.sizes, strict=True)]
            return [branch.node("Concat", f"{self.stem}_packed", rows, self.shape, axis=1)]

        return packing

    def zeros(self, branch: Writer) -> Sequence[gs.Tensor]:
        """Write zeros of the packed shape."""
        zero = branch.constant(f"{self.stem}_zero", np.zeros([1] * len(self.shape), np.float32))
        shape = branch.constant(f"{self.stem}_shape", np.array(self.shape))
        return [branch.node("Expand", f"{self.stem}_zeros", [zero, shape], self.shape)]

    def unpack(self, writer: Writer, packed: gs.Tensor) -> tuple[gs.Tensor, ...]:
        """Write the tensors that a row holds."""
        if len(self.shapes) == 1:
            return (packed,)
        ends = np.cumsum([0, *self.sizes]).tolist()
        return tuple(
            self._reshape(writer, writer.cut(packed, start, start + size), shape)
            for start, size, shape in zip(ends, self.sizes, self.shapes, strict=False)
        )

    def _reshape(self, writer: Writer, tensor: gs.Tensor, shape: list[int]) -> gs.Tensor:
        wanted = writer.constant(f"{self.stem}_shape", np.array(shape))
        return writer.node("Reshape", f"{self.stem}_reshaped", [tensor, wanted], shape)
