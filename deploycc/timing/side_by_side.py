"""Small networks timed together: where engines take minutes to build, one holds many, and its profile is shared out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import onnx
from onnx import helper

from deploycc.timing.profile_layers import TimedLayer

_PART = re.compile(r"timed(\d+)_")


def joined(models: Sequence[onnx.ModelProto]) -> onnx.ModelProto:
    """Return one network of several that have nothing to do with one another; each keeps its inputs and outputs.

    Args:
        models: without branches, all of the same opset.
    """
    graph = onnx.GraphProto(name="timed")
    for number, model in enumerate(models):
        prefix = f"timed{number}_"
        part = onnx.GraphProto()
        part.CopyFrom(model.graph)
        for place, node in enumerate(part.node):
            node.name = f"{prefix}{place}"
            node.input[:] = [name and prefix + name for name in node.input]
            node.output[:] = [name and prefix + name for name in node.output]
        for value in (*part.input, *part.output, *part.initializer):
            value.name = prefix + value.name
        graph.node.extend(part.node)
        graph.input.extend(part.input)
        graph.output.extend(part.output)
        graph.initializer.extend(part.initializer)
    return helper.make_model(graph, opset_imports=models[0].opset_import, ir_version=models[0].ir_version)


def times_of_parts(profile: Iterable[TimedLayer], count: int) -> list[float]:
    """Share the layers of a profile out among the networks that were joined.

    Args:
        profile: layers with their times. Where a runtime does not tell which nodes a layer computes, it names the
            layer after them.
        count: number of networks.

    Returns:
        Milliseconds for each, 0 where no layer names it. A layer that names several is shared out equally; one that
        names none, such as those that cut the input into parts, is nobody's.
    """
    times_ms = [0.0] * count
    for layer in profile:
        named = sorted({int(number) for word in layer.nodes or (layer.name,) for number in _PART.findall(word)})
        for number in named:
            times_ms[number] += layer.median_ms / len(named)
    return times_ms
