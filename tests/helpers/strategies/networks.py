"""Small networks: of linear and affine layers, of moves of data, of channels that merge."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs
from affine_networks import Layer, Stack
from channel_networks import ChannelNetwork, Step
from hypothesis import strategies as st

_AFFINE_KINDS = ("bn", "mul", "scale", "add", "shift", "sub", "mirror", "div", "neg")


@st.composite
def stacks(draw: st.DrawFn) -> Stack:
    """Convolutions, plain, grouped, depthwise, padded, transposed, with affine layers before and after them."""
    linear = st.builds(
        Layer,
        kind=st.sampled_from(["Conv", "Conv", "ConvTranspose"]),
        out=st.sampled_from([2, 4]),
        groups=st.sampled_from([1, 2, 4]),
        kernel=st.sampled_from([1, 3]),
        pad=st.integers(0, 1),
        bias=st.booleans(),
        share=st.booleans(),
        tap=st.sampled_from([False, False, False, True]),
    )
    affine = st.builds(Layer, kind=st.sampled_from(_AFFINE_KINDS), tap=st.sampled_from([False] * 7 + [True]))
    layers = draw(st.lists(st.one_of(linear, affine, affine, st.just(Layer("relu"))), min_size=1, max_size=7))
    words = ["alpha", "beta", "transB", "before", "after"]
    matrix = " ".join(["gemm", *draw(st.lists(st.sampled_from(words), unique=True))]) if draw(st.booleans()) else ""
    return Stack(tuple(layers), matrix, draw(st.integers(0, 2**16)))


@st.composite
def reshaping_networks(draw: st.DrawFn) -> gs.Graph:
    """Chains of operators that move, retype or repeat nothing, with branches off and shapes computed in the graph."""
    x = gs.Variable("x", np.float32, [1, 2, 3, 4])
    graph = gs.Graph(inputs=[x], name="moves", opset=13, ir_version=8)

    def node(
        op: str, inputs: list[gs.Tensor], shape: list[int], dtype: type = np.float32, **attrs: object
    ) -> gs.Variable:
        name = f"n{len(graph.nodes)}"
        result = gs.Variable(f"{name}_out", dtype, shape)
        graph.nodes.append(gs.Node(op, name, dict(attrs), inputs, [result]))
        return result

    def numbers(*values: int) -> gs.Constant:
        return gs.Constant(f"k{len(graph.nodes)}", np.array(values, np.int64))

    tensor, outputs = x, []
    steps = [
        "Identity",
        "Transpose",
        "Reshape",
        "Flatten",
        "Unsqueeze",
        "Squeeze",
        "Cast",
        "Dropout",
        "Concat",
        "Pad",
        "Relu",
    ]
    for step in draw(st.lists(st.sampled_from([*steps, "Computed"]), min_size=1, max_size=7)):
        shape = list(tensor.shape)
        rank = len(shape)
        if step == "Transpose":
            perm = draw(st.permutations(range(rank)))
            tensor = node(step, [tensor], [shape[axis] for axis in perm], perm=list(perm))
        elif step == "Reshape":
            to = draw(st.sampled_from([[24], [1, 24], [2, 3, 4], [1, 2, 3, 4], [4, 6], shape]))
            tensor = node(step, [tensor, numbers(*to)], to)
        elif step == "Computed":
            parts = node(
                "Concat", [node("Shape", [tensor], [rank], np.int64), numbers(1)], [rank + 1], np.int64, axis=0
            )
            tensor = node("Reshape", [tensor, parts], [*shape, 1])
        elif step == "Flatten":
            axis = draw(st.integers(0, rank))
            tensor = node(step, [tensor], [int(np.prod(shape[:axis])), int(np.prod(shape[axis:]))], axis=axis)
        elif step == "Unsqueeze":
            axis = draw(st.integers(0, rank))
            tensor = node(step, [tensor, numbers(axis)], [*shape[:axis], 1, *shape[axis:]])
        elif step == "Squeeze" and 1 in shape:
            axis = shape.index(1)
            tensor = node(step, [tensor, numbers(axis)], shape[:axis] + shape[axis + 1 :])
        elif step == "Cast":
            wide = node(step, [tensor], shape, draw(st.sampled_from([np.float64, np.float16])), to=0)
            graph.nodes[-1].attrs["to"] = 11 if wide.dtype == np.float64 else 10
            tensor = node(step, [wide], shape, to=1)
        elif step == "Concat":
            tensor = node(step, [tensor], shape, axis=0)
        elif step == "Pad":
            tensor = node(step, [tensor, numbers(*[0] * (2 * rank))], shape)
        elif step in ("Identity", "Dropout", "Relu"):
            tensor = node(step, [tensor], shape)
        if draw(st.integers(0, 5)) == 0 and tensor is not x:
            outputs.append(tensor)
    if tensor is x:
        tensor = node("Identity", [x], list(x.shape))
    graph.outputs = [tensor, *{tap.name: tap for tap in outputs if tap is not tensor}.values()]
    return graph


_CHANNEL_LAYERS = ("conv", "conv_relu", "conv_relu", "depthwise", "grouped", "transposed")
_CHANNEL_MERGES = ("residual", "meet", "concat", "crelu", "split", "cut", "pick", "shuffle", "gate", "gate")
_CHANNEL_ALONE = ("bn", "prelu", "activation", "affine", "pool_window", "resize", "border", "norm", "channels_last")
_CHANNEL_RARE = ("lrn", "unknown")
_CHANNEL_CONSTANTS = (
    "conv",
    "conv_relu",
    "depthwise",
    "grouped",
    "bn",
    "affine",
    "activation",
    "pool_window",
    "border",
    "residual",
)


def channel_networks(*kinds: str) -> st.SearchStrategy[ChannelNetwork]:
    """Networks of up to eight blocks, half of which merge, part or gate channels; or small ones of some kinds only."""
    every = _CHANNEL_LAYERS * 2 + _CHANNEL_MERGES * 3 + _CHANNEL_ALONE * 2 + _CHANNEL_RARE
    heads = ["gemm", "turned", "ssd", "gemm", "turned", "ssd", "sum", "raw"]
    return _channel_networks(kinds or every, heads, 3 if kinds else 8)


def constant_networks(*kinds: str) -> st.SearchStrategy[ChannelNetwork]:
    """Networks in which what a dead kernel leaves meets shifts, borders and readers that can take a constant."""
    return _channel_networks(kinds or _CHANNEL_CONSTANTS, ["gemm", "turned"], 3 if kinds else 6)


@st.composite
def _channel_networks(draw: st.DrawFn, kinds: tuple[str, ...], heads: list[str], max_steps: int) -> ChannelNetwork:
    step = st.builds(
        Step, st.sampled_from(kinds), st.sampled_from([0, 0, 0, 1, 2]), st.tuples(*[st.integers(0, 11)] * 4)
    )
    return ChannelNetwork(
        tuple(draw(st.lists(step, min_size=1, max_size=max_steps))),
        tuple(draw(st.lists(st.sampled_from(heads), min_size=1, max_size=2))),
        draw(st.integers(0, 2**16)),
    )
