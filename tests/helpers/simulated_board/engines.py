"""Engines of simulated boards: a network with what the builder knew, run by ONNX Runtime or OpenCV on this machine."""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from pathlib import Path
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


class OnnxEngine:
    """Runs an ONNX network on one CPU thread."""

    def __init__(self, network: bytes, data: bytes | None, trace: str | None = None) -> None:
        import numpy as np
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4
        if trace is not None:
            options.enable_profiling, options.profile_file_prefix = True, trace
        self.session = ort.InferenceSession(network, options, providers=["CPUExecutionProvider"])
        [picture] = self.session.get_inputs()
        shape, element = tuple(picture.shape), np.float16 if "16" in picture.type else np.float32
        self.input_bytes = int(np.prod(shape)) * np.dtype(element).itemsize
        if data is None or len(data) != self.input_bytes:
            values = np.random.default_rng(0).uniform(-1, 1, shape).astype(element)
        else:
            values = np.frombuffer(data, element).reshape(shape)
        self._feed = {picture.name: values}

    def run_once(self) -> list[Any]:
        """Run one picture."""
        outputs: list[Any] = self.session.run(None, self._feed)
        return outputs


def layer_times(network: bytes, data: bytes | None) -> list[tuple[str, float]]:
    """Return name and mean milliseconds of every node, over ten pictures."""
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
