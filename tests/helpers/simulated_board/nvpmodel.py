"""nvpmodel: ``-q`` tells the power mode, ``-m N`` sets it and the GPU's highest clock with it."""

import json
import re
import sys
from pathlib import Path

_STEP = 0.75  # of the GPU's highest clock, for each mode after the first


def main(path: str, arguments: list[str]) -> int:
    """Tell the power mode, or set it."""
    root = Path(path).parents[2]
    board = json.loads((root.parent / "board.json").read_text())
    status = root / "var/lib/nvpmodel/status"
    with (root.parent / "nvpmodel.log").open("a") as log:
        log.write(" ".join(arguments) + "\n")
    if arguments == ["-q"]:
        mode = int(re.search(r"pmode:(\d+)", status.read_text()).group(1))  # type: ignore[union-attr]
        sys.stderr.write("NVPM WARN: fan mode is not set!\n")
        sys.stdout.write(f"NV Power Mode: {board['modes'][mode]}\n{mode}\n")
        return 0
    if len(arguments) == 2 and arguments[0] == "-m" and arguments[1].isdigit():
        mode = int(arguments[1])
        if mode >= len(board["modes"]):
            sys.stderr.write(f"NVPM ERROR: mode {mode} is not in /etc/nvpmodel.conf\n")
            return 255
        status.write_text(f"pmode:{mode:04} fmode:quiet\n")
        clock = root / "sys/class/devfreq" / board["gpu"] / "max_freq"
        clock.write_text(f"{int(board['gpu_hz'][1] * _STEP**mode)}\n")
        return 0
    sys.stderr.write("NVPM ERROR: unknown option\n")
    return 255
