"""What a gate has decided, as branches ask for it: is any of these kernels on, their mask, are all of them on."""

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
    """A gate's decisions in the graph that computes its layer.

    Attributes:
        vector: zeros and ones, [1, kernels, 1, 1] float32.
        comparison: what makes it, where known. Conditions and masks then come straight from the scores: fewer nodes,
            and those of a mask stand in the branch that needs it.
    """

    vector: gs.Tensor
    comparison: Comparison | None

    def any_on(self, writer: Writer, stem: str, kernels: Sequence[int]) -> gs.Variable:
        """Whether one of these kernels is on, as a scalar bool."""
        known = self.comparison
        if known is None:
            most = largest(writer, f"{stem}_most", writer.pick(self.vector, kernels))
            return above(writer, stem, most, np.float32(0.5))
        return any_score_on(writer, stem, known, {known.score_of[kernel] for kernel in kernels})

    def mask(self, writer: Writer, stem: str, kernels: Sequence[int]) -> gs.Tensor:
        """Zeros and ones of these kernels, [1, number of them, 1, 1] float32."""
        if self.comparison is None:
            return writer.pick(self.vector, kernels)
        return score_mask(writer, stem, self.comparison, kernels)


def score_mask(writer: Writer, stem: str, comparison: Comparison, kernels: Sequence[int]) -> gs.Variable:
    """Zeros and ones of these kernels from their scores, [1, number of them, 1, 1] float32."""
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
    """Whether one of these scores is on, as a scalar bool: the largest is compared, as the gate does.

    Args:
        writer: of the graph that computes the scores.
        stem: for names.
        comparison: of the gate.
        scores: their positions.
        nested: a score is on only with all those before it, so that the first is the largest.
    """
    source = comparison.scores
    if nested:
        place = np.array([0, min(scores), *([0] * (len(source.shape) - 2))])
        most = writer.element(f"{stem}_first", source, place)
    else:
        most = largest(writer, f"{stem}_most", writer.pick(source, sorted(scores)))
    return above(writer, stem, most, comparison.limit, comparison.op)


def all_on(gate: Gate, kernels: Iterable[int], tested: Iterable[int]) -> bool:
    """Whether these kernels are on wherever one of the tested ones is.

    Args:
        gate: theirs.
        kernels: in question.
        tested: one of them is on; none: nothing is known.
    """
    units = gate.unit_of
    unsure = {units[kernel] for kernel in kernels} - set(gate.always)
    known = {units[kernel] for kernel in tested}
    if not unsure or not known:
        return not unsure
    if gate.granularity == "nested":  # a decision is on only with all before it
        return max(unsure) <= min(known)
    return unsure == known and len(known) == 1
