"""The ONNX nodes that Caffe's layers can compute, whoever reads the file: stock SSD-Caffe, OpenCV or TensorRT.

The Caffe writer refuses by these rules, and so does the check of a target that reads Caffe, which adds what TensorRT's
own parser lacks (`deploycc.parsers.caffe_rules`). Source unless a rule names another: caffe.proto and the layers of
BVLC/caffe and weiliu89/caffe (branch ssd).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from deploycc.parsers.limits import Limit, computed, constant, operand, rank, shape_of

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
    "Exp": "Exp",
    "Flatten": "Reshape",
    "Gemm": "InnerProduct",
    "GlobalAveragePool": "Pooling",
    "GlobalMaxPool": "Pooling",
    "HardSigmoid": "ReLU and Power",
    "Identity": "Dropout",
    "LRN": "LRN",
    "LeakyRelu": "ReLU",
    "Log": "Log",
    "Max": "Eltwise",
    "MaxPool": "Pooling",
    "Mul": "Eltwise, Power or Scale",
    "Neg": "Power",
    "PRelu": "PReLU",
    "Pad": "Pooling",
    "Pow": "Power",
    "Reciprocal": "Power",
    "ReduceL2": "Power and Convolution",
    "ReduceSum": "Convolution",
    "ReduceSumSquare": "Power and Convolution",
    "Relu": "ReLU",
    "Reshape": "Reshape",
    "Sigmoid": "Sigmoid",
    "Slice": "Convolution or Slice",
    "Softmax": "Softmax",
    "Split": "Convolution or Slice",
    "Sqrt": "Power",
    "Squeeze": "Reshape",
    "Sub": "Power, Scale and Eltwise",
    "Tanh": "TanH",
    "Transpose": "Permute",
    "Unsqueeze": "Reshape",
}
_STATE_SHAPES = {
    *("Add", "Sub", "Mul", "Div", "Max", "PRelu", "ReduceL2", "ReduceSum", "ReduceSumSquare", "MaxPool", "AveragePool"),
    *("Concat", "Split", "Slice", "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Softmax"),
}
Rule = Callable[[gs.Node], Iterator[Limit]]


def limits(node: gs.Node) -> Iterator[Limit]:
    """Yield what prevents a node from being written as Caffe layers."""
    if node.op not in LAYERS:
        yield Limit(f"Caffe has no layer for the operator {node.op}")
        return
    unknown = [tensor.name for tensor in (*node.inputs, *node.outputs) if _unknown(tensor)]
    if unknown and node.op in _STATE_SHAPES:
        yield Limit(f"the shape of {unknown[0]} is not known; Caffe's blobs have fixed shapes")
        return
    for function in _RULES.get(node.op, ()):
        yield from function(node)


def constants_of(node: gs.Node) -> list[int]:
    """Return the positions of the constant inputs."""
    return [index for index in range(len(node.inputs)) if constant(node, index) is not None]


def scale_axes(values: NDArray[np.generic], dims: tuple[int, ...]) -> tuple[int, int] | None:
    """Return the first axis and the number of axes that Caffe's Scale needs for a constant beside a blob.

    Args:
        values: the constant, of any shape that broadcasts to ``dims``.
        dims: shape of the blob.

    Returns:
        None where the constant does not vary along neighbouring axes only: Scale (scale_layer.cpp) takes one span.
    """
    if values.ndim > len(dims):
        return None
    aligned = (1,) * (len(dims) - values.ndim) + values.shape
    axes = [axis for axis, size in enumerate(aligned) if size != 1]
    if not axes or aligned[axes[0] : axes[-1] + 1] != dims[axes[0] : axes[-1] + 1]:
        return None
    return axes[0], axes[-1] + 1 - axes[0]


def scaled_by_blob(node: gs.Node) -> int | None:
    """Return which input multiplies each channel of the other, [N, C, 1, 1]: a Scale with two bottoms; else None."""
    if node.op != "Mul" or len(node.inputs) != 2 or constants_of(node):
        return None
    full = shape_of(node.outputs[0])
    shapes = [shape_of(tensor) for tensor in node.inputs]
    if full is None or len(full) != 4 or full[2:] == (1, 1):
        return None
    return next((i for i in (0, 1) if shapes[i] == (*full[:2], 1, 1) and shapes[1 - i] == full), None)


def flattened_map(node: gs.Node) -> gs.Tensor:
    """Return what an InnerProduct reads: its data, or the map that was flattened for it, which Caffe does itself."""
    tensor = node.inputs[0]
    dims = shape_of(tensor)
    maker = tensor.inputs[0] if tensor.inputs else None
    if maker is None or maker.op not in ("Flatten", "Reshape", "Squeeze") or dims is None or len(dims) != 2:
        return tensor
    source = shape_of(maker.inputs[0])
    return maker.inputs[0] if source is not None and len(source) == 4 and source[0] == dims[0] else tensor


def pooled_size(size: int, kernel: int, stride: int, pad: int) -> int:
    """Return the output size by Caffe's rule (pooling_layer.cpp): round up, but no window starts in the far padding."""
    pooled = math.ceil((size + 2 * pad - kernel) / stride) + 1
    if pad and (pooled - 1) * stride >= size + pad:
        pooled -= 1
    return pooled


