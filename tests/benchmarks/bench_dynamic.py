"""How much time gates save: gated detectors on pictures that the plan was not made from.

Three networks take turns on each picture in one process: dense, multiplying by every gate, and lowered. Saved operations
are counted as in table 2 of the white paper (kernels that are off, as a share of the back-end), and once more with input
channels that are zero. Each network is planned as it is, and after static pruning of kernels that are used in less than
5 % of the pictures.

The gates of VGG-SSD300 are synthetic (`synthetic_gates`): real LKAM modules with seeded weights, calibrated to save as
much as table 2 says, with the same deviation and skew. Those of street_ssd_* are trained. No synthetic kernel is on in
less than 5 % of the calibration pictures, so static pruning would remove nothing. Table 2 does not say which kernels
are on together, but that decides what branches can save. Here the kernels of a layer mostly are (`HABITS.common`). The
more independently they decide, the more pictures need nearly every block of kernels; ``--common`` prints what a plan
predicts for that.

    python tests/benchmarks/bench_dynamic.py street_ssd_blocks street_ssd_lkam vgg --pictures 200

Exits 1 where a goal is missed, and says for every network which part of its time is more than the ideal.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "helpers"))
from pruned_networks import read
from real_models import ASSETS
from synthetic_gates import Habits, insert_gates

from deploycc import models, target
from deploycc.agent.run_onnxruntime import read_profile
from deploycc.detector import Detector
from deploycc.detector.file import save
from deploycc.detector.picture_list import PictureList
from deploycc.detector.pictures import prepare
from deploycc.documents.costs import GateCostTable
from deploycc.documents.document import read_document
from deploycc.errors import BudgetMissed
from deploycc.gate_planning.check import graph_session, least, time_pictures
from deploycc.gate_planning.costs import GateCosts
from deploycc.gate_planning.savings import saved_by_kernels, saved_with_inputs
from deploycc.graph.branches.gated_network import GatedNetwork, read_gated_network
from deploycc.graph.cost import measure_cost
from deploycc.graph.export import to_onnx
from deploycc.graph.gates.fixed import without_gates
from deploycc.graph.gates.search import Gate, as_described
from deploycc.importers import load
from deploycc.passes.lower_gates import lowered_copy
from deploycc.report.gates import derive
from deploycc.timing.machine import this_machine
from deploycc.timing.timer import LocalTimer
from deploycc.utilisation.probe import backend_macs
from deploycc.workflows.gate_decision import record_decisions
from deploycc.workflows.gate_network import prepare_network
from deploycc.workflows.gates import GatePlanning, plan_gates
from deploycc.workflows.pictures import open_pictures
from deploycc.workflows.profile import measure_profile
from deploycc.workflows.prune import PruneSettings, prune

PRUNED = ", statically pruned first"
GOALS = {"vgg": 0.75, f"street_ssd_blocks{PRUNED}": 0.6}
TABLE_2 = "average 31.5, std 2.6, minimum 26.4, maximum 49.6 % (white paper, table 2, emulated)"
HABITS = Habits(always=0.445, rare=0.365, common=0.8)
CALIBRATION, RECORDED, UNSEEN = 5, 77, 99  # seeds of generated pictures; --seed takes other unseen ones
VGG_CHECKED = 8  # pictures of the final check; one takes a third of a second
PARTS = {
    "convolutions": ("Conv", "FusedConv"),
    "rearranging": ("ReorderInput", "ReorderOutput"),
    "branches": ("If",),
    "multiplying": ("Mul",),
    "padding": ("Pad",),
    "concatenation": ("Concat",),
    "zeros": ("Expand", "Identity", "ConstantOfShape"),
    "decisions": (
        "GlobalAveragePool",
        "Sigmoid",
        "Greater",
        "Cast",
        "Gather",
        "GatherND",
        "ReduceMax",
        "Not",
        "And",
        "Or",
        "Slice",
    ),
}


@dataclass(frozen=True)
class Counts:
    """Pictures of each kind."""

    calibration: int
    recorded: int
    checked: int
    timed: int


def generated(seed: int, count: int, detector: Detector) -> PictureList:
    return open_pictures(f"generated:{seed}:{count}", detector.input)


def gated_vgg(assets: Path, count: int, folder: Path, habits: Habits) -> Detector:
    detector = read(assets, "vgg_ssd300_voc_deploy")
    layers = [f"conv{block}_{number}" for block, size in enumerate((2, 2, 3, 3, 3), 1) for number in range(1, size + 1)]
    pictures = generated(CALIBRATION, count, detector)
    tensors = [prepare(pictures.read(number), detector.input) for number in range(count)]
    start = time.perf_counter()
    gated = insert_gates(detector, layers, tensors, habits)
    print(f"  13 synthetic gates, calibrated on {count} generated pictures in {time.perf_counter() - start:.0f} s")
    save(gated, folder / "vgg.onnx")
    return load(folder / "vgg.onnx")


def pruned(detector: Detector, count: int, folder: Path) -> Detector:
    """Without the kernels that are on in less than 5 % of the recorded pictures; gates stay."""
    profile = measure_profile(detector, generated(RECORDED, count, detector)).profile
    small = prune(detector, PruneSettings(multiple=8, keep_gates=True), profile=profile).detector
    save(small, folder / "pruned.onnx")
    return load(folder / "pruned.onnx")


@dataclass(frozen=True, eq=False)
class Planned:
    """A network after the passes before gates are lowered, and the plan for it; None where it misses its bound."""

    network: Detector
    gated: GatedNetwork
    gates: tuple[Gate, ...]
    planning: GatePlanning | None


def plan_network(detector: Detector, counts: Counts, given: argparse.Namespace, *, check: bool = True) -> Planned:
    """Profile, measure what is not known yet, plan, and check the plan by running it."""
    recorded = generated(RECORDED, counts.recorded, detector)
    profile = measure_profile(detector, recorded).profile
    table = read_document(given.costs, GateCostTable) if given.costs and given.costs.exists() else None
    costs = GateCosts(this_machine(given.threads), table)
    board = target.load("x86-cpu")
    network, _ = prepare_network(detector, board)
    gated = read_gated_network(network.graph)
    gates, _ = as_described(gated.gates, network.gates)
    start = time.perf_counter()
    try:
        planning = plan_gates(
            detector, profile, target=board, costs=costs, max_worst_case=given.max_worst_case, seconds=given.seconds,
            pictures=replace(recorded, names=recorded.names[: counts.checked]) if check else None,
        )  # fmt: skip
    except BudgetMissed as missed:
        print(f"  {missed.message}: every gate multiplies")
        return Planned(network, gated, gates, None)
    finally:
        if given.costs:
            costs.table().write(given.costs)
    print(f"  planned in {time.perf_counter() - start:.1f} s, timing included")
    for note in planning.notes:
        print(f"  {note.node}: {note.reason}")
    report = planning.report
    print(f"  predicted: dense {report.predicted_dense_ms:.3f} ms, expected {report.predicted_expected_ms:.3f}, "
          f"all on {report.predicted_all_on_ms:.3f}; weights added {report.added_bytes / 2**20:.1f} MiB")  # fmt: skip
    return Planned(network, gated, gates, planning)


def predict(assets: Path, counts: Counts, folder: Path, given: argparse.Namespace, common: float) -> None:
    """What a plan for VGG-SSD300 promises where kernels of a layer are on together more or less than in `HABITS`."""
    print(f" vgg, common = {common:g}: predicted only")
    habits = replace(HABITS, common=common)
    planned = plan_network(gated_vgg(assets, counts.calibration, folder, habits), counts, given, check=False)
    if planned.planning is None:
        return
    pictures = generated(RECORDED, counts.recorded, planned.network)
    active = record_decisions(planned.network, planned.gates, pictures, threads=given.threads).active
    off = saved_by_kernels(planned.network.graph, active) / backend_macs(planned.network)[1]
    saved = 1 - planned.planning.report.predicted_expected_ms / planned.planning.report.predicted_dense_ms
    print(f"  time saved {saved:.1%} / operations saved {off.mean():.1%} = {saved / off.mean():.2f}; operations off, %: "
          f"std {100 * off.std():.1f}, {100 * off.min():.1f} to {100 * off.max():.1f}")  # fmt: skip


def bench(name: str, detector: Detector, counts: Counts, given: argparse.Namespace) -> bool:
    """Plan, check and time one network; whether it misses a goal."""
    planned = plan_network(detector, counts, given)
    network, layers = planned.network, planned.planning.plan.layers if planned.planning else ()
    for region in planned.planning.report.regions if planned.planning else ():
        pieces = " > ".join("/".join(map(str, sizes)) for sizes in region.sizes)
        saved_ms = region.measured_saved_ms or 0.0
        print(f"    {' > '.join(region.layers)}: {region.lowering} {pieces}: saves {saved_ms:.3f} ms {region.why}")
        now = [layer for layer in layers if layer.layer in region.layers]
        if region.why and region.kept:
            print("      now " + "; ".join(f"{layer.lowering} {'/'.join(map(str, layer.sizes))}" for layer in now))
    graphs = {
        "dense": without_gates(network.graph, planned.gates),
        "multiply": network.graph,
        "lowered": lowered_copy(planned.gated, layers),
    }
    unseen = record_decisions(
        network, planned.gates, generated(given.seed, counts.timed, network), threads=given.threads
    )
    timer = LocalTimer(this_machine(given.threads))
    sessions = {key: graph_session(graph, timer) for key, graph in graphs.items()}
    samples = time_pictures(sessions, unseen.tensors, given.bench_seconds, timer=timer)
    scope, scope_macs = backend_macs(network)
    off = saved_by_kernels(network.graph, unseen.active) / scope_macs
    both = saved_with_inputs(planned.gated, unseen.active) / measure_cost(graphs["dense"]).macs
    dense, multiply, lowered = (least(samples[key]) for key in ("dense", "multiply", "lowered"))
    medians = {key: float(np.median(times, axis=0).mean()) for key, times in samples.items()}
    saved = 1 - lowered.mean() / dense.mean()
    saved_median = 1 - medians["lowered"] / medians["dense"]
    print(
        f"  {len(unseen.names)} unseen generated pictures, {len(samples['dense'])} rounds; {scope} of {scope_macs} MACs"
    )
    print(f"  operations off, %: average {100 * off.mean():.1f}, std {100 * off.std():.1f}, {100 * off.min():.1f} to "
          f"{100 * off.max():.1f}" + (f"; {TABLE_2}" if name.startswith("vgg") else ""))  # fmt: skip
    print(f"  ms, least of each picture's rounds, mean: dense {dense.mean():.3f}, multiply {multiply.mean():.3f}, "
          f"lowered {lowered.mean():.3f}; of medians {medians['dense']:.3f}, {medians['multiply']:.3f}, {medians['lowered']:.3f}")  # fmt: skip
    pays = saved / off.mean() if off.mean() else float("nan")
    print(f"  time saved {saved:.1%} (medians {saved_median:.1%}) / operations saved {off.mean():.1%} = {pays:.2f}; "
          f"with idle inputs {both.mean():.1%} of the network: {saved / both.mean():.2f}")  # fmt: skip
    if planned.planning is not None:
        worst_case = derive(planned.planning.report).worst_case
        print(f"  worst case {worst_case:.3f} of dense, bound {given.max_worst_case:g}")
    show_parts(graphs, unseen.tensors[:8], given.threads, float(off[:8].mean()))
    goal = GOALS.get(name)
    if goal is None:
        return False
    missed = pays < goal or planned.planning is None
    print(f"  goal {goal}: {'MISSED' if missed else 'reached'}")
    return missed


def show_parts(graphs: dict[str, object], pictures: list[NDArray[np.float32]], threads: int, off: float) -> None:
    """Where the time goes, by operator, as ONNX Runtime's profiler measures it: a few us too much for each node.

    "In the way" is what the lowered network takes beyond the ideal: convolutions as much shorter as operations
    are off, and everything else as in the dense network.
    """
    found = {}
    for key, graph in graphs.items():
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.enable_profiling = True
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        with tempfile.TemporaryDirectory() as folder:
            options.profile_file_prefix = str(Path(folder) / "profile")
            session = ort.InferenceSession(to_onnx(graph).SerializeToString(), options, ["CPUExecutionProvider"])
            for picture in pictures:
                session.run(None, {session.get_inputs()[0].name: picture})
            events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        runs: dict[str, float] = dict.fromkeys([*PARTS, "other"], 0.0)
        for layer in read_profile(events, 0):
            part = next((part for part, operators in PARTS.items() if layer["op"] in operators), "other")
            times = sum(event["name"] == f"{layer['name']}_kernel_time" for event in events) / len(pictures)
            runs[part] += layer["median_ms"] * times
        found[key] = runs
    print(f"  {'ms a picture, profiled':24}" + "".join(f"{key:>10}" for key in found) + f"{'in the way':>12}")
    for part in [*PARTS, "other"]:
        ideal = found["dense"][part] * (1 - off if part == "convolutions" else 1)
        line = "".join(f"{runs[part]:10.3f}" for runs in found.values())
        print(f"  {part:24}{line}{found['lowered'][part] - ideal:12.3f}")


def main() -> int:
    """Run the networks asked for; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=["street_ssd_blocks", "street_ssd_lkam", "vgg"])
    parser.add_argument("--pictures", type=int, default=200, help="unseen ones that are timed")
    parser.add_argument("--seed", type=int, default=UNSEEN, help="of the unseen pictures")
    parser.add_argument("--recorded", type=int, default=200, help="pictures that the plan is made from")
    parser.add_argument("--calibration", type=int, default=96, help="pictures that synthetic gates are calibrated on")
    parser.add_argument(
        "--common", type=float, nargs="*", default=[0.5], help="habits of VGG's kernels to predict for too"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=15.0, help="for each comparison of the final check")
    parser.add_argument("--bench-seconds", type=float, default=60.0, help="for the timing; one round at least")
    parser.add_argument("--max-worst-case", type=float, default=1.05)
    parser.add_argument("--costs", type=Path, help="measured costs: read, completed, kept")
    parser.add_argument("--assets", type=Path, default=ASSETS, help="folder of real models, for vgg")
    parser.add_argument("--processor-time", action="store_true", help="on a busy machine; implies --threads 1")
    given = parser.parse_args()
    if given.processor_time:  # with one thread it is what a run takes where nothing else wants the core
        given.threads, time.perf_counter_ns = 1, time.process_time_ns
        print("processor time instead of wall time")
    print(f"ONNX Runtime {ort.__version__}, {given.threads} threads")
    missed = False
    counts = Counts(given.calibration, given.recorded, min(40, given.recorded), given.pictures)
    with tempfile.TemporaryDirectory() as folder:
        for name in given.networks:
            print(name, flush=True)
            if name == "vgg":
                detector = gated_vgg(given.assets, counts.calibration, Path(folder), HABITS)
                detectors = {"vgg": detector}  # no kernel is on in less than 5 % of the calibration pictures
            else:
                detector = load(models.resolve(name))
                small = pruned(detector, counts.recorded, Path(folder))
                detectors = {name: detector, f"{name}{PRUNED}": small}
            for label, each in detectors.items():
                print(f" {label}")
                own = replace(counts, checked=min(VGG_CHECKED, counts.recorded)) if name == "vgg" else counts
                missed |= bench(label, replace(each), own, given)
                sys.stdout.flush()
            for common in given.common if name == "vgg" else ():
                predict(given.assets, counts, Path(folder), given, common)
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
