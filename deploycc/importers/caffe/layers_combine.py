"""Layers that join several blobs: Eltwise, Axpy, Concat."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from deploycc.importers.caffe.layer import MANY, Emitted, Layer, emits


@emits("Eltwise", param="eltwise_param", fields="operation coeff", ignored="stable_prod_grad", bottoms=(1, MANY))
def eltwise(layer: Layer) -> Emitted:
    """Product, maximum, or sum with one coefficient per input."""
    operation = layer.param.choice("operation", {"PROD": 0, "SUM": 1, "MAX": 2}, "SUM")
    shape = layer.shape()
    for index in range(1, len(layer.inputs)):
        if layer.shape(index) != shape:
            raise layer.error(
                "caffe-shape-mismatch",
                f"inputs of Eltwise must have the same shape, but have {list(shape)} and {list(layer.shape(index))}",
            )
    coefficients = layer.param.numbers("coeff")
    if coefficients and (operation != "SUM" or len(coefficients) != len(layer.inputs)):
        raise layer.error(
            "caffe-wrong-value",
            f"{len(coefficients)} coeff for {len(layer.inputs)} inputs of {operation}",
            note="SUM takes one coefficient per input, the others none",
        )
    terms = list(layer.inputs)
    for index, factor in enumerate(coefficients):
        if factor != 1.0:
            constant = layer.scalar(f"coeff{index}", factor)
            terms[index] = layer.node("Mul", [terms[index], constant], shape, part=f"scale{index}")
    op = {"PROD": "Mul", "SUM": "Add", "MAX": "Max"}[operation]
    result = terms[0]
    for index, term in enumerate(terms[1:], start=1):
        result = layer.node(op, [result, term], shape, part=f"{op.lower()}{index}")
    return [result]


@emits("Axpy", bottoms=(3, 3))
def axpy(layer: Layer) -> Emitted:
    """Compute a x + y with one a per channel (squeeze-and-excitation networks)."""
    shape = layer.image_shape(1)
    if layer.shape(2) != shape or layer.shape(0) not in (shape[:2], (*shape[:2], 1, 1)):
        shapes = ", ".join(str(list(layer.shape(index))) for index in range(3))
        raise layer.error("caffe-shape-mismatch", f"inputs a, x, y of Axpy do not match: {shapes}")
    a = layer.reshaped(layer.inputs[0], (*shape[:2], 1, 1))
    return [layer.node("Add", [layer.node("Mul", [a, layer.inputs[1]], shape), layer.inputs[2]], shape)]


@emits("Concat", param="concat_param", fields="axis concat_dim", bottoms=(1, MANY))
def concat(layer: Layer) -> Emitted:
    """Join along an axis; constants, such as priors, are joined at once."""
    shapes = [layer.shape(index) for index in range(len(layer.inputs))]
    first = shapes[0]
    # `concat_dim` is the name that `axis` had before 2014.
    axis = layer.axis(layer.param.integer("axis", layer.param.integer("concat_dim", 1)), len(first))
    for shape in shapes[1:]:
        if len(shape) != len(first) or shape[:axis] + shape[axis + 1 :] != first[:axis] + first[axis + 1 :]:
            raise layer.error(
                "caffe-shape-mismatch",
                f"inputs of Concat differ in more than axis {axis}: {list(first)} and {list(shape)}",
            )
    if len(layer.inputs) == 1:
        return layer.inputs
    if all(isinstance(tensor, gs.Constant) for tensor in layer.inputs):
        return [layer.constant("values", np.concatenate([tensor.values for tensor in layer.inputs], axis))]
    out = (*first[:axis], sum(shape[axis] for shape in shapes), *first[axis + 1 :])
    return [layer.node("Concat", layer.inputs, out, {"axis": axis})]
