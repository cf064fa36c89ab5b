"""VGG-SSD300 pruned here and by Torch-Pruning, to as many MACs: both files take turns in ONNX Runtime.

The peer keeps counts in multiples of 16 (``round_to=16``), prunes by the same L1 norms of the same seeded weights and
exports with ``torch.onnx.export``. Its packages are installed into a folder that is removed afterwards, or ``--python``
names an interpreter that has them. Here, kept counts are chosen as ``deploycc prune`` does by itself. Exits 1 where the
peer's file is faster in three of four rounds.
"""

from __future__ import annotations

import argparse
import bisect
import json
import os
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import onnxruntime as ort
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "helpers"))
from pruned_networks import backend_without, copy_of, read
from real_models import add_assets_option

from deploycc.cpu_session import open_session
from deploycc.detector import Detector
from deploycc.graph.channels.groups import ChannelGroups
from deploycc.graph.channels.labels import channel_groups
from deploycc.graph.channels.removal import remove_channels
from deploycc.graph.cost import measure_cost
from deploycc.graph.export import to_onnx
from deploycc.pruning.decide import Choice, filter_norms
from deploycc.pruning.kept_counts import fastest_counts, fixed_multiple
from deploycc.timing.convolutions import Costs
from deploycc.timing.machine import this_machine
from deploycc.timing.turns import time_in_turns

NETWORK = "vgg_ssd300_voc_deploy"
PACKAGES = ["torch==2.13.0", "torch-pruning>=1.6,<1.7", "onnx", "onnxscript"]
_PAUSE = 0.1  # of a round's time, after it; see bench_pruning_pays


def install(folder: Path) -> Path:
    """Make an environment with the peer's packages and return its interpreter."""
    venv.create(folder, with_pip=True)
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    subprocess.run([python, "-m", "pip", "install", "-qq", *PACKAGES], check=True)
    return python


def write_dense(dense: Detector, path: Path) -> None:
    """Weights by the layers' names, and one input with its outputs."""
    session = open_session(to_onnx(dense.graph), 1, {})
    data = np.random.default_rng(0).uniform(-120, 140, dense.input.shape).astype(np.float32)
    names = [each.name for each in session.get_outputs()]
    outputs = dict(zip(names, session.run(None, {dense.input.name: data}), strict=True))
    assert dense.heads is not None
    arrays = {"input": data, "locations": outputs[dense.heads.locations], "scores": outputs[dense.heads.scores]}
    for node in dense.graph.nodes:
        if node.op == "Conv":
            arrays[f"{node.name}.weight"], arrays[f"{node.name}.bias"] = (each.values for each in node.inputs[1:])
    np.savez(path, **arrays)  # type: ignore[arg-type]


def macs_of(path: Path) -> int:
    return measure_cost(gs.import_onnx(onnx.shape_inference.infer_shapes(onnx.load(path)))).macs


def prune_to(dense: Detector, macs: int, threads: int) -> tuple[Detector, float]:
    """The network with as many MACs, and the share of filters that all layers lose, to the nearest multiple of 16.

    Shares alone leave steps of several percent, because whole blocks of 16 kernels go. Between two steps single layers
    get one block back, first those with most kernels: the first layers take most time for a MAC.
    """
    groups = channel_groups(dense.graph)
    sizes = {name: len(own) for name, own in groups.layers.items() if not groups.pins.keys() & set(own.tolist())}
    shares = np.arange(0.0, 0.4, 0.002)
    more = bisect.bisect(shares, -macs, key=lambda each: -macs_with(dense, groups, gone_of(sizes, each)))
    share = shares[more]  # the first with fewer MACs
    gone = gone_of(sizes, share)
    tried = [gone]
    for name in sorted(sizes, key=lambda name: -sizes[name]):
        gone = {**gone, name: max(0, gone[name] - 16)}
        tried.append(gone)
    gone = min(tried, key=lambda each: abs(macs_with(dense, groups, each) - macs))
    choice = choice_of(dense, groups, gone)
    able = groups.of_kernels(choice.kernels)
    going, _, _ = fastest_counts(dense.graph, groups, choice, able, groups.layers, Costs(this_machine(threads)))
    small = copy_of(dense)
    remove_channels(small.graph, groups, going)  # what the channels hold does not matter here
    return small, float(share)


