"""jetson_clocks: holds the GPU's and the CPUs' clocks at their highest; ``--store FILE`` and ``--restore FILE``."""

import json
import sys
from pathlib import Path


def _limits(root: Path, gpu: str) -> "list[tuple[Path, Path]]":
    """Files of the lowest and the highest clock."""
    pairs = [(root / f"sys/class/devfreq/{gpu}/min_freq", root / f"sys/class/devfreq/{gpu}/max_freq")]
    for policy in sorted((root / "sys/devices/system/cpu/cpufreq").glob("policy*")):
        pairs.append((policy / "scaling_min_freq", policy / "scaling_max_freq"))
    return pairs


def main(path: str, arguments: list[str]) -> int:
    """Hold the clocks, keep what they were, or bring that back."""
    root = Path(path).parents[2]
    board = json.loads((root.parent / "board.json").read_text())
    with (root.parent / "jetson_clocks.log").open("a") as log:
        log.write(" ".join(arguments) + "\n")
    pairs = _limits(root, board["gpu"])
    if not arguments:
        for low, high in pairs:
            low.write_text(high.read_text())
        return 0
    if len(arguments) == 2 and arguments[0] == "--store":
        kept = [f"{file}:{file.read_text().strip()}" for pair in pairs for file in pair]
        Path(arguments[1]).write_text("\n".join(kept) + "\n")
        return 0
    if len(arguments) == 2 and arguments[0] == "--restore":
        for line in Path(arguments[1]).read_text().splitlines():
            file, _, value = line.rpartition(":")
            Path(file).write_text(f"{value}\n")
        return 0
    sys.stderr.write("Unknown option\n")
    return 1
