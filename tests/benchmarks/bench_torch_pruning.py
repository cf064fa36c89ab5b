"""Detectors pruned here to a goal of time and by Torch-Pruning, to as many MACs: both take turns in ONNX Runtime.

Torch-Pruning takes the same ratio of every layer, in multiples of 16 (``round_to=16``), and of the ratios tried the one
that comes nearest to the white paper's share of the back-end's MACs. Here ``prune --speedup`` chooses layers and counts
by times of this machine, for the speed-up at which as many MACs go as went there (and, with ``--same-loss``, for the one
at which as much is lost). Both rank the filters of the same seeded weights by their L1 norms, and what they decide is
removed from the same graph, so that nothing else differs. The peer decides in a process of its own: threads of PyTorch
shall not be in the way of those that are timed. Loss is what a goal keeps small, and a ratio for all layers does not:
the sum over the layers of ``-log(norms that stay / norms)``.

Wanted: at least 10 % faster on one of the networks, and never slower. Exits 1 where no network is that much faster, or
where the peer's is faster in the median and in three of four rounds.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from bench_pruning_pays import GOALS, measure

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "helpers"))
from pruned_networks import NETWORKS, backend, copy_of, import_seeded
from real_models import add_assets_option

import deploycc
from deploycc import PruneSettings
from deploycc.detector import Detector
from deploycc.errors import BudgetMissed
from deploycc.graph.channels.labels import channel_groups
from deploycc.graph.channels.removal import remove_channels
from deploycc.graph.cost import measure_cost
from deploycc.passes import DROP_DEAD, FOLD, run
from deploycc.timing.convolutions import Costs
from deploycc.timing.machine import this_machine
from deploycc.workflows.prune import Pruned, cpu_options

FASTER = 0.9  # of the peer's time, on one network
_TRIES = 8
_CORRECTIONS = 5
_EQUAL = 0.01  # of what is wanted: closer is not asked for
_STEP = 0.7  # loss grows faster than the time that is saved


def macs_saved(dense: Detector, small: Detector) -> float:
    return 1 - measure_cost(small.graph).macs / measure_cost(dense.graph).macs


def by_peer(packages: Path | None, assets: Path, name: str) -> tuple[str, dict[str, tuple[int, ...]]]:
    """Releases of the peer, and the kernels that it removes for a share of the back-end's MACs; in its own process."""
    import torch
    from torch_pruning_peer import decided_by_peer, install

    dense, share = folded(import_seeded(assets, name)), NETWORKS[name]
    with tempfile.TemporaryDirectory() as folder:
        if packages is None:
            install(packages := Path(folder))
        sys.path.insert(0, str(packages))
        import torch_pruning as tp

        low, high, tried = 0.0, 0.6, dict[float, dict[str, tuple[int, ...]]]()
        for _ in range(_TRIES):
            ratio = (low + high) / 2
            kernels = decided_by_peer(tp, dense, ratio)
            saved = 1 - backend(without(dense, kernels)) / backend(dense)
            tried[abs(saved - share)] = kernels
            low, high = (ratio, high) if saved < share else (low, ratio)
        return f"PyTorch {torch.__version__}, Torch-Pruning {version('torch-pruning')}", tried[min(tried)]


def folded(detector: Detector) -> Detector:
    return run(detector, cpu_options(), FOLD + DROP_DEAD).detector


def loss(dense: Detector, small: Detector) -> float:
    """What is given up, as `deploycc.pruning.worth.ShareOfLayer` says; norms of seeded filters are nearly the same."""
    left = {node.name: len(node.inputs[1].values) for node in small.graph.nodes if node.op == "Conv"}
    kernels = {node.name: len(node.inputs[1].values) for node in dense.graph.nodes if node.op == "Conv"}
    return sum(math.log(count / left[name]) for name, count in kernels.items())


def without(dense: Detector, kernels: dict[str, tuple[int, ...]]) -> Detector:
    """The network without these kernels; what their channels hold does not matter here."""
    small = copy_of(dense)
    groups = channel_groups(small.graph)
    remove_channels(small.graph, groups, groups.of_kernels(kernels))
    left = {node.name: len(node.inputs[1].values) for node in small.graph.nodes if node.op == "Conv"}
    for node in dense.graph.nodes:
        if node.op == "Conv":
            assert left[node.name] == len(node.inputs[1].values) - len(kernels.get(node.name, ())), node.name
    return small


