"""What a reader makes of constants that removed channels held: a part of its bias, or weights of a carrier.

A removed channel that holds c adds the convolution of c with its weights to its reader. Without padding that is the
same number everywhere, and the bias takes it. Where the reader pads with zeros it is another one at the border. But the
reader is linear: a channel that stays and holds a constant k adds the same, border included, once its weights are
``W_k + W_R c / k``. One such channel, the *carrier*, is enough for all removed channels of a reader.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from deploycc.graph.channels.constant_rules import pads
from deploycc.graph.channels.groups import Read, node_key
from deploycc.graph.edit import constant_values, set_constant

Values = NDArray[np.float64]
_INPUTS_AXIS = {"Conv": 1, "ConvTranspose": 0, "MatMul": 0}  # of the weights of readers that can use a carrier


def why_not_foldable(node: gs.Node) -> str:
    """Return why a reader cannot fold a non-zero constant into its bias; empty if it can."""
    if node.op == "Gemm" or (node.op == "Conv" and not pads(node)):
        return ""
    if node.op == "Conv":
        return "it pads with zeros, so the constant would be wrong at the border"
    return f"{node.op} cannot fold a non-zero constant into its bias"


def can_carry(node: gs.Node) -> bool:
    """Return whether weights of one input can make up for another input: each kernel must read both."""
    return node.op in _INPUTS_AXIS and int(node.attrs.get("group", 1)) == 1


def carrier_column(node: gs.Node, read: Read, held: Values, carriers: Collection[int]) -> int | None:
    """Return the index of a reader's carrier, through which it gets what removed channels would add; None without.

    Args:
        node: the reader.
        read: the operand through which it reads.
        held: [channels of the operand] the constants; NaN where a channel varies.
        carriers: groups; of several the one with the largest constant is used.
    """
    if not can_carry(node):
        return None
    size = np.where(np.isin(read.groups, list(carriers)) & np.isfinite(held), np.abs(held), 0.0)
    largest = int(size.argmax())
    return largest if size[largest] > 0 else None


def carry(
    graph: gs.Graph, node: gs.Node, read: Read, gone: NDArray[np.bool_], held: Values, carriers: Collection[int]
) -> None:
    """Add what removed channels would have added to the weights of a reader's carrier, if it has one.

    Args:
        graph: changed in place.
        node: the reader, with its weights still whole.
        read: the operand through which it reads.
        gone: [groups.count] whether a group is removed.
        held: [channels of the operand].
        carriers: groups that stay.
    """
    lost = np.nan_to_num(np.where(gone[read.groups], held, 0.0))
    column = carrier_column(node, read, held, carriers)
    if column is None or not lost.any():
        return
    old: Any = constant_values(node.inputs[1])
    weights = old.astype(np.float64)
    by_input = np.moveaxis(weights, _INPUTS_AXIS[node.op], 0)
    by_input[column] += np.tensordot(lost / held[column], by_input, 1)
    set_constant(graph, node, 1, weights.astype(old.dtype), f"{node.name or node_key(node)}_weight")


def reader_shift(node: gs.Node, read: Read, gone: NDArray[np.bool_], held: Values) -> Values | None:
    """Return what removed channels would have added to each output channel of a Conv or Gemm; None if nothing.

    Args:
        node: the reader, with its weights still whole.
        read: the operand through which it reads.
        gone: [groups.count] whether a group is removed.
        held: [channels of the operand] the constants.
    """
    held = np.nan_to_num(np.where(gone[read.groups], held, 0.0))
    columns = np.flatnonzero(held)
    if not len(columns) or node.op not in ("Conv", "Gemm"):
        return None
    weight: Any = constant_values(node.inputs[1])
    if node.op == "Gemm":
        rows = weight[:, columns].T if node.attrs.get("transB", 0) else weight[columns]
        return np.asarray(node.attrs.get("alpha", 1.0) * (held[columns] @ rows.astype(np.float64)))
    groups, inputs_per_group = int(node.attrs.get("group", 1)), weight.shape[1]
    shift = np.zeros(weight.shape[0])
    kernels_per_group = weight.shape[0] // groups
    for column in columns.tolist():
        group, position = divmod(column, inputs_per_group)
        kernels = slice(group * kernels_per_group, (group + 1) * kernels_per_group)
        taps = weight[kernels, position].reshape(kernels_per_group, -1).astype(np.float64).sum(axis=1)
        shift[kernels] += taps * held[column]
    return shift
