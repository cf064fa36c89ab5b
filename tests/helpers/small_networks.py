"""Small seeded ONNX networks, and plan folders that hold them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from deploycc.documents.plan import (
    BuildPlan,
    Measurement,
    Network,
    Tensor,
)
from deploycc.engine.plan import make_plan
from deploycc.files import sha256_of
from deploycc.target import Target

SHAPE = (1, 3, 32, 32)
SOURCE = "5" * 64
ELEMENT = {"fp32": TensorProto.FLOAT, "fp16": TensorProto.FLOAT16}
SHORT = Measurement(warmup_s=0.01, min_duration_s=0.05, min_samples=10, quick=True)


def _weights(precision: str, name: str, *shape: int) -> TensorProto:
    values = np.random.default_rng(len(name)).standard_normal(shape).astype(np.float32)
    return numpy_helper.from_array(values.astype(np.float16) if precision == "fp16" else values, name)


def _value(name: str, element: int, shape: tuple[int | None, ...]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, element, shape)


def _model(graph: onnx.GraphProto) -> onnx.ModelProto:
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def conv_model(precision: str = "fp32") -> onnx.ModelProto:
    """Two convolutions with ReLU; FP32 input and output, as the typed FP16 networks of the compiler have."""
    nodes = [
        helper.make_node("Conv", ["x16", "w1"], ["a"], name="conv1", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"], name="relu1"),
        helper.make_node("Conv", ["b", "w2"], ["y16"], name="conv2"),
    ]
    element = ELEMENT[precision]
    nodes.insert(0, helper.make_node("Cast", ["x"], ["x16"], name="cast_in", to=element))
    nodes.append(helper.make_node("Cast", ["y16"], ["y"], name="cast_out", to=TensorProto.FLOAT))
    return _model(
        helper.make_graph(
            nodes,
            "small",
            [_value("x", TensorProto.FLOAT, SHAPE)],
            [_value("y", TensorProto.FLOAT, (1, 4, 32, 32))],
            [_weights(precision, "w1", 8, 3, 3, 3), _weights(precision, "w2", 4, 8, 1, 1)],
        )
    )


def if_model() -> onnx.ModelProto:
    """A convolution that runs only where the input's sum is positive."""

    def branch(name: str, node: onnx.NodeProto) -> onnx.GraphProto:
        return helper.make_graph([node], name, [], [_value(node.output[0], TensorProto.FLOAT, (1, 3, 32, 32))])

    nodes = [
        helper.make_node("ReduceSum", ["x"], ["sum"], name="sum", keepdims=0),
        helper.make_node("Greater", ["sum", "zero"], ["positive"], name="greater"),
        helper.make_node(
            "If",
            ["positive"],
            ["y"],
            name="gate",
            then_branch=branch("then", helper.make_node("Conv", ["x", "w"], ["t"], name="conv_then", pads=[1] * 4)),
            else_branch=branch("else", helper.make_node("Neg", ["x"], ["e"], name="neg_else")),
        ),
    ]
    return _model(
        helper.make_graph(
            nodes,
            "gated",
            [_value("x", TensorProto.FLOAT, SHAPE)],
            [_value("y", TensorProto.FLOAT, SHAPE)],
            [_weights("fp32", "w", 3, 3, 3, 3), numpy_helper.from_array(np.float32(0), "zero")],
        )
    )


def nms_model() -> onnx.ModelProto:
    """One NonMaxSuppression: TensorRT-RTX parses it and refuses to build it."""
    constants = {"most": np.array([10]), "iou": np.array([0.5], np.float32), "score": np.array([0.1], np.float32)}
    node = helper.make_node("NonMaxSuppression", ["x", "scores", *constants], ["y"], name="suppress")
    return _model(
        helper.make_graph(
            [node],
            "nms",
            [_value("x", TensorProto.FLOAT, (1, 100, 4)), _value("scores", TensorProto.FLOAT, (1, 2, 100))],
            [_value("y", TensorProto.INT64, (None, 3))],
            [numpy_helper.from_array(value, name) for name, value in constants.items()],
        )
    )


def unknown_operator_model() -> onnx.ModelProto:
    """A node that no parser knows."""
    node = helper.make_node("Frobnicate", ["x"], ["y"], name="frob")
    return _model(
        helper.make_graph(
            [node], "unknown", [_value("x", TensorProto.FLOAT, SHAPE)], [_value("y", TensorProto.FLOAT, SHAPE)]
        )
    )


def plan_folder(
    folder: Path, target: Target, models: dict[str, onnx.ModelProto | bytes], measurement: Measurement = SHORT
) -> BuildPlan:
    """Write networks and their plan into ``folder``.

    Args:
        folder: where.
        target: to plan for.
        models: by label, ``fp32`` or ``fp32 original``; bytes are written as they are.
        measurement: of the plan.
    """
    networks = []
    for label, model in models.items():
        precision, _, variant = label.partition(" ")
        path = folder / f"network-{label.replace(' ', '-')}.onnx"
        path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
        if target.model_format == "caffe":
            networks.append(_caffe_network(path.with_suffix(".prototxt"), precision, variant))
            continue
        networks.append(
            Network(
                file=path.name,
                sha256=sha256_of(path),
                precision=precision,
                variant=variant or "compiled",
                typed=target.builder in ("onnxruntime", "tensorrt-rtx"),
                input=Tensor(name="x", shape=SHAPE),
                outputs=("y",),
            )
        )
    plan = make_plan(target, networks, source_sha256=SOURCE, measurement=measurement)
    plan.write(folder / plan.FILE_NAME)
    return plan


_CAFFE = """name: "small"
layer { name: "input" type: "Input" top: "x" input_param { shape { dim: 1 dim: 3 dim: 32 dim: 32 } } }
layer { name: "y" type: "Convolution" bottom: "x" top: "y" convolution_param { num_output: 4 kernel_size: 3 pad: 1 } }
"""


def _caffe_network(path: Path, precision: str, variant: str) -> Network:
    """Write one convolution as Caffe, for targets that read nothing else."""
    from caffe_files import caffemodel  # it needs OpenCV

    weights = path.with_suffix(".caffemodel")
    path.write_text(_CAFFE)
    random = np.random.default_rng(0)
    blobs = [random.standard_normal((4, 3, 3, 3)).astype(np.float32), np.zeros(4, np.float32)]
    weights.write_bytes(caffemodel({"y": blobs}))
    return Network(
        file=path.name,
        sha256=sha256_of(path),
        weights_file=weights.name,
        weights_sha256=sha256_of(weights),
        format="caffe",
        precision=precision,
        variant=variant or "compiled",
        typed=False,
        input=Tensor(name="x", shape=SHAPE),
        outputs=("y",),
    )
