"""One engine at a time, each in a process of its own: memory is given back, and a crash takes only itself along."""

import json
import os
import subprocess
import sys
import time
import zipfile
from typing import Any, Dict, List, Optional

from . import __version__, build_rtx, build_tensorrt, environment, files, run_onnxruntime, run_tensorrt, run_trtexec
from .outcome import Failed, NotPossible

SCHEMA = 1
BUILD_FILE = "build.json"
_GRACE_S = 2.0
VALID = {"min_duration_s": 10.0, "min_samples": 100}


def build_all(plan_path: str) -> "Dict[str, Any]":
    """Build every engine of a plan; the result is the content of ``build.json``."""
    plan = files.read_plan(plan_path)
    result = _header(plan)
    result["plan_sha256"] = files.sha256_of(plan_path)
    result["engines"] = [_in_child("build-one", plan, plan_path, engine) for engine in plan["engines"]]
    return result


def bench_all(plan_path: str, only: "Optional[str]", input_file: "Optional[str]") -> "Dict[str, Any]":
    """Measure the engines of a plan; the result is the content of ``latency.json``."""
    plan = files.read_plan(plan_path)
    engines = [engine for engine in plan["engines"] if only in (None, engine["precision"])]
    if not engines:
        raise Failed("the plan has no {} engine".format(only))
    result = _header(plan)
    result["quick"] = plan["measurement"]["quick"]
    more = [] if input_file is None else ["--input", os.path.abspath(input_file)]
    result["runs"] = [_in_child("bench-one", plan, plan_path, engine, more) for engine in engines]
    return result


def _header(plan: "Dict[str, Any]") -> "Dict[str, Any]":
    return {
        "schema": SCHEMA,
        "target": plan["target"]["name"],
        "tool": {"deploycc": plan["tool"]["deploycc"], "agent": __version__},
        "environment": environment.probe(),
    }


def say(message: str) -> None:
    """One line of progress."""
    sys.stderr.write(message + "\n")
    sys.stderr.flush()


def _self() -> "List[str]":
    """How to start this program again: the zipapp, or the installed package."""
    if zipfile.is_zipfile(sys.argv[0]):
        return [sys.executable, os.path.abspath(sys.argv[0])]
    return [sys.executable, "-m", __package__]


def _in_child(
    command: str, plan: "Dict[str, Any]", plan_path: str, engine: "Dict[str, Any]", more: "Optional[List[str]]" = None
) -> "Dict[str, Any]":
    """Run one job in a child process and return its JSON, which comes through a pipe of its own."""
    folder = os.path.dirname(os.path.abspath(plan_path))
    reader, writer = os.pipe()
    arguments = [command, os.path.abspath(plan_path), engine["file"], "--result-fd", str(writer)]
    child = subprocess.Popen(
        _self() + arguments + (more or []), pass_fds=[writer], stdin=subprocess.DEVNULL, stdout=sys.stderr
    )
    os.close(writer)
    try:
        with os.fdopen(reader, encoding="utf-8") as pipe:
            text = pipe.read()
        code = child.wait()
    finally:
        if child.poll() is None:
            _end(child)
        for name in _leftovers(engine):
            files.remove(os.path.join(folder, name))
    if code == 0 and text:
        return json.loads(text)  # type: ignore[no-any-return]
    end = "was killed by signal {}".format(-code) if code < 0 else "ended with code {}".format(code)
    row = _build_row(plan, engine) if command == "build-one" else _bench_row(plan, engine)
    row["status"] = "failed"
    row["reason"] = "the process that worked on {} {}".format(engine["file"], end)
    row["hint"] = "signal 9 is how the kernel ends a process when memory runs out" if code == -9 else None
    return row


