"""What a host asks of this board, over standard input and output: one question, one answer.

Each is a line of JSON, ``bytes`` of which follow where it says so. Nothing of it is a shell's or a path of the host's.
An end of input ends this process, and no job.
"""

import json
import os
import select
import sys
from typing import Any, Dict

from . import __version__, device_jobs, device_lock, store
from .outcome import Failed

MOST_BYTES = 4 << 20  # of a piece
_LONGEST_LINE = 16 << 20
_LOOK_EVERY_S = 0.1


def serve(root: str) -> int:
    """Answer until the input ends.

    Args:
        root: the store.

    Returns:
        the exit code.
    """
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not look like an answer
    server = _Server(os.fdopen(os.dup(0), "rb"), answers, root)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    try:
        server.answer_all()
    except BrokenPipeError:
        pass
    return 0


class _Server:
    def __init__(self, questions: "Any", answers: "Any", root: str) -> None:
        self._in = questions
        self._out = answers
        self._root = root
        self._store = None  # type: Any

    def answer_all(self) -> None:
        operations = {
            "hello": self._hello,
            "probe": self._probe,
            "missing": self._missing,
            "put": self._put,
            "get": self._get,
            "start": self._start,
            "jobs": self._jobs,
            "follow": self._follow,
            "cancel": self._cancel,
            "forget": self._forget,
            "clean": self._clean,
        }
        for line in iter(lambda: self._in.readline(_LONGEST_LINE), b""):
            question = json.loads(line.decode("utf-8"))
            data = self._in.read(question.get("bytes", 0))
            if len(data) < question.get("bytes", 0):
                return
            try:
                if self._store is None:
                    self._store = store.Store(self._root)
                answer = operations[question["ask"]](question, data)
            except store.Busy:
                answer = {"error": "busy", "reason": "another host sends the same file"}
            except Failed as error:
                answer = {"error": "refused", "reason": error.reason, "hint": error.hint}
            except OSError as error:
                answer = {"error": "system", "number": error.errno, "reason": error.strerror or str(error)}
            self._say(answer, answer.pop("payload", b""))

    def _say(self, answer: "Dict[str, Any]", payload: bytes = b"") -> None:
        if payload:
            answer["bytes"] = len(payload)
        self._out.write(json.dumps(answer).encode("ascii") + b"\n" + payload)
        self._out.flush()

    def _hello(self, asked: "Any", data: bytes) -> "Any":
        holder = device_lock.holder_of(asked["lock"] or device_lock.DEFAULT)
        return {"agent": __version__, "store": self._store.root, "holder": holder}

    def _probe(self, asked: "Any", data: bytes) -> "Any":
        from . import environment  # it needs much more than other answers

        return {"environment": environment.probe(), "free_bytes": self._store.free_bytes()}

    def _missing(self, asked: "Any", data: bytes) -> "Any":
        """Which objects are not here, after making sure that there is room for them."""
        absent = []
        for file in asked["files"]:
            if not store.is_digest(file["sha256"]):
                raise Failed("not a digest: {}".format(file["sha256"]))
            if not self._store.has(file["sha256"], file["size"]):
                absent.append(dict(file, arrived=self._store.arrived(file["sha256"])))
        needed = sum(max(0, file["size"] - file["arrived"]) for file in absent) + asked["more"]
        try:
            self._store.reserve(needed)
        except OSError as error:
            free = self._store.free_bytes()
            return {"error": "space", "reason": error.strerror, "needed": needed, "free": free, "number": error.errno}
        return {"files": absent}

    def _put(self, asked: "Any", data: bytes) -> "Any":
        if not store.is_digest(asked["sha256"]):
            raise Failed("not a digest: {}".format(asked["sha256"]))
        return {"whole": self._store.receive(asked["sha256"], asked["size"], asked["offset"], data)}

    def _get(self, asked: "Any", data: bytes) -> "Any":
        if not store.is_digest(asked["sha256"]):
            raise Failed("not a digest: {}".format(asked["sha256"]))
        payload, size = self._store.read(asked["sha256"], asked["offset"], MOST_BYTES)
        return {"size": size, "payload": payload}

    def _start(self, asked: "Any", data: bytes) -> "Any":
        device_jobs.start(self._store, asked["job"])
        return {}

    def _jobs(self, asked: "Any", data: bytes) -> "Any":
        return {"jobs": [device_jobs.describe(job) for job in device_jobs.all_jobs(self._store)]}

    def _follow(self, asked: "Any", data: bytes) -> "Any":
        """Pass on a job's log until it ended, or has so many results; the host may ask for something else meanwhile."""
        job = device_jobs.Job(self._store, asked["job"])
        offset = asked["offset"]
        while True:
            facts = device_jobs.describe(job)
            lines, offset = device_jobs.read_log(job, offset, MOST_BYTES)
            if lines:
                self._say({"lines": lines, "offset": offset})
                continue
            if facts["state"] == "ended" or len(facts["results"]) >= asked["results"]:
                return {"job": facts}
            if select.select([self._in], [], [], _LOOK_EVERY_S)[0]:
                return {"job": facts}

    def _cancel(self, asked: "Any", data: bytes) -> "Any":
        job = device_jobs.Job(self._store, asked["job"])
        job.cancel()
        return {"job": device_jobs.describe(job)}

    def _forget(self, asked: "Any", data: bytes) -> "Any":
        device_jobs.Job(self._store, asked["job"]).remove()
        return {}

    def _clean(self, asked: "Any", data: bytes) -> "Any":
        """Remove what no job refers to, and ended jobs without results; with ``all`` those with results too."""
        jobs = device_jobs.all_jobs(self._store)
        for job in jobs:
            if asked["all"] or not job.state()["results"]:
                job.remove()
        jobs = device_jobs.all_jobs(self._store)
        device_jobs.remove_unfinished(self._store)
        kept = {sha256 for job in jobs for sha256 in job.references()}
        gone = self._store.clean(kept, os.path.abspath(sys.argv[0]))
        return {"gone": gone, "jobs": [device_jobs.describe(job) for job in jobs]}
