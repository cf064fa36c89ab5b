"""Work that hosts leave on this board: each job is a folder, and a process of its own session that obeys it.

    job.json     what is to be done, and for whom
    state.json   how far it is
    log          what the agent says
    lock         held by the process as long as it lives
    plan/        the plan's folder, its files linked from the store; of several plans a folder each, by its number
    agent.pyz    the agent that works on it

A job outlives whoever started it. One whose lock nobody holds and that has not ended is lost: it was killed, or the
board was started anew.
"""

import fcntl
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from typing import Any, Dict, List, Optional

from . import device_lock, fields, files, plan_file, processes, steady, store
from .outcome import Failed
from .progress import say
from .scenario import LONGEST_PERIOD_MS, Scenario

ANSWERED = (0, 4, 5)  # exit codes of an agent that wrote its JSON
_RESULTS = {"build": "build.json", "bench": "latency.json", "detect": "engine-detections.json"}
MOST_PLANS = 16  # whose engines are measured in turns
MOST_STEPS = 17  # building, and measuring on 16 pictures
_GRACE_S = 6.0  # the agent itself takes up to 2 s to end a job
_LOOK_EVERY_S = 0.05

_DIGEST = fields.text("[0-9a-f]{64}", what="a SHA-256 in lower case")
_STEP = fields.record(
    {
        "command": fields.one_of("build", "bench", "detect"),
        "only": fields.optional(fields.one_of("fp32", "fp16")),
        "input": fields.optional(_DIGEST),
        "max_performance": fields.flag,
        "rounds": fields.optional(fields.whole(1, 1000)),
        "engines": fields.flag,
        "scenario": fields.optional(
            fields.record(
                {
                    "name": fields.one_of("single-stream", "constant-stream"),
                    "period_ms": fields.optional(fields.number(0.0, LONGEST_PERIOD_MS, above=True)),
                    "seconds": fields.optional(fields.number(0.0, plan_file.LONGEST_S, above=True)),
                }
            )
        ),
    },
    {"scenario": None, "max_performance": False, "rounds": None, "engines": False},
)
_JOB = fields.record(
    {
        "id": fields.text("[0-9a-f]{16}", what="the number of a job"),
        "owner": fields.text(most=200),
        "host": fields.text(most=200),
        "folders": fields.list_of(fields.text(), 1, MOST_PLANS),
        "steps": fields.list_of(_STEP, 1, MOST_STEPS),
        "files": fields.list_of(
            fields.record({"name": fields.text(most=1024), "sha256": _DIGEST}), 1, 100 * MOST_PLANS
        ),
        "program": fields.optional(fields.text()),
        "lock": fields.optional(fields.text()),
    }
)


