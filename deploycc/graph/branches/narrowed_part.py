"""Parts of a network as separate graphs, without channels that are known to be zero."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from deploycc.errors import Note
from deploycc.graph.channels.constants import channel_constants, removable
from deploycc.graph.channels.labels import channel_groups
from deploycc.graph.channels.removal import remove_channels

Keep = NDArray[np.bool_]


def part_of(
    graph: gs.Graph, nodes: Iterable[gs.Node], inputs: Sequence[gs.Variable], *outputs: gs.Variable
) -> gs.Graph:
    """Copy nodes of a graph into a separate graph; constants share their values with the original.

    Args:
        graph: stays as it is.
        nodes: in graph order; they read only ``inputs``, constants and one another.
        inputs: of the part.
        outputs: of the part.

    Raises:
        ValueError: a node reads something else.
    """
    copies: dict[int, gs.Tensor] = {
        id(source): gs.Variable(source.name, source.dtype, source.shape) for source in inputs
    }
    copied = []
    for node in nodes:
        for tensor in node.inputs:
            if id(tensor) not in copies:
                if not isinstance(tensor, gs.Constant) and not tensor.is_empty():
                    raise ValueError(f"{node.name} reads {tensor.name} from outside the part")
                copies[id(tensor)] = tensor.copy()
        for tensor in node.outputs:
            copies[id(tensor)] = gs.Variable(tensor.name, tensor.dtype, tensor.shape)
        operands, results = ([copies[id(tensor)] for tensor in side] for side in (node.inputs, node.outputs))
        copied.append(gs.Node(node.op, node.name, dict(node.attrs), operands, results, domain=node.domain))
    return gs.Graph(
        copied,
        [copies[id(tensor)] for tensor in inputs],
        [copies[id(tensor)] for tensor in outputs],
        opset=graph.opset,
        import_domains=graph.import_domains,
    )


def narrowed(part: gs.Graph, keep: Mapping[str, Keep]) -> gs.Graph | Note:
    """Copy a part without those channels of its inputs that are zero, and without all that depends on them alone.

    The borders of a part pin no channels: its inputs come from a part that was narrowed in the same way, and channels
    that are missing from an output are zero, which is checked.

    Args:
        part: shapes known.
        keep: for some inputs, [channels] which channels of axis 1 are kept, at least one; the others hold zeros.

    Returns:
        The narrower part, or a note on what prevents it.
    """
    copy = part.copy()
    outputs = copy.outputs
    copy.outputs = []  # an output would pin its channels
    lost = {name: np.flatnonzero(~mask).tolist() for name, mask in keep.items()}
    for tensor in list(copy.inputs):
        if lost.get(tensor.name):
            _add_source_layer(copy, tensor)
    copy.toposort()
    groups = channel_groups(copy)
    cut = groups.of_kernels({_layer(name): indices for name, indices in lost.items() if indices})
    constants = channel_constants(copy, groups, {_layer(name): indices for name, indices in lost.items()})
    able = removable(copy, groups, constants)
    for group in sorted(cut - able.groups):
        reason = groups.pins.get(group) or able.blocked.get(group)
        return reason or Note(groups.kernels(group)[0][0], "channel-in-use", "what reads it does not see a constant")
    for output in outputs:
        labelled = groups.tensors.get(output.name)
        if labelled is None:
            continue
        gone = np.isin(labelled.groups, list(cut))
        if (constants.values[output.name][gone] != 0).any():
            return Note(output.name, "channel-constant", "a channel that is switched off does not stay zero")
    removal = remove_channels(copy, groups, cut, constants)
    if removal.notes:
        return removal.notes[0]
    copy.inputs = [copy.tensors()[tensor.name] for tensor in part.inputs]
    for tensor in copy.inputs:
        tensor.inputs.clear()
    copy.nodes = [node for node in copy.nodes if node.outputs]
    copy.outputs = outputs
    return copy


def _layer(name: str) -> str:
    return f"source of {name}"


def _add_source_layer(graph: gs.Graph, tensor: gs.Variable) -> None:
    """Let a layer make an input, so that the channels of the input are labelled like any others and can be removed."""
    shape = list(tensor.shape)
    source = gs.Variable(f"{tensor.name} before", tensor.dtype, [shape[0], 1, *shape[2:]])
    weight = gs.Constant(f"{tensor.name} weight", np.ones((shape[1], 1, 1, 1), np.float32))
    graph.nodes.append(gs.Node("Conv", _layer(tensor.name), {"kernel_shape": [1, 1]}, [source, weight], [tensor]))
    graph.inputs = [source if other is tensor else other for other in graph.inputs]
