"""dpkg-query: TensorRT's package is installed, and held at its version."""

import json
import sys
from pathlib import Path


def main(path: str, arguments: list[str]) -> int:
    """Say which libnvinfer is installed."""
    board = json.loads((Path(path).parents[3] / "board.json").read_text())
    if arguments[-1:] == ["libnvinfer[0-9]*"] and board["package"]:
        sys.stdout.write(f"un  \nhi  {board['package']}\n")
        return 0
    return 1
