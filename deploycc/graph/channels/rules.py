"""Channel rules of all operators: one decorated function each, or one word in a table for element-wise operators.

A rule reads the channels of the node's operands from its `Site` and writes those of its results. It also declares which
axes of which constants hold the same channels; removal cuts exactly those. Removal needs to know nothing else about an
operator, except numbers that state a shape, which `deploycc.graph.channels.reshaping` rewrites.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_graphsurgeon as gs

from deploycc.graph.channels.movement_rules import MOVEMENT_RULES
from deploycc.graph.channels.site import Rule, Site
from deploycc.graph.edit import constant_values

RULES: dict[str, Rule] = dict(MOVEMENT_RULES)

# Element by element, with broadcasting. A scalar operand (Clip's limits, Dropout's ratio) has no channels.
ELEMENT_WISE = """
    Abs Add And Cast Ceil Celu Clip Div Dropout Elu Equal Erf Exp Floor Gelu Greater GreaterOrEqual HardSigmoid
    HardSwish Identity LeakyRelu Less LessOrEqual Log Max Mean Min Mish Mod Mul Neg Not Or PRelu Pow Reciprocal Relu
    Round Selu Shrink Sigmoid Sign Softplus Softsign Sqrt Sub Sum Tanh ThresholdedRelu Where Xor
