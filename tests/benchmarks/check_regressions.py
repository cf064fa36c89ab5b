"""Does `report check --max-regression 5%` cry wolf beside other programs, and does it find 8 % on an idle machine?

Goals: the same engine, measured three times beside a busy loop on every core, is never called slower (exit status 3) in
20 tries; an engine whose network has more layers, so that it takes 8 % longer, measured in turns on an idle machine as
`deploycc bench A B` does by itself, is in 19 of 20.

    python tests/benchmarks/check_regressions.py loaded        about 10 minutes
    python tests/benchmarks/check_regressions.py idle          8 to 30 minutes; nothing else may run
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import itertools
import multiprocessing
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from small_networks import SHAPE, plan_folder

from deploycc import target
from deploycc.agent_host import local
from deploycc.documents.latency import LatencyReport, read_latency_report
from deploycc.documents.plan import Measurement
from deploycc.errors import EXIT_BUDGET, EXIT_UNDECIDED
from deploycc.report.compare import compare_reports
from deploycc.workflows.report_check import Limits, check_reports, worst

LAYERS, MORE_LAYERS = 20, 22  # equal convolutions; what lies around them takes as long as five: 2 / 25 is 8 %
CHANNELS = 32
ALLOWED = 0.05
IDLE_GOAL = 0.95  # of the planted regressions
SHORT = Measurement(warmup_s=0.2, min_duration_s=2.5, min_samples=100, quick=True, threads=1)
AS_BY_ITSELF = Measurement()


def network(layers: int) -> onnx.ModelProto:
    """Return a chain of equal convolutions with ReLU, between a small one at the front and one at the end."""
    random = np.random.default_rng(0)
    sizes = [(CHANNELS, SHAPE[1]), *[(CHANNELS, CHANNELS)] * layers, (4, CHANNELS)]
    nodes, weights = [], []
    for number, (kernels, channels) in enumerate(sizes):
        scale = (2 / (9 * channels)) ** 0.5
        values = scale * random.standard_normal((kernels, channels, 3, 3), np.float32)
        weights.append(numpy_helper.from_array(values.astype(np.float32), f"w{number}"))
        source = "x" if number == 0 else f"r{number - 1}"
        nodes.append(helper.make_node("Conv", [source, f"w{number}"], [f"c{number}"], pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"c{number}"], [f"r{number}" if number + 1 < len(sizes) else "y"]))
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, SHAPE)]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 4, *SHAPE[2:]))]
    graph = helper.make_graph(nodes, "chain", inputs, outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def built(folder: Path, layers: int, measurement: Measurement) -> Path:
    """Build the engine of a chain."""
    folder.mkdir()
    plan_folder(folder, target.load("x86-cpu"), {"fp32": network(layers)}, measurement)
    local.build(folder)
    return folder


def busy() -> None:
    """Keep a core busy until the process is ended."""
    while True:
        pass


@contextlib.contextmanager
def load(cores: int) -> Iterator[None]:
    """Run a busy loop on so many cores."""
    processes = [multiprocessing.get_context("spawn").Process(target=busy, daemon=True) for _ in range(cores)]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        for process in processes:
            process.terminate()
            process.join()


def check(baseline: Path, candidate: Path) -> int:
    """Return the exit status that the command would have."""
    [checked] = check_reports(baseline, candidate, Limits(regression=ALLOWED), accept_invalid=True)
    error = worst(checked.outcomes)
    return 0 if error is None else error.exit_code


def keep(folder: Path, *reports: LatencyReport) -> Path:
    """Write reports of one engine as a folder has them: the latest, and earlier ones in runs/."""
    shutil.rmtree(folder, ignore_errors=True)
    for number, report in enumerate(reports):
        place = folder / "runs" / str(number) if number else folder
        place.mkdir(parents=True)
        (place / report.FILE_NAME).write_text(report.to_json(), encoding="utf-8")
    return folder


def loaded_try(engine: Path, twin: Path, work: Path) -> list[int]:
    """Measure one engine three times, and once in turns with itself; return the exit statuses of all comparisons."""
    runs = [local.bench(engine) for _ in range(3)]
    statuses = [
        check(keep(work / "a", first), keep(work / "b", second)) for first, second in itertools.permutations(runs, 2)
    ]
    statuses.append(check(keep(work / "a", runs[0]), keep(work / "b", *runs[1:])))
    statuses.append(check(keep(work / "a", *runs[:2]), keep(work / "b", runs[2])))
    in_turns = local.bench_in_turns([engine, twin])
    statuses.append(check(*(keep(work / name, report) for name, report in zip("ab", in_turns, strict=True))))
    return statuses


def idle_try(engine: Path, slower: Path, work: Path) -> tuple[int, float, int]:
    """Measure both in turns; return the exit status, the ratio of the medians and the number of pairs of blocks."""
    folders = [
        keep(work / name, report) for name, report in zip("ab", local.bench_in_turns([engine, slower]), strict=True)
    ]
    [row] = compare_reports(*map(read_latency_report, folders)).rows
    assert row.change is not None and row.baseline is not None  # noqa: PT018
    assert row.basis == "turns"
    return check(*folders), row.change.ratio, len(row.baseline.run.blocks)


def main() -> int:
    """Run one part and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("loaded", "idle"))
    parser.add_argument("--tries", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="regressions-") as name:
        folder = Path(name)
        if options.part == "loaded":
            return loaded(built(folder / "engine", LAYERS, SHORT), folder, options.tries)
        engines = (built(folder / str(layers), layers, AS_BY_ITSELF) for layers in (LAYERS, MORE_LAYERS))
        return idle(*engines, folder, options.tries)


def loaded(engine: Path, folder: Path, tries: int) -> int:
    """Compare equal engines beside busy loops."""
    twin = Path(shutil.copytree(engine, folder / "twin"))
    with load(len(os.sched_getaffinity(0))):
        tried = [loaded_try(engine, twin, folder / "work") for _ in range(tries)]
    return _loaded_result(tried)


def _loaded_result(tried: Sequence[Sequence[int]]) -> int:
    counts = collections.Counter(status for statuses in tried for status in statuses)
    print(f"{len(tried)} tries beside busy loops, exit statuses of all comparisons: {dict(sorted(counts.items()))}")
    wrong = sum(EXIT_BUDGET in statuses for statuses in tried)
    print(f"called slower in {wrong} of {len(tried)} (goal 0)")
    return 1 if wrong or set(counts) - {0, EXIT_BUDGET, EXIT_UNDECIDED} else 0


def idle(engine: Path, slower: Path, folder: Path, tries: int) -> int:
    """Compare an engine with one that takes 8 % longer."""
    tried = []
    for _ in range(tries):
        tried.append(idle_try(engine, slower, folder / "work"))
        print(f"exit status {tried[-1][0]}, {tried[-1][1] - 1:+.1%}, {tried[-1][2]} pairs", flush=True)
    found = sum(status == EXIT_BUDGET for status, _, _ in tried)
    ratios, pairs = ([values[index] for values in tried] for index in (1, 2))
    print(f"planted about 8 %: measured {statistics.median(ratios) - 1:.1%}, ", end="")
    print(f"{min(ratios) - 1:.1%} to {max(ratios) - 1:.1%}")
    print(f"pairs of blocks: {min(pairs)} to {max(pairs)}, median {statistics.median(pairs):g}")
    print(f"found in {found} of {tries} (goal {IDLE_GOAL:.0%})")
    return 0 if found >= IDLE_GOAL * tries else 1


if __name__ == "__main__":
    sys.exit(main())
