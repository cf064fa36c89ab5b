"""tegrastats: a line every ``--interval`` milliseconds, in the form of the board's release."""

import json
import sys
import time
from pathlib import Path


def main(path: str, arguments: list[str]) -> int:
    """Tell clocks, temperatures and power until somebody ends it."""
    root = Path(path).parents[2]
    board = json.loads((root.parent / "board.json").read_text())
    interval_s = int(arguments[arguments.index("--interval") + 1]) / 1e3 if "--interval" in arguments else 1.0
    clock = root / "sys/class/devfreq" / board["gpu"] / "cur_freq"
    several = board["rails_form"].count("{0}") == 3  # Thor tells the clock of each cluster
    while True:
        mhz = int(clock.read_text() or 0) // 1_000_000
        busy = mhz > board["gpu_hz"][0] // 1_000_000
        gpu = f"[{mhz},{mhz},{mhz}]" if several else str(mhz)
        celsius = int((root / "sys/class/thermal/thermal_zone0/temp").read_text() or 0) / 1e3
        rails = " ".join(
            f"{name} {board['rails_form'].format(milliwatts[1 if busy else 0])}"
            for name, milliwatts in board["rails"].items()
        )
        sys.stdout.write(
            f"RAM 1436/7852MB (lfb 1403x4MB) CPU [11%@345,off,3%@345] EMC_FREQ 4%@{1866 if busy else 665} "
            f"GR3D_FREQ {90 if busy else 0}%@{gpu} PMIC@100C GPU@{celsius:g}C {rails}\n"
        )
        sys.stdout.flush()
        time.sleep(interval_s)
