"""A program that takes trtexec's flags and writes files of its documented format, for boards that tests do not have."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

_SCRIPT = r"""#!{python} -IS
import json, os, signal, sys, time

here = os.path.dirname(os.path.abspath(__file__))
banner = "TensorRT.trtexec" + {banner!r} + " # " + " ".join(sys.argv)
print("&&&& RUNNING " + banner)
if sys.argv[1:] == ["--version"]:
    print("[03/29/2026-18:58:09] [E] Model missing or format not recognized")
    print("&&&& FAILED " + banner)
    sys.exit(1)
flags = dict(argument.partition("=")[::2] for argument in sys.argv[1:])
with open(os.path.join(here, "calls.jsonl"), "a") as log:
    log.write(json.dumps(sys.argv[1:]) + "\n")
behaviour = {behaviour!r}
print("[I] Selected Device: NVIDIA Tegra X2\n[I] Compute Capability: {capability}")
if behaviour == "refuse":
    print("[I] reading")
    print("[E] Error[4]: conv1: could not find any implementation")
    print("[E] Engine set up failed")
    print("&&&& FAILED " + banner)
    sys.exit(1)
if behaviour == "kill":
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(5)
if behaviour == "hang":
    with open(flags["--saveEngine"], "wb") as file:
        file.write(b"half")
    with open(os.path.join(here, "pid"), "w") as file:
        file.write(str(os.getpid()))
    print("building", flush=True)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(60)
if "--saveEngine" in flags:
    with open(flags["--saveEngine"], "wb") as file:
        file.write(b"engine of " + open(flags["--onnx"], "rb").read()[:8])
if "--timingCacheFile" in flags:
    with open(flags["--timingCacheFile"], "ab") as file:
        file.write(b"timed ")
if "--loadInputs" in flags:
    with open(flags["--loadInputs"].rpartition(":")[2], "rb") as file, open(os.path.join(here, "input"), "wb") as copy:
        copy.write(file.read())
if "--exportTimes" in flags:
    queries, warmup = [], int(flags["--warmUp"])
    for number in range(int(flags["--iterations"]) + 5):
        start = warmup - 5 * 10.0 + number * 10.0
        queries.append({{
            "startEnqMs": start, "endEnqMs": start, "startH2dMs": start, "endH2dMs": start + 0.5,
            "startComputeMs": start + 0.5, "endComputeMs": start + 8.5, "startD2hMs": start + 8.5,
            "endD2hMs": start + 9.0, "h2dMs": 0.5, "computeMs": 8.0, "d2hMs": 0.5, "latencyMs": 9.0,
            "endToEndMs": 9.0}})
    json.dump(queries, open(flags["--exportTimes"], "w"))
if "--exportProfile" in flags:
    layers = [{{"name": name, "timeMs": 50 * ms, "averageMs": ms, "percentage": 0}} for name, ms in
              (("conv1 + relu1", 6.0), ("conv2", 2.0))]
    json.dump([{{"count": 50}}] + layers, open(flags["--exportProfile"], "w"))
print("&&&& PASSED " + banner)
"""


def write(path: Path, behaviour: str = "work", banner: str = " [TensorRT v8201]", capability: str = "6.2") -> Path:
    """Write the program, which keeps its calls in ``calls.jsonl`` and its last input in ``input`` beside itself.

    Args:
        path: of the program.
        behaviour: work, refuse, kill (its parent), hang (half an engine, deaf to SIGTERM).
        banner: what its banner says of the release.
        capability: compute capability of the GPU that it says it selected.
    """
    path.parent.mkdir(exist_ok=True)
    path.write_text(_SCRIPT.format(python=sys.executable, behaviour=behaviour, banner=banner, capability=capability))
    path.chmod(0o755)
    return path


def install(
    folder: Path, monkeypatch: pytest.MonkeyPatch, behaviour: str = "work", banner: str = " [TensorRT v8201]"
) -> Path:
    """Write the program as ``trtexec`` into a folder and make that the only one on PATH; return the folder."""
    write(folder / "trtexec", behaviour, banner)
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    return folder