def by_goal(detector: Detector, costs: Costs, save: float, part_of: Callable[[Pruned], float]) -> tuple[str, Detector]:
    """The network for the speed-up at which as much goes as wanted; ``part_of`` says how much of that goes."""
    tried: list[tuple[float, str, Detector]] = []
    for _ in range(_CORRECTIONS):
        speedup = 1 / (1 - save)
        try:
            pruned = deploycc.prune(detector, PruneSettings(by="l1", speedup=speedup), costs=costs)
        except BudgetMissed:  # nothing is as fast as that
            break
        part = part_of(pruned)
        tried.append((abs(part - 1), f"--speedup {speedup:.3f}x", pruned.detector))
        if abs(part - 1) <= _EQUAL:
            break
        save = min(save / part**_STEP, (1 + save) / 2)
    _, command, small = min(tried, key=lambda each: each[0])
    return command, small


def networks_of(name: str, given: argparse.Namespace) -> dict[str, Detector]:
    """The networks to compare, by what the table calls them."""
    detector = import_seeded(given.assets, name)
    dense = folded(detector)
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        releases, kernels = pool.submit(by_peer, given.packages, given.assets, name).result()
    networks = {"dense": dense, "peer": without(dense, kernels)}
    saved, lost = macs_saved(dense, networks["peer"]), loss(dense, networks["peer"])
    costs = Costs(this_machine(given.threads))
    same_macs, networks["MACs"] = by_goal(
        detector, costs, saved, lambda pruned: macs_saved(dense, pruned.detector) / saved
    )
    print(f"{name}: {releases}; as many MACs here: {same_macs}", end="", flush=True)
    if given.same_loss:
        same_loss, networks["loss"] = by_goal(
            detector, costs, saved, lambda pruned: loss(dense, pruned.detector) / lost
        )
        print(f", as much loss: {same_loss}", end="")
    print()
    return networks


def compare(name: str, given: argparse.Namespace) -> tuple[float, bool]:
    """Print a line for each network; return the time against the peer's, and whether that is clearly more."""
    networks = networks_of(name, given)
    dense, runs = networks["dense"], []
    for _ in range(given.runs):
        samples = {each: values[:, 0] for each, values in measure(networks, given.rounds, given.threads).items()}
        for each, times in samples.items():
            low, middle, high = np.percentile(times / samples["peer"], [25, 50, 75])
            saved, lost = macs_saved(dense, networks[each]), loss(dense, networks[each])
            print(
                f"  {each:6} {measure_cost(networks[each].graph).macs / 1e9:7.3f}  {saved:6.1%}  {lost:5.2f}  "
                f"{np.median(times):9.2f}  {times.min():8.2f}  "
                f"{middle:.3f} ({low:.3f} to {high:.3f})  {times.min() / samples['peer'].min():.3f}",
                flush=True,
            )
        ratios = samples["MACs"] / samples["peer"]
        runs.append((float(np.median(ratios)), float(np.mean(ratios > 1))))
    ratio, rounds_lost = max(runs)
    slower = ratio > 1 and rounds_lost >= 0.75  # by less, the clock cannot tell them apart
    print(f"  at as many MACs the slowest run takes {ratio:.3f} of the peer's time{': SLOWER' if slower else ''}")
    return ratio, slower


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=[*GOALS])
    add_assets_option(parser)
    parser.add_argument("--packages", type=Path, help="a folder that has the peer's package already")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--runs", type=int, default=3, help="times that the networks are loaded and timed")
    parser.add_argument("--same-loss", action="store_true", help="also prune here to as much loss")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    print(f"{this_machine(given.threads).describe()}; {given.runs} runs of {given.rounds} rounds")
    print(
        "           GMACs   saved   loss  median ms   minimum  time against peer: median of pairs (quartiles), of minima"
    )
    found = [compare(each, given) for each in given.networks]
    best = min(ratio for ratio, _ in found)
    missed = best > FASTER or any(slower for _, slower in found)
    print(f"at best {best:.3f} of the peer's time, at most {FASTER} wanted{': MISSED' if missed else ''}")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
