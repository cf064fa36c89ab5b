"""What a training step of VGG-SSD300 takes: time and peak memory of `train recover`; exits 1 over 20 s or 6 GB.

    python tests/benchmarks/bench_training_step.py [--threads 2] [--batch 4] [--bfloat16] [--labels]

Weights are seeded, and the network is its own teacher: every layer is trained, more than in any pruned network. Each
variant runs in a process of its own. The peak is of the whole process: PyTorch, the teacher in ONNX Runtime, its
answers, pictures, weights and the optimiser's state. The first step also reserves that state, so the median is of the
others. CPU time is printed beside wall time, which only an idle machine makes a figure.

A CPU without units for bfloat16 computes in float32 anyway.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "helpers"))
from pruned_networks import read
from real_models import add_assets_option

from deploycc.detector.picture_list import PictureList
from deploycc.distillation.agreement import Judge
from deploycc.distillation.average import Average
from deploycc.distillation.loop import State, Training, TrainingSettings
from deploycc.distillation.optimiser import Optimiser, hidden_matrices
from deploycc.distillation.pair import Pair
from deploycc.distillation.precision import fast_type
from deploycc.distillation.samples import LEAST_PICTURES, Samples
from deploycc.distillation.views import Labels

MOST_SECONDS, MOST_GB = 20.0, 6.0


def measure(given: argparse.Namespace) -> None:
    """Train a few steps and print what they took."""
    torch.set_num_threads(given.threads)
    teacher = read(given.assets, given.definition)

    def noise(number: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        return np.random.default_rng(number).integers(0, 256, (300, 300, 3), np.uint8)

    def objects(number: int) -> Labels:
        return Labels(np.array([[0.1, 0.2, 0.5, 0.6], [0.4, 0.3, 0.9, 0.9]], np.float32), np.array([1, 1 + number % 5]))

    pictures = PictureList("noise", tuple(map(str, range(LEAST_PICTURES))), "0" * 64, noise)
    samples = Samples(pictures, teacher.input, 1, objects if given.labels else None)
    settings = TrainingSettings(given.steps, batch=given.batch, bfloat16=given.bfloat16, check_every=10**6)
    pair = Pair(teacher, teacher, samples, settings.memory_mib, settings.map_weight, label_weight=1.0)
    judge = Judge(teacher, samples.held_out[:1], samples.picture)
    clocks = [(time.monotonic(), time.process_time())]

    def stepped(_: str, done: int = 0, count: int = 0) -> None:
        clocks.append((time.monotonic(), time.process_time()))

    state = State("")
    optimiser = Optimiser(pair.student, settings.rate, hidden_matrices(teacher))
    average = Average(dict(pair.student.named_parameters()))
    training = Training(pair, optimiser, samples, settings, judge, state, None, lambda _: None, stepped, average)
    stopped = training.run()
    assert stopped is None, stopped
    assert state.step == given.steps
    wall, cpu = np.diff(np.array(clocks), axis=0).T
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9
    first, later = wall[0], float(np.median(wall[1:]))
    kind = fast_type(torch.device("cpu")) if given.bfloat16 else torch.float32
    print(
        f"{given.definition}, batch {given.batch}, {kind}"
        f"{', labels' if given.labels else ''}: step {later:.2f} s wall, {np.median(cpu[1:]):.2f} s CPU "
        f"(first {first:.2f} s), peak {peak:.2f} GB",
        flush=True,
    )
    sys.exit(int(max(first, later) > MOST_SECONDS or peak > MOST_GB))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_assets_option(parser)
    parser.add_argument("--definition", default="vgg_ssd300_voc_deploy")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--bfloat16", action="store_true", help="only this variant, instead of all")
    parser.add_argument("--labels", action="store_true", help="likewise, with labels")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.alone:
        measure(given)
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    print(f"PyTorch {torch.__version__}, {given.threads} threads, {cores} cores to run on, load of the machine {load}")
    variants = [[], ["--bfloat16"], ["--labels"]]
    if given.bfloat16 or given.labels:
        variants = [["--bfloat16"] * given.bfloat16 + ["--labels"] * given.labels]
    command = [sys.executable, __file__, *sys.argv[1:], "--alone"]
    return max(subprocess.run([*command, *variant]).returncode for variant in variants)


if __name__ == "__main__":
    sys.exit(main())
