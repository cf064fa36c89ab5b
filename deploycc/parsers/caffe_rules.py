"""The ONNX nodes that can be written as layers of TensorRT's Caffe parser (DRIVE PX 2: TensorRT 4).

TensorRT 4's own parser is closed source. The layers are those in the table of the published parser
(parsers/caffe/caffeParser/opParsers of NVIDIA/TensorRT, 2019 to release 8.2), so a board may support fewer; PReLU was
added to the table later and counts as 8.2. The parameters that the parser reads come from the same files, whose names
the limits state. Layers that need a plugin factory (PriorBox, DetectionOutput, Normalize) are not used.

What no Caffe can compute is refused first, by the rules of the Caffe writer (`deploycc.parsers.caffe_layers`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import onnx_graphsurgeon as gs

from deploycc.parsers import caffe_layers
from deploycc.parsers.caffe_layers import constants_of, flattened_map, padded_mean, scale_axes, scaled_by_blob
from deploycc.parsers.limits import Limit, constant, operand, rank, shape_of

NOT_IN_TABLE = {"Exp": "Exp", "Log": "Log"}
"""Layers of stock Caffe that TensorRT's parser does not have."""
LATER = {"PRelu": ("PReLU", "8.2")}
"""Layers that were added to the table after TensorRT 4."""

_TABLE = "opParsers.h"
_MAP_AXES = 3  # besides the batch
_SAME_AXES = {
    *("Relu", "Sigmoid", "Tanh", "Elu", "LeakyRelu", "PRelu", "Abs", "Clip", "HardSigmoid", "Neg", "Sqrt"),
    *("Reciprocal", "Pow", "Add", "Sub", "Mul", "Div", "Max", "Identity", "Dropout", "BatchNormalization", "Softmax"),
}

Rule = Callable[[gs.Node], Iterator[Limit]]


def limits(node: gs.Node) -> Iterator[Limit]:
    """Yield what prevents a node from being written as layers of TensorRT's Caffe parser."""
    if node.op not in caffe_layers.LAYERS:
        yield Limit(f"no layer of TensorRT's Caffe parser computes {node.op}", None, _TABLE)
        return
    impossible = list(caffe_layers.limits(node))
    yield from impossible
    if node.op in NOT_IN_TABLE:
        yield Limit(f"TensorRT's Caffe parser has no layer {NOT_IN_TABLE[node.op]}", None, _TABLE)
    elif node.op in LATER:
        layer, first = LATER[node.op]
        yield Limit(f"the layer {layer} is not in the oldest published Caffe parser of TensorRT", first, _TABLE)
    for function in () if impossible else _RULES.get(node.op, ()):
        yield from function(node)


def unproven(nodes: Sequence[gs.Node]) -> str | None:
    """Return what no source confirms of layers that the published parser reads but a parser of 2017 did not."""
    permuted = [node.name for node in nodes if node.op == "Transpose"]
    if not permuted:
        return None
    return (
        f"{len(permuted)} Permute layers, {permuted[0]} first: the parser published in 2019 reads them"
        " (parsePermute.cpp), TensorRT 3 needed a plugin for them (createSSDPermutePlugin), and no source says which of"
        " the two TensorRT 4 does"
    )


def axes_on_board(tensor: gs.Tensor) -> int | None:
    """Return the axes besides the batch that a tensor has in TensorRT, where InnerProduct gives [K, 1, 1]."""
    while isinstance(tensor, gs.Variable) and tensor.inputs:
        maker = tensor.inputs[0]
        if maker.op == "Gemm":
            return _MAP_AXES
        if maker.op not in _SAME_AXES:
            break
        blobs = [each for each in maker.inputs if isinstance(each, gs.Variable) and not each.is_empty()]
        if not blobs:
            break
        tensor = max(blobs, key=lambda each: len(each.shape or ()))
    return None if tensor.shape is None else len(tensor.shape) - 1


def _scaled_map(node: gs.Node) -> Iterator[Limit]:
    """Power and Scale become IScaleLayer, which needs three axes besides the batch."""
    constants = constants_of(node)
    if node.op in ("Add", "Mul") and not constants:
        return
    source = operand(node, 1 if constants == [0] else 0)
    axes = None if source is None else axes_on_board(source)
    if axes is not None and axes < _MAP_AXES:
        yield Limit(
            f"its input has {axes} {'axis' if axes == 1 else 'axes'} besides the batch; the scale layer that computes"
            " it needs three",
            None,
            "NvInfer.h, IScaleLayer",
        )


