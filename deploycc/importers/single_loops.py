"""Loops that run exactly once, as TensorFlow's `map_fn` over a batch of one picture leaves them, become plain nodes."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from deploycc.errors import Note
from deploycc.graph.edit import fresh_name, type_float_constants


def inline_single_loops(graph: gs.Graph) -> list[Note]:
    """Replace each Loop whose trip count is 1 and whose condition holds by its body, in place.

    Before: ``y = Loop(1, True, body: (i, c) -> (c', s))``
    After:  the body's nodes with ``i`` = 0, and ``y = Unsqueeze(s, 0)``

    Returns:
        A note, if there are such loops.
    """
    if not any(node.op == "Loop" and _value(node.inputs[0]) == 1 for node in graph.nodes):
        return []
    type_float_constants(graph)
    graph.fold_constants().cleanup().toposort()  # the condition is computed from constants
    names = []
    for node in [node for node in graph.nodes if node.op == "Loop"]:
        if _value(node.inputs[0]) == 1 and (node.inputs[1].is_empty() or bool(_value(node.inputs[1]))):
            names.append(node.name)
            _inline(graph, node)
    if not names:
        return []
    graph.cleanup().toposort()
    return [Note(names[0], "onnx-loop-inlined", f"{_amount(len(names))} exactly once: written out")]


def _amount(count: int) -> str:
    return "a loop runs" if count == 1 else f"{count} loops run"


def _value(tensor: gs.Tensor) -> int | None:
    if not isinstance(tensor, gs.Constant) or tensor.values.size != 1:
        return None
    return int(np.asarray(tensor.values).reshape(()))


def _inline(graph: gs.Graph, loop: gs.Node) -> None:
    body: gs.Graph = loop.attrs["body"]
    carried = len(body.inputs) - 2
    first = gs.Constant(fresh_name(graph, f"{loop.name}_iteration"), np.array(0, np.int64))
    goes_on = gs.Constant(fresh_name(graph, f"{loop.name}_condition"), np.array(True))
    given = dict(zip(map(id, body.inputs), [first, goes_on, *loop.inputs[2 : 2 + carried]], strict=True))
    taken = {*graph.tensors(), *(node.name for node in graph.nodes)}
    own = {id(tensor): tensor for node in body.nodes for tensor in node.outputs if not tensor.is_empty()}
    own |= {id(tensor): tensor for tensor in body.tensors().values() if isinstance(tensor, gs.Constant)}
    for tensor in own.values():
        if tensor.name in taken:
            tensor.name = f"{loop.name}/{tensor.name}"
    results, outputs = list(body.outputs[1:]), list(loop.outputs)
    loop.inputs.clear()
    loop.outputs.clear()
    graph.nodes.remove(loop)
    for node in body.nodes:
        if node.name in taken:
            node.name = f"{loop.name}/{node.name}"
        for index, tensor in enumerate(node.inputs):
            if id(tensor) in given:
                node.inputs[index] = given[id(tensor)]
        graph.nodes.append(node)
    axes = gs.Constant(fresh_name(graph, f"{loop.name}_axes"), np.array([0], np.int64))
    for number, (result, output) in enumerate(zip(results, outputs, strict=True)):
        source = given.get(id(result), result)
        if number < carried:
            graph.nodes.append(gs.Node("Identity", f"{loop.name}/out{number}", {}, [source], [output]))
        else:
            graph.nodes.append(gs.Node("Unsqueeze", f"{loop.name}/out{number}", {}, [source, axes], [output]))