def padded_mean(node: gs.Node) -> tuple[gs.Tensor, list[int]] | None:
    """Return the map and its padding (height, width) where an average counts zeros that a Pad put around the map.

    That is how ONNX writes an average whose last windows reach beyond the padding: Caffe's Pooling divides by what is
    left of such a window, zeros of the padding included (PoolingLayer::Forward_cpu).
    """
    maker = node.inputs[0].inputs[0] if node.op == "AveragePool" and node.inputs[0].inputs else None
    pads = constant(maker, 1) if maker is not None and maker.op == "Pad" else None
    if maker is None or pads is None or len(pads) != 8 or node.attrs.get("count_include_pad", 0):
        return None
    value = constant(maker, 2)
    zeros = not computed(maker, 2) and (value is None or not value.any()) and not computed(maker, 3)
    around = [int(pad) for pad in pads]
    even = around[:2] == [0, 0] and min(around) >= 0 and around[:4] == around[4:]
    if maker.attrs.get("mode", "constant") != "constant" or not zeros or not even:
        return None
    return (maker.inputs[0], around[2:4]) if list(node.attrs.get("pads", [0, 0]))[:2] == [0, 0] else None


def _unknown(tensor: gs.Tensor) -> bool:
    return isinstance(tensor, gs.Variable) and not tensor.is_empty() and shape_of(tensor) is None


def _weights(node: gs.Node) -> Iterator[Limit]:
    if computed(node, 1) or computed(node, 2):
        yield Limit("its weights are computed; Caffe stores them in the layer")


def _plane(node: gs.Node) -> Iterator[Limit]:
    dims = rank(node)
    if dims is not None and dims != 4:
        yield Limit(f"its input has {dims} axes; the layer needs NCHW")
    if node.attrs.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        yield Limit("its padding is automatic (auto_pad); the layer needs numbers")


def _even_padding(node: gs.Node) -> Iterator[Limit]:
    pads = list(node.attrs.get("pads", ()))
    half = len(pads) // 2  # none is stated where the layer does not pad
    steps = list(node.attrs.get("dilations", [1] * half))[:half] if node.op == "Conv" else [0] * half
    for before, after, step in zip(pads[:half], pads[half:], steps, strict=True):
        if before != after and (step == 0 or (after - before) % step):  # the exporter compensates with zero taps
            yield Limit(f"its padding {pads} differs between the sides; the layer pads both alike")
            return


def _deconvolution(node: gs.Node) -> Iterator[Limit]:
    if any(node.attrs.get("output_padding", ())) or "output_shape" in node.attrs:
        yield Limit("Caffe has no parameter for output padding")


def _pooling(node: gs.Node) -> Iterator[Limit]:
    """Caffe states the padding before the map; the number of windows, rounded up, implies that after it.

    A maximum ignores padding, so only the number of windows counts, whatever the node states after the map.
    """
    if any(d != 1 for d in node.attrs.get("dilations", ())):
        yield Limit("Caffe has no parameter for dilated pooling")
    if len(node.outputs) > 1 and not node.outputs[1].is_empty():
        yield Limit("Caffe has no layer for its Indices output")
    pads = node.attrs.get("pads", [0, 0, 0, 0])
    source = operand(node, 0)
    if (padded := padded_mean(node)) is not None:
        source, pads = padded[0], padded[1] * 2
    elif node.op == "AveragePool" and any(pads) and not node.attrs.get("count_include_pad", 0):
        yield Limit("its average excludes padding; Caffe's counts it")
    size, expected = shape_of(source), shape_of(node.outputs[0])
    if size is None or expected is None or len(size) != 4 or len(pads) != 4:
        return
    strides = node.attrs.get("strides", [1, 1])
    caffe = tuple(map(pooled_size, size[2:], node.attrs["kernel_shape"], strides, pads[:2]))
    more = [after > before for before, after in zip(pads[:2], pads[2:], strict=True)]
    if caffe != expected[2:]:
        uneven = f" with the padding {list(pads)}" if tuple(pads[:2]) != tuple(pads[2:]) else ""
        yield Limit(
            f"its output is {list(expected[2:])}{uneven}; Caffe's rounding gives {list(caffe)}",
            None,
            "pooling_layer.cpp",
        )
    elif node.op == "AveragePool" and any(more):
        yield Limit(f"its average counts more padding after the map than before it ({list(pads)}); Caffe's does not")


def _pad(node: gs.Node) -> Iterator[Limit]:
    readers = node.outputs[0].outputs
    if not readers or any(padded_mean(reader) is None for reader in readers):
        yield Limit("Caffe has no layer for the operator Pad")


def _inner_product(node: gs.Node) -> Iterator[Limit]:
    if node.attrs.get("transA", 0):
        yield Limit("it transposes its data; InnerProduct cannot")