def start(where: "store.Store", asked: "Any") -> None:
    """Start a job in a session of its own; one that is here already is left as it is.

    Args:
        where: the store that holds its files.
        asked: what a host asks for, not yet checked.

    Raises:
        Failed: it is not a job, or a file of it is not here.
        OSError: it cannot be written.
    """
    try:
        job = _JOB(asked, "")  # type: Dict[str, Any]
    except fields.Wrong as error:
        raise Failed("not a job: {}".format(error)) from error
    folder = os.path.join(where.jobs, job["id"])
    if os.path.isdir(folder):
        return
    new = "{}.{}{}".format(folder, os.getpid(), files.PARTIAL)  # the host may ask again before this is done
    plan = os.path.join(new, "plan")
    for path in (plan, os.path.join(new, "tmp")):
        os.makedirs(path, 0o700)
    inputs = [{"name": "../input-" + step["input"], "sha256": step["input"]} for step in job["steps"] if step["input"]]
    for file in job["files"]:
        files.inside(plan, file["name"])
    for file in job["files"] + inputs:
        where.give(file["sha256"], os.path.normpath(os.path.join(plan, file["name"])))
    store.link_or_copy(os.path.abspath(sys.argv[0]), os.path.join(new, "agent.pyz"))
    files.write_json(dict(job, created=time.time()), os.path.join(new, "job.json"))
    _write_state(new, {"state": "waiting", "results": []})
    lock = os.open(os.path.join(new, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            os.replace(new, folder)
        except OSError:
            if os.path.isdir(folder):
                return
            raise
        with open(os.path.join(folder, "log"), "ab") as log:
            subprocess.Popen(
                [
                    sys.executable,
                    os.path.join(folder, "agent.pyz"),
                    "run-job",
                    folder,
                    where.root,
                    "--lock-fd",
                    str(lock),
                ],
                cwd=folder,
                env=dict(os.environ, TMPDIR=os.path.join(folder, "tmp")),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[lock],
                start_new_session=True,
            )
    finally:
        os.close(lock)  # the process holds it too
        shutil.rmtree(new, ignore_errors=True)


def run(folder: str, root: str) -> int:
    """Do the work of a job's folder, in this process; it holds the job's lock, and ignores that its session ends.

    Returns:
        the exit code.
    """
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    processes.obey_signals()
    job = files.read_json(os.path.join(folder, "job.json"))
    state = {"state": "waiting", "pid": os.getpid(), "results": []}  # type: Dict[str, Any]
    reason = "failed"
    try:
        _write_state(folder, state)
        facts = {"owner": "{}@{}".format(job["owner"], job["host"]), "job": job["id"]}
        device_lock.take(job["lock"] or device_lock.DEFAULT, facts, _say_waiting)
        state["state"] = "running"
        _write_state(folder, state)
        where = store.Store(root)
        for step in job["steps"]:
            result = _run_step(folder, where, job, step)
            state["results"].append(result)
            _write_state(folder, state)
            if result["sha256"] is None or result["failed"]:
                break
        reason = "done"
    except KeyboardInterrupt:
        reason = "cancelled"
        say("cancelled")
    except Failed as error:
        say("error: " + error.reason)
    except OSError as error:
        say("error: {}: {}".format(error.filename or "file", error.strerror))
    state.update(state="ended", reason=reason)
    _write_state(folder, state)
    shutil.rmtree(os.path.join(folder, "tmp"), ignore_errors=True)
    return 0 if reason == "done" else 1


def _say_waiting(holder: "Optional[Dict[str, Any]]") -> None:
    say("waiting: the board works on " + device_lock.sentence(holder))


def _run_step(folder: str, where: "store.Store", job: "Dict[str, Any]", step: "Dict[str, Any]") -> "Dict[str, Any]":
    """Run the agent on a plan, and keep what it wrote in the store."""
    command = step["command"]
    below = [str(number) for number in range(len(job["folders"]))] if len(job["folders"]) > 1 else [""]
    plans = [os.path.join(folder, "plan", name, "plan.json") for name in below]
    out = os.path.join(folder, "plan", _RESULTS[command])
    arguments = [sys.executable, os.path.join(folder, "agent.pyz"), command, *plans, "--out", out]
    for option, value in (("--only", step["only"]), ("--program", job["program"])):
        if value is not None:
            arguments += [option, value]
    if step["max_performance"]:
        arguments.append("--max-performance")
    if step["rounds"] is not None:
        arguments += ["--rounds", str(step["rounds"])]
    if step["scenario"] is not None:
        arguments += Scenario(**step["scenario"]).arguments()
    if step["input"] is not None:
        arguments += ["--input", os.path.join(folder, "input-" + step["input"])]
    files.remove(out)
    watched, held = os.pipe()
    try:
        child = processes.Child([*arguments, "--parent-fd", str(watched)], True, cwd=folder, pass_fds=[watched])
        try:
            code = child.wait()
        finally:
            child.end(_GRACE_S)
    finally:
        os.close(watched)
        os.close(held)
    result = {"command": command, "code": code, "sha256": None, "size": 0, "engines": [], "failed": False}
    if code not in ANSWERED or not os.path.isfile(out):
        return result
    result["sha256"], result["size"] = where.adopt(out)
    written = files.read_json(out)
    name = "engines" if command == "build" else "runs"
    rows = [row for part in (written if isinstance(written, list) else [written]) for row in part[name]]
    result["failed"] = any(row["status"] == "failed" for row in rows)
    if command != "build" or (len(plans) > 1 and not step["engines"]):  # of several plans, mostly times are wanted
        return result
    for plan, part in zip(plans, written if isinstance(written, list) else [written]):  # noqa: B905
        for row in part["engines"]:
            for engine in plan_file.engine_parts(row) if row["status"] == "built" else ():
                sha256, size = where.adopt(files.inside(os.path.dirname(plan), engine["file"]))
                path = os.path.join(os.path.dirname(plan), engine["file"])
                name = os.path.relpath(path, os.path.join(folder, "plan"))
                result["engines"].append({"name": name, "sha256": sha256, "size": size})
    return result


def _write_state(folder: str, state: "Dict[str, Any]") -> None:
    files.write_json(state, os.path.join(folder, "state.json"))


class Job:
    """A job that is on this board."""

    def __init__(self, where: "store.Store", number: "Any") -> None:
        """Find it.

        Raises:
            Failed: it is not here.
        """
        self.folder = os.path.join(where.jobs, str(number))
        if not isinstance(number, str) or os.path.basename(number) != number or not os.path.isdir(self.folder):
            raise Failed("there is no job {} on this board".format(number))
        self.facts = files.read_json(os.path.join(self.folder, "job.json"))  # type: Dict[str, Any]
        self.facts.setdefault("folders", [self.facts.get("folder")])  # a job of version 0.1 has one

    def state(self) -> "Dict[str, Any]":
        """How far it is: ``waiting``, ``running``, ``ended`` with a reason."""
        alive = self.is_alive()  # before the state is read: it may end between the two
        state = files.read_json(os.path.join(self.folder, "state.json"))  # type: Dict[str, Any]
        if state["state"] != "ended" and not alive:
            state.update(state="ended", reason="lost")
        return state

    def is_alive(self) -> bool:
        """Whether its process lives."""
        handle = os.open(os.path.join(self.folder, "lock"), os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return False
        except OSError:
            return True
        finally:
            os.close(handle)

    def references(self) -> "List[str]":
        """Digests of the objects that it needs, or made."""
        found = [file["sha256"] for file in self.facts["files"]]
        found += [step["input"] for step in self.facts["steps"] if step["input"]]
        for result in self.state()["results"]:
            found += [result["sha256"]] + [engine["sha256"] for engine in result["engines"]]
        return [sha256 for sha256 in found if sha256]

    def cancel(self) -> None:
        """End it: in order, then for good."""
        deadline = steady.now() + _GRACE_S + 4
        asked = False
        while self.is_alive() and steady.now() < deadline:
            pid = self.state().get("pid")
            if pid and not asked:
                _signal(pid, signal.SIGTERM)
                asked = True
            _pause()
        pid = self.state().get("pid")
        if pid and self.is_alive():
            _signal(pid, signal.SIGKILL)

    def remove(self) -> None:
        """Forget it, unless its process lives; one that is about to end is waited for."""
        deadline = steady.now() + _GRACE_S
        while self.is_ending() and steady.now() < deadline:
            _pause()
        if not self.is_alive():
            shutil.rmtree(self.folder, ignore_errors=True)

    def is_ending(self) -> bool:
        """Whether its process lives and has nothing left to do."""
        state = self.state()
        done = state["state"] == "ended" or len(state["results"]) == len(self.facts["steps"])
        return (done or any(result["failed"] for result in state["results"])) and self.is_alive()


def all_jobs(where: "store.Store") -> "List[Job]":
    """Return the jobs on this board, the oldest first; what an interrupted start left goes."""
    found = []
    for name in os.listdir(where.jobs):
        if name.endswith(files.PARTIAL):
            continue
        try:
            found.append(Job(where, name))
        except Failed:  # removed just now
            pass
    return sorted(found, key=lambda job: job.facts["created"])


def remove_unfinished(where: "store.Store") -> None:
    """Remove jobs whose start was interrupted; one that is being started now begins anew when its host asks again."""
    for name in os.listdir(where.jobs):
        if name.endswith(files.PARTIAL):
            shutil.rmtree(os.path.join(where.jobs, name), ignore_errors=True)


def _pause() -> None:
    """Wait a moment; a clock that is set back, or one that a library fakes, does not matter to select."""
    select.select([], [], [], _LOOK_EVERY_S)


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def describe(job: Job) -> "Dict[str, Any]":
    """What hosts are told of a job."""
    state = job.state()
    return {
        "id": job.facts["id"],
        "owner": job.facts["owner"],
        "host": job.facts["host"],
        "folders": job.facts["folders"],
        "created": job.facts["created"],
        "steps": job.facts["steps"],
        "files": job.facts["files"],
        "state": state["state"],
        "reason": state.get("reason"),
        "results": state["results"],
    }


def read_log(job: Job, offset: int, most: int) -> "List[Any]":
    """Return whole lines of a job's log from an offset on, and where the next begins.

    The last line may be unfinished once the job has ended.
    """
    path = os.path.join(job.folder, "log")
    with open(path, "rb") as file:
        file.seek(offset)
        data = file.read(most)
    end = data.rfind(b"\n") + 1
    if not end and (len(data) == most or not job.is_alive()):
        end = len(data)
    text = data[:end].decode("utf-8", "backslashreplace")
    return [text.splitlines(), offset + end]
