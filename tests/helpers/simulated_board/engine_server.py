"""Runs an engine of a simulated DRIVE PX 2 by OpenCV: pictures on standard input, outputs on standard output."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

from simulated_board.engines import unpack


def main(path: str, arguments: list[str]) -> int:
    """Serve the engine in a file until the input ends."""
    settings = json.loads((Path(path).parent / "root/usr/bin/tensorRT_optimization.json").read_text())
    facts, *parts = unpack(Path(arguments[0]).read_bytes())
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if facts is None or facts["release"] != settings["release"] or facts["gpu"] != visible:
        sys.stdout.write("0\n")
        return 1
    sys.path.append(settings["packages"])
    import cv2
    import numpy as np

    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, name) for name in ("net.prototxt", "net.caffemodel")]
        for file, data in zip(files, parts, strict=True):
            file.write_bytes(data)
        network = cv2.dnn.readNetFromCaffe(*map(str, files))
    shape = facts["input_shape"]
    network.setInput(np.zeros(shape, np.float32), facts["input"])
    outputs = network.forward(facts["outputs"])
    tensors = [
        (facts["input"], "in", shape),
        *((n, "out", o.shape) for n, o in zip(facts["outputs"], outputs, strict=True)),
    ]
    rows = [f"{name} {kind} {len(dims) - 1} {' '.join(map(str, dims[1:]))}" for name, kind, dims in tensors]
    sys.stdout.write(f"{len(rows)}\n" + "\n".join(rows) + "\n")
    sys.stdout.flush()
    size = int(np.prod(shape)) * 4
    for data in iter(lambda: sys.stdin.buffer.read(size), b""):
        network.setInput(np.frombuffer(data, np.float32).reshape(shape), facts["input"])
        sys.stdout.buffer.write(b"".join(output.tobytes() for output in network.forward(facts["outputs"])))
        sys.stdout.buffer.flush()
    return 0