def _slope(node: gs.Node) -> Iterator[Limit]:
    slope, dims = constant(node, 1), shape_of(operand(node, 0))
    if slope is None:
        yield Limit("its slope is computed; Caffe stores it in the layer")
    elif slope.size != 1 and dims is not None and (len(dims) < 2 or scale_axes(slope, dims) != (1, 1)):
        yield Limit(f"its slope has shape {list(slope.shape)}; Caffe takes one per channel")


def _bounds(node: gs.Node) -> Iterator[Limit]:
    if constant(node, 1) is None or constant(node, 2) is None:
        yield Limit("it has no constant min and max; Caffe writes both as parameters")


def _normalisation(node: gs.Node) -> Iterator[Limit]:
    if any(computed(node, index) for index in (1, 2, 3, 4)):
        yield Limit("its statistics are computed; Caffe stores them in the layer")


def _exponent(node: gs.Node) -> Iterator[Limit]:
    exponent = constant(node, 1)
    if exponent is None or exponent.size != 1:
        yield Limit("Power takes one constant exponent")


def _operands(node: gs.Node) -> Iterator[Limit]:
    constants = constants_of(node)
    full = shape_of(node.outputs[0])
    if full is None:
        return
    if not constants:
        yield from _blobs(node, full)
        return
    if len(node.inputs) != 2 or len(constants) == 2:
        yield Limit(f"{len(constants)} of its {len(node.inputs)} operands are constants; Eltwise takes blobs")
        return
    place = constants[0]
    values, dims = constant(node, place), shape_of(node.inputs[1 - place])
    assert values is not None
    if node.op == "Max":
        yield Limit("Caffe has no layer for a maximum with a constant")
    elif node.op == "Div" and place == 0:
        yield Limit("its first operand is the constant; Caffe has no layer that divides a constant")
    elif dims != full:
        yield Limit(f"its constant of shape {list(values.shape)} widens a blob of shape {list(dims or ())}")
    elif values.size != 1 and scale_axes(values, full) is None:
        yield Limit(
            f"a constant of shape {list(values.shape)} is neither one number nor one per channel or position of"
            f" {list(full)}",
            None,
            "scale_layer.cpp",
        )


def _blobs(node: gs.Node, full: tuple[int, ...]) -> Iterator[Limit]:
    if scaled_by_blob(node) is not None:
        return
    for dims in map(shape_of, node.inputs):
        if dims is not None and dims != full and not (len(full) == 4 and dims == (full[0], 1, *full[2:])):
            yield Limit(f"Eltwise does not broadcast {list(dims)} to {list(full)}", None, "eltwise_layer.cpp")


def _channel_sum(node: gs.Node) -> Iterator[Limit]:
    values = constant(node, 1)
    axes = node.attrs.get("axes") if values is None else values.tolist()
    if axes not in ([1], [-3]) or rank(node) not in (None, 4) or not node.attrs.get("keepdims", 1):
        yield Limit(f"it sums over the axes {axes}; only the channel axis of a map, kept with size 1, can be written")


def _slice(node: gs.Node) -> Iterator[Limit]:
    starts, ends = constant(node, 1), constant(node, 2)
    axes = constant(node, 3) if operand(node, 3) is not None else starts
    steps = constant(node, 4)
    if starts is None or ends is None or axes is None or computed(node, 4):
        yield Limit("its range is computed; Caffe states it in the layer")
    elif len(axes) != 1:
        yield Limit(f"it slices {len(axes)} axes; Caffe's Slice cuts one")
    elif steps is not None and any(step != 1 for step in steps):
        yield Limit(f"it slices with a step of {steps.tolist()}; only a range can be cut")


def _batch(node: gs.Node) -> Iterator[Limit]:
    source, result = shape_of(operand(node, 0)), shape_of(node.outputs[0])
    if source and result and source[0] != result[0]:
        yield Limit(f"it changes the batch axis ({list(source)} to {list(result)})")


_RULES: dict[str, tuple[Rule, ...]] = {
    "Add": (_operands,),
    "AveragePool": (_plane, _pooling),
    "BatchNormalization": (_normalisation,),
    "Clip": (_bounds,),
    "Conv": (_weights, _plane, _even_padding),
    "ConvTranspose": (_weights, _plane, _even_padding, _deconvolution),
    "Div": (_operands,),
    "Flatten": (_batch,),
    "Gemm": (_weights, _inner_product),
    "Max": (_operands,),
    "MaxPool": (_plane, _pooling),
    "Mul": (_operands,),
    "PRelu": (_slope,),
    "Pad": (_pad,),
    "Pow": (_exponent,),
    "ReduceL2": (_channel_sum,),
    "ReduceSum": (_channel_sum,),
    "ReduceSumSquare": (_channel_sum,),
    "Reshape": (_batch,),
    "Slice": (_slice,),
    "Squeeze": (_batch,),
    "Sub": (_operands,),
    "Unsqueeze": (_batch,),
}