def _end(child: "Any") -> None:
    """End a job: politely, so that it ends the program it runs, then for good."""
    child.terminate()
    try:
        child.wait(timeout=_GRACE_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _leftovers(engine: "Dict[str, Any]") -> "List[str]":
    names = [engine["file"] + files.PARTIAL]
    commands = engine["commands"] or {}
    return names + [commands[key] for key in ("times_file", "profile_file") if commands.get(key)]


def _network(plan: "Dict[str, Any]", engine: "Dict[str, Any]") -> "Dict[str, Any]":
    return next(network for network in plan["networks"] if _key(network) == _key(engine))


def _key(row: "Dict[str, Any]") -> "Any":
    """What tells networks apart, engines and their rows likewise."""
    return row["precision"], row["variant"]


def _engine(plan: "Dict[str, Any]", file: str) -> "Dict[str, Any]":
    return next(engine for engine in plan["engines"] if engine["file"] == file)


def _build_row(plan: "Dict[str, Any]", engine: "Dict[str, Any]") -> "Dict[str, Any]":
    return {
        "file": engine["file"],
        "precision": engine["precision"],
        "variant": engine["variant"],
        "network_sha256": engine["network_sha256"],
        "status": "built",
        "reason": None,
        "node": None,
        "hint": None,
        "sha256": None,
        "size_bytes": None,
        "builder": plan["target"]["builder"],
        "builder_version": None,
        "compute_capability": plan["target"]["compute_capability"],
        "build_seconds": None,
        "peak_memory_mib": None,
        "layers": [],
    }


def build_one(plan_path: str, file: str) -> "Dict[str, Any]":
    """Build the engine of this file name, in this process; return one element of ``engines`` in ``build.json``."""
    plan = files.read_plan(plan_path)
    folder = os.path.dirname(os.path.abspath(plan_path))
    engine = _engine(plan, file)
    row = _build_row(plan, engine)
    say("build {} with {}".format(engine["file"], row["builder"]))
    start = time.perf_counter()
    try:
        row.update(_build(plan, engine, folder))
    except (NotPossible, Failed) as error:
        row.update(_told(error))
        say("{}: {}".format(engine["file"], error.reason))
        return row
    path = files.inside(folder, engine["file"])
    row["build_seconds"] = time.perf_counter() - start
    row["peak_memory_mib"] = environment.peak_memory_mib()
    row["sha256"] = files.sha256_of(path)
    row["size_bytes"] = os.path.getsize(path)
    say("{}: {:.1f} MB in {:.1f} s".format(engine["file"], row["size_bytes"] / 1e6, row["build_seconds"]))
    return row


def _told(error: "Any") -> "Dict[str, Any]":
    status = "not-possible" if isinstance(error, NotPossible) else "failed"
    return {"status": status, "reason": error.reason, "hint": error.hint, "node": getattr(error, "node", None)}


def _build(plan: "Dict[str, Any]", engine: "Dict[str, Any]", folder: str) -> "Dict[str, Any]":
    network = _network(plan, engine)
    path = files.checked(folder, network["file"], network["sha256"])
    if network["weights_file"] is not None:
        files.checked(folder, network["weights_file"], network["weights_sha256"])
    builder = plan["target"]["builder"]
    if builder != "tensorrt-rtx":  # which builds for another machine than this one
        _check_architecture(plan["target"]["architecture"])
    _check_memory(plan, os.path.getsize(files.inside(folder, network["weights_file"] or network["file"])))
    partial = files.inside(folder, engine["file"]) + files.PARTIAL
    try:
        if builder == "onnxruntime":
            facts = run_onnxruntime.build(plan, path, partial)
        elif builder == "tensorrt-rtx":
            facts = build_rtx.build(plan, path, partial)
        elif builder == "tensorrt-python":
            facts = build_tensorrt.build(plan, engine, network, path, partial)
        else:
            facts = run_trtexec.build(plan, engine, folder)
        if not os.path.exists(partial):
            raise Failed("the builder ended without an error and without an engine")
        os.replace(partial, files.inside(folder, engine["file"]))
    except OSError as error:
        raise Failed("cannot write {}: {}".format(engine["file"], error.strerror)) from error
    finally:
        files.remove(partial)
    return facts


def _check_architecture(planned: str) -> None:
    here = environment.hardware()["architecture"]
    if here != planned:
        raise NotPossible(
            "the target is {}, and this machine is {}".format(planned, here),
            "copy this folder to the target and run there: python3 agent.pyz build plan.json",
        )


def _check_memory(plan: "Dict[str, Any]", network_bytes: int) -> None:
    """Refuse a build that cannot succeed: parsed weights, the builder's copy and the engine are three copies at least.

    A lower bound; small boards kill a build that runs out of memory without a word.
    """
    available = environment.memory_mib("MemAvailable")
    needed = 3 * network_bytes // (1 << 20) + (plan["target"]["workspace_mib"] or 0)
    if available is not None and available < needed:
        raise NotPossible(
            "{} MiB of memory are free, and the build needs at least {} MiB".format(available, needed),
            "close the desktop and other programs; swap does not help a GPU",
        )


def _bench_row(plan: "Dict[str, Any]", engine: "Dict[str, Any]") -> "Dict[str, Any]":
    board = plan["target"]
    return {
        "precision": engine["precision"],
        "variant": engine["variant"],
        "engine": None,
        "network_sha256": engine["network_sha256"],
        "device": board["name"],
        "status": "measured",
        "reason": None,
        "hint": None,
        "threads": plan["measurement"]["threads"] if board["runtime"] == "onnxruntime" else None,
        "warmup_samples": 0,
        "warmup_s": 0.0,
        "duration_s": 0.0,
        "samples_ms": [],
        "start_offsets_s": [],
        "blocks": [],
        "layers": [],
        "constraints": VALID,
        "environment_after": {},
    }


def bench_one(plan_path: str, file: str, input_file: "Optional[str]") -> "Dict[str, Any]":
    """Measure the engine of this file name, in this process; return one element of ``runs`` in ``latency.json``."""
    plan = files.read_plan(plan_path)
    folder = os.path.dirname(os.path.abspath(plan_path))
    engine, board = _engine(plan, file), plan["target"]
    row = _bench_row(plan, engine)
    try:
        sha256 = _check_engine(engine, folder)
        limits = plan["measurement"]
        say("measure {} for at least {:g} s".format(engine["file"], limits["min_duration_s"]))
        if board["runtime"] == "onnxruntime":
            path = files.inside(folder, engine["file"])
            result = run_onnxruntime.measure(plan, _network(plan, engine), path, input_file)
        elif engine["commands"] is not None:
            result = run_trtexec.measure(plan, engine, folder)
        else:
            path = files.inside(folder, engine["file"])
            result = run_tensorrt.measure(plan, _network(plan, engine), path, input_file)
    except (NotPossible, Failed) as error:
        row.update({key: value for key, value in _told(error).items() if key in row})
        say("{}: {}".format(engine["file"], error.reason))
        return row
    version = result.pop("runtime_version")
    row["engine"] = {
        "file": engine["file"], "sha256": sha256, "runtime": board["runtime"], "runtime_version": version
    }  # fmt: skip
    row.update(result)
    row["blocks"] = [len(row["samples_ms"])]
    row["environment_after"] = environment.state()
    say("{}: {} samples in {:.1f} s".format(engine["file"], len(row["samples_ms"]), row["duration_s"]))
    return row


def _check_engine(engine: "Dict[str, Any]", folder: str) -> str:
    """Return the engine's digest, after checking that it is the one that was built from the plan's network.

    Raises:
        NotPossible: it was not built, because that was not possible.
        Failed: it is missing, or another one.
    """
    hint = "build it again: deploycc build, or on the board python3 agent.pyz build plan.json"
    record = os.path.join(folder, BUILD_FILE)
    if not os.path.exists(record):
        raise Failed("there is no {} beside the plan".format(BUILD_FILE), hint=hint)
    built = next((row for row in files.read_json(record)["engines"] if _key(row) == _key(engine)), None)
    if built is None or built["network_sha256"] != engine["network_sha256"]:
        raise Failed("{} was built from another network than the plan's".format(engine["file"]), hint=hint)
    if built["status"] == "not-possible":
        raise NotPossible("not built: " + built["reason"], built["hint"])
    if built["status"] != "built":
        raise Failed("not built: {}".format(built["reason"]), hint=built["hint"])
    path = files.inside(folder, engine["file"])
    if not os.path.exists(path):
        raise Failed("the engine {} is gone".format(engine["file"]), hint=hint)
    sha256 = files.sha256_of(path)
    if sha256 != built["sha256"]:
        raise Failed("{} is not the engine that {} names".format(engine["file"], BUILD_FILE), hint=hint)
    return sha256
