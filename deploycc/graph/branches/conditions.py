"""What branches ask about the decisions of a gate: is one of these kernels on, are all of them, which ones are."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from deploycc.graph.branches.writer import Writer, above, largest
from deploycc.graph.gates.decision import Comparison
from deploycc.graph.gates.search import Gate


@dataclass(frozen=True, eq=False)
class Decided:
    """The decisions of a gate, in the graph that computes its layer.

    Attributes:
        vector: 1 for each kernel that is on and 0 for the others, [1, kernels, 1, 1] float32.
        comparison: of the scores that the vector is made from, where it is known. Conditions and masks are then
            computed from the scores, which takes fewer nodes, and those of a mask are inside the branch that needs it.
    """

    vector: gs.Tensor
    comparison: Comparison | None

    def any_on(self, writer: Writer, stem: str, kernels: Sequence[int]) -> gs.Variable:
        """Write whether one of these kernels is on, as a scalar bool."""
        known = self.comparison
        if known is None:
            most = largest(writer, f"{stem}_most", writer.pick(self.vector, kernels))
            return above(writer, stem, most, np.float32(0.5))
        return any_score_on(writer, stem, known, {known.score_of[kernel] for kernel in kernels})

    def mask(self, writer: Writer, stem: str, kernels: Sequence[int]) -> gs.Tensor:
        """Write 1 for each of these kernels that is on and 0 for the others, [1, number of them, 1, 1] float32."""
        if self.comparison is None:
            return writer.pick(self.vector, kernels)
        return score_mask(writer, stem, self.comparison, kernels)


def score_mask(writer: Writer, stem: str, comparison: Comparison, kernels: Sequence[int]) -> gs.Variable:
    """Write the mask of these kernels from their scores: 1 is on, 0 is off, [1, number of them, 1, 1] float32."""
    wanted = [1, len(kernels), 1, 1]
    scores = writer.pick(comparison.scores, [comparison.score_of[kernel] for kernel in kernels])
    on = above(writer, f"{stem}_on", scores, comparison.limit, comparison.op)
    mask = writer.node("Cast", stem, [on], scores.shape, to=1)
    if mask.shape == wanted:
        return mask
    return writer.node("Reshape", stem, [mask, writer.constant(f"{stem}_shape", np.array(wanted))], wanted)


def any_score_on(
    writer: Writer, stem: str, comparison: Comparison, scores: Collection[int], *, nested: bool = False
) -> gs.Variable:
    """Write whether one of these scores is on, as a scalar bool: the largest is compared as in the gate.

    Args:
        writer: for the graph that computes the scores.
        stem: start of the new names.
        comparison: of the gate.
        scores: their positions.
        nested: whether a score is on only together with all before it, so that the first of them is the largest.
    """
    source = comparison.scores
    if nested:
        place = np.array([0, min(scores), *([0] * (len(source.shape) - 2))])
        most = writer.element(f"{stem}_first", source, place)
    else:
        most = largest(writer, f"{stem}_most", writer.pick(source, sorted(scores)))
    return above(writer, stem, most, comparison.limit, comparison.op)


def all_on(gate: Gate, kernels: Iterable[int], tested: Iterable[int]) -> bool:
    """Return whether these kernels are all on whenever one of the tested ones is.

    Args:
        gate: of these kernels.
        kernels: the ones in question.
        tested: kernels of which one is on; empty: nothing is known.
    """
    units = gate.unit_of
    unsure = {units[kernel] for kernel in kernels} - set(gate.always)
    known = {units[kernel] for kernel in tested}
    if not unsure or not known:
        return not unsure
    if gate.granularity == "nested":  # a unit is on only together with all before it
        return max(unsure) <= min(known)
    return unsure == known and len(known) == 1
