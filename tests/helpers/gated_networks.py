"""Small networks with kernel gates as ONNX text, in many spellings of the gate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from graph_text import network
from numpy.typing import NDArray

from deploycc.detector import Detector

KERNELS = 8

POOLS = {
    "global": "p = GlobalAveragePool(a)",
    "max": "p = GlobalMaxPool(a)",
    "mean": "p = ReduceMean<axes=[2,3], keepdims=1>(a)",
    "window": "p = AveragePool<kernel_shape=[6,6]>(a)",
    "mean-flat": "q = ReduceMean<axes=[2,3], keepdims=0>(a)\n p = Unsqueeze(q, i_23)",
}
"""Each makes p, [1, 4, 1, 1]."""

LAYERS = {
    "conv": "z = Conv(p, w_gate, b_gate)",
    "two": "h0 = Conv(p, w_hidden, b_hidden)\n h = Relu(h0)\n z = Conv(h, w_out, b_gate)",
    "gemm": "pf = Flatten(p)\n zf = Gemm<transB=1>(pf, m_gate, b_gate)\n z = Reshape(zf, i_units)",
    "matmul": "pf = Reshape(p, i_row)\n zm = MatMul(pf, n_gate)\n zf = Add(zm, b_gate)\n z = Reshape(zf, i_units)",
}
"""Each makes z, [1, units, 1, 1], from p."""

DECISIONS = {
    "greater": ("s = Sigmoid(z)\n o = Greater(s, f_half)\n g = Cast<to=1>(o)", 0.5),
    "or-equal": ("s = Sigmoid(z)\n o = GreaterOrEqual(s, f_half)\n g = Cast<to=1>(o)", 0.5),
    "logit": ("o = Greater(z, f_zero)\n g = Cast<to=1>(o)", 0.0),
    "less-not": ("s = Sigmoid(z)\n n = Less(s, f_half)\n o = Not(n)\n g = Cast<to=1>(o)", 0.5),
    "less-swapped": ("s = Sigmoid(z)\n o = Less(f_half, s)\n g = Cast<to=1>(o)", 0.5),
    "one-minus": ("s = Sigmoid(z)\n n = LessOrEqual(s, f_half)\n e = Cast<to=1>(n)\n g = Sub(f_one, e)", 0.5),
    "where": ("s = HardSigmoid(z)\n o = Greater(s, f_half)\n g = Where(o, f_one, f_zero)", 0.5),
    "round": ("s = Sigmoid(z)\n g = Round(s)", 0.5),
    "round-clip": ("t = Mul(z, f_fifth)\n u = Add(t, f_half)\n s = Clip(u, f_zero, f_one)\n g = Round(s)", 0.0),
    "floor": ("s = Sigmoid(z)\n t = Add(s, f_half)\n f = Floor(t)\n g = Min(f, f_one)", 0.5),
    "relu-sign": ("s = Sigmoid(z)\n d = Sub(s, f_half)\n r = Relu(d)\n g = Sign(r)", 0.5),
    "sign-relu": ("s = Sigmoid(z)\n d = Sub(s, f_half)\n r = Sign(d)\n g = Relu(r)", 0.5),
    "sign-clip": ("s = Sigmoid(z)\n d = Sub(s, f_half)\n r = Sign(d)\n g = Clip(r, f_zero, f_one)", 0.5),
    "integer": ("s = Sigmoid(z)\n o = Greater(s, f_half)\n n = Cast<to=6>(o)\n g = Cast<to=1>(n)", 0.5),
}
"""Each makes g, zeros and ones in the shape of z; the threshold on the tensor that is compared."""

GROUPS = {
    "gather": "m = Gather<axis=1>(g, i_unit_of)",
    "expand": "e1 = Reshape(g, i_apart)\n e2 = Expand(e1, i_wide)\n m = Reshape(e2, i_kernels)",
    "tile": "e1 = Reshape(g, i_apart)\n e2 = Tile(e1, i_times)\n m = Reshape(e2, i_kernels)",
}
"""Each makes m, [1, kernels, 1, 1], from g with half as many units."""

LAYOUTS = {
    "before-bias": "c = Conv<pads=[1,1,1,1]>(a, w)\n x1 = {product}\n x2 = Add(x1, b4)\n y = Relu(x2)",
    "after-bias": "c = Conv<pads=[1,1,1,1]>(a, w, b)\n x1 = {product}\n y = Relu(x1)",
    "bias-added": "c0 = Conv<pads=[1,1,1,1]>(a, w)\n c = Add(c0, b4)\n x1 = {product}\n y = Relu(x1)",
    "before-batchnorm": "c = Conv<pads=[1,1,1,1]>(a, w)\n x1 = {product}\n x2 = BatchNormalization(x1, k, b, k2, v)\n y = Relu(x2)",
    "after-batchnorm": "c0 = Conv<pads=[1,1,1,1]>(a, w)\n c = BatchNormalization(c0, k, b, k2, v)\n x1 = {product}\n y = Relu(x1)",
    "after-activation": "c0 = Conv<pads=[1,1,1,1]>(a, w, b)\n c = Relu(c0)\n y = {product}",
    "pooled": "c0 = Conv<pads=[1,1,1,1]>(a, w, b)\n c1 = Relu(c0)\n c = MaxPool<kernel_shape=[2,2], strides=[2,2]>(c1)\n y = {product}",
}
"""Each makes y; {product} multiplies c and m."""

PLACES = {**{name: name for name in LAYOUTS}, "bias-added": "after-bias", "pooled": "after-activation"}

PRODUCTS = {"right": "Mul(c, m)", "left": "Mul(m, c)", "where": "Where(o_m, c, f_zero)"}


@dataclass(frozen=True)
class Spelling:
    """How a gate is written; keys of the tables above, and None for a gate of one unit a kernel."""

    pool: str = "global"
    layer: str = "two"
    decision: str = "greater"
    group: str | None = None
    layout: str = "after-bias"
    product: str = "right"

    @property
    def units(self) -> int:
        return KERNELS if self.group is None else KERNELS // 2

    @property
    def unit_of(self) -> tuple[int, ...]:
        return tuple(range(KERNELS)) if self.group is None else tuple(k // 2 for k in range(KERNELS))


def gated(spelling: Spelling, values: Mapping[str, NDArray[Any]] | None = None, seed: int = 0) -> Detector:
    """A first convolution, the gated one named ``gated``, and a last one that reads it."""
    units = spelling.units
    body = [
        "a = Conv<pads=[1,1,1,1]>(x, w_first)",
        POOLS[spelling.pool],
        LAYERS[spelling.layer],
        DECISIONS[spelling.decision][0],
        GROUPS[spelling.group] if spelling.group else "m = Identity(g)",
    ]
    if spelling.product == "where":
        body.append("o_m = Cast<to=9>(m)")
    body.append(LAYOUTS[spelling.layout].format(product=PRODUCTS[spelling.product]))
    body.append("out = Conv(y, w_last)")
    return text_network(body, units, values, seed)


def text_network(
    body: list[str], units: int = KERNELS, values: Mapping[str, NDArray[Any]] | None = None, seed: int = 0
) -> Detector:
    """Lines of ONNX text with the constants that they name; the convolution with ``w`` that makes ``c`` is ``gated``."""
    k = KERNELS
    shapes = {
        "w_first": (4, 3, 3, 3), "w_hidden": (3, 4, 1, 1), "b_hidden": (3,), "w_gate": (units, 4, 1, 1),
        "w_out": (units, 3, 1, 1), "b_gate": (units,), "m_gate": (units, 4), "n_gate": (4, units), "w": (k, 4, 3, 3),
        "b": (k,), "b4": (1, k, 1, 1), "k": (k,), "k2": (k,), "v": (k,), "w_last": (2, k, 1, 1),
    }  # fmt: skip
    fixed: dict[str, NDArray[Any]] = {
        "f_half": np.float32([0.5]), "f_zero": np.float32([0]), "f_one": np.float32([1]), "f_fifth": np.float32([0.2]),
        "f_two": np.float32([2]), "i_23": np.array([2, 3]), "i_units": np.array([1, units, 1, 1]),
        "i_row": np.array([1, 4]), "i_unit_of": np.arange(k) // 2, "i_apart": np.array([1, units, 1]),
        "i_wide": np.array([1, units, 2]), "i_times": np.array([1, 1, 2]), "i_kernels": np.array([1, k, 1, 1]),
        "v": np.random.default_rng(seed).uniform(0.5, 2, k).astype(np.float32),
    }  # fmt: skip
    text = "\n ".join(body)
    words = set(text.replace("(", " ").replace(")", " ").replace(",", " ").split())
    declared = []
    for name in sorted(words & {*shapes, *fixed}):
        value = fixed.get(name)
        shape = shapes[name] if value is None else value.shape
        kind = "int64" if name.startswith("i_") else "float"
        declared.append(f"{kind}[{','.join(map(str, shape))}] {name}")
    given = {name: value for name, value in {**fixed, **(values or {})}.items() if name in words}
    inputs = ", ".join(["float[1,3,6,6] x", *declared])
    model = (
        f'<ir_version: 8, opset_import: ["" : 13]>\ngated ({inputs}) => (float[1,2,height,width] out) {{\n {text}\n}}'
    )
    detector = network(model, given, seed=seed)
    for number, node in enumerate(detector.graph.nodes):
        gated_one = node.op == "Conv" and node.inputs[1].name == "w" and node.outputs[0].name in ("c", "c0")
        node.name = "gated" if gated_one else f"{node.op}_{number}"
    return detector
