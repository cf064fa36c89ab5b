"""nvidia-smi: answers ``--query-gpu`` in CSV; with ``-lms N`` again and again."""

import json
import sys
import time
from pathlib import Path

_VALUES = {
    "driver_version": "580.00",
    "clocks.sm": "1410 MHz",
    "clocks.mem": "6000 MHz",
    "temperature.gpu": "54",
    "power.draw": "61.25 W",
    "pstate": "P0",
    "clocks_throttle_reasons.active": "0x0000000000000000",
}


def main(path: str, arguments: list[str]) -> int:
    """Answer a query."""
    board = json.loads((Path(path).parents[3] / "board.json").read_text())
    options = dict(argument.partition("=")[::2] for argument in arguments if argument.startswith("--"))
    asked = options.get("--query-gpu", "").split(",")
    if not set(asked) <= {*_VALUES, "name"} or "csv" not in options.get("--format", ""):
        sys.stderr.write("Field is not a valid field to query.\n")
        return 2
    values = [board["gpus"][0]["name"] if field == "name" else _VALUES[field] for field in asked]
    if "nounits" in options["--format"]:
        values = [value.split(" ")[0] for value in values]
    every_ms = int(arguments[arguments.index("-lms") + 1]) if "-lms" in arguments else None
    while True:
        sys.stdout.write(", ".join(values) + "\n")
        sys.stdout.flush()
        if every_ms is None:
            return 0
        time.sleep(every_ms / 1e3)
