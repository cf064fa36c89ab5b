"""Measuring engines, in this process: one, or several of one precision in turns, of one plan or of several."""

import binascii
import collections
import os
import tempfile
from typing import Any, Callable, Dict, List, Optional, Tuple

from . import (
    build_file,
    environment,
    files,
    jetson,
    plan_file,
    row,
    run_onnxruntime,
    run_tensorrt,
    run_trtexec,
    stack,
    telemetry,
    timing,
)
from .outcome import Failed, NotPossible, fields_of
from .progress import say
from .scenario import CONSTANT, Scenario
from .scratch import Scratch

Part = collections.namedtuple("Part", "path plan engine")  # path of the plan, its content, one engine of it


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
        "row": None,
        "constraints": plan_file.VALID,
        "scenario": None,
        "turns": None,
        "telemetry": None,
        "environment_after": {},
    }


def groups(parts: "List[Part]") -> "List[List[Part]]":
    """Return which engines are measured in one process, in turns: those of one precision.

    A program (trtexec) is started anew for each of its turns; the variants of a single plan are not worth that, and the
    engines of a row it cannot run one after the other.
    """
    several = len({part.path for part in parts}) > 1
    found = []  # type: List[List[Part]]
    for part in parts:
        in_turns = several or part.plan["target"]["builder"] not in plan_file.PROGRAMS
        partners = [group for group in found if in_turns and group[0].engine["precision"] == part.engine["precision"]]
        partners = [group for group in partners if not (_timed_apart(part) or _timed_apart(group[0]))]
        if partners:
            partners[0].append(part)
        else:
            found.append([part])
    return found


def _timed_apart(part: Part) -> bool:
    in_a_row = len(plan_file.engine_parts(part.engine)) > 1
    return in_a_row and part.plan["target"]["builder"] in plan_file.PROGRAMS


class Job:
    """An engine to measure, or those of a row, and its row in ``latency.json``."""

    def __init__(self, plan: "Dict[str, Any]", folder: str, file: str, scenario: Scenario) -> None:
        self._board = plan["target"]
        self.folder = folder
        self.plan = plan
        self.engine = plan_file.engine_of(plan, file)
        self.network = plan_file.network_of(plan, self.engine)
        self.row = empty_row(plan, self.engine)
        self.row["constraints"] = scenario.constraints()
        self.row["scenario"] = scenario.record()
        self.name = file
        self.paths = []  # type: List[str]
        self.built = {}  # type: Dict[str, Any]
        self.started = None  # type: Optional[Dict[str, float]]
        self.board = None  # type: Any
        self.samples = timing.Blocks()

    def check(self) -> None:
        """Find the engine, and refuse one that is not the plan's."""
        self.paths = [files.inside(self.folder, part["file"]) for part in plan_file.engine_parts(self.engine)]
        self.built = check_engine(self.engine, self.folder)

    @property
    def path(self) -> str:
        """The engine; of a row the first one."""
        return self.paths[0]

    def prepare(self, runner: "Any", input_file: "Optional[str]") -> "Callable[[], Any]":
        """Load it and return a function that runs one picture."""
        if self.network["row"] is None:
            return runner.prepare(self.network, self.path)  # type: ignore[no-any-return]
        tensors = row.pictures(self.plan, self.network, self.folder, input_file)
        return runner.prepare_row(self.network, self.paths, tensors)  # type: ignore[no-any-return]

    def describe(self, runner: "Any", second: "List[int]") -> "Dict[str, Any]":
        """Say more of it when no engine is loaded any more.

        Args:
            runner: of the runtime.
            second: of a row, which second networks ran: its layers are those of the first and of the most frequent one.
        """
        parts = plan_file.parts_of(self.network)
        facts = runner.describe(parts[0], self.path)  # type: Dict[str, Any]
        if not second:
            return facts
        number = max(sorted(set(second)), key=second.count)
        other = runner.describe(parts[1 + number], self.paths[1 + number])  # type: Dict[str, Any]
        named = [("first", facts["layers"]), ("second {}".format(number), other["layers"])]
        layers = [dict(layer, name="{}: {}".format(of, layer["name"])) for of, each in named for layer in each]
        return dict(other, **dict(facts, layers=timing.with_shares(layers)))

    def refuse(self, error: "Any") -> None:
        """Say why it is not measured."""
        self.row.update({key: value for key, value in fields_of(error).items() if key in self.row})
        say("{}: {}".format(self.name, error.reason))

    def fill(self, result: "Dict[str, Any]") -> None:
        """Complete the row with what a runtime measured."""
        self.row["engine"] = {
            "file": self.engine["file"],
            "sha256": self.built["sha256"],
            "runtime": self._board["runtime"],
            "runtime_version": result.pop("runtime_version"),
            "second_sha256": [part["sha256"] for part in plan_file.engine_parts(self.built)[1:]],
        }
        if self.network["row"] is not None:
            shares = self.network["row"]["shares"]
            found = {"shares": shares, "second": result.pop("second", []), "parts": result.pop("parts", [])}
            self.row["row"] = found
        self.row.update(result)
        self.row["environment_after"] = environment.state()
        self.row["environment_after"]["cpus_busy_with_others"] = environment.cpus_busy_with_others(self.started)
        if self.row["status"] == "composed":
            say("{}: each engine of the row was timed by itself".format(self.name))
        else:
            say("{}: {} samples in {:.1f} s".format(self.name, len(self.row["samples_ms"]), self.row["duration_s"]))


