"""DriveWorks' tensorRT_optimization (0.6.67): Caffe only, and the options that its page lists.

Settings lie beside the program, in ``tensorRT_optimization.json``: those of `simulated_board.trtexec`, as far as they
concern a build.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from pathlib import Path

from simulated_board.engines import pack

_REQUIRED = ("--prototxt", "--caffemodel", "--outputBlobs")
_OPTIONAL = ("--iterations", "--batchSize", "--half2", "--inputBlobs", "--out")


def main(path: str, arguments: list[str]) -> int:
    """Build an engine."""
    settings = json.loads(Path(path).with_name("tensorRT_optimization.json").read_text())
    options = dict(argument.partition("=")[::2] for argument in arguments)
    with Path(path).with_name("calls.jsonl").open("a") as log:
        log.write(json.dumps({"arguments": arguments, "gpu": os.environ.get("CUDA_VISIBLE_DEVICES")}) + "\n")
    unknown = sorted(set(options) - {*_REQUIRED, *_OPTIONAL})
    missing = [name for name in _REQUIRED if not options.get(name)]
    if unknown or missing:
        sys.stdout.write(f"ProgramArguments: {'unknown ' + unknown[0] if unknown else 'missing ' + missing[0]}\n")
        return 255
    if settings["behaviour"] == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if settings["behaviour"] == "memory":
        sys.stdout.write("ERROR: cudaMalloc: out of memory\nERROR: could not build engine\n")
        return 255
    definition = Path(options["--prototxt"]).read_text()
    name = options.get("--inputBlobs", "data")
    if f'top: "{name}"' not in definition:
        sys.stdout.write(f"ERROR: there is no blob {name}\n")
        return 255
    time.sleep(settings["build_s"])
    shape = [int(size) for size in re.findall(r"dim: (\d+)", definition)[:4]]
    facts = {"release": settings["release"], "gpu": os.environ.get("CUDA_VISIBLE_DEVICES"), "input": name}
    facts |= {"input_shape": shape, "outputs": options["--outputBlobs"].split(",")}
    parts = [definition.encode(), Path(options["--caffemodel"]).read_bytes()]
    Path(options.get("--out", "optimized.bin")).write_bytes(pack(facts, *parts))
    sys.stdout.write(f"Average over {options.get('--iterations', '10')} runs is 9.0 ms.\n")
    return 0
