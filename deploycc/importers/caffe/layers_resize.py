"""Interp and Upsample: change the size of feature maps."""

from __future__ import annotations

import onnx_graphsurgeon as gs

from deploycc.importers.caffe.layer import Emitted, Layer, emits
from deploycc.importers.caffe.layers_convolution import positive


@emits(
    "Interp",
    param="interp_param",
    fields="height width shrink_factor zoom_factor pad_beg pad_end",
    bottoms=(1, 2),
)
def interp(layer: Layer) -> Emitted:
    """Bilinear interpolation with aligned corners (DeepLab's InterpLayer).

    ``shrink_factor`` s gives (n - 1) / s + 1 pixels, ``zoom_factor`` z gives n + (n - 1)(z - 1); both may be given.
    Negative pads crop the input first.
    """
    batch, channels, *size = layer.image_shape()
    begin, end = layer.param.integer("pad_beg"), layer.param.integer("pad_end")
    if begin > 0 or end > 0:
        raise layer.unsupported("positive pads", "Caffe's InterpLayer accepts only negative pads, which crop")
    x = layer.inputs[0]
    if begin or end:
        stops = [s + end for s in size]
        operands = [layer.integers(n, v) for n, v in (("starts", [-begin] * 2), ("ends", stops), ("axes", [2, 3]))]
        size = [s + begin + end for s in size]
        if min(size) < 1:
            raise layer.error("caffe-empty-output", f"pads {begin} and {end} leave {size} pixels")
        x = layer.node("Slice", [x, *operands], (batch, channels, *size), part="crop")
    out = _interpolated_size(layer, size)
    if out == size:
        return [x]
    attrs = {"mode": "linear", "coordinate_transformation_mode": "align_corners"}
    return [_resize(layer, x, (batch, channels, *out), attrs)]


def _interpolated_size(layer: Layer, size: list[int]) -> list[int]:
    names = ("height", "width", "shrink_factor", "zoom_factor")
    given = [name for name in names if name in layer.param]
    if len(layer.inputs) == 2:
        if given:
            raise layer.error("caffe-wrong-value", f"a second input and {given[0]} both state the size")
        return list(layer.image_shape(1)[2:])
    if "height" in given or "width" in given:
        if len(given) != 2 or "zoom_factor" in given or "shrink_factor" in given:
            raise layer.error("caffe-wrong-value", f"{' and '.join(given)} do not state one size")
        return [positive(layer, "height"), positive(layer, "width")]
    if not given:
        raise layer.error("caffe-wrong-value", "no height and width, shrink_factor or zoom_factor is given")
    shrink, zoom = positive(layer, "shrink_factor", 1), positive(layer, "zoom_factor", 1)
    size = [(s - 1) // shrink + 1 for s in size]
    return [s + (s - 1) * (zoom - 1) for s in size]


@emits("Upsample", param="upsample_param", fields="scale", bottoms=(1, 2))
def upsample(layer: Layer) -> Emitted:
    """Repeat every pixel ``scale`` times in both directions."""
    if len(layer.inputs) == 2:
        raise layer.unsupported("a mask as second input", "TensorRT has no layer for un-pooling by stored positions")
    batch, channels, height, width = layer.image_shape()
    factor = positive(layer, "scale", 2)
    if factor == 1:
        return layer.inputs
    attrs = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    return [_resize(layer, layer.inputs[0], (batch, channels, factor * height, factor * width), attrs)]


def _resize(layer: Layer, x: gs.Tensor, shape: tuple[int, ...], attrs: dict[str, str]) -> gs.Variable:
    empty = gs.Variable.empty()
    return layer.node("Resize", [x, empty, empty, layer.integers("sizes", shape)], shape, attrs)