def bench(
    engines: "List[Tuple[str, str]]",
    input_file: "Optional[str]",
    program: "Optional[str]" = None,
    scenario: "Optional[Scenario]" = None,
    rounds: "Optional[int]" = None,
) -> "List[Dict[str, Any]]":
    """Measure engines in this process.

    Args:
        engines: for each the plan's path and the engine's file, one of the `groups`; ``build.json`` and the engines lie
            beside their plan.
        input_file: the picture tensor; None: seeded random values.
        program: path of trtexec; None: look for it.
        scenario: how pictures come; None: as the plans say.
        rounds: how often a program is started for each engine, which is then timed only; None: see `_with_program`.

    Returns:
        Elements of ``runs`` in ``latency.json``, in the order of the engines.
    """
    scenario = scenario or Scenario()
    paths = list(collections.OrderedDict.fromkeys(path for path, _ in engines))
    plans = dict(zip(paths, scenario.applied([plan_file.read_plan(path) for path in paths])))  # noqa: B905 - Python 3.5
    jobs = [Job(plans[path], os.path.dirname(os.path.abspath(path)), file, scenario) for path, file in engines]
    if len(paths) > 1:  # engines of several folders have the same names
        for job, (path, file) in zip(jobs, engines):  # noqa: B905
            job.name = "{} of plan {}".format(file, paths.index(path) + 1)
    ready = []
    for job in jobs:
        try:
            job.check()
            ready.append(job)
        except (NotPossible, Failed) as error:
            job.refuse(error)
    if ready:
        _measure(ready, input_file, program, scenario, rounds)
    return [job.row for job in jobs]


def _measure(
    jobs: "List[Job]",
    input_file: "Optional[str]",
    program: "Optional[str]",
    scenario: Scenario,
    rounds: "Optional[int]",
) -> None:
    plan = jobs[0].plan
    shown = " and ".join(job.name for job in jobs)
    how = "in turns, each for" if len(jobs) > 1 and scenario.name != CONSTANT else "for"
    say("measure {} {} at least {:g} s".format(shown, how, plan["measurement"]["min_duration_s"]))
    try:
        if plan["target"]["builder"] in plan_file.PROGRAMS:
            if scenario.name == CONSTANT:
                raise NotPossible(
                    "{} cannot take one picture per period".format(plan["target"]["builder"]),
                    "measure through TensorRT's Python API, with builder = \"tensorrt-python\" in the target's file",
                )
            with Scratch(tempfile.gettempdir()) as scratch:
                _with_program(jobs, input_file, program, scratch.path, scenario, rounds)
        elif plan["target"]["runtime"] == "onnxruntime":
            take_turns(jobs, run_onnxruntime.Runner(plan, input_file), scenario, input_file)
        else:
            take_turns(jobs, run_tensorrt.Runner(plan, input_file), scenario, input_file)
    except (NotPossible, Failed) as error:
        for job in jobs:
            if job.row["engine"] is None and job.row["status"] == "measured":
                job.refuse(error)
    except OSError as error:
        for job in jobs:
            if job.row["engine"] is None and job.row["status"] == "measured":
                job.refuse(Failed("cannot write what is measured: {}".format(error.strerror)))


def _with_program(
    jobs: "List[Job]",
    input_file: "Optional[str]",
    program: "Optional[str]",
    folder: str,
    scenario: Scenario,
    wanted_rounds: "Optional[int]",
) -> None:
    """Measure engines with trtexec: one in one go, several in turns, a process for each block.

    Where the number of rounds is given, layers are not timed, which takes one more process for each engine.
    """
    if jobs[0].network["row"] is not None:
        _parts_with_program(jobs[0], input_file, program, folder)
        return
    rounds = wanted_rounds or (timing.ROUNDS if len(jobs) > 1 else 1)
    most_rounds = wanted_rounds or rounds * _most_times(jobs, scenario)
    turns = _new_turns() if len(jobs) > 1 else None
    order = list(jobs)
    for job in jobs:
        job.board = run_trtexec.Board(_shortened(job.plan, rounds), folder, program, jobs[0].board)
        job.started = environment.cpu_times()
    with telemetry.Recorder(_expected_s(jobs)) as recorder:
        taken = 0
        while taken < rounds or (
            taken < most_rounds and not timing.ratios_known([job.samples.medians for job in jobs])
        ):
            for job in order:
                job.samples.add(job.board.time(job.network, job.built, job.path, input_file))
            order.reverse()
            taken += 1
    origin = min(job.samples.first_start for job in jobs)
    for job in jobs:
        result = job.samples.result(origin)
        result["telemetry"] = recorder.readings(origin, _end_s(result))
        result.update(job.board.profile(job.network, job.path) if wanted_rounds is None else {"remark": None})
        remarks = [result["reason"], result.pop("remark")]
        result["reason"] = "; ".join(filter(None, remarks)) or None
        result["turns"] = turns
        job.fill(result)


