"""Every hypothesis strategy of the test suite."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from affine_networks import Layer, Stack
from anchor_networks import AnchorNetwork
from channel_networks import ChannelNetwork, Step
from gated_networks import DECISIONS, GROUPS, LAYERS, LAYOUTS, POOLS, PRODUCTS, Spelling
from hypothesis import assume
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from ssd_tails import Tail, grid_priors

from deploycc.detector import Nms, SsdHeads
from deploycc.evaluate.truth import Found, Truth

# ---- detection: boxes, scores, heads --------------------------------------------------------------------------------

# Few values, so that scores tie, and equal the threshold 0.25.
_SCORES = st.sampled_from([0.0, 0.125, 0.25, 0.2500001, 0.5, 0.75, 0.875, 1.0])


@dataclass(frozen=True, eq=False)
class SuppressionCase:
    """Decoded boxes and what to do with them."""

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    nms: Nms
    background: int | None


@dataclass(frozen=True, eq=False)
class HeadsCase:
    """Raw outputs of an SSD network, [P, 4] and [P, C], and how to read them."""

    heads: SsdHeads
    offsets: NDArray[np.float32]
    scores: NDArray[np.float32]
    nms: Nms


@st.composite
def suppression_parameters(draw: st.DrawFn) -> Nms:
    """Limits small enough to bite; an IoU threshold of 1/2 is met exactly by boxes on a grid."""
    return Nms(
        score_threshold=draw(st.sampled_from([0.25, 0.01, 0.0])),
        iou_threshold=draw(st.sampled_from([0.5, 0.45, 0.25, 0.0])),
        top_k=draw(st.sampled_from([3, -1, 1, 400])),
        keep_top_k=draw(st.sampled_from([-1, 1, 2, 5, 200])),
    )


@st.composite
def suppression_cases(draw: st.DrawFn) -> SuppressionCase:
    """Boxes on a grid of eighths, so that equal boxes and exact IoUs are common; sides may be reversed or of no length.

    In a crowd most boxes overlap, so that few of many candidates stand.
    """
    priors, classes, crowded = draw(st.integers(1, 24)), draw(st.integers(1, 4)), draw(st.booleans())
    low = draw(hnp.arrays(np.int64, (priors, 2), elements=st.integers(0, 1) if crowded else st.integers(-1, 6)))
    size = draw(hnp.arrays(np.int64, (priors, 2), elements=st.integers(3, 4) if crowded else st.integers(-1, 4)))
    scores = draw(hnp.arrays(np.float32, (priors, classes), elements=_SCORES))
    return SuppressionCase(
        boxes=(np.concatenate([low, low + size], axis=1) / 8).astype(np.float32),
        scores=scores,
        nms=draw(suppression_parameters()),
        background=draw(st.sampled_from([None, *range(classes)])),
    )


@st.composite
def ssd_heads(draw: st.DrawFn, priors: int, classes: int) -> SsdHeads:
    """Heads of any coding; priors have an area and different variances a side."""
    low = draw(hnp.arrays(np.float32, (priors, 2), elements=st.sampled_from([-0.125, 0.0, 0.25, 0.5, 0.625])))
    size = draw(hnp.arrays(np.float32, (priors, 2), elements=st.sampled_from([0.125, 0.25, 0.5, 0.75])))
    variances = draw(hnp.arrays(np.float32, 4, elements=st.sampled_from([0.1, 0.2, 0.3, 0.5])))
    return SsdHeads(
        locations="locations",
        scores="scores",
        priors=np.concatenate([low, low + size], axis=1),
        variances=np.tile(variances, (priors, 1)),
        classes=classes,
        background=draw(st.sampled_from([None, *range(classes)])) if classes > 1 else None,
        box_coding=draw(st.sampled_from(["center_size", "corner", "corner_size"])),
        variance_encoded=draw(st.booleans()),
        y_first=draw(st.booleans()),
        clip=draw(st.booleans()),
    )


@st.composite
def heads_cases(draw: st.DrawFn) -> HeadsCase:
    """What a small SSD network might put out."""
    priors, classes = draw(st.integers(1, 12)), draw(st.integers(1, 4))
    offset = st.floats(-2, 2, width=32)
    return HeadsCase(
        heads=draw(ssd_heads(priors, classes)),
        offsets=draw(hnp.arrays(np.float32, (priors, 4), elements=offset)),
        scores=draw(hnp.arrays(np.float32, (priors, classes), elements=_SCORES)),
        nms=draw(suppression_parameters()),
    )


# ---- reports: latency samples ---------------------------------------------------------------------------------------


def latency_samples(min_size: int = 1, max_size: int = 300) -> st.SearchStrategy[NDArray[np.float64]]:
    """Latencies in ms: positive, finite, over six decades, with ties."""
    value = st.one_of(st.floats(1e-3, 1e3), st.sampled_from([1.0, 1.5, 2.0]))
    return st.lists(value, min_size=min_size, max_size=max_size).map(np.array)


# ---- importers: decodings spelled in a graph ------------------------------------------------------------------------


@st.composite
def ssd_tails(draw: st.DrawFn) -> Tail:
    """One SSD network with its decoding in the graph, in any of the usual spellings, with random priors and variances."""
    grid = (draw(st.integers(1, 4)), draw(st.integers(2, 5)))
    side = st.sampled_from([0.0625, 0.1, 0.2, 0.35, 0.5, 0.9])
    shapes = np.array(draw(st.lists(st.tuples(side, side), min_size=1, max_size=3)), dtype=np.float32)
    centres = grid_priors(grid, shapes)
    row = draw(st.tuples(*[st.sampled_from([0.05, 0.1, 0.2, 0.125, 1.0])] * 4))
    variances = np.tile(np.array(row, dtype=np.float32), (len(centres), 1))
    if draw(st.booleans()):  # every prior its own
        variances *= np.linspace(0.5, 1.5, len(centres), dtype=np.float32)[:, None]
    form = draw(st.sampled_from(["corners", "centre", "top_left"]))
    pixels = draw(st.booleans())
    return Tail(
        grid=grid,
        centres=centres,
        variances=variances,
        classes=draw(st.integers(2, 4)),
        slicing=draw(st.sampled_from(["Slice", "Split", "Gather"])),
        form=form,
        y_out=draw(st.booleans()),
        y_offsets=draw(st.booleans()),
        variances_first=draw(st.booleans()),
        flat=draw(st.booleans()),
        pixels=pixels,
        clip=form == "corners" and not pixels and draw(st.booleans()),
        nms=draw(st.booleans()),
        seed=draw(st.integers(0, 99)),
    )


# ---- importers: Caffe layers ----------------------------------------------------------------------------------------


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


# ---- pictures -------------------------------------------------------------------------------------------------------


@st.composite
def pictures(draw: st.DrawFn) -> tuple[NDArray[np.uint8], int, int]:
    """A picture of noise, and a height and width to resize it to."""
    side = st.integers(1, 40)
    height, width = draw(side), draw(side)
    noise = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return noise.integers(0, 256, (height, width, 3), np.uint8), draw(side), draw(side)


# ---- accuracy: annotations and detections ---------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class AccuracyCase:
    """Annotations and detections of some pictures; annotated boxes do not overlap one another."""

    truths: list[Truth]
    founds: list[Found]
    classes: int


@st.composite
def accuracy_cases(draw: st.DrawFn) -> AccuracyCase:
    """Objects in the cells of a grid; detections are objects moved a little, doubles, and misses.

    Scores differ from one another: which of two equal ones comes first is nobody's rule.
    """
    classes = draw(st.integers(1, 3))
    truths, founds = [], []
    number = 0
    for _ in range(draw(st.integers(1, 4))):
        cells = draw(st.lists(st.integers(0, 15), min_size=0, max_size=6, unique=True))
        boxes, found = [], []
        for cell in cells:
            x, y = 20.0 * (cell % 4), 20.0 * (cell // 4)
            box = [x, y, x + draw(st.integers(4, 16)), y + draw(st.integers(4, 16))]
            boxes.append(box)
            for _ in range(draw(st.integers(0, 2))):
                found.append([v + draw(st.integers(-2, 2)) for v in box])
        found += [[x, x, x + 5.0, x + 7.0] for x in draw(st.lists(st.integers(0, 70), max_size=2))]
        found = [[a, b, max(c, a + 1), max(d, b + 1)] for a, b, c, d in found]
        order = draw(st.permutations(range(len(found))))
        scores = [0.9 - 0.01 * (number + k) for k in order]
        number += len(found)
        label = st.integers(0, classes - 1)
        truths.append(
            Truth(
                np.array(boxes, np.float32).reshape(-1, 4),
                np.array([draw(label) for _ in boxes], np.int64),
                np.zeros(len(boxes), np.bool_),
            )
        )
        founds.append(
            Found(
                np.array(found, np.float32).reshape(-1, 4),
                np.array([draw(label) for _ in found], np.int64),
                np.array(scores, np.float32),
            )
        )
    return AccuracyCase(truths, founds, classes)


# ---- networks of linear and affine layers ---------------------------------------------------------------------------

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


# ---- gated convolutions ---------------------------------------------------------------------------------------------


def gate_spellings() -> st.SearchStrategy[Spelling]:
    """Every way to write a gate: pooling, layers, decision, groups, place and product."""
    return st.builds(
        Spelling,
        pool=st.sampled_from(sorted(POOLS)),
        layer=st.sampled_from(sorted(LAYERS)),
        decision=st.sampled_from(sorted(DECISIONS)),
        group=st.sampled_from([None, *sorted(GROUPS)]),
        layout=st.sampled_from(sorted(LAYOUTS)),
        product=st.sampled_from(sorted(PRODUCTS)),
    )


# ---- networks that only move data -----------------------------------------------------------------------------------


@st.composite
def reshaping_networks(draw: st.DrawFn) -> gs.Graph:
    """Chains of operators that move, retype or repeat nothing, with branches off and shapes computed in the graph."""
    x = gs.Variable("x", np.float32, [1, 2, 3, 4])
    graph = gs.Graph(inputs=[x], name="moves", opset=13, ir_version=8)

    def node(op: str, inputs: list[gs.Tensor], shape: list[int], dtype: type = np.float32, **attrs: object) -> gs.Variable:
        name = f"n{len(graph.nodes)}"
        result = gs.Variable(f"{name}_out", dtype, shape)
        graph.nodes.append(gs.Node(op, name, dict(attrs), inputs, [result]))
        return result

    def numbers(*values: int) -> gs.Constant:
        return gs.Constant(f"k{len(graph.nodes)}", np.array(values, np.int64))

    tensor, outputs = x, []
    steps = ["Identity", "Transpose", "Reshape", "Flatten", "Unsqueeze", "Squeeze", "Cast", "Dropout", "Concat", "Pad", "Relu"]
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
            parts = node("Concat", [node("Shape", [tensor], [rank], np.int64), numbers(1)], [rank + 1], np.int64, axis=0)
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
            values = {"string": ["x", "", "a b#"], "number": ["1", "-2.5e-3", ".5", "0x1f"], "word": ["TEST", "-inf", "t"]}
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
def caffe_priors(draw: st.DrawFn, sizes: int = 3) -> CaffePriors:
    """PriorBox with up to ``sizes`` minimum sizes, repeated ratios, all forms of step and variance."""
    cells = (draw(st.integers(1, 3)), draw(st.integers(1, 4)))
    image = (cells[0] * draw(st.integers(4, 9)), cells[1] * draw(st.integers(4, 9)))
    min_sizes = draw(st.lists(st.sampled_from([4.0, 7.5, 10.0]), min_size=1, max_size=sizes))
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


# ---- networks whose channels merge ----------------------------------------------------------------------------------

_CHANNEL_LAYERS = ("conv", "conv_relu", "conv_relu", "depthwise", "grouped", "transposed")
_CHANNEL_MERGES = ("residual", "meet", "concat", "crelu", "split", "cut", "pick", "shuffle", "gate", "gate")
_CHANNEL_ALONE = ("bn", "prelu", "activation", "affine", "pool_window", "resize", "border", "norm", "channels_last")
_CHANNEL_RARE = ("lrn", "unknown")
_CHANNEL_CONSTANTS = ("conv", "conv_relu", "depthwise", "grouped", "bn", "affine", "activation", "pool_window", "border", "residual")


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
    step = st.builds(Step, st.sampled_from(kinds), st.sampled_from([0, 0, 0, 1, 2]), st.tuples(*[st.integers(0, 11)] * 4))
    return ChannelNetwork(
        tuple(draw(st.lists(step, min_size=1, max_size=max_steps))),
        tuple(draw(st.lists(st.sampled_from(heads), min_size=1, max_size=2))),
        draw(st.integers(0, 2**16)),
    )


# ---- SSD heads with dead anchors ------------------------------------------------------------------------------------


@st.composite
def anchor_networks(draw: st.DrawFn) -> AnchorNetwork:
    """One to three maps with up to three anchors each, about a third of them dead; whole maps may be."""
    kinds = st.sampled_from(["trained", "trained", "dead", "dead", "loud", "close", "half"])
    activation = draw(st.sampled_from(["Softmax", "Sigmoid"]))
    return AnchorNetwork(
        maps=tuple(tuple(draw(st.lists(kinds, min_size=1, max_size=3))) for _ in range(draw(st.integers(1, 3)))),
        classes=draw(st.integers(2, 4)),
        # softmax without a background: some class is never below the threshold
        background=draw(st.sampled_from([0, 1] if activation == "Softmax" else [0, 1, None])),
        activation=activation,
        layout=draw(st.sampled_from(["flat", "rows", "planes"])),
        seed=draw(st.integers(0, 9)),
    )


@st.composite
def exported_networks(draw: st.DrawFn) -> tuple[AnchorNetwork, dict[str, Any]]:
    """Networks of trained anchors of any size, and changes of how their boxes are coded."""
    net = draw(anchor_networks())
    maps = tuple(tuple("dead" if kind == "dead" else "trained" for kind in kinds) for kinds in net.maps)
    background = 0 if net.background is None else net.background
    coding = draw(st.sampled_from(["center_size", "corner"]))
    changes = {
        "y_first": draw(st.booleans()),
        # offsets of corners that are not made small turn boxes inside out, of which nobody says what they overlap
        "variance_encoded": coding == "center_size" and draw(st.booleans()),
        "box_coding": coding,
    }
    return replace(net, maps=maps, background=background), changes


# ---- PriorBox layers ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PriorLayer:
    """Parameters of a PriorBox layer, and which of its anchors are used, in which order (None: all)."""

    cells: tuple[int, int]
    image: tuple[int, int]
    min_sizes: tuple[float, ...]
    max_sizes: tuple[float, ...]
    ratios: tuple[float, ...]
    flip: bool
    step: tuple[float, float] | None
    offset: float
    clip: bool
    picked: tuple[int, ...] | None = None


@st.composite
def prior_layers(draw: st.DrawFn) -> PriorLayer:
    """Layers on pictures that are no squares. Where clipping would hide the grid, it is that of a picture over cells."""
    cells = draw(st.tuples(st.integers(1, 7), st.integers(1, 7)))
    image = draw(st.sampled_from([(240, 320), (300, 300), (129, 257)]))
    sizes = sorted(draw(st.lists(st.integers(8, 100), min_size=1, max_size=3, unique=True)))
    largest = [draw(st.integers(12, 20)) / 10 * size for size in sizes] if draw(st.booleans()) else []
    ratios = draw(st.lists(st.sampled_from([2.0, 3.0, 1.5, 0.4]), max_size=3, unique=True))
    clip = draw(st.booleans())
    outside = 32 * max(cells) > min(image)  # cells beyond the picture show nothing of their boxes
    hidden = clip and (min(cells) < 4 or sizes[0] > 16 or outside)
    step = None if hidden else draw(st.sampled_from([None, (16.0, 16.0), (32.0, 30.0)]))
    total = len(sizes) * (1 + bool(largest) + 2 * len(ratios))
    return PriorLayer(
        cells=cells,
        image=image,
        min_sizes=tuple(map(float, sizes)),
        max_sizes=tuple(largest),
        ratios=tuple(ratios),
        flip=draw(st.booleans()),
        step=step,
        offset=0.5 if hidden else draw(st.sampled_from([0.5, 0.25])),
        clip=clip,
        picked=draw(st.none() | st.permutations(range(total)).map(lambda order: tuple(order[: len(order) // 2 + 1]))),
    )