def _two_bottoms(node: gs.Node) -> Iterator[Limit]:
    if len(node.inputs) != 2:
        yield Limit(f"it has {len(node.inputs)} inputs; Eltwise takes exactly two", None, "parseEltwise.cpp")
    if scaled_by_blob(node) is not None:
        yield Limit(
            "it multiplies each channel by a computed number (squeeze and excitation): Caffe writes that as Scale with"
            " two bottoms, and TensorRT's parser reads Scale with one",
            None,
            "parseScale.cpp",
        )


def _per_channel(node: gs.Node) -> Iterator[Limit]:
    constants, full = constants_of(node), shape_of(node.outputs[0])
    values = constant(node, constants[0]) if constants else None
    if values is None or values.size == 1 or full is None:
        return
    if scale_axes(values, full) != (1, 1):
        yield Limit(
            f"its constant of shape {list(values.shape)} has more than one value per channel; TensorRT's parser reads"
            " Scale with one per channel",
            None,
            "parseScale.cpp",
        )


def _channels_of_map(node: gs.Node) -> Iterator[Limit]:
    axes = axes_on_board(node.inputs[0])
    if axes is not None and axes != _MAP_AXES:
        yield Limit(f"its input has {axes + 1} axes; TensorRT's parser scales a map's channels", None, "parseScale.cpp")


def _mean_beyond_padding(node: gs.Node) -> Iterator[Limit]:
    if padded_mean(node) is not None:
        yield Limit(
            "its last windows reach beyond the padding: Caffe divides by what is left of them, and no source says what"
            " TensorRT's parser does",
            None,
            "parsePooling.cpp",
        )


def _inner_product(node: gs.Node) -> Iterator[Limit]:
    axes = axes_on_board(flattened_map(node))
    if axes is not None and axes < _MAP_AXES:
        yield Limit(
            f"its input has {axes} {'axis' if axes == 1 else 'axes'} besides the batch; TensorRT's InnerProduct needs a"
            " map",
            None,
            "NvInfer.h, IFullyConnectedLayer",
        )


def _dilation(node: gs.Node) -> Iterator[Limit]:
    if any(d != 1 for d in node.attrs.get("dilations", ())):
        yield Limit("it is a dilated deconvolution", None, "parseDeconv.cpp")


def _range(node: gs.Node) -> Iterator[Limit]:
    axes = [node.attrs.get("axis", 0)] if node.op == "Split" else constant(node, 3)
    if rank(node) != 4 or axes is None or len(axes) != 1 or int(axes[0]) % 4 == 0:
        yield Limit("the parser has no layer Slice; a convolution can cut only one axis of a map", None, _TABLE)


def _concat(node: gs.Node) -> Iterator[Limit]:
    if _positive(node, node.attrs.get("axis", 1)) == 0:
        yield Limit("it concatenates along the batch", None, "parseConcat.cpp")


def _softmax(node: gs.Node) -> Iterator[Limit]:
    axis = _positive(node, node.attrs.get("axis", -1))
    if axis is not None and axis not in (1, 2, 3):
        yield Limit(f"its axis is {axis}; the parser supports 1 to 3", None, "parseSoftMax.cpp")


def _permute(node: gs.Node) -> Iterator[Limit]:
    dims = rank(node)
    order = node.attrs.get("perm") or (None if dims is None else list(range(dims))[::-1])
    if order is not None and order[0] != 0:
        yield Limit("it moves the batch axis", None, "parsePermute.cpp")


def _positive(node: gs.Node, axis: int) -> int | None:
    dims = rank(node)
    if axis >= 0:
        return int(axis)
    return None if dims is None else axis + dims


_RULES: dict[str, tuple[Rule, ...]] = {
    "Add": (_two_bottoms, _per_channel, _scaled_map),
    "AveragePool": (_mean_beyond_padding,),
    "BatchNormalization": (_channels_of_map,),
    "Clip": (_scaled_map,),
    "Concat": (_concat,),
    "ConvTranspose": (_dilation,),
    "Div": (_two_bottoms, _per_channel, _scaled_map),
    "Gemm": (_inner_product,),
    "HardSigmoid": (_scaled_map,),
    "Max": (_two_bottoms,),
    "Mul": (_two_bottoms, _per_channel, _scaled_map),
    "Neg": (_scaled_map,),
    "Pow": (_scaled_map,),
    "Reciprocal": (_scaled_map,),
    "Slice": (_range,),
    "Softmax": (_softmax,),
    "Split": (_range,),
    "Sqrt": (_scaled_map,),
    "Sub": (_two_bottoms, _per_channel, _scaled_map),
    "Transpose": (_permute,),
}