def _parts_with_program(job: Job, input_file: "Optional[str]", program: "Optional[str]", folder: str) -> None:
    """Measure the engines of a row, each by itself: a program does not run one after the other."""
    job.board = run_trtexec.Board(job.plan, folder, program)
    job.started = environment.cpu_times()
    parts, last = [], {}  # type: List[Dict[str, Any]], Dict[str, Any]
    for number, part in enumerate(plan_file.parts_of(job.network)):
        given = input_file if number == 0 else None  # the others read what the first one hands over
        last = job.board.time(part, job.built, job.paths[number], given)
        parts.append({"file": os.path.basename(job.paths[number]), "samples_ms": last["samples_ms"]})
    runs = {"device": last["device"], "runtime_version": last["runtime_version"], "status": "composed", "parts": parts}
    remarks = [last["reason"], "{} times each engine by itself: nothing ran them in a row".format(job.board.name)]
    job.fill(dict(runs, reason="; ".join(filter(None, remarks))))


def _most_times(jobs: "List[Job]", scenario: Scenario) -> int:
    """How many times as long as the plans say engines are timed at most: those of several folders are compared."""
    compared = len({job.folder for job in jobs}) > 1 and scenario.name is None
    return timing.MOST_TIMES if compared and not jobs[0].plan["measurement"]["quick"] else 1


def _shortened(plan: "Dict[str, Any]", rounds: int) -> "Dict[str, Any]":
    """Return the plan of one of so many blocks."""
    limits = plan["measurement"]
    shorter = {
        "min_duration_s": limits["min_duration_s"] / rounds,
        "min_samples": -(-limits["min_samples"] // rounds),
    }
    return dict(plan, measurement=dict(limits, **shorter))


def _expected_s(jobs: "List[Job]") -> float:
    """About how long engines are measured, at least."""
    return float(sum(job.plan["measurement"]["min_duration_s"] for job in jobs))


def _end_s(result: "Dict[str, Any]") -> float:
    """When the last sample ended, by the clock of the offsets."""
    return float(result["start_offsets_s"][-1] + result["samples_ms"][-1] / 1e3)


def _new_turns() -> str:
    """Return what tells engines that were measured in turns from all others."""
    return binascii.hexlify(os.urandom(8)).decode("ascii")


def take_turns(jobs: "List[Job]", runner: "Any", scenario: Scenario, input_file: "Optional[str]" = None) -> None:
    """Measure engines in turns and fill their rows; one that does not run is left out.

    Args:
        jobs: one per engine.
        runner: of the runtime. ``prepare(network, path)`` loads an engine and returns a function that runs one picture;
            ``describe(network, path)`` says more of an engine when no engine is loaded any more; it is a context
            manager for what all engines need. ``prepare_row(network, paths, pictures)`` loads engines in a row.
        scenario: how pictures come.
        input_file: the picture tensor; None: networks in a row take pictures of their folder.

    Raises:
        NotPossible: this machine does not have what the runtime needs.
        Failed: an engine that had run stops running.
    """
    limits = jobs[0].plan["measurement"]
    period_s = None if scenario.period_ms is None else scenario.period_ms / 1e3
    with runner:
        ready, watches = [], []
        for job in jobs:
            try:
                watch = timing.Stopwatch(job.prepare(runner, input_file))
                watch.warm_up(limits["warmup_s"])
                watches.append(watch)
                ready.append(job)
            except (NotPossible, Failed) as error:
                job.refuse(error)
        if not ready:
            return
        with telemetry.Recorder(_expected_s(ready)) as recorder:
            started = environment.cpu_times()
            results = timing.take_samples(
                watches, limits["min_duration_s"], limits["min_samples"], period_s, _most_times(ready, scenario)
            )
        origin = min(watch.first_start for watch in watches)
        del watch, watches  # engines are gone before their context is, and before one is loaded to be described
    turns = _new_turns() if len(ready) > 1 and period_s is None else None
    for job, result in zip(ready, results):  # noqa: B905 - strict came with Python 3.10
        result["turns"] = turns
        result["telemetry"] = recorder.readings(origin, _end_s(result))
        result.update(job.describe(runner, result.get("second", [])))
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
    planned, found = plan_file.engine_parts(engine), plan_file.engine_parts(built)
    if [part["network_sha256"] for part in planned] != [part["network_sha256"] for part in found]:
        raise Failed("{} was built from another network than the plan's".format(engine["file"]), hint=hint)
    for part, made in zip(planned, found):  # noqa: B905 - strict came with Python 3.10
        path = files.inside(folder, part["file"])
        if not os.path.exists(path):
            raise Failed("the engine {} is gone".format(part["file"]), hint=hint)
        if files.sha256_of(path) != made["sha256"]:
            raise Failed("{} is not the engine that {} names".format(part["file"], build_file.FILE_NAME), hint=hint)
    stack.check_release(build_file.read_release(folder), jetson.release())
    return built
