"""Layers and messages of Caffe definitions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st
from numpy.typing import NDArray


@dataclass(frozen=True)
class CaffeLayer:
    """One Caffe layer that reads a blob of ``shape``.

    Attributes:
        type: Caffe's name.
        params: text of its parameters.
        shape: of its input, NCHW.
        blobs: shapes of its parameters.
    """

    type: str
    params: str
    shape: tuple[int, int, int, int]
    blobs: tuple[tuple[int, ...], ...] = ()


@st.composite
def _caffe_window(
    draw: st.DrawFn, *, dilated: bool = False, pad_below_kernel: bool = False, repeated: bool = True
) -> tuple[str, NDArray[np.int64]]:
    """Text of a window, and [kernel, stride, pad, dilation] x [height, width]; in any of Caffe's spellings."""
    spelling = draw(st.sampled_from(["one", "h_w", "two"] if repeated else ["one", "h_w"]))
    count = 1 if spelling == "one" else 2
    kernel = [draw(st.integers(1, 4)) for _ in range(count)]
    stride = [draw(st.integers(1, 3)) for _ in range(count)]
    pad = [draw(st.integers(0, k - 1 if pad_below_kernel else 2)) for k in kernel]
    dilation = [draw(st.integers(1, 2)) if dilated else 1 for _ in range(count)]
    text = []
    for name, values in (("kernel", kernel), ("stride", stride), ("pad", pad)):
        if spelling == "h_w":
            text += [f"{name}_h: {values[0]} {name}_w: {values[1]}"]
        else:
            text += [f"{name + '_size' if name == 'kernel' else name}: {value}" for value in values]
    text += [f"dilation: {value}" for value in dilation] if dilated else []
    return " ".join(text), np.array([np.broadcast_to(v, 2) for v in (kernel, stride, pad, dilation)])


@st.composite
def caffe_convolutions(draw: st.DrawFn) -> CaffeLayer:
    """Convolution in every spelling: rectangular, strided, padded, dilated, grouped, depthwise, with or without bias."""
    text, (kernel, _, pad, dilation) = draw(_caffe_window(dilated=True))
    least = dilation * (kernel - 1) + 1 - 2 * pad
    size = [int(max(1, n)) + draw(st.integers(0, 5)) for n in least]
    group, each, outputs = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 3))
    bias = draw(st.booleans())
    kind = "Convolution"
    if each == outputs == 1 and draw(st.booleans()):
        kind = "ConvolutionDepthwise"  # the fork's files leave the group out or not
    group_text = f"group: {group}" if kind == "Convolution" or draw(st.booleans()) else ""
    return CaffeLayer(
        kind,
        f"convolution_param {{ num_output: {group * outputs} {group_text} bias_term: {str(bias).lower()} {text} }}",
        (1, group * each, *size),
        ((group * outputs, each, *map(int, kernel)), *([(group * outputs,)] if bias else [])),
    )


@st.composite
def caffe_deconvolutions(draw: st.DrawFn) -> CaffeLayer:
    """Deconvolution: strided, padded, grouped; the output is never empty."""
    text, (kernel, stride, pad, _) = draw(_caffe_window(pad_below_kernel=True))
    least = 1 + np.ceil(np.maximum(0, 2 * pad + 1 - kernel) / stride).astype(int)
    size = [int(n) + draw(st.integers(0, 4)) for n in least]
    group, each, outputs = draw(st.integers(1, 3)), draw(st.integers(1, 2)), draw(st.integers(1, 2))
    bias = draw(st.booleans())
    return CaffeLayer(
        "Deconvolution",
        f"convolution_param {{ num_output: {group * outputs} group: {group} bias_term: {str(bias).lower()} {text} }}",
        (1, group * each, *size),
        ((group * each, outputs, *map(int, kernel)), *([(group * outputs,)] if bias else [])),
    )