def gone_of(sizes: dict[str, int], share: float) -> dict[str, int]:
    """How many filters each layer loses."""
    return {name: size - max(16, 16 * round((1 - share) * size / 16)) for name, size in sizes.items()}


def choice_of(dense: Detector, groups: ChannelGroups, gone: dict[str, int]) -> Choice:
    """The filters with the smallest norms, so many of each layer."""
    kernels, use = {}, filter_norms(dense.graph, groups)
    for name, count in gone.items():
        kernels[name] = tuple(sorted(np.argsort(use[name], kind="stable")[:count].tolist()))
    return Choice({name: each for name, each in kernels.items() if each}, use, "smallest norms")


def macs_with(dense: Detector, groups: ChannelGroups, gone: dict[str, int]) -> int:
    """Of the whole network, with multiples of 16."""
    choice = choice_of(dense, groups, gone)
    going, _ = fixed_multiple(groups, choice, groups.of_kernels(choice.kernels), groups.layers, 16)
    return backend_without(replace(dense, heads=None), groups, list(going))


def measure(files: dict[str, Path], shape: tuple[int, ...], threads: int, rounds: int) -> dict[str, list[float]]:
    """Wall time of each run in milliseconds, in turns."""

    def run_of(path: Path) -> Callable[[NDArray[np.float32]], object]:
        session = open_session(onnx.load(path), threads, {"file": path})
        return lambda data: session.run(None, {session.get_inputs()[0].name: data})

    data = np.random.default_rng(0).uniform(-120, 140, shape).astype(np.float32)
    runs = {name: run_of(path) for name, path in files.items()}
    samples_ms = time_in_turns(runs, [data], most_rounds=rounds + 1, rest=_PAUSE)
    return {name: samples[1:, 0].tolist() for name, samples in samples_ms.items()}  # the first round warms up too


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_assets_option(parser)
    parser.add_argument("--python", type=Path, help="an interpreter that has the peer's packages")
    parser.add_argument("--save", type=float, default=0.221, help="share of the MACs to remove (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    dense = read(given.assets, NETWORK)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        python = given.python or install(folder / "venv")
        data, files = folder / "dense.npz", {each: folder / f"{each}.onnx" for each in ("dense", "here", "peer")}
        write_dense(dense, data)
        script = Path(__file__).with_name("torch_vgg_ssd.py")
        command = [python, script, data, files["peer"], "--save", str(given.save)]
        peer = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
        macs = macs_of(files["peer"])
        small, share = prune_to(dense, macs, given.threads)
        onnx.save(to_onnx(dense.graph), files["dense"])
        onnx.save(to_onnx(small.graph), files["here"])
        samples = measure(files, dense.input.shape, given.threads, given.rounds)
        sizes = {each: macs_of(path) for each, path in files.items()}
    print(
        f"ONNX Runtime {ort.__version__}, {given.threads} threads, {given.rounds} rounds; torch {peer['torch']}, ",
        end="",
    )
    print(f"Torch-Pruning {peer['torch_pruning']}, its ratio {peer['ratio']:.4f}; share of filters here {share:.3f}")
    print("          GMACs    saved  median ms  minimum  time against peer: median of pairs, of minima")
    for each, times in samples.items():
        paired = float(np.median(np.array(times) / np.array(samples["peer"])))
        saved, least = 1 - sizes[each] / sizes["dense"], min(times) / min(samples["peer"])
        print(
            f"{each:8} {sizes[each] / 1e9:7.3f}  {saved:6.1%}  {np.median(times):9.2f}  {min(times):7.2f}  {paired:.3f}  {least:.3f}"
        )
    ratios = np.array(samples["here"]) / np.array(samples["peer"])
    slower, rounds_lost = float(np.median(ratios)) > 1, float(np.mean(ratios > 1))
    print(f"here is slower in {rounds_lost:.0%} of the rounds")
    return int(slower and rounds_lost >= 0.75)  # by less, the clock cannot tell them apart


if __name__ == "__main__":
    sys.exit(main())
