"""Time and memory of pruning real networks to the white paper's reductions; exits 1 beyond 3 s or 3 times the model.

Measured is the pass: finding groups, propagating constants, cutting, counting. Memory is what Python and numpy allocate
at the peak of the pass, the model's own weights included. Beside it stands the peak of the whole process that runs
`deploycc prune` from the definition to the written file: interpreter and libraries, the model, and what is left of it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "helpers"))
from pruned_networks import NETWORKS, backend, choose_groups, copy_of, import_seeded, kernels_of, read
from real_models import add_assets_option

from deploycc.passes.options import Prune
from deploycc.passes.prune_channels import prune

LARGE = 64 << 20
_REPORTS_PEAK = (
    "import atexit, runpy, sys\n"
    "def peak():\n"
    "    lines = open('/proc/self/status').read().splitlines()\n"  # getrusage counts what the parent held before exec
    "    print(*[line.split()[1] for line in lines if line.startswith('VmHWM')], file=sys.stderr)\n"
    "atexit.register(peak)\n"
    "runpy.run_module('deploycc', run_name='__main__')\n"
)


def command_mib(definition: Path) -> float:
    """Peak of a process of its own that prunes a fifth of the filters and writes the file, MiB."""
    with tempfile.TemporaryDirectory() as folder:
        options = ["--random-weights", "1", "--by", "l1", "--below", "0.2", "--round-to", "16"]
        arguments = ["prune", str(definition), *options, "-o", str(Path(folder) / "out.onnx")]
        done = subprocess.run(
            [sys.executable, "-c", _REPORTS_PEAK, *arguments], capture_output=True, text=True, check=True
        )
    return int(done.stderr.split()[-1]) / 1024


def main() -> int:
    """Prune each network twice, once for time and once for memory, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_assets_option(parser)
    assets = parser.parse_args().assets
    lines = [
        f"{'':32}{'nodes':>6}{'back-end':>10}{'s':>7}{'model MiB':>11}{'peak / model':>14}{'command MiB':>13}{'/ model':>9}"
    ]
    missed = False
    cases = [(name, read, share) for name, share in NETWORKS.items()]
    # As imported, the affine layers of PVA-SSD make it the network of most nodes.
    for name, reader, share in [*cases, ("pva_ssd", import_seeded, NETWORKS["pva_ssd"])]:
        detector = reader(assets, name)
        groups, gone = choose_groups(detector, share)
        wanted = Prune(kernels_of(groups, gone))
        weights = sum(t.values.nbytes for t in detector.graph.tensors().values() if hasattr(t, "values"))
        before, cut = backend(detector), copy_of(detector)
        start = time.perf_counter()
        prune(cut, wanted)
        seconds = time.perf_counter() - start
        again = copy_of(detector)
        tracemalloc.start()
        prune(again, wanted)
        peak = (weights + tracemalloc.get_traced_memory()[1]) / weights
        tracemalloc.stop()
        definition = assets / "prototxt" / f"{name}.prototxt"
        whole = command_mib(definition) if definition.exists() else 0.0
        missed |= seconds >= 3 or peak >= 3
        if whole and weights > LARGE:  # the libraries alone are larger than the other models
            missed |= whole * 2**20 >= 3 * weights
        lines.append(
            f"{name:32}{len(detector.graph.nodes):6}{1 - backend(cut) / before:10.1%}{seconds:7.2f}"
            f"{weights / 2**20:11.1f}{peak:14.2f}" + (f"{whole:13.1f}{whole * 2**20 / weights:9.2f}" if whole else "")
        )
    sys.stdout.write("\n".join(lines) + "\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