@st.composite
def caffe_poolings(draw: st.DrawFn) -> tuple[CaffeLayer, dict[str, Any]]:
    """Pooling whose windows all touch the picture, with the numbers behind its text."""
    text, (kernel, stride, pad, _) = draw(_caffe_window(pad_below_kernel=True, repeated=False))
    size = [int(max(1, k - 2 * p)) + draw(st.integers(0, 7)) for k, p in zip(kernel, pad, strict=True)]
    method = draw(st.sampled_from(["MAX", "AVE"]))
    round_up = draw(st.booleans())
    if not pad.any():  # without padding Caffe keeps a last window that lies wholly behind the picture
        last = -(-(np.array(size) - kernel) // stride) * stride
        assume(not round_up or (last < size).all())
    layer = CaffeLayer(
        "Pooling",
        f"pooling_param {{ pool: {method} {text} {'' if round_up else 'round_mode: FLOOR'} }}",
        (1, draw(st.integers(1, 2)), *size),
    )
    return layer, {"method": method, "kernel": kernel, "stride": stride, "pad": pad, "round_up": round_up}


@st.composite
def caffe_activations(draw: st.DrawFn) -> CaffeLayer:
    """Layers that treat every number on its own and that OpenCV knows, with and without their parameters."""
    value = st.sampled_from([-1.5, -0.5, 0.0, 0.25, 1.0, 2.0])
    kind = draw(
        st.sampled_from(["ReLU", "ReLU6", "PReLU", "ELU", "Sigmoid", "TanH", "AbsVal", "BNLL", "Power", "Exp", "Swish"])
    )
    shape = (1, draw(st.integers(1, 3)), 3, 4)
    params, blobs = "", ()
    if kind == "ReLU":
        params = draw(st.sampled_from(["", "relu_param { negative_slope: 0.1 }", "relu_param { engine: CAFFE }"]))
    elif kind == "PReLU":
        shared = draw(st.booleans())
        params, blobs = f"prelu_param {{ channel_shared: {str(shared).lower()} }}", ((1 if shared else shape[1],),)
    elif kind == "ELU":
        params = f"elu_param {{ alpha: {draw(st.sampled_from([0.5, 1.0, 2.0]))} }}"
    elif kind == "Power":
        power = draw(st.sampled_from([1.0, 2.0, 3.0, 0.0]))
        params = f"power_param {{ power: {power} scale: {draw(value)} shift: {draw(value)} }}"
    elif kind == "Exp":
        base = draw(st.sampled_from([-1.0, 2.0, 10.0]))
        params = f"exp_param {{ base: {base} scale: {draw(value)} shift: {draw(value)} }}"
    return CaffeLayer(kind, params, shape, blobs)


@st.composite
def caffe_messages(draw: st.DrawFn, depth: int = 2) -> tuple[str, list[Any]]:
    """Text of a message in a free layout, and the (name, kind, text) or (name, children) it holds."""
    gap = st.sampled_from([" ", "\n", "\t", " # a { comment\n", ", ", "; "])
    text, tree = "", []
    for _ in range(draw(st.integers(0, 4))):
        name = draw(st.sampled_from(["a", "name_2", "Type"]))
        kind = draw(st.sampled_from(["string", "number", "word", "message"] if depth else ["string", "number", "word"]))
        if kind == "message":
            inner, children = draw(caffe_messages(depth - 1))
            opening, closing = draw(st.sampled_from(["{}", "<>"]))
            text += f"{name}{draw(st.sampled_from(['', ':', ' : ', ' ']))}{opening}{inner}{closing}"
            tree.append((name, children))
        else:
            values = {
                "string": ["x", "", "a b#"],
                "number": ["1", "-2.5e-3", ".5", "0x1f"],
                "word": ["TEST", "-inf", "t"],
            }
            value = draw(st.sampled_from(values[kind]))
            quote = draw(st.sampled_from("'\"")) if kind == "string" else ""
            text += f"{name}{draw(st.sampled_from([':', ' : ', ':  ']))}{quote}{value}{quote}"
            tree.append((name, kind, value))
        text += draw(gap)
    return text, tree


@dataclass(frozen=True)
class CaffePriors:
    """A PriorBox layer: its text and the numbers behind it; (height, width) everywhere."""

    text: str
    cells: tuple[int, int]
    image: tuple[int, int]
    min_sizes: list[float]
    max_sizes: list[float]
    ratios: list[float]
    variances: list[float]
    flip: bool
    step: tuple[float, float] | None
    offset: float
    clip: bool


@st.composite
def caffe_priors(draw: st.DrawFn, sizes: int = 3, *, fractions: bool = True) -> CaffePriors:
    """PriorBox with up to ``sizes`` minimum sizes, repeated ratios, all forms of step and variance."""
    cells = (draw(st.integers(1, 3)), draw(st.integers(1, 4)))
    image = (cells[0] * draw(st.integers(4, 9)), cells[1] * draw(st.integers(4, 9)))
    min_sizes = draw(st.lists(st.sampled_from([4.0, 7.5 if fractions else 6.0, 10.0]), min_size=1, max_size=sizes))
    max_sizes = [size * 2.5 for size in min_sizes] if draw(st.booleans()) else []
    ratios = draw(st.lists(st.sampled_from([1.0, 2.0, 3.0, 0.5]), max_size=3))
    variances = draw(st.sampled_from([[0.1], [0.1, 0.1, 0.2, 0.2]]))
    flip, clip, offset = draw(st.booleans()), draw(st.booleans()), draw(st.sampled_from([0.5, 0.0, 0.25]))
    step = draw(st.sampled_from([None, (8.0, 8.0), (6.0, 5.5)]))
    fields = [("min_size", min_sizes), ("max_size", max_sizes), ("aspect_ratio", ratios), ("variance", variances)]
    fields += [("flip", [str(flip).lower()]), ("clip", [str(clip).lower()]), ("offset", [offset])]
    if step is not None:
        fields += [("step", [8.0])] if step == (8.0, 8.0) else [("step_h", [step[0]]), ("step_w", [step[1]])]
    text = " ".join(f"{name}: {value}" for name, values in fields for value in values)
    return CaffePriors(text, cells, image, min_sizes, max_sizes, ratios, variances, flip, step, offset, clip)
