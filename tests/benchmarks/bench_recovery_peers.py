"""The same detector pruned here and by Torch-Pruning, then taught alike, scored alike and timed in turns.

    python tests/benchmarks/bench_recovery_peers.py [street] [voc21] [--steps 4000] [--minutes M]

Torch-Pruning 1.6 prunes by the L1 norms of filters, the same ratio in every layer and counts in multiples of 16
(``round_to=16``); of the ratios tried, the one that comes nearest to the wanted share of the back-end's MACs counts.
What it then removed is what the others remove too. It decides on the executor with its convolutions as modules (`torch_executor_layers`): in the executor itself it finds no
layer and prunes nothing. What it decided is removed from the detector's own graph, so that both sides are files of the
same kind, and every layer must have as many kernels as in Torch-Pruning's module. ``fisher`` and ``l1`` are this
project's, at equal multiply-accumulates, and so is ``latency``: by Fisher information until the network is as fast as
Torch-Pruning's, both measured on this machine, whatever it computes. Then all get the same pictures, steps or minutes,
seed and loss (`train recover`); ``+refit`` is least squares first, which the peer does not have, so it is also shown
without. Weights are chosen by agreement with the teacher on pictures that are held out; the pictures for scoring are
only for scoring.

NNCF 3.4 is no row here: it takes the executor as it is (``nncf.prune``), but all its modes of pruning set single weights
to zero. No kernel goes, no shape changes, and no MAC is saved at the same precision (measured on both detectors below);
the pruning of filters that NNCF 2 had is gone.

``street``: street_ssd learns on 2000 generated scenes, and is scored on 500 others. ``voc21``: voc21_ssd_mobilenet
learns on natural1000, without labels, and is scored on voc100. Exits 1 where the peer's best is more accurate than the
best here by more than ``--tie`` points.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from bench_distillation import Subject, cut_by, first, saved_by, street
from numpy.typing import NDArray
from torch_pruning_peer import decided_by_peer, install

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "helpers"))
from real_models import add_assets_option

import deploycc
from deploycc.cpu_session import open_session
from deploycc.detector import Detector
from deploycc.detector.picture_list import PictureList, folder_pictures
from deploycc.distillation.loop import TrainingSettings
from deploycc.evaluation.accuracy import measure_accuracy
from deploycc.evaluation.dataset import open_dataset, remembered
from deploycc.graph.export import to_onnx
from deploycc.passes import FOLD, run
from deploycc.timing.convolutions import Costs
from deploycc.timing.machine import this_machine
from deploycc.timing.turns import time_in_turns
from deploycc.workflows.pictures_with_objects import pictures_with_objects
from deploycc.workflows.prune import Pruned, cpu_options
from deploycc.workflows.recover import recover

TRIES = 8
PEER = "torch-pruning"


def voc21(assets: Path, below: float | None, scored: int) -> Subject:
    """Nothing learns from voc100, is calibrated on it or chosen by it."""
    teacher = deploycc.load(assets / "voc21_ssd_mobilenet" / "voc21_ssd_mnv1_075_boxes.onnx")
    data = remembered(open_dataset(f"voc:{assets / 'voc100'}"))

    def score(detector: Detector) -> float:
        return 100 * float(measure_accuracy(detector, data).summary()["map50_area"])

    return Subject(teacher, below or 0.22, folder_pictures(assets / "natural1000"), score, lambda own, whole: True)


def cut_by_peer(tp: Any, subject: Subject, calibration: PictureList) -> tuple[deploycc.Pruned, deploycc.Pruned]:
    """Prune by Torch-Pruning's decisions; return the network as it is then, and refitted."""
    folded = run(subject.teacher, cpu_options(), FOLD).detector
    settings = deploycc.PruneSettings(by="mask", multiple=1)
    low, high, best = 0.0, 0.6, (1.0, dict[str, tuple[int, ...]]())
    for _ in range(TRIES):
        ratio = (low + high) / 2
        mask = decided_by_peer(tp, folded, ratio)
        saved = saved_by(deploycc.prune(folded, settings, mask=mask).detector) if mask else 0.0
        low, high = (ratio, high) if saved < subject.below else (low, ratio)
        best = min(best, (abs(saved - subject.below), mask), key=lambda pair: pair[0])
    mask = best[1]
    pruned = deploycc.prune(folded, settings, mask=mask)
    for node in pruned.detector.graph.nodes:
        if node.op == "Conv":
            before = next(other for other in folded.graph.nodes if other.name == node.name)
            assert len(node.inputs[1].values) == len(before.inputs[1].values) - len(mask.get(node.name, ())), node.name
    return pruned, deploycc.prune(folded, settings, mask=mask, pictures=calibration)


def cut_to_latency(subject: Subject, peer: Detector, calibration: PictureList, given: argparse.Namespace) -> Pruned:
    """Prune by the times of this machine until the network takes as long as the peer's; it is refitted."""
    networks = {name: run(one, cpu_options(), FOLD).detector for name, one in (("own", subject.teacher), (PEER, peer))}
    samples = times_in_turns(networks, given.threads, given.rounds)
    speedup = float(np.median(samples["own"] / samples[PEER]))
    print(f"  the peer's network is {speedup:.3f} times as fast as the trained one", flush=True)
    settings = deploycc.PruneSettings(by="fisher", speedup=speedup)
    costs = Costs(this_machine(given.threads))
    return deploycc.prune(subject.teacher, settings, pictures=calibration, costs=costs)


