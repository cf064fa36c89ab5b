"""The ONNX nodes that can be written as layers of TensorRT's Caffe parser (DRIVE PX 2: TensorRT 4).

TensorRT 4's own parser is closed source. The layers are those in the table of the published parser
(parsers/caffe/caffeParser/opParsers of NVIDIA/TensorRT, 2019 to release 8.2), so a board may support fewer; PReLU was
added to the table later and counts as 8.2. The parameters that the parser reads come from the same files. Layers that
need a plugin factory (PriorBox, DetectionOutput, Normalize) are not used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import onnx_graphsurgeon as gs

from deploycc.parsers.tensorrt_rules import Limit, computed, constant, operand, rank

# ONNX operator -> the Caffe layers that replace it.
LAYERS = {
    "Abs": "AbsVal",
    "Add": "Eltwise, Power or Scale",
    "AveragePool": "Pooling",
    "BatchNormalization": "Scale",
    "Clip": "ReLU and Power",
    "Concat": "Concat",
    "Conv": "Convolution",
    "ConvTranspose": "Deconvolution",
    "Div": "Power and Eltwise, or Scale",
    "Dropout": "Dropout",
    "Elu": "ELU",
    "Flatten": "Reshape",
    "Gemm": "InnerProduct",
    "GlobalAveragePool": "Pooling",
    "GlobalMaxPool": "Pooling",
    "Identity": "Dropout",
    "LRN": "LRN",
    "LeakyRelu": "ReLU",
    "Max": "Eltwise",
    "MaxPool": "Pooling",
    "Mul": "Eltwise, Power or Scale",
    "Neg": "Power",
    "Pow": "Power",
    "Reciprocal": "Power",
    "ReduceL2": "Power and Convolution",
    "ReduceSum": "Convolution",
    "ReduceSumSquare": "Power and Convolution",
    "Relu": "ReLU",
    "Reshape": "Reshape",
    "Sigmoid": "Sigmoid",
    "Slice": "Convolution",
    "Softmax": "Softmax",
    "Split": "Convolution",
    "Sqrt": "Power",
    "Squeeze": "Reshape",
    "Sub": "Power, Scale and Eltwise",
    "Tanh": "TanH",
    "Transpose": "Permute",
    "Unsqueeze": "Reshape",
}
NOT_IN_TABLE = {"Exp": "Exp", "Log": "Log"}
"""Layers of stock Caffe that TensorRT's parser does not have."""
LATER = {"PRelu": ("PReLU", "8.2")}
"""Layers that were added to the table after TensorRT 4."""

Rule = Callable[[gs.Node], Iterator[Limit]]


def limits(node: gs.Node) -> Iterator[Limit]:
    """Yield what prevents a node from being written as layers of TensorRT's Caffe parser."""
    if node.op in NOT_IN_TABLE:
        yield Limit(f"TensorRT's Caffe parser has no layer {NOT_IN_TABLE[node.op]}")
    elif node.op in LATER:
        layer, first = LATER[node.op]
        yield Limit(f"the layer {layer} is not in the oldest published Caffe parser of TensorRT", first)
    elif node.op not in LAYERS:
        yield Limit(f"no layer of TensorRT's Caffe parser computes {node.op}")
    else:
        for function in _RULES.get(node.op, ()):
            yield from function(node)


def _weights(node: gs.Node) -> Iterator[Limit]:
    if computed(node, 1):
        yield Limit("its weights are computed; Caffe stores them in the layer")


def _plane(node: gs.Node) -> Iterator[Limit]:
    dims = rank(node)
    if dims is not None and dims != 4:
        yield Limit(f"its input has {dims} axes; the layer needs NCHW")
    if node.attrs.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        yield Limit("its padding is automatic (auto_pad); the layer needs numbers")


def _even_padding(node: gs.Node) -> Iterator[Limit]:
    pads = list(node.attrs.get("pads", ()))
    half = len(pads) // 2
    steps = node.attrs.get("dilations", [1] * half) if node.op == "Conv" else [0] * half
    for before, after, step in zip(pads[:half], pads[half:], steps, strict=True):
        if before != after and (step == 0 or (after - before) % step):  # the exporter compensates with zero taps
            yield Limit(f"its padding {pads} differs between the sides; the layer pads both alike")


def _range(node: gs.Node) -> Iterator[Limit]:
    axes = [node.attrs.get("axis", 0)] if node.op == "Split" else constant(node, 3)
    if rank(node) != 4 or axes is None or len(axes) != 1 or int(axes[0]) % 4 == 0:
        yield Limit("the parser has no layer Slice; a convolution can cut only one axis of a map")
    steps = constant(node, 4) if node.op == "Slice" else None
    if steps is not None and any(step != 1 for step in steps):
        yield Limit(f"it slices with a step of {steps.tolist()}; a convolution can cut only a range")


