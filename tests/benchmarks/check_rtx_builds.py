"""Every real model, compiled and built for x86-rtx in FP32 and FP16, on a machine without a GPU.

    python tests/benchmarks/check_rtx_builds.py

Prints a line a model; exits 1 if any engine was not built. Definitions without weights get seeded ones.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "helpers"))
from real_models import ASSETS, missing

from deploycc.cli import main as deploycc
from deploycc.documents.compile import read_compile_report

UNSUPPORTED = {"pvanet_pva9.1_faster_rcnn_21cls.prototxt"}  # region proposals: no SSD, refused by the importer


def models() -> list[list[str]]:
    """Arguments that name each model."""
    definitions = sorted((ASSETS / "prototxt").glob("*.prototxt"))
    trained = sorted(path for path in ASSETS.glob("*/*") if path.suffix in (".caffemodel", ".onnx"))
    chosen = [[str(path), "--random-weights", "0"] for path in definitions if path.name not in UNSUPPORTED]
    for path in trained:
        prototxt = path.with_suffix(".prototxt")
        if path.suffix == ".onnx":
            chosen.append([str(path)])
        elif prototxt.exists():
            chosen.append([str(prototxt)])
        else:
            [prototxt] = path.parent.glob("*.prototxt")
            chosen.append([str(prototxt), "--weights", str(path)])
    return chosen


def main() -> int:
    if reason := missing(ASSETS):
        print(reason)
        return 2
    failed = 0
    for model in models():
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "out"
            start = time.perf_counter()
            status = deploycc(["compile", *model, "-t", "x86-rtx", "--no-measure", "-o", str(out)])
            seconds = time.perf_counter() - start
            engines = read_compile_report(out).engines if status == 0 else ()
        built = [
            f"{engine.precision} {(engine.size_bytes or 0) / 2**20:.1f} MiB"
            for engine in engines
            if engine.status == "built"
        ]
        ok = len(built) == 2
        failed += not ok
        print(f"{'built ' if ok else 'FAILED'}  {Path(model[0]).name:55} {seconds:5.1f} s  {', '.join(built)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
