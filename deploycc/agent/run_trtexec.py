"""NVIDIA's programs, trtexec and tensorRT_optimization: runs the plan's command lines and reads what they export."""

import collections
import os
import shutil
import subprocess
import sys
from typing import Any, Dict, List, Optional

from . import environment, files, gpu, timing
from .outcome import Failed, NotPossible

_KEPT_LINES = 15


def build(plan: "Dict[str, Any]", engine: "Dict[str, Any]", folder: str) -> "Dict[str, Any]":
    """Run the build command, which writes ``<engine file>.partial``.

    Raises:
        NotPossible: the program is not here, or this board's TensorRT is not the plan's.
        Failed: it fails.
    """
    command = engine["commands"]["build"]
    _check_program(command[0])
    check_version(plan["target"]["runtime_version"], environment.tensorrt_library())
    run(command, folder, engine["commands"]["environment"])
    return {"builder_version": environment.tensorrt_library() or plan["target"]["runtime_version"], "layers": []}


def measure(plan: "Dict[str, Any]", engine: "Dict[str, Any]", folder: str) -> "Dict[str, Any]":
    """Run the measuring and the profiling command and read their files.

    Raises:
        NotPossible: the program is not here or keeps no samples.
        Failed: it fails, or its files are not as documented.
    """
    commands = engine["commands"]
    if commands["measure"] is None:
        raise NotPossible(
            "{} keeps no samples, so there is nothing to report".format(os.path.basename(commands["build"][0])),
            "time the engine in the DriveWorks application that loads it",
        )
    _check_program(commands["measure"][0])
    check_version(plan["target"]["runtime_version"], environment.tensorrt_library())
    times, profile = files.inside(folder, commands["times_file"]), files.inside(folder, commands["profile_file"])
    try:
        run(commands["measure"], folder, commands["environment"])
        warmup_ms = plan["measurement"]["warmup_s"] * 1e3
        result = read_times(files.read_json(times), warmup_ms, commands["warmup_in_times"])
        run(commands["profile"], folder, commands["environment"])
        result["layers"], means = read_profile(files.read_json(profile))
    finally:
        files.remove(times)
        files.remove(profile)
    if means:
        result["reason"] = "layer times are means: trtexec before TensorRT 8.4 exports no medians"
    ordinal = plan["target"]["cuda_device"] or 0
    found = gpu.devices()
    result["device"] = found[ordinal]["name"] if ordinal < len(found) else "GPU"
    result["runtime_version"] = environment.tensorrt_library() or plan["target"]["runtime_version"]
    return result


def _check_program(program: str) -> None:
    if shutil.which(program) is None:
        raise NotPossible(
            "{} is not on this machine".format(program),
            "copy this folder to the target and run there: python3 agent.pyz build plan.json; where it is installed "
            "elsewhere, put its folder on PATH",
        )


def check_version(planned: "Optional[str]", installed: "Optional[str]") -> None:
    """Refuse another TensorRT than the plan was spelled for (major and minor number).

    Raises:
        NotPossible: they differ.
    """
    if planned is None or installed is None:
        return
    if planned.split(".")[:2] != installed.split("-")[0].split(".")[:2]:
        raise NotPossible(
            "the plan is for TensorRT {}, and this board has {}".format(planned, installed),
            "compile again for the target of this board's release (deploycc target list)",
        )


def run(command: "List[str]", folder: str, variables: "Dict[str, str]") -> None:
    """Run a program in the plan's folder, passing its output on to stderr.

    Raises:
        Failed: it cannot start or ends with an error; the reason holds its last error line.
    """
    settings = dict(os.environ)
    settings.update(variables)
    try:
        child = subprocess.Popen(
            command,
            cwd=folder,
            env=settings,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            universal_newlines=True,
        )
    except OSError as error:
        raise Failed("{} does not start: {}".format(command[0], error.strerror)) from error
    last = collections.deque(maxlen=_KEPT_LINES)  # type: Any
    try:
        for line in child.stdout or ():
            last.append(line.strip())
            sys.stderr.write(line)
        code = child.wait()
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()
        if child.stdout:
            child.stdout.close()
    if code != 0:
        errors = [line for line in last if "[E]" in line or "rror" in line]
        shown = errors[-1] if errors else last[-1] if last else "it said nothing"
        raise Failed("{} ended with code {}: {}".format(os.path.basename(command[0]), code, shown))


def read_times(records: "Any", warmup_ms: float, warmup_included: bool) -> "Dict[str, Any]":
    """Turn trtexec's ``--exportTimes`` into samples.

    Args:
        records: one object a query. Copies are called ``in`` and ``out`` up to TensorRT 7.2, ``h2d`` and ``d2h`` later.
        warmup_ms: how long the warm-up lasted.
        warmup_included: the records hold the warm-up; those whose computation starts within it are dropped, as
            trtexec's own report does.

    Returns:
        the fields of `timing.Stopwatch.result`. A sample is copy in, computation and copy out.

    Raises:
        Failed: fields are missing, or nothing is left.
    """
    kept, dropped = [], 0
    try:
        for record in records:
            if warmup_included and record["startComputeMs"] < warmup_ms:
                dropped += 1
                continue
            start = _either(record, "startH2dMs", "startInMs")
            latency = _either(record, "h2dMs", "inMs") + record["computeMs"] + _either(record, "d2hMs", "outMs")
            kept.append((start, _either(record, "endD2hMs", "endOutMs"), latency))
    except (KeyError, TypeError) as error:
        raise Failed("trtexec's times are not as documented: {}".format(error)) from error
    if not kept:
        raise Failed("trtexec's times hold no query after the warm-up of {:g} ms".format(warmup_ms))
    first = kept[0][0]
    return {
        "samples_ms": [latency for _, _, latency in kept],
        "start_offsets_s": [(start - first) / 1e3 for start, _, _ in kept],
        "blocks": [len(kept)],
        "duration_s": (kept[-1][1] - first) / 1e3,
        "warmup_samples": dropped,
        "warmup_s": warmup_ms / 1e3,
    }


def _either(record: "Dict[str, float]", new: str, old: str) -> float:
    return record[new] if new in record else record[old]


def read_profile(records: "Any") -> "Any":
    """Turn trtexec's ``--exportProfile`` into layers; second, whether they are means (no ``medianMs`` before 8.4).

    Raises:
        Failed: fields are missing.
    """
    try:
        rows = [record for record in records if "name" in record]  # the first element is {"count": N}
        means = any("medianMs" not in row for row in rows)
        layers = [
            {"name": row["name"], "op": "", "median_ms": float(row.get("medianMs", row["averageMs"]))} for row in rows
        ]
    except (KeyError, TypeError) as error:
        raise Failed("trtexec's layer times are not as documented: {}".format(error)) from error
    return timing.with_shares(layers), means
