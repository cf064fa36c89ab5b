"""The training recipe on real pictures: blood cells (BCCD), dense and with kernel gates.

    python tests/benchmarks/train_bccd.py WORK_FOLDER --data FOLDER_OF_BCCD

Trains on the data set's own ``trainval`` list and scores on its ``test`` list; an interrupted run is resumed. The
figures go to ``tests/benchmarks/bccd.json``. Exits 1 where the dense detector stays below 0.75 mAP50, the gated one
loses more than 1.5 points, or fewer than 25 % of the gated multiply-accumulates are saved.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

RECORD = Path(__file__).with_name("bccd.json")
DEFAULT_DATA = Path(__file__).resolve().parents[2] / ".." / "shared" / "assets" / "bccd" / "BCCD"
STEPS, GATED_STEPS, SIZE = 3000, 3500, 192


def train(folder: Path, name: str, data: Path, steps: int, *options: str) -> dict[str, object]:
    """Run one training through the command line and return its metrics without the history."""
    command = [
        *("train", "ssd", "--data", f"voc:{data}@trainval", "--validation", f"voc:{data}@test"),
        *("--size", str(SIZE), "--steps", str(steps), "--batch", "16", "-o", str(folder / name), "--name", name),
        *options,
    ]
    subprocess.run([sys.executable, "-m", "deploycc", *command], check=True)
    metrics = json.loads((folder / name / "metrics.json").read_text(encoding="utf-8"))
    config = {
        key: value
        for key, value in metrics["config"].items()
        if key not in ("data", "validation", "initial", "teacher")
    }
    result = {key: value for key, value in metrics["result"].items() if key != "data"}
    return {"config": config, "result": result}


def main() -> int:
    """Train both and write what they reach."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", type=Path, default=DEFAULT_DATA)
    parser.add_argument("--start", type=Path, help="checkpoint of street_ssd: its trunk is the start of this one")
    parser.add_argument("--threads", default="2")
    options = parser.parse_args()
    more = ["--threads", options.threads, "--verbose"]
    start = ["--from", str(options.start)] if options.start else []
    dense = train(options.folder, "bccd_ssd", options.data, STEPS, *more, *start)
    checkpoint = str(options.folder / "bccd_ssd" / "checkpoint.pt")
    initial = ["--from", checkpoint, "--teacher", checkpoint, "--lr", "0.001"]
    gates = ["--gates", "kernel", "--keep", "0.7", "--freeze", "0.5"]
    gated = train(options.folder, "bccd_ssd_lkam", options.data, GATED_STEPS, *more, *initial, *gates)
    RECORD.write_text(json.dumps({"dense": dense, "gated": gated}, indent=1) + "\n", encoding="utf-8")
    before, after = (run["result"]["map50_area"] for run in (dense, gated))  # type: ignore[index]
    saved = gated["result"]["gates"]["saved_percent"]["mean"]  # type: ignore[index]
    print(f"dense {before:.3f}, gated {after:.3f} mAP50; {saved:.1f} % of the gated MACs saved")
    return 0 if before >= 0.75 and after >= before - 0.015 and saved >= 25 else 1


if __name__ == "__main__":
    sys.exit(main())
