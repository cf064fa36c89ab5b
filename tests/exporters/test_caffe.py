"""Networks written as Caffe give the same outputs in OpenCV's importer, an independent reader of the format."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnx_graphsurgeon as gs
import onnxruntime as ort
import pytest

from deploycc.detector import Detector, InputSpec, Source
from deploycc.errors import ModelError
from deploycc.exporters import caffe
from deploycc.exporters.caffe.writer import RULES
from deploycc.graph.shapes import infer_shapes
from deploycc.parsers.caffe_layers import LAYERS
from deploycc.parsers.support import refusals
from deploycc.target import contract, load

SOURCE = Source(files=("test",), sha256="0" * 64, format="onnx")


class FourPlanes(InputSpec):
    """Four planes, so that grouped and depthwise layers have something to group."""

    channels = 4


BEYOND = "average pool beyond its padding"
# one body a rule; x is float[1,4,9,11], every c* is a random constant of the shape in its name
BODIES = {
    "conv": "y = Conv <pads=[1,2,1,2], strides=[2,1]> (x, c6_4_3_5, c6)",
    "conv without bias": "y = Conv (x, c6_4_1_1)",
    "grouped dilated conv": "y = Conv <group=2, dilations=[2,2], pads=[2,2,2,2]> (x, c6_2_3_3, c6)",
    "conv padded like SAME": "y = Conv <pads=[0,0,1,1], strides=[2,2]> (x, c6_4_3_3, c6)",
    "conv padded at the top and left": "y = Conv <pads=[2,1,0,0], strides=[2,3]> (x, c6_4_3_3)",
    "dilated conv padded unevenly": "y = Conv <pads=[2,0,4,2], dilations=[2,2]> (x, c6_4_3_3)",
    "depthwise": "y = Conv <group=4, pads=[1,1,1,1]> (x, c4_1_3_3, c4)",
    "deconvolution": "y = ConvTranspose <strides=[2,2], pads=[1,1,1,1]> (x, c4_6_4_4, c6)",
    "gemm": "f = Flatten (x)\n y = Gemm <transB=1> (f, c5_396, c5)",
    "gemm scaled": "f = Flatten (x)\n y = Gemm <alpha=0.5, beta=2.0> (f, c396_5, c1_5)",
    "max pool": "y = MaxPool <kernel_shape=[3,3], strides=[2,2]> (x)",
    "max pool ceil": "y = MaxPool <kernel_shape=[2,2], strides=[2,2], ceil_mode=1> (x)",
    "average pool padded": "y = AveragePool <kernel_shape=[3,3], pads=[1,1,1,1], count_include_pad=1> (x)",
    "max pool padded like SAME": "y = MaxPool <kernel_shape=[2,2], strides=[2,2], pads=[0,0,1,1]> (x)",
    "max pool padded and rounded up": "y = MaxPool <kernel_shape=[4,4], strides=[3,3], pads=[1,1,3,1]> (x)",
    "average pool with less padding at the end": "y = AveragePool <kernel_shape=[2,2], pads=[1,1,0,0], strides=[2,2], count_include_pad=1> (x)",
    BEYOND: "pd = Constant <value_ints = [0,0,1,1,0,0,1,1]> ()\n p = Pad (x, pd)\n"
    " y = AveragePool <kernel_shape=[4,4], strides=[2,2], pads=[0,0,1,1]> (p)",
    "global average": "y = GlobalAveragePool (x)",
    "lrn": "y = LRN <size=3, alpha=0.1, beta=0.75, bias=1.0> (x)",
    "activations": "a = Relu (x)\n b = Sigmoid (x)\n d = Tanh (x)\n e = Abs (x)\n f = Elu (x)\n"
    " g = LeakyRelu <alpha=0.2> (x)\n s = Add (a, b)\n t = Add (d, e)\n u = Add (f, g)\n v = Add (s, t)\n y = Add (u, v)",
    "prelu per channel": "y = PRelu (x, c4_1_1)",
    "hard sigmoid": "a = HardSigmoid (x)\n y = HardSigmoid <alpha=0.3, beta=-0.1> (a)",
    "relu6": "zero = Constant <value = float {0.0}> ()\n six = Constant <value = float {0.6}> ()\n y = Clip (x, zero, six)",
    "clip": "low = Constant <value = float {-0.5}> ()\n high = Constant <value = float {0.7}> ()\n y = Clip (x, low, high)",
    "power": "a = Abs (x)\n three = Constant <value = float {3.0}> ()\n y = Pow (a, three)",
    "scalar arithmetic": "a = Mul (x, c1)\n b = Sub (c1, a)\n d = Div (b, c1)\n y = Sub (d, c1)",
    "channel arithmetic": "a = Mul (x, c4_1_1)\n b = Add (a, c1_4_1_1)\n d = Sub (c4_1_1, b)\n y = Div (d, c4_1_1)",
    "batch normalization": "v = Abs (c4)\n y = BatchNormalization <epsilon=0.01> (x, c4, c04, c004, v)",
    "copies": "a = Identity (x)\n b = Relu (a)\n d = Dropout (b)\n y = Add (d, x)",
    "two blobs": "a = Relu (x)\n b = Mul (x, a)\n d = Sub (b, x)\n y = Max (d, a)",
    "l2 norm": "n = ReduceL2 <axes=[1]> (x)\n y = Div (x, n)",
    "sum of squares": "axis = Constant <value_ints = [1]> ()\n q = Mul (x, x)\n n = ReduceSum (q, axis)\n y = Mul (x, n)",
    "concat and split": "a, b = Split <axis=1> (x)\n r = Relu (b)\n y = Concat <axis=1> (r, a)",
    "squeeze and excitation": "g = GlobalAveragePool (x)\n f = Flatten (g)\n s = Gemm <transB=1> (f, c4_4, c4)\n"
    " e = Sigmoid (s)\n sh = Constant <value_ints = [1,4,1,1]> ()\n r = Reshape (e, sh)\n y = Mul (r, x)",
    "one factor per position": "y = Mul (x, c4_9_11)",
    "one addend per position": "y = Sub (c4_9_11, x)",
    "one factor per row": "y = Mul (x, c9_1)",
    "slice": "st = Constant <value_ints = [1]> ()\n en = Constant <value_ints = [3]> ()\n"
    " ax = Constant <value_ints = [1]> ()\n p = Slice (x, st, en, ax)\n y = Abs (p)",
    "crop rows": "st = Constant <value_ints = [2]> ()\n en = Constant <value_ints = [7]> ()\n"
    " ax = Constant <value_ints = [2]> ()\n p = Slice (x, st, en, ax)\n y = Abs (p)",
    "crop the last column": "st = Constant <value_ints = [0]> ()\n en = Constant <value_ints = [-1]> ()\n"
    " ax = Constant <value_ints = [-1]> ()\n p = Slice (x, st, en, ax)\n y = Abs (p)",
    "head": "t = Transpose <perm=[0,2,3,1]> (x)\n f = Flatten (t)\n sh = Constant <value_ints = [1,99,4]> ()\n"
    " r = Reshape (f, sh)\n y = Softmax <axis=2> (r)",
}


def graph_of(body: str, seed: int = 0) -> gs.Graph:
    rng = np.random.default_rng(seed)
    names = sorted({word.strip("(),") for word in body.split() if word.strip("(,)")[:1] == "c"} - {"ceil_mode=1>"})
    names = [name for name in names if name[1:].replace("_", "").isdigit()]
    dims = {name: [int(part) for part in name[1:].split("_")] for name in names}
    constants = ", ".join(f"float[{','.join(map(str, dims[name]))}] {name}" for name in names)
    inputs = "float[1,4,9,11] x" + (", " + constants if constants else "")
    text = f'<ir_version: 7, opset_import: ["" : 13]>\nnet ({inputs}) => (float[] y) {{\n {body}\n}}'
    model = onnx.parser.parse_model(text)
    model.graph.output[0].type.tensor_type.ClearField("shape")
    for number, node in enumerate(model.graph.node):
        node.name = f"{node.op_type}_{number}"
    for name in names:
        values = rng.uniform(0.2, 1.0, dims[name]).astype(np.float32) * rng.choice([-1, 1], dims[name])
        model.graph.initializer.append(onnx.numpy_helper.from_array(values.astype(np.float32), name))
    graph = gs.import_onnx(model)
    graph.inputs = [tensor for tensor in graph.inputs if tensor.name == "x"]
    graph.fold_constants().cleanup().toposort()
    infer_shapes(graph)
    return graph


def detector_of(graph: gs.Graph) -> Detector:
    return Detector(graph=graph, input=FourPlanes("x", 9, 11), source=SOURCE)


@pytest.mark.parametrize("name", BODIES)
def test_opencv_reads_the_same_network(name: str, tmp_path: Path) -> None:
    graph = graph_of(BODIES[name])
    detector = detector_of(graph)
    caffe.save(detector, tmp_path / "net.prototxt", tmp_path / "net.caffemodel")
    picture = np.random.default_rng(1).standard_normal((1, 4, 9, 11)).astype(np.float32)

    session = ort.InferenceSession(gs.export_onnx(graph).SerializeToString(), providers=["CPUExecutionProvider"])
    expected = session.run(["y"], {"x": picture})[0]
    net = cv2.dnn.readNetFromCaffe(str(tmp_path / "net.prototxt"), str(tmp_path / "net.caffemodel"))
    net.setInput(picture)
    actual = net.forward()

    np.testing.assert_allclose(actual.reshape(expected.shape), expected, rtol=1e-4, atol=1e-4)


REFUSED = {
    "y = Conv <pads=[0,0,1,0], dilations=[2,2]> (x, c6_4_3_3)": "padding",
    "y = MaxPool <kernel_shape=[3,3], pads=[0,0,1,1]> (x)": "padding",
    "y = MaxPool <kernel_shape=[2,2], strides=[2,2]> (x)": "rounding",
    "y = AveragePool <kernel_shape=[3,3], pads=[1,1,1,1]> (x)": "excludes padding; Caffe's counts it",
    "y = Erf (x)": "no layer for the operator Erf",
    "pd = Constant <value_ints = [0,0,1,1,0,0,1,1]> ()\n y = Pad (x, pd)": "no layer for the operator Pad",
    "y = Add (x, c4_1_11)": "neither one number nor one per channel",
    "y = ReduceSum <keepdims=0> (x)": "sums over the axes None",
    "y = Max (x, c4_9_11)": "maximum with a constant",
    "y = Div (c4_9_11, x)": "divides a constant",
    "g = GlobalAveragePool (x)\n y = Add (x, g)": "does not broadcast",
    "y = PRelu (x, c9_11)": "one per channel",
    "y = Add (x, c2_4_9_11)": "widens a blob",
}


@pytest.mark.parametrize(("body", "reason"), REFUSED.items())
def test_what_caffe_cannot_express_is_refused_by_name(body: str, reason: str, tmp_path: Path) -> None:
    detector = detector_of(graph_of(body))
    with pytest.raises(ModelError, match=reason) as raised:
        caffe.save(detector, tmp_path / "net.prototxt", tmp_path / "net.caffemodel")
    assert raised.value.code == "caffe-cannot-express"
    assert raised.value.context["node"] == detector.graph.nodes[-1].name
    assert list(tmp_path.iterdir()) == []
    said = [refusal.reason for refusal in refusals(detector.graph, contract(load("drive-px2-igpu")))]
    assert any(why in raised.value.message for why in said) or "no layer of TensorRT's" in said[0]


def test_every_operator_of_the_rules_has_a_writer() -> None:
    assert set(RULES) == set(LAYERS)


# gParseTable of TensorRT's Caffe parser (opParsers.h, 2019), and what it skips over.
TENSORRT_LAYERS = {
    *("AbsVal", "BNLL", "BatchNorm", "Clip", "Concat", "Convolution", "Crop", "Deconvolution", "ELU", "Eltwise"),
    *("InnerProduct", "LRN", "Permute", "Pooling", "Power", "ReLU", "Reduction", "Reshape", "Scale", "Sigmoid"),
    *("Softmax", "TanH", "Input", "Dropout"),
}


@pytest.mark.parametrize("name", BODIES)
def test_what_the_contract_accepts_is_written_in_layers_that_tensorrt_parses(name: str, tmp_path: Path) -> None:
    graph = graph_of(BODIES[name])
    refused = refusals(graph, contract(load("drive-px2-igpu")))
    caffe.save(detector_of(graph), tmp_path / "net.prototxt", tmp_path / "net.caffemodel")
    text = (tmp_path / "net.prototxt").read_text(encoding="utf-8")
    outside = set(re.findall(r'type: "(\w+)"', text)) - TENSORRT_LAYERS
    outside |= set(re.findall(r'type: "(Scale)"\s*bottom: \S+\s*bottom', text)) | set(
        re.findall(r"num_axes|axis: 2\n\s*bias_term", text)
    )
    if name == BEYOND:  # how TensorRT's parser divides there is not known
        outside.add("Pooling")
    assert bool(outside) == bool(refused), (outside, refused)
    assert "coeff" not in text  # Eltwise's coefficients are not read
