"""What pruned MACs save in time: dense and pruned networks of seeded weights, taking turns in ONNX Runtime.

Kernels of seeded utilisation go until the back-end has lost the white paper's share of its MACs; then counts are
rounded. Each round runs every network once, in a new order; a pair is the pruned and the dense run of one round.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime as ort

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from pruned_networks import NETWORKS, backend, choose_groups, copy_of, kernels_of, read

from deploycc.detector import Detector
from deploycc.graph.export import to_onnx
from deploycc.graph.groups import ChannelGroups
from deploycc.graph.removal import remove_channels
from deploycc.prune import kept_counts
from deploycc.prune.cost_table import Costs, this_machine
from deploycc.prune.decide import Choice

ASSETS = Path(__file__).resolve().parents[2] / ".." / "shared" / "assets"
DEFAULT = ["squeezenet_ssd_voc_deploy", "MobileNetSSD_voc_deploy"]
THREADS = 2


def pruned(dense: Detector, groups: ChannelGroups, gone: list[int], rounding: str) -> tuple[Detector, float]:
    """The network with rounded counts, and the seconds that measuring took."""
    generator = np.random.default_rng(1)
    use = {name: generator.uniform(0, 0.05, len(own)) for name, own in groups.layers.items()}
    choice = Choice(kernels_of(groups, gone), use, "seeded")
    small, layers, start = copy_of(dense), set(groups.layers), time.perf_counter()
    if rounding == "auto":
        costs = Costs(this_machine(THREADS))
        going, _ = kept_counts.fastest_multiple(dense.graph, groups, choice, gone, layers, costs)
    else:
        going, _ = kept_counts.fixed_multiple(groups, choice, gone, layers, int(rounding))
    seconds = time.perf_counter() - start
    remove_channels(small.graph, groups, going)  # what the channels hold does not matter here
    return small, seconds


def session(detector: Detector) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = THREADS
    options.log_severity_level = 3
    options.add_session_config_entry("session.force_spinning_stop", "1")  # an idle network takes no core of the next
    return ort.InferenceSession(to_onnx(detector.graph).SerializeToString(), options, ["CPUExecutionProvider"])


def measure(networks: dict[str, Detector], rounds: int) -> dict[str, list[float]]:
    sessions = {name: session(detector) for name, detector in networks.items()}
    shape = next(iter(networks.values())).input.shape
    feed = np.random.default_rng(0).standard_normal(shape, np.float32)
    samples: dict[str, list[float]] = {name: [] for name in sessions}
    order = random.Random(0)
    for number in range(rounds + 2):
        for name in order.sample(list(sessions), len(sessions)):
            own = sessions[name]
            start = time.perf_counter_ns()
            own.run(None, {own.get_inputs()[0].name: feed})
            if number >= 2:
                samples[name].append((time.perf_counter_ns() - start) / 1e6)
    return samples


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="*", default=DEFAULT)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--roundings", default="1,16,auto")
    parser.add_argument("--assets", type=Path, default=ASSETS)
    given = parser.parse_args()
    print(f"ONNX Runtime {ort.__version__}, {THREADS} threads, {given.rounds} rounds; pays = time saved / MACs saved")
    print("network                     round   MACs saved  dense ms        pruned ms       time saved  pays")
    print("                            to      (all)       median  min     median  min     (paired)    paired  of minima")
    for name in given.networks:
        dense = read(given.assets, name)
        groups, gone = choose_groups(dense, NETWORKS[name])
        networks, notes = {"dense": dense}, []
        for rounding in given.roundings.split(","):
            networks[rounding], seconds = pruned(dense, groups, gone, rounding)
            if rounding == "auto":
                notes.append(f"  measured for auto: {seconds:.1f} s")
        samples = measure(networks, given.rounds)
        for rounding, own in samples.items():
            if rounding == "dense":
                continue
            saved = 1 - _macs(networks[rounding]) / _macs(dense)
            paired = 1 - statistics.median(a / b for a, b in zip(own, samples["dense"], strict=True))
            minima = 1 - min(own) / min(samples["dense"])
            times = "  ".join(f"{statistics.median(s):6.2f}  {min(s):6.2f}" for s in (samples["dense"], own))
            ratios = f"{paired / saved:6.2f}  {minima / saved:6.2f}" if saved > 0 else "     -       -"
            print(f"{name:27} {rounding:6}  {saved:9.1%}  {times}  {paired:9.1%}  {ratios}")
        back = {r: f"{1 - backend(networks[r]) / backend(dense):.1%}" for r in samples if r != "dense"}
        print(f"  back-end MACs saved: {back}")
        print("\n".join(notes), flush=True)


def _macs(detector: Detector) -> int:
    from deploycc.graph.cost import measure_cost

    return measure_cost(detector.graph).macs


if __name__ == "__main__":
    main()