"""

# Channel by channel, NCHW.
WINDOWS = "AveragePool GlobalAveragePool GlobalLpPool GlobalMaxPool LpPool MaxPool"

# A channel of zeros adds nothing along the axis that they reduce.
SUMS = ("ReduceL1", "ReduceL2", "ReduceSum", "ReduceSumSquare")


def rule(operators: str) -> Callable[[Rule], Rule]:
    """Register the rule of one or more operators, separated by spaces."""

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(operators.split(), function))
        return function

    return register


def pin_operand(site: Site, index: int, code: str, reason: str) -> None:
    """Pin the channels of an operand, if it has any."""
    channels = site.channels(index)
    if channels is not None:
        site.pin(channels.values, code, reason)


def _pin_all(site: Site, code: str, reason: str) -> None:
    for index in range(len(site.node.inputs)):
        pin_operand(site, index, code, reason)


# ---- layers ---------------------------------------------------------------------------------------------------------


def _images(site: Site) -> np.ndarray | None:
    """Return the channels along axis 1 of operand 0; pin channels along another axis, which the window slides along."""
    channels = site.channels(0)
    if channels is not None and channels.axis != 1:
        site.pin(channels.values, "channel-spatial", f"{site.node.op} slides its window along their axis")
        return None
    return None if channels is None else channels.values


def _has(node: gs.Node, index: int) -> bool:
    return len(node.inputs) > index and not node.inputs[index].is_empty()


def _constants(site: Site, *indices: int) -> bool:
    """Return whether these operands are constants or missing; if not, pin everything that the node reads."""
    if all(isinstance(site.node.inputs[i], gs.Constant) for i in indices if _has(site.node, i)):
        return True
    _pin_all(site, "channel-weights", f"the weights of {site.node.op} are not constant")
    return False


@rule("Conv")
def convolution(site: Site) -> None:
    """Each kernel makes a new channel.

    Depthwise (one input channel per group): kernels follow their input channel, and the group count shrinks with them.
    Grouped: channel j of every group is united, kernels likewise, so that groups keep equal sizes.
    """
    if not _constants(site, 1, 2):
        return
    outputs, inputs_per_group = site.shape(1)[:2]
    groups = int(site.node.attrs.get("group", 1))
    inputs = _images(site)
    if groups == 1:
        made = site.fresh(outputs)
        if inputs is not None:
            site.operand(1, 1, inputs)
    elif inputs_per_group == 1:
        source = site.fixed(groups, "its input has no channels") if inputs is None else inputs
        made = np.repeat(source, outputs // groups)
    else:
        made = np.tile(site.fresh(outputs // groups), groups)
        if inputs is not None:
            site.operand(1, 1, _first_group(site, inputs, groups))
    if inputs is not None and (inputs_per_group > 1 or groups == 1):
        site.read(0)
    site.operand(1, 0, made)
    if _has(site.node, 2):
        site.operand(2, 0, made)
    site.kernels(made)
    site.write(1, made)


@rule("ConvTranspose")
def transposed_convolution(site: Site) -> None:
    """Like Conv, but the weight is [inputs, outputs per group, ...]."""
    if not _constants(site, 1, 2):
        return
    count, outputs_per_group = site.shape(1)[:2]
    groups = int(site.node.attrs.get("group", 1))
    inputs = _images(site)
    if groups > 1 and groups == count:  # depthwise
        source = site.fixed(groups, "its input has no channels") if inputs is None else inputs
        made = np.repeat(source, outputs_per_group)
        site.operand(1, 0, source)
    else:
        kernels = site.fresh(outputs_per_group)
        made = np.tile(kernels, groups)
        site.operand(1, 1, kernels)
        if inputs is not None:
            if groups > 1:
                _first_group(site, inputs, groups)
            site.operand(1, 0, inputs)
            site.read(0)
    if _has(site.node, 2):
        site.operand(2, 0, made)
    site.kernels(made)
    site.write(1, made)


def _first_group(site: Site, values: np.ndarray, groups: int) -> np.ndarray:
    """Unite channel j of every group of a grouped convolution; return those of the first group."""
    stacked = values.reshape(groups, -1)
    site.unite(stacked[1:], np.broadcast_to(stacked[0], stacked[1:].shape))
    return np.asarray(stacked[0])


@rule("Gemm")
def matrix_product_with_bias(site: Site) -> None:
    """Compute alpha A B + beta C: columns of B are kernels, columns of A are summed over."""
    if not _constants(site, 1, 2):
        return
    rows_last = bool(site.node.attrs.get("transB", 0))
    outputs = site.shape(1)[0 if rows_last else 1]
    channels = site.channels(0)
    if channels is not None and (site.node.attrs.get("transA", 0) or channels.axis != 1):
        site.pin(channels.values, "channel-rows", "they are rows of a matrix product")
    elif channels is not None:
        site.operand(1, 1 if rows_last else 0, channels.values)
        site.read(0)
    made = site.fresh(outputs)
    site.operand(1, 0 if rows_last else 1, made)
    if _has(site.node, 2) and site.shape(2) and site.shape(2)[-1] == outputs:
        site.operand(2, len(site.shape(2)) - 1, made)
    site.kernels(made)
    site.write(1, made)


@rule("MatMul")
def matrix_product(site: Site) -> None:
    """Multiply A with a constant matrix; channels along another axis than the last of A pass through."""
    if not _constants(site, 1):
        return
    channels, rank = site.channels(0), len(site.shape(0))
    if len(site.shape(1)) != 2:
        _pin_all(site, "channel-weights", "the weights of MatMul are not a matrix")
        return
    if channels is not None and channels.axis != rank - 1:
        site.write(channels.axis, channels.values)
        return
    if channels is not None:
        site.operand(1, 0, channels.values)
        site.read(0)
    made = site.fresh(site.shape(1)[1])
    site.operand(1, 1, made)
    site.kernels(made)
    site.write(rank - 1, made)


# ---- same shape -----------------------------------------------------------------------------------------------------


@rule(ELEMENT_WISE)
def element_wise(site: Site) -> None:
    """Broadcast operands to the result; channels that are combined are united."""
    shape = site.output_shape()
    rank = len(shape)
    full: list[tuple[int, np.ndarray]] = []  # axis and channels of operands that are not broadcast along it
    for index, tensor in enumerate(site.node.inputs):
        channels = None if tensor.is_empty() else site.channels(index)
        if channels is not None:
            axis = channels.axis + rank - len(site.shape(index))
            if len(channels.values) == shape[axis]:
                full.append((axis, channels.values))
            else:
                site.pin(
                    channels.values,
                    "channel-broadcast",
                    "it broadcasts one channel over all channels of another operand",
                )
    if not full:
        return
    axis, values = full[0]
    if any(other != axis for other, _ in full):
        _pin_all(site, "channel-axes", "it combines tensors with different channel axes")
        return
    for index, tensor in enumerate(site.node.inputs):
        operand_axis = axis - (rank - len(site.shape(index)))
        if tensor.is_empty() or operand_axis < 0 or site.shape(index)[operand_axis] == 1 != shape[axis]:
            continue
        channels = site.channels(index)
        if channels is not None:
            site.unite(channels.values, values)
        elif isinstance(tensor, gs.Constant):
            site.operand(index, operand_axis, values)
        else:
            site.pin(values, "channel-unknown", f"it combines them with {tensor.name}, whose channels are unknown")
    for index, tensor in enumerate(site.node.outputs):
        if not tensor.is_empty():
            site.write(axis, values, index)


@rule("BatchNormalization InstanceNormalization")
def normalisation(site: Site) -> None:
    """Apply one scale, shift, mean and variance per channel of axis 1."""
    if site.node.attrs.get("training_mode", 0) or not _constants(site, *range(1, len(site.node.inputs))):
        pin_operand(site, 0, "channel-statistics", "its statistics are not constant")
        return
    channels = site.channels(0)
    if channels is None:
        return
    if channels.axis == 1:
        for index in range(1, len(site.node.inputs)):
            site.operand(index, 0, channels.values)
    elif site.node.op == "InstanceNormalization":
        site.pin(channels.values, "channel-statistics", "it averages over them")
        return
    site.write(channels.axis, channels.values)


@rule(WINDOWS)
def window(site: Site) -> None:
    """Pass channels of axis 1 through; pin others, which the window slides along."""
    values = _images(site)
    if values is not None:
        site.write(1, values)


@rule("LpNormalization Softmax LogSoftmax Hardmax")
def normalise_along_axis(site: Site) -> None:
    """Pass channels of another axis through; along the normalised axis only a norm is blind to missing zeros."""
    channels = site.channels(0)
    if channels is None:
        return
    rank = len(site.shape(0))
    norm = site.node.op == "LpNormalization"
    axis = int(site.node.attrs.get("axis", -1 if norm or site.opset >= 13 else 1)) % rank
    flattened = not norm and site.opset < 13  # older softmaxes join all axes from this one on
    if not norm and (channels.axis == axis or (flattened and channels.axis > axis)):
        site.pin(channels.values, "channel-normalised", f"{site.node.op} normalises over them")
        return
    if channels.axis == axis:
        site.read(0)  # the norm sums over them
    site.write(channels.axis, channels.values)


@rule("LRN")
def local_response(site: Site) -> None:
    """Pin channels of axis 1: if one of them went, others would become neighbours."""
    channels = site.channels(0)
    if channels is not None and channels.axis == 1:
        site.pin(channels.values, "channel-neighbours", "LRN sums over neighbouring channels")
    elif channels is not None:
        site.write(channels.axis, channels.values)


@rule("ReduceMax ReduceMean ReduceMin ReduceProd ReduceLogSum ReduceLogSumExp " + " ".join(SUMS))
def reduction(site: Site) -> None:
    """Pass channels of axes that are not reduced; sums end the channels of a reduced axis, other operators pin them."""
    channels = site.channels(0)
    axes = reduced_axes(site.node, len(site.shape(0)))
    if channels is None:
        return
    if axes is None:
        site.pin(channels.values, "channel-axes", "its axes are not constant")
    elif channels.axis not in axes:
        lost = 0 if site.node.attrs.get("keepdims", 1) else sum(axis < channels.axis for axis in axes)
        site.write(channels.axis - lost, channels.values)
    elif site.node.op in SUMS:
        site.read(0)
    else:
        site.pin(channels.values, "channel-reduced", f"{site.node.op} counts a channel of zeros")


def reduced_axes(node: gs.Node, rank: int) -> list[int] | None:
    """Return the axes that a node reduces, none negative; None if they are computed."""
    axes = node.attrs.get("axes")
    if axes is None and _has(node, 1):
        values = constant_values(node.inputs[1])
        if values is None:
            return None
        axes = values.reshape(-1).tolist()
    if not axes:
        return [] if node.attrs.get("noop_with_empty_axes", 0) else list(range(rank))
    return [int(axis) % rank for axis in axes]