def times_in_turns(networks: Mapping[str, Detector], threads: int, rounds: int) -> dict[str, NDArray[np.float64]]:
    """Wall times in milliseconds, in ONNX Runtime, one picture at a time."""

    def run_of(name: str, detector: Detector) -> Callable[[NDArray[np.float32]], object]:
        session = open_session(to_onnx(detector.graph), threads, {"network": name})
        return lambda data: session.run(None, {detector.input.name: data})

    runs = {name: run_of(name, detector) for name, detector in networks.items()}
    shape = next(iter(networks.values())).input.shape
    data = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    samples = time_in_turns(runs, [data], most_rounds=rounds, warm_up=1, rest=0.1)
    return {name: values[:, 0] for name, values in samples.items()}


def compare(tp: Any, subject: Subject, given: argparse.Namespace, settings: TrainingSettings) -> bool:
    """Print a line per way and state, and the times; return whether the peer is not better."""
    calibration = first(pictures_with_objects(subject.pictures, subject.teacher), given.calibration)
    whole = subject.score(subject.teacher)
    print(
        f"{subject.teacher.name}: {len(subject.pictures.names)} pictures; the trained network {whole:.2f}", flush=True
    )
    peer = subject.teacher
    timed, figures = {"trained": run(subject.teacher, cpu_options(), FOLD).detector}, dict[str, float]()
    for way in sorted(given.ways.split(","), key=lambda way: way != PEER):
        if way == PEER:
            pruned, refitted = cut_by_peer(tp, subject, calibration)
            subject, peer = replace(subject, below=saved_by(pruned.detector)), pruned.detector
        elif way == "latency":
            refitted = cut_to_latency(subject, peer, calibration, given)
        else:
            _, refitted = cut_by(way, subject, calibration)
        starts = {way: pruned} if way == PEER else {}
        for name, start in {**starts, f"{way}+refit": refitted}.items():
            before = subject.score(start.detector)
            done = recover(start.detector, subject.teacher, subject.pictures, settings, threads=given.threads)
            figures[name] = subject.score(done.detector)
            timed[name] = run(done.detector, cpu_options(), FOLD).detector
            print(
                f"  {name:20} back-end MACs -{saved_by(start.detector):.1%}  as pruned {before:6.2f}  recovered "
                f"{figures[name]:6.2f} ({figures[name] - whole:+.2f})  agreement {100 * done.training.after.map50:.1f}  "
                f"{done.training.steps} steps, {done.training.minutes:.1f} minutes",
                flush=True,
            )
    samples = times_in_turns(timed, given.threads, given.rounds)
    reference = samples.get(PEER, samples["trained"])
    print(f"  {'':20} median ms   time against {PEER if PEER in samples else 'trained'}, median of pairs")
    for name, values in samples.items():
        print(f"  {name:20} {np.median(values):9.2f}   {np.median(values / reference):.3f}")
    peers = [figure for name, figure in figures.items() if name.startswith(PEER)]
    ours = [figure for name, figure in figures.items() if not name.startswith(PEER)]
    return not peers or not ours or max(ours) >= max(peers) - given.tie


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", default=["street", "voc21"], help="street, voc21")
    parser.add_argument("--ways", default=f"fisher,l1,latency,{PEER}")
    parser.add_argument("--packages", type=Path, help="a folder that has the peer's package already")
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--minutes", type=float, help="for each way, where the steps take longer")
    parser.add_argument("--below", type=float, default=0.22, help="share of the back-end's MACs (default: %(default)s)")
    parser.add_argument("--pictures", type=int, default=2000, help="street: to learn on")
    parser.add_argument("--scored", type=int, default=500, help="street: scenes")
    parser.add_argument("--calibration", type=int, default=400, help="pictures for ranking kernels and refitting")
    parser.add_argument("--bfloat16", action="store_true", help="train in 16 bits")
    parser.add_argument("--check-every", type=int, default=250, help="steps")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=200, help="of timing")
    parser.add_argument("--tie", type=float, default=0.5, help="points of mAP50 that chance decides")
    add_assets_option(parser)
    given = parser.parse_args()
    if "latency" in given.ways and PEER not in given.ways:
        parser.error(f"latency is that of {PEER}, which is not among the ways")
    torch.set_num_threads(given.threads)
    settings = TrainingSettings(
        given.steps, given.minutes, check_every=given.check_every, seed=given.seed, bfloat16=given.bfloat16
    )
    with tempfile.TemporaryDirectory() as name:
        packages = given.packages or Path(name)
        if given.packages is None:
            install(packages)
        sys.path.insert(0, str(packages))
        import torch_pruning as tp

        print(
            f"PyTorch {torch.__version__}, Torch-Pruning {tp.__version__}, ONNX Runtime {ort.__version__}, "
            f"{given.threads} threads"
        )
        kept = True
        for what in given.what:
            subject = (
                street(given.below, given.pictures, given.scored)
                if what == "street"
                else voc21(given.assets, given.below, given.scored)
            )
            kept &= compare(tp, subject, given, settings)
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
