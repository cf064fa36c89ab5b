"""Measuring engines, in this process: one, or several of one precision in turns."""

import os
import tempfile
from typing import Any, Dict, List, Optional

from . import (
    build_file,
    environment,
    files,
    jetson,
    plan_file,
    run_onnxruntime,
    run_tensorrt,
    run_trtexec,
    stack,
    timing,
)
from .outcome import Failed, NotPossible, fields_of
from .progress import say
from .scratch import Scratch


def empty_row(plan: "Dict[str, Any]", engine: "Dict[str, Any]") -> "Dict[str, Any]":
    """Return an element of ``runs`` in ``latency.json`` before anything is measured."""
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
        "constraints": plan_file.VALID,
        "environment_after": {},
    }


def groups(engines: "List[Dict[str, Any]]", builder: str) -> "List[List[Dict[str, Any]]]":
    """Return which engines are measured in one process, in turns: those of one precision.

    A program (trtexec) measures one engine at a time.
    """
    found = []  # type: List[List[Dict[str, Any]]]
    for engine in engines:
        partners = [
            group
            for group in found
            if builder not in plan_file.PROGRAMS and group[0]["precision"] == engine["precision"]
        ]
        if partners:
            partners[0].append(engine)
        else:
            found.append([engine])
    return found


class _Job:
    """An engine to measure, and its row."""

    def __init__(self, plan: "Dict[str, Any]", file: str) -> None:
        self._board = plan["target"]
        self.engine = plan_file.engine_of(plan, file)
        self.network = plan_file.network_of(plan, self.engine)
        self.row = empty_row(plan, self.engine)
        self.path = ""
        self.built = {}  # type: Dict[str, Any]
        self.started = None  # type: Optional[Dict[str, float]]

    def check(self, folder: str) -> None:
        self.path = files.inside(folder, self.engine["file"])
        self.built = check_engine(self.engine, folder)

    def refuse(self, error: "Any") -> None:
        self.row.update({key: value for key, value in fields_of(error).items() if key in self.row})
        say("{}: {}".format(self.engine["file"], error.reason))

    def fill(self, result: "Dict[str, Any]") -> None:
        """Complete the row with what a runtime measured."""
        self.row["engine"] = {
            "file": self.engine["file"],
            "sha256": self.built["sha256"],
            "runtime": self._board["runtime"],
            "runtime_version": result.pop("runtime_version"),
        }
        self.row.update(result)
        self.row["environment_after"] = environment.state()
        self.row["environment_after"]["cpus_busy_with_others"] = environment.cpus_busy_with_others(self.started)
        say(
            "{}: {} samples in {:.1f} s".format(
                self.engine["file"], len(self.row["samples_ms"]), self.row["duration_s"]
            )
        )


def bench(
    plan_path: str, names: "List[str]", input_file: "Optional[str]", program: "Optional[str]" = None
) -> "List[Dict[str, Any]]":
    """Measure engines in this process.

    Args:
        plan_path: the plan; ``build.json`` and the engines lie beside it.
        names: the engines' files, one of the `groups`.
        input_file: the picture tensor; None: seeded random values.
        program: path of trtexec; None: look for it.

    Returns:
        Elements of ``runs`` in ``latency.json``, in the order of the names.
    """
    plan = plan_file.read_plan(plan_path)
    folder = os.path.dirname(os.path.abspath(plan_path))
    jobs = [_Job(plan, name) for name in names]
    ready = []
    for job in jobs:
        try:
            job.check(folder)
            ready.append(job)
        except (NotPossible, Failed) as error:
            job.refuse(error)
    if ready:
        _measure(plan, ready, input_file, program)
    return [job.row for job in jobs]


def _measure(plan: "Dict[str, Any]", jobs: "List[_Job]", input_file: "Optional[str]", program: "Optional[str]") -> None:
    shown = " and ".join(job.engine["file"] for job in jobs)
    how = "in turns, each for" if len(jobs) > 1 else "for"
    say("measure {} {} at least {:g} s".format(shown, how, plan["measurement"]["min_duration_s"]))
    try:
        if plan["target"]["builder"] in plan_file.PROGRAMS:
            for job in jobs:
                job.started = environment.cpu_times()
                with Scratch(tempfile.gettempdir()) as scratch:
                    board = run_trtexec.Board(plan, scratch.path, program)
                    job.fill(board.measure(job.network, job.built, job.path, input_file))
        elif plan["target"]["runtime"] == "onnxruntime":
            take_turns(plan, jobs, run_onnxruntime.Runner(plan, input_file))
        else:
            take_turns(plan, jobs, run_tensorrt.Runner(plan, input_file))
    except (NotPossible, Failed) as error:
        for job in jobs:
            if job.row["engine"] is None and job.row["status"] == "measured":
                job.refuse(error)
    except OSError as error:
        for job in jobs:
            if job.row["engine"] is None and job.row["status"] == "measured":
                job.refuse(Failed("cannot write what is measured: {}".format(error.strerror)))


def take_turns(plan: "Dict[str, Any]", jobs: "List[_Job]", runner: "Any") -> None:
    """Measure engines in turns and fill their rows; one that does not run is left out.

    Args:
        plan: the plan.
        jobs: one per engine.
        runner: of the runtime. ``prepare(network, path)`` loads an engine and returns a function that runs one picture;
            ``describe(network, path)`` says more of an engine when no engine is loaded any more; it is a context
            manager for what all engines need.

    Raises:
        NotPossible: this machine does not have what the runtime needs.
        Failed: an engine that had run stops running.
    """
    limits = plan["measurement"]
    with runner:
        ready, watches = [], []
        for job in jobs:
            try:
                watch = timing.Stopwatch(runner.prepare(job.network, job.path))
                watch.warm_up(limits["warmup_s"])
                watches.append(watch)
                ready.append(job)
            except (NotPossible, Failed) as error:
                job.refuse(error)
        if not ready:
            return
        started = environment.cpu_times()
        results = timing.take_samples(watches, limits["min_duration_s"], limits["min_samples"])
        del watch, watches  # engines are gone before their context is, and before one is loaded to be described
    for job, result in zip(ready, results):  # noqa: B905 - strict came with Python 3.10
        result.update(runner.describe(job.network, job.path))
        job.started = started
        job.fill(result)


def check_engine(engine: "Dict[str, Any]", folder: str) -> "Dict[str, Any]":
    """Return the engine's row in ``build.json``, after checking that it is the one built from the plan's network.

    Raises:
        NotPossible: it was not built, because that was not possible.
        Failed: it is missing, or another one.
    """
    hint = "build it again: deploycc build, or on the board python3 agent.pyz build plan.json"
    key = plan_file.key_of(engine)
    built = next((row for row in build_file.read_rows(folder) if plan_file.key_of(row) == key), None)
    if built is None or built["network_sha256"] != engine["network_sha256"]:
        raise Failed("{} was built from another network than the plan's".format(engine["file"]), hint=hint)
    if built["status"] == "not-possible":
        raise NotPossible("not built: {}".format(built["reason"]), built["hint"])
    if built["status"] != "built":
        raise Failed("not built: {}".format(built["reason"]), hint=built["hint"])
    path = files.inside(folder, engine["file"])
    if not os.path.exists(path):
        raise Failed("the engine {} is gone".format(engine["file"]), hint=hint)
    sha256 = files.sha256_of(path)
    if sha256 != built["sha256"]:
        raise Failed("{} is not the engine that {} names".format(engine["file"], build_file.FILE_NAME), hint=hint)
    stack.check_release(build_file.read_release(folder), jetson.release())
    return built
