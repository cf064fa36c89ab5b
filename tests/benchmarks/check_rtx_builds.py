"""Every real model, compiled and built for x86-rtx in FP32 and FP16, on a machine without a GPU.

    python tests/benchmarks/check_rtx_builds.py

Prints one line per model; exits 1 if any engine was not built. Definitions without weights get seeded ones.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "helpers"))
from real_models import ASSETS, missing

import deploycc
from deploycc import CompileSettings

UNSUPPORTED = {"pvanet_pva9.1_faster_rcnn_21cls.prototxt"}  # region proposals: no SSD, refused by the importer


def models() -> dict[Path, dict[str, object]]:
    """Each model with what `deploycc.load` is told beside its path."""
    definitions = sorted((ASSETS / "prototxt").glob("*.prototxt"))
    trained = sorted(path for path in ASSETS.glob("*/*") if path.suffix in (".caffemodel", ".onnx"))
    chosen: dict[Path, dict[str, object]] = {
        path: {"random_weights": 0} for path in definitions if path.name not in UNSUPPORTED
    }
    for path in trained:
        prototxt = path.with_suffix(".prototxt")
        if path.suffix == ".onnx":
            chosen[path] = {}
        elif prototxt.exists():
            chosen[prototxt] = {}
        else:
            [prototxt] = path.parent.glob("*.prototxt")
            chosen[prototxt] = {"weights": path}
    return chosen


def main() -> int:
    if reason := missing(ASSETS):
        print(reason)
        return 2
    failed = 0
    for model, given in models().items():
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            try:
                detector = deploycc.load(model, **given)
                [report] = deploycc.compile(detector, "x86-rtx", Path(folder) / "out", CompileSettings(measure=False))
                engines = report.compiled.engines
            except deploycc.DeployError as error:
                print(error)
                engines = ()
            seconds = time.perf_counter() - start
        built = [
            f"{engine.precision} {(engine.size_bytes or 0) / 2**20:.1f} MiB"
            for engine in engines
            if engine.status == "built"
        ]
        ok = len(built) == 2
        failed += not ok
        print(f"{'built ' if ok else 'FAILED'}  {model.name:55} {seconds:5.1f} s  {', '.join(built)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