def _deconvolution(node: gs.Node) -> Iterator[Limit]:
    if any(node.attrs.get("output_padding", ())) or "output_shape" in node.attrs:
        yield Limit("Caffe has no parameter for output padding")


def _pooling(node: gs.Node) -> Iterator[Limit]:
    if any(d != 1 for d in node.attrs.get("dilations", ())):
        yield Limit("Caffe has no parameter for dilated pooling")
    if len(node.outputs) > 1 and not node.outputs[1].is_empty():
        yield Limit("Caffe has no layer for its Indices output")
    if node.op == "AveragePool" and any(node.attrs.get("pads", ())) and not node.attrs.get("count_include_pad", 0):
        yield Limit("its average excludes padding; Caffe counts it")


def _inner_product(node: gs.Node) -> Iterator[Limit]:
    if node.attrs.get("transA", 0):
        yield Limit("it transposes its data; InnerProduct cannot")


def _two_bottoms(node: gs.Node) -> Iterator[Limit]:
    if len(node.inputs) != 2:
        yield Limit(f"it has {len(node.inputs)} inputs; Eltwise takes exactly two")


def _normalisation(node: gs.Node) -> Iterator[Limit]:
    if any(computed(node, index) for index in (1, 2, 3, 4)):
        yield Limit("its statistics are computed; Caffe stores them in the layer")


def _exponent(node: gs.Node) -> Iterator[Limit]:
    exponent = constant(node, 1)
    if exponent is None or exponent.size != 1:
        yield Limit("Power takes one constant exponent")


def _channel_sum(node: gs.Node) -> Iterator[Limit]:
    values = constant(node, 1)
    axes = node.attrs.get("axes") if values is None else values.tolist()
    if axes not in ([1], [-3]) or rank(node) not in (None, 4) or not node.attrs.get("keepdims", 1):
        yield Limit(f"it reduces the axes {axes}; only the channel axis of a map, kept with size 1, can be written")


def _concat(node: gs.Node) -> Iterator[Limit]:
    if _positive(node, node.attrs.get("axis", 1)) == 0:
        yield Limit("it concatenates along the batch")


def _softmax(node: gs.Node) -> Iterator[Limit]:
    axis = _positive(node, node.attrs.get("axis", -1))
    if axis is not None and axis not in (1, 2, 3):
        yield Limit(f"its axis is {axis}; the parser supports 1 to 3")


def _permute(node: gs.Node) -> Iterator[Limit]:
    dims = rank(node)
    order = node.attrs.get("perm") or (None if dims is None else list(range(dims))[::-1])
    if order is not None and order[0] != 0:
        yield Limit("it moves the batch axis")


def _batch(node: gs.Node) -> Iterator[Limit]:
    source, result = operand(node, 0), node.outputs[0]
    if source is None or not source.shape or not result.shape:
        return
    if source.shape[0] != result.shape[0]:
        yield Limit(f"it changes the batch axis ({list(source.shape)} to {list(result.shape)})")


def _positive(node: gs.Node, axis: int) -> int | None:
    dims = rank(node)
    if axis >= 0:
        return int(axis)
    return None if dims is None else axis + dims


_RULES: dict[str, tuple[Rule, ...]] = {
    "Add": (_two_bottoms,),
    "AveragePool": (_plane, _even_padding, _pooling),
    "BatchNormalization": (_normalisation,),
    "Concat": (_concat,),
    "Conv": (_weights, _plane, _even_padding),
    "ConvTranspose": (_weights, _plane, _even_padding, _deconvolution),
    "Div": (_two_bottoms,),
    "Flatten": (_batch,),
    "Gemm": (_weights, _inner_product),
    "Max": (_two_bottoms,),
    "MaxPool": (_plane, _even_padding, _pooling),
    "Mul": (_two_bottoms,),
    "Pow": (_exponent,),
    "ReduceL2": (_channel_sum,),
    "ReduceSum": (_channel_sum,),
    "ReduceSumSquare": (_channel_sum,),
    "Reshape": (_batch,),
    "Slice": (_range,),
    "Softmax": (_softmax,),
    "Split": (_range,),
    "Squeeze": (_batch,),
    "Sub": (_two_bottoms,),
    "Transpose": (_permute,),
    "Unsqueeze": (_batch,),
}
