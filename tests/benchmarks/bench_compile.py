"""How long a compilation takes and how much memory it needs; and how long `deploycc --help` takes.

    python tests/benchmarks/bench_compile.py [--rounds 3] [--definition vgg_ssd300_voc_deploy]

Goals: VGG-SSD300 with 26 M seeded weights for x86-cpu without measuring under 10 s and under 1.2 GB in any process;
`deploycc --help` under 0.4 s. Exits 1 where a median misses its goal.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "helpers"))
from real_models import ASSETS, missing

COMPILE_SECONDS, COMPILE_MIB, HELP_SECONDS = 10.0, 1200.0, 0.4


def run(command: list[str]) -> tuple[float, float]:
    """Run a command; return its wall time in seconds and the peak memory of its largest process in MiB."""
    code = (
        "import resource, subprocess, sys\n"
        "subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code, *command], check=True, capture_output=True, text=True)
    return time.perf_counter() - start, int(done.stdout) / 1024


def report(what: str, values: list[float], unit: str, goal: float) -> bool:
    median = statistics.median(values)
    shown = ", ".join(f"{value:.2f}" for value in values)
    met = median < goal
    print(f"{what}: median {median:.2f} {unit}, goal {goal:g} {unit}: {'met' if met else 'MISSED'}  ({shown})")
    return met


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--definition", default="vgg_ssd300_voc_deploy")
    options = parser.parse_args()
    definition = ASSETS / "prototxt" / f"{options.definition}.prototxt"
    if not definition.exists():
        print(missing(ASSETS) or f"no {definition}")
        return 2
    times, peaks, helps = [], [], []
    for _ in range(options.rounds):
        helps.append(run([sys.executable, "-m", "deploycc", "--help"])[0])
        with tempfile.TemporaryDirectory() as folder:
            out = str(Path(folder) / "out")
            choice = ["-t", "x86-cpu", "--no-measure", "--random-weights", "0", "-o", out]
            seconds, mib = run([sys.executable, "-m", "deploycc", "compile", str(definition), *choice])
        times.append(seconds)
        peaks.append(mib)
    met = [
        report(f"compile {options.definition}", times, "s", COMPILE_SECONDS),
        report("peak memory of the largest process", peaks, "MiB", COMPILE_MIB),
        report("deploycc --help", helps, "s", HELP_SECONDS),
    ]
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
