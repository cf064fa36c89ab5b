"""What pruned MACs save in time: dense and pruned networks of seeded weights, taking turns in ONNX Runtime.

Kernels of seeded utilisation go until the back-end has lost the white paper's share of its MACs, rounding included.
Each round runs every network once, in a new order; a pair is the pruned and the dense run of one round. Processor time
is shown beside wall time: with one thread it does not see what else the machine does. Where other programs run,
``chrt -f 10`` in front of the command (as root, on Linux) keeps them off the processor meanwhile.

Exits 1 where what ``deploycc prune`` chooses by itself (auto) pays less than it should; ``--layers`` then shows which
layers did not get faster.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "helpers"))
from layer_times import describe, shortfalls
from pruned_networks import NETWORKS, backend, backend_without, copy_of, kernels_of, read
from real_models import add_assets_option

from deploycc.detector import Detector
from deploycc.graph.channels.groups import ChannelGroups
from deploycc.graph.channels.labels import channel_groups
from deploycc.graph.channels.removal import remove_channels
from deploycc.graph.cost import measure_cost
from deploycc.graph.export import to_onnx
from deploycc.pruning import kept_counts
from deploycc.pruning.decide import Choice
from deploycc.timing.convolutions import Costs
from deploycc.timing.machine import this_machine
from deploycc.timing.turns import time_in_turns

THREADS = 2
_PAUSE = 0.1  # of a round's time, after it: of a realtime program Linux takes 5 % of each second away
_WARM_UP = 1  # rounds
# Time saved for each MAC saved, of auto: the white paper's CPUs gave 0.93, 0.57, - and 0.27.
GOALS = {
    "vgg_ssd300_voc_deploy": 0.85,
    "squeezenet_ssd_voc_deploy": 0.75,
    "MobileNetSSD_voc_deploy": 0.75,
    "pva_ssd": 0.5,
}


def pruned(dense: Detector, share: float, rounding: str, threads: int) -> tuple[Detector, float]:
    """The network with rounded counts that has lost this share of its back-end, and the seconds that measuring took.

    More useless kernels make up for those that rounding keeps; ``auto`` gets as many as multiples of 16 need.
    """
    groups = channel_groups(dense.graph)
    order = np.random.default_rng(0).permutation(groups.free).tolist()
    full, multiple = backend(dense), 16 if rounding == "auto" else int(rounding)
    low, high = 0, len(order)
    while low < high:
        middle = (low + high) // 2
        going = rounded(groups, order[:middle], multiple)
        if 1 - backend_without(dense, groups, list(going)) / full < share:
            low = middle + 1
        else:
            high = middle
    going, start = rounded(groups, order[:low], multiple), time.perf_counter()
    if rounding == "auto":
        costs = Costs(this_machine(threads))
        choice = seeded(groups, order[:low])
        going, _, _ = kept_counts.fastest_counts(dense.graph, groups, choice, order[:low], groups.layers, costs)
    seconds = time.perf_counter() - start
    small = copy_of(dense)
    remove_channels(small.graph, groups, going)  # what the channels hold does not matter here
    return small, seconds


def seeded(groups: ChannelGroups, gone: list[int]) -> Choice:
    generator = np.random.default_rng(1)
    use = {name: generator.uniform(0, 0.05, len(own)) for name, own in groups.layers.items()}
    return Choice(kernels_of(groups, gone), use, "seeded")


def rounded(groups: ChannelGroups, gone: list[int], multiple: int) -> frozenset[int]:
    return kept_counts.fixed_multiple(groups, seeded(groups, gone), gone, groups.layers, multiple)[0]


def session(detector: Detector, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.add_session_config_entry("session.force_spinning_stop", "1")  # an idle network takes no core of the next
    return ort.InferenceSession(to_onnx(detector.graph).SerializeToString(), options, ["CPUExecutionProvider"])


def measure(networks: dict[str, Detector], rounds: int, threads: int) -> dict[str, NDArray[np.float64]]:
    """Wall and processor time of each run, milliseconds, [rounds, 2]."""
    shape = next(iter(networks.values())).input.shape
    feed = np.random.default_rng(0).standard_normal(shape, np.float32)
    busy_ms: dict[str, list[float]] = {name: [] for name in networks}

    def timed(name: str) -> Callable[[NDArray[np.float32]], None]:
        own = session(networks[name], threads)
        source = own.get_inputs()[0].name

        def run(picture: NDArray[np.float32]) -> None:
            busy = time.process_time_ns()
            own.run(None, {source: picture})
            busy_ms[name].append((time.process_time_ns() - busy) / 1e6)

        return run

    runs = {name: timed(name) for name in networks}
    wall_ms = time_in_turns(runs, [feed], most_rounds=rounds + _WARM_UP, rest=_PAUSE)
    return {name: np.stack([wall_ms[name][:, 0], busy_ms[name][1:]], 1)[_WARM_UP:] for name in networks}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="*", default=[*GOALS])
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--roundings", default="1,16,auto")
    add_assets_option(parser)
    parser.add_argument("--threads", type=int, default=THREADS)
    parser.add_argument("--layers", type=int, metavar="N", default=0, help="show the N layers that miss most")
    given = parser.parse_args()
    print(
        f"ONNX Runtime {ort.__version__}, {given.threads} threads, {given.rounds} rounds; pays = time saved / MACs saved"
    )
    print(f"{'':27} round   MACs    dense ms         pruned ms        wall time saved   pays, of wall   processor time")
    print(f"{'':27} to      saved   median  minimum  median  minimum  paired  minima   paired  minima  saved   pays")
    missed = False
    for name in given.networks:
        dense = read(given.assets, name)
        networks, took = {"dense": dense}, 0.0
        for rounding in given.roundings.split(","):
            networks[rounding], seconds = pruned(dense, NETWORKS[name], rounding, given.threads)
            took = seconds if rounding == "auto" else took
        samples = measure(networks, given.rounds, given.threads)
        first = samples.pop("dense")
        pays = {}
        for rounding, own in samples.items():
            saved = macs_saved(dense, networks[rounding])
            paired, busy = 1 - np.median(own / first, axis=0)
            least = 1 - own[:, 0].min() / first[:, 0].min()
            cells = [f"{f(s[:, 0]):7.2f}" for s in (first, own) for f in (np.median, np.min)]
            pays[rounding] = paired / saved
            ratios = [f"{share / saved:6.2f}" for share in (paired, least, busy)]
            shares = f"{paired:6.1%}  {least:6.1%}   {ratios[0]}  {ratios[1]}  {busy:6.1%}  {ratios[2]}"
            print(f"{name:27} {rounding:6}  {saved:5.1%}  {'  '.join(cells)}  {shares}")
        back = {r: f"{1 - backend(networks[r]) / backend(dense):.1%}" for r in samples}
        print(f"  back-end MACs saved: {back}; measuring for auto took {took:.1f} s", flush=True)
        judged = "auto" if "auto" in pays else max(pays, key=lambda rounding: pays[rounding])
        if name in GOALS:
            below = pays[judged] < GOALS[name]
            missed |= below
            print(f"  {judged} pays {pays[judged]:.2f}, at least {GOALS[name]:.2f} wanted{': MISSED' if below else ''}")
        if given.layers:
            chosen = networks[judged]
            found = shortfalls(dense, chosen, macs_saved(dense, chosen), given.threads, given.rounds)
            print(describe(found, given.layers), flush=True)
    return int(missed)


def macs_saved(dense: Detector, small: Detector) -> float:
    return 1 - measure_cost(small.graph).macs / measure_cost(dense.graph).macs


if __name__ == "__main__":
    sys.exit(main())
