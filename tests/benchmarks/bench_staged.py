"""What do two engines in a row save where one decision switches many layers, beside multiplying and an `If`?

    taskset -c 1 python tests/benchmarks/bench_staged.py [--pictures 24] [--rounds 25] [--model street_ssd_blocks]

The model's gates have one decision for six layers (or for any number: ``--model``). Its variants, one per unit of the
decision, are computed by nested `If` nodes, and by a first stage with one second stage per variant (`deploycc.stage`).
ONNX Runtime runs all of them on one thread, in turns on each picture, in an order that changes. The figures are CPU time
of this process, the least of each picture's rounds: what else the machine does hardly counts. On a GPU an `If` costs a
copy to the host and a wait as well, which this machine does not show.

Goals: the detections are those of the network that multiplies; on the pictures the stages save at least three quarters
of what the `If` saves, although tensors leave one session and enter the other; and with every kernel on they take at
most 1.05 times as long as the network without gates, the bound of `deploycc gates`.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

import deploycc
from deploycc import target
from deploycc.cpu_session import open_session
from deploycc.detector.pictures import prepare
from deploycc.documents.gate_plan import LayerPlan
from deploycc.evaluation.decode import read_detections
from deploycc.graph.branches.gated_network import read_gated_network
from deploycc.graph.cost import measure_cost
from deploycc.graph.export import to_onnx
from deploycc.graph.gates.fixed import with_gates_on, without_gates
from deploycc.graph.gates.search import Gate
from deploycc.passes.lower_gates import lowered_copy
from deploycc.workflows.gate_network import prepare_network
from deploycc.workflows.pictures import open_pictures

LEAST_SHARE, MAX_WORST_CASE = 0.75, 1.05
UNSEEN = 99  # seed of the pictures
Picture = NDArray[np.float32]
Run = Callable[[Picture], Any]


def variants(gate: Gate) -> LayerPlan:
    """As many variants as the decision has units."""
    units = np.array(gate.unit_of)
    sizes = tuple(int((units <= unit).sum()) for unit in range(gate.units))
    order = tuple(np.argsort(units, kind="stable").tolist())
    return LayerPlan(layer=gate.layer, lowering="variants", order=order, sizes=sizes)


def cpu_times_ms(runs: Mapping[str, Run], pictures: Sequence[Picture], rounds: int) -> dict[str, NDArray[np.float64]]:
    """Milliseconds of CPU time, [rounds, pictures]."""
    order, times = random.Random(0), {name: np.zeros((rounds, len(pictures))) for name in runs}
    for run in runs.values():
        run(pictures[0])
    for turn in range(rounds):
        for number, picture in enumerate(pictures):
            for name in order.sample(list(runs), len(runs)):
                begin = time.process_time_ns()
                runs[name](picture)
                times[name][turn, number] = (time.process_time_ns() - begin) / 1e6
    return times


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="street_ssd_blocks")
    parser.add_argument("--pictures", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=25)
    given = parser.parse_args()

    detector, board = deploycc.load(given.model), target.load("x86-cpu")
    network = prepare_network(detector, board)[0]
    gated = read_gated_network(network.graph)
    plan = [variants(gate) for gate in gated.gates]
    staged = deploycc.stage(detector, plan, board)
    all_on = with_gates_on(network.graph, gated.gates)
    graphs = {
        "dense": without_gates(network.graph, gated.gates),
        "multiply": network.graph,
        "If": lowered_copy(gated, plan),
        "If, all on": lowered_copy(replace(gated, graph=all_on), plan),
    }
    sessions = {name: open_session(to_onnx(graph), 1, {"network": name}) for name, graph in graphs.items()}
    stages = deploycc.StagedSession(staged)
    last = len(staged.second) - 1

    def run_of(name: str) -> Run:
        return lambda picture: sessions[name].run(None, {network.input.name: picture})

    runs: dict[str, Run] = {name: run_of(name) for name in graphs}
    runs["staged"] = lambda picture: stages.run(picture)
    runs["staged, all on"] = lambda picture: stages.run(picture, last)
    generated = open_pictures(f"generated:{UNSEEN}:{given.pictures}", network.input)
    pictures = [prepare(generated.read(number), network.input) for number in range(given.pictures)]

    chosen: Counter[int] = Counter()
    wrong = 0
    names = [tensor.name for tensor in network.graph.outputs]
    for picture in pictures:
        number, outputs = stages.run(picture)
        chosen[number] += 1
        expected = dict(zip(names, runs["multiply"](picture), strict=True))
        found, wanted = read_detections(staged.second[number], outputs), read_detections(network, expected)
        same = found.classes.tolist() == wanted.classes.tolist() and np.allclose(found.boxes, wanted.boxes, 1e-3, 1e-3)
        wrong += not same

    samples = cpu_times_ms(runs, pictures, given.rounds)
    mean_ms = {name: float(times.min(0).mean()) for name, times in samples.items()}
    size = {name: 4 * measure_cost(graph).params / 2**20 for name, graph in graphs.items()}
    size["staged"] = (
        4 * sum(measure_cost(graph).params for graph in (staged.first, *(s.graph for s in staged.second))) / 2**20
    )
    print(
        f"{given.model}: {len(plan)} layers, {len(staged.second)} second stages, chosen by pictures: {dict(sorted(chosen.items()))}"
    )
    print(f"{given.pictures} pictures, {given.rounds} rounds in turns, CPU ms, least of the rounds, mean over pictures")
    print(f"{'':16}{'ms':>9}{'of dense':>10}{'MiB':>8}")
    for name, ms in mean_ms.items():
        mib = f"{size[name]:8.1f}" if name in size else ""
        print(f"{name:16}{ms:9.3f}{ms / mean_ms['dense']:10.3f}{mib}")
    saved = {name: mean_ms["multiply"] - mean_ms[name] for name in ("If", "staged")}
    print(f"against multiplying the If saves {saved['If']:.3f} ms, the stages {saved['staged']:.3f} ms")
    goals = {
        "detections are those of multiplying": wrong == 0,
        "stages save what the If saves": saved["staged"] >= LEAST_SHARE * saved["If"] > 0,
        "stages with every kernel on keep the bound": mean_ms["staged, all on"] <= MAX_WORST_CASE * mean_ms["dense"],
    }
    for goal, reached in goals.items():
        print(f"{goal}: {'reached' if reached else 'MISSED'}")
    return 0 if all(goals.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
