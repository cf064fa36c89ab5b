"""Normalisation and per-channel scale and shift: BatchNorm, Scale, Bias, Normalize, MVN."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_graphsurgeon as gs

from deploycc.errors import Note
from deploycc.importers.caffe.layer import Emitted, Layer, Shape, emits, float32
from deploycc.importers.caffe.weights import Array, Blob


@emits(
    "BatchNorm",
    param="batch_norm_param",
    fields="eps use_global_stats scale_bias scale_filler bias_filler",
    ignored="moving_average_fraction",
)
def batch_norm(layer: Layer) -> Emitted:
    """(x - mean) / sqrt(variance + eps); both are stored multiplied by a factor, the third blob.

    NVIDIA's fork adds scale and shift as blobs four and five, where ``scale_bias`` is true or a filler is given, and
    its epsilon is at least 1e-5 (batch_norm_layer.cpp of NVIDIA/caffe).
    """
    shape = layer.shape()
    if len(shape) < 2:
        raise layer.error("caffe-wrong-rank", f"BatchNorm needs channels in axis 1, but has {list(shape)}")
    channels, eps = shape[1], layer.param.number("eps", 1e-5)
    size = layer.input_scale
    wanted = [Blob("mean", (channels,), input_scale=size), Blob("variance", (channels,), input_scale=size)]
    wanted.append(Blob("factor", (1,)))
    fillers = [layer.param.message(name) for name in ("scale_filler", "bias_filler") if name in layer.param]
    affine = layer.param.flag("scale_bias") or bool(fillers)
    if affine:
        eps = max(eps, 1e-5)
        wanted += [Blob("scale", (channels,)), Blob("shift", (channels,))]
    mean, variance, factor, *rest = layer.blobs(*wanted)
    scale, shift = rest if affine else (np.ones(channels, np.float32), np.zeros(channels, np.float32))
    constants = [layer.constant("scale", scale), layer.constant("shift", shift)]
    if not layer.param.flag("use_global_stats", True):
        layer.network.notes.append(
            Note(
                layer.definition.name,
                "caffe-picture-statistics",
                "use_global_stats is false: each picture is normalised with its own mean and variance, as Caffe does",
            )
        )
        return [layer.node("InstanceNormalization", [layer.inputs[0], *constants], shape, {"epsilon": eps})]
    weight = 1.0 / float(factor[0]) if float(factor[0]) else 0.0
    with np.errstate(over="ignore", invalid="ignore"):  # `Layer.constant` refuses the result
        mean, variance = (np.asarray(values * float32(weight), np.float32) for values in (mean, variance))
    return [_normalised(layer, constants, mean, variance, eps)]


def _normalised(layer: Layer, affine: list[gs.Constant], mean: Array, variance: Array, eps: float) -> gs.Variable:
    if (variance < 0).any():
        raise layer.error("caffe-negative-variance", f"layer {layer.definition.name} stores a negative variance")
    if not (variance + eps > 0).all():
        raise layer.error("caffe-wrong-value", f"eps is {eps:g}, which leaves a variance that is not positive")
    constants = [*affine, layer.constant("mean", mean), layer.constant("variance", variance)]
    return layer.node("BatchNormalization", [layer.inputs[0], *constants], layer.shape(), {"epsilon": eps})


@emits(
    "BN",
    param="bn_param",
    fields="eps var_eps bn_mode moving_average axis",
    ignored="momentum decay frozen slope_filler scale_filler shift_filler bias_filler",
)
def bn(layer: Layer) -> Emitted:
    """Normalise and scale in one layer: scale, shift, mean and variance are its four blobs (PSPNet).

    SegNet's form has two blobs, scale and shift, into which the statistics of its INFERENCE mode are merged
    (bn_layer.cpp of alexgkendall/caffe-segnet and hszhao/PSPNet).
    """
    shape, size = layer.shape(), layer.input_scale
    if len(shape) < 2 or layer.param.integer("axis", 1) != 1:
        raise layer.error("caffe-wrong-rank", f"BN needs channels in axis 1, but has {list(shape)}")
    if "eps" in layer.param and "var_eps" in layer.param:
        raise layer.error("caffe-wrong-value", "eps and var_eps are both given")
    eps = layer.param.number("eps", layer.param.number("var_eps", 1e-5))
    mode = layer.param.choice("bn_mode", {"LEARN": 0, "INFERENCE": 1}, "INFERENCE")
    merged = (layer.stored() or (2 if "bn_mode" in layer.param else 4)) == 2
    if not layer.param.flag("moving_average", True) or (merged and mode == "LEARN"):
        what = "moving_average false" if not merged else "bn_mode LEARN"
        raise layer.unsupported(what, "it normalises with the statistics of a batch, not with stored ones")
    blob = (1, shape[1], 1, 1)
    wanted = [Blob("scale", blob), Blob("shift", blob)]
    if not merged:
        wanted += [Blob("mean", blob, input_scale=size), Blob("variance", blob, input_scale=size)]
    scale, shift, *statistics = (array.reshape(-1) for array in layer.blobs(*wanted))
    if merged:
        aligned = (1, -1, *[1] * (len(shape) - 2))
        x = layer.node("Mul", [layer.inputs[0], layer.constant("scale", scale.reshape(aligned))], shape)
        return [layer.node("Add", [x, layer.constant("shift", shift.reshape(aligned))], shape)]
    affine = [layer.constant("scale", scale), layer.constant("shift", shift)]
    mean, variance = statistics
    return [_normalised(layer, affine, mean, variance, eps)]


@emits("Scale", param="scale_param", fields="axis num_axes bias_term", ignored="filler bias_filler", bottoms=(1, 2))
def scale(layer: Layer) -> Emitted:
    """Multiply by a learned array, or by a second input, then an optional shift."""
    learned = _covered(layer)
    with_bias = layer.param.flag("bias_term")
    wanted = [] if len(layer.inputs) == 2 else [Blob("scale", learned)]
    if with_bias:
        wanted.append(Blob("shift", learned))
    arrays = layer.blobs(*wanted) if wanted else []
    if len(layer.inputs) == 2:
        factor = layer.reshaped(layer.inputs[1], _aligned(layer, learned), "align")
    else:
        factor = _constant(layer, "scale", arrays[0])
    x = layer.node("Mul", [layer.inputs[0], factor], layer.shape())
    return [layer.node("Add", [x, _constant(layer, "shift", arrays[-1])], layer.shape()) if with_bias else x]


@emits("Bias", param="bias_param", fields="axis num_axes", ignored="filler", bottoms=(1, 2))
def bias(layer: Layer) -> Emitted:
    """Add a learned array, or a second input."""
    learned = _covered(layer)
    if len(layer.inputs) == 2:
        term = layer.reshaped(layer.inputs[1], _aligned(layer, learned), "align")
    else:
        term = _constant(layer, "shift", layer.blobs(Blob("shift", learned))[0])
    return [layer.node("Add", [layer.inputs[0], term], layer.shape())]


def _covered(layer: Layer) -> Shape:
    """Return the shape of the scale or shift: ``num_axes`` dimensions of the input from ``axis`` on."""
    shape = layer.shape()
    axis = layer.axis(layer.param.integer("axis", 1), len(shape))
    count = layer.param.integer("num_axes", 1)
    if len(layer.inputs) == 2:
        second = layer.shape(1)
        start = 0 if not second else axis
        if second != shape[start : start + len(second)]:
            raise layer.error(
                "caffe-shape-mismatch",
                f"the second input {list(second)} does not match the first {list(shape)} from axis {axis} on",
            )
        return second
    if count < -1 or axis + count > len(shape):
        raise layer.error("caffe-wrong-axis", f"num_axes {count} from axis {axis} on exceeds {len(shape)} dimensions")
    return shape[axis:] if count == -1 else shape[axis : axis + count]


def _aligned(layer: Layer, covered: Sequence[int]) -> Shape:
    """Return the covered shape padded with ones, so that ONNX broadcasts it to the input."""
    rank = len(layer.shape())
    if not covered:
        return (1,) * rank
    axis = layer.axis(layer.param.integer("axis", 1), rank)
    return (*[1] * axis, *covered, *[1] * (rank - axis - len(covered)))


def _constant(layer: Layer, role: str, array: Array) -> gs.Constant:
    return layer.constant(role, array.reshape(_aligned(layer, array.shape)))


@emits(
    "Normalize",
    param="norm_param normalize_bbox_param",
    fields="eps across_spatial channel_shared scale_filler",
)
def normalize(layer: Layer) -> Emitted:
    """Divide by a norm and scale: s x / sqrt(sum x^2 + eps), over each pixel's channels or over the whole picture.

    Liu et al., "ParseNet", 2015, section 3.3; SSD uses it on conv4_3.
    """
    batch, channels, *_ = shape = layer.image_shape()
    eps = layer.param.number("eps", 1e-10)
    across_spatial = layer.param.flag("across_spatial", True)
    filler = layer.param.message("scale_filler")
    start = filler.number("value") if filler.text("type", "constant") == "constant" else 1.0
    count = 1 if layer.param.flag("channel_shared", True) else channels
    (factor,) = layer.blobs(Blob("norm", (count,), value=start or 1.0))
    axes = [1, 2, 3] if across_spatial else [1]
    reduced = (batch, 1, 1, 1) if across_spatial else (batch, 1, *shape[2:])
    x = layer.inputs[0]
    total = layer.node("ReduceSumSquare", [x], reduced, {"axes": axes, "keepdims": 1}, part="sum")
    guarded = layer.node("Add", [total, layer.scalar("eps", eps)], reduced, part="guard")
    norm = layer.node("Sqrt", [guarded], reduced, part="norm")
    unit = layer.node("Div", [x, norm], shape, part="divide")
    return [layer.node("Mul", [unit, layer.constant("scale", factor.reshape(1, -1, 1, 1))], shape, part="scale")]


@emits("MVN", param="mvn_param", fields="eps across_channels normalize_variance")
def mean_variance(layer: Layer) -> Emitted:
    """(x - mean) / (sqrt(variance) + eps), over each channel or over all."""
    shape, x = layer.image_shape(), layer.inputs[0]
    eps = layer.param.number("eps", 1e-9)
    axes = [1, 2, 3] if layer.param.flag("across_channels") else [2, 3]
    reduced = [1 if axis in axes else size for axis, size in enumerate(shape)]
    mean = layer.node("ReduceMean", [x], reduced, {"axes": axes, "keepdims": 1}, part="mean")
    centred = layer.node("Sub", [x, mean], shape, part="centre")
    if not layer.param.flag("normalize_variance", True):
        return [centred]
    square = layer.node("Mul", [centred, centred], shape, part="square")
    variance = layer.node("ReduceMean", [square], reduced, {"axes": axes, "keepdims": 1}, part="variance")
    deviation = layer.node("Sqrt", [variance], reduced, part="deviation")
    guarded = layer.node("Add", [deviation, layer.scalar("eps", eps)], reduced, part="guard")
    return [layer.node("Div", [centred, guarded], shape, part="divide")]
