"""Engines of simulated boards: a network with what the builder knew, run by ONNX Runtime or OpenCV on this machine."""

from __future__ import annotations

import json
from typing import Any

_MAGIC = b"simulated engine\n"


def pack(facts: dict[str, Any], *parts: bytes) -> bytes:
    """Return the bytes of an engine: what is known of it, and the files that it was built from."""
    header = json.dumps({**facts, "sizes": [len(part) for part in parts]}).encode()
    return _MAGIC + header + b"\n" + b"".join(parts)


def unpack(data: bytes) -> Any:
    """Return facts and files of an engine; None for the facts where the bytes are not one."""
    if not data.startswith(_MAGIC):
        return None, b""
    header, _, rest = data[len(_MAGIC) :].partition(b"\n")
    facts = json.loads(header)
    parts, offset = [], 0
    for size in facts["sizes"]:
        parts.append(rest[offset : offset + size])
        offset += size
    return (facts, *parts)


_PLUGIN = b"EfficientNMS_TRT"


def _without_plugin(network: bytes) -> Any:
    """Return a network whose outputs are what TensorRT's plugin reads, and the plugin as a function of them."""
    import onnx

    model = onnx.load_from_string(network)
    [node] = [node for node in model.graph.node if node.op_type == _PLUGIN.decode()]
    suppress = _Suppression(node, {output.name: output for output in model.graph.output})
    model.graph.node.remove(node)
    del model.graph.output[:]
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in node.input)
    return model.SerializeToString(), suppress


class _Suppression:
    """EfficientNMS_TRT for one picture: boxes [1, P, 4] and scores [1, P, C] to the best that overlap no better one."""

    def __init__(self, node: Any, outputs: dict[str, Any]) -> None:
        import numpy as np
        import onnx

        values = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
        self._most, self._background = values["max_output_boxes"], values["background_class"]
        self._score, self._overlap = values["score_threshold"], values["iou_threshold"]
        types = (np.int32, np.float32, np.float32, np.int32)
        shapes = ((1, 1), (1, self._most, 4), (1, self._most), (1, self._most))
        self.outputs = [(name, types[i], shapes[i]) for i, name in enumerate(node.output) if name in outputs]
        self._names = list(node.output)

    def __call__(self, boxes: Any, scores: Any, *_: Any) -> list[Any]:
        import numpy as np

        picked = np.argwhere(scores[0] >= self._score)
        picked = picked[picked[:, 1] != self._background]
        order = np.argsort(-scores[0][picked[:, 0], picked[:, 1]], kind="stable")[:4096]
        kept: list[tuple[int, int]] = []
        for prior, label in picked[order]:
            if len(kept) == self._most:
                break
            rivals = boxes[0][[p for p, c in kept if c == label]]
            if not len(rivals) or _overlaps(boxes[0][prior], rivals).max() <= self._overlap:
                kept.append((int(prior), int(label)))
        results = [np.zeros(shape, kind) for kind, shape in zip((np.int32, np.float32, np.float32, np.int32),
                   ((1, 1), (1, self._most, 4), (1, self._most), (1, self._most)), strict=True)]  # fmt: skip
        results[0][0, 0] = len(kept)
        for row, (prior, label) in enumerate(kept):
            results[1][0, row], results[2][0, row], results[3][0, row] = boxes[0][prior], scores[0][prior, label], label
        shown = {name for name, *_ in self.outputs}
        return [result for name, result in zip(self._names, results, strict=True) if name in shown]


def _overlaps(box: Any, others: Any) -> Any:
    """Return intersection over union of a box with others; corners."""
    import numpy as np

    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=1)
    areas = np.prod(box[2:] - box[:2]) + np.prod(others[:, 2:] - others[:, :2], axis=1)
    return shared / np.maximum(areas - shared, 1e-12)


class OnnxEngine:
    """Runs an ONNX network on one CPU thread."""

    def __init__(self, network: bytes, data: bytes | dict[str, bytes] | None, trace: str | None = None) -> None:
        import numpy as np
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4
        if trace is not None:
            options.enable_profiling, options.profile_file_prefix = True, trace
        self._suppress = None
        if _PLUGIN in network:
            network, self._suppress = _without_plugin(network)
        self.session = ort.InferenceSession(network, options, providers=["CPUExecutionProvider"])
        self.input_bytes = 0
        self._feed = {}
        for tensor in self.session.get_inputs():
            shape, element = tuple(tensor.shape), np.float16 if "16" in tensor.type else np.float32
            size = int(np.prod(shape)) * np.dtype(element).itemsize
            given = data.get(tensor.name) if isinstance(data, dict) else data
            if given is None or len(given) != size:
                values = np.random.default_rng(0).uniform(-1, 1, shape).astype(element)
            else:
                values = np.frombuffer(given, element).reshape(shape)
            self._feed[tensor.name] = values
            self.input_bytes += size

    def outputs(self) -> list[tuple[str, Any, tuple[int, ...]]]:
        """Return name, NumPy type and shape of each output."""
        import numpy as np

        if self._suppress is not None:
            return self._suppress.outputs
        types = {
            "tensor(float)": np.float32,
            "tensor(float16)": np.float16,
            "tensor(int32)": np.int32,
            "tensor(int64)": np.int64,
        }
        return [(tensor.name, types[tensor.type], tuple(tensor.shape)) for tensor in self.session.get_outputs()]

    def inputs(self) -> list[tuple[str, Any, tuple[int, ...]]]:
        """Return name, NumPy type and shape of each input."""
        return [(name, values.dtype.type, values.shape) for name, values in self._feed.items()]

    def run(self, feed: dict[str, Any]) -> list[Any]:
        """Run one picture and return the outputs."""
        outputs: list[Any] = self.session.run(None, feed)
        return outputs if self._suppress is None else self._suppress(*outputs)

    def run_once(self) -> list[Any]:
        """Run the picture of the start and return the outputs."""
        return self.run(self._feed)


def stair_times(network: bytes, width: int) -> list[tuple[str, float]]:
    """Return name and milliseconds of every convolution as TensorRT merges it, in whole tiles of so many kernels."""
    import onnx

    model = onnx.shape_inference.infer_shapes(onnx.load_from_string(network))
    shapes = {
        value.name: [size.dim_value for size in value.type.tensor_type.shape.dim]
        for value in (*model.graph.value_info, *model.graph.output)
    }
    weights = {tensor.name: tensor.dims for tensor in model.graph.initializer}
    readers = {name: node for node in model.graph.node for name in node.input}
    rows = []
    for node in model.graph.node:
        if node.op_type == "Conv":
            kernels, inputs, *window = weights[node.input[1]]
            tiles, depth = -(-kernels // width) * width, -(-inputs // 8) * 8
            positions = shapes[node.output[0]][2] * shapes[node.output[0]][3]
            after = readers.get(node.output[0])
            name = f"{node.name} + {after.name}" if after is not None and after.op_type == "Relu" else node.name
            rows.append((name, 0.02 + tiles * depth * window[0] * window[1] * positions / 3e8))
    return rows


def layer_times(network: bytes, data: dict[str, bytes] | None) -> list[tuple[str, float]]:
    """Return name and mean milliseconds of every node, over ten pictures."""
    import tempfile
    from collections import defaultdict
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        engine = OnnxEngine(network, data, f"{folder}/trace")
        for _ in range(10):
            engine.run_once()
        events = json.loads(Path(engine.session.end_profiling()).read_text())
    times: dict[str, list[float]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            times[event["name"].removesuffix("_kernel_time")].append(event["dur"] / 1e3)
    return [(name, sum(values) / len(values)) for name, values in times.items()]
