"""One frame of a real SSD, decoding and suppression included: this compiler's output against OpenCV on the same file.

Both start from the prepared input tensor and end at the detections, both with the same number of threads, taking turns
in one process, so that whatever else the machine does meets both. Exits 1 where the goal is missed.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "helpers"))
from numerics import assert_same_detections
from opencv_ssd import VOC21, read_rows
from real_models import add_assets_option

from deploycc import target
from deploycc.detector.pictures import find_pictures, prepare, read_picture
from deploycc.evaluation.decode import read_detections
from deploycc.evaluation.detect import OnnxRuntimeDetector
from deploycc.evaluation.nms import Detections
from deploycc.importers import load
from deploycc.passes import PIPELINE, run
from deploycc.passes.for_target import options_for

OPENCV = "cv2.dnn"
PAUSE_S = 0.01  # before each frame: the threads of the one before wait actively for a while and would take its cores


def frames(assets: Path, threads: int) -> dict[str, Callable[[np.ndarray], Detections]]:
    """What is compared, by name: from the input tensor to detections."""
    cv2.setNumThreads(threads)
    topology, weights = (str(assets / VOC21.folder / name) for name in (VOC21.topology, VOC21.weights))
    network = cv2.dnn.readNetFromCaffe(topology, weights)

    def opencv(tensor: np.ndarray) -> Detections:
        network.setInput(tensor)
        return read_rows(network.forward("detection_out"))

    spec = VOC21.input
    detector = load(topology, mean=spec.mean, scale=spec.scale, colour=spec.colour)
    cpu = target.load("x86-cpu")
    compared: dict[str, Callable[[np.ndarray], Detections]] = {OPENCV: opencv}
    for lowering in target.capabilities(cpu).detections:
        compiled = run(detector, options_for(cpu, detection=lowering), PIPELINE)  # type: ignore[arg-type]
        runner = OnnxRuntimeDetector(compiled.detector, threads=threads)
        compared[lowering] = lambda tensor, r=runner: read_detections(r.detector, r.run(tensor))  # type: ignore[misc]
    return compared


def main() -> int:
    """Compare, print a table, return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_assets_option(parser)
    parser.add_argument("--rounds", type=int, default=200, help="frames of each (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="of each (default: %(default)s)")
    parser.add_argument("--goal", type=float, default=2.5, help="times faster than OpenCV (default: %(default)s)")
    arguments = parser.parse_args()

    pictures = find_pictures(arguments.assets / "voc100" / "JPEGImages")
    tensors = [prepare(read_picture(path), VOC21.input) for path in pictures]
    compared = frames(arguments.assets, arguments.threads)
    for tensor in tensors[:20]:  # warm-up, and proof that the same work is done
        expected = compared[OPENCV](tensor)
        for name, detect in compared.items():
            if name != OPENCV:
                assert_same_detections(detect(tensor), expected, score_atol=1e-3, min_iou=0.99)

    load_before = os.getloadavg()[0] - arguments.threads  # without this process's own warm-up
    shuffle = random.Random(0)
    samples: dict[str, list[float]] = {name: [] for name in compared}
    for round_number in range(arguments.rounds):
        tensor = tensors[round_number % len(tensors)]
        for name in shuffle.sample(sorted(compared), len(compared)):
            time.sleep(PAUSE_S)
            start = time.perf_counter()
            compared[name](tensor)
            samples[name].append((time.perf_counter() - start) * 1000)

    lines = [f"{'':14}{'median ms':>10}{'p90 ms':>9}{'min ms':>9}{'OpenCV / this':>15}"]
    ratios = {}
    for name, times in samples.items():
        ratios[name] = statistics.median(b / a for a, b in zip(times, samples[OPENCV], strict=True))
        p90 = float(np.quantile(times, 0.9))
        lines.append(f"{name:14}{statistics.median(times):10.2f}{p90:9.2f}{min(times):9.2f}{ratios[name]:14.2f}x")
    default = next(name for name in compared if name != OPENCV)  # the target's preferred lowering comes first
    reached = ratios[default] >= arguments.goal
    lines.append(
        f"{arguments.rounds} frames of {VOC21.folder}, {arguments.threads} threads; goal {arguments.goal}x with "
        f"{default}, the default of x86-cpu: {'reached' if reached else 'MISSED'}"
    )
    if load_before > 0.5:
        lines.append(
            "other processes were busy: threads that wait for a processor gain nothing; repeat when it is quiet"
        )
    sys.stdout.write("\n".join(lines) + "\n")
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main())
