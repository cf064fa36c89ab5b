"""A board at the other end of a link: what its agent answers (``deploycc/agent/serve.py``)."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploycc.agent_host.devices import Device
from deploycc.agent_host.ssh import Link, LinkLost
from deploycc.agent_host.zipapp import agent_bytes
from deploycc.errors import DeviceError
from deploycc.files import sha256_of
from deploycc.progress import Say, quiet

_LONGEST_LINE = 64 << 20
_PIECE_BYTES = 1 << 20
_BUSY_S = 0.5


@dataclass(frozen=True)
class StoredFile:
    """A file of this machine, as a board's store names it."""

    path: Path
    sha256: str
    size: int

    @classmethod
    def of(cls, path: Path) -> StoredFile:
        """Read a file's digest and size."""
        return cls(path, sha256_of(path), path.stat().st_size)


class Board:
    """A device that is connected, with the agent of this version on it.

    Attributes:
        device: which.
        holder: who worked on it when it was connected, and since when; None: nobody.
    """

    def __init__(self, device: Device) -> None:
        """Connect; the agent travels where the board does not have it.

        Raises:
            DeviceError: the board cannot be reached or used.
            LinkLost: the connection ended again.
        """
        self.device = device
        self._link = Link(device)
        try:
            self._start_agent()
            self.holder: dict[str, Any] | None = self.ask({"ask": "hello", "lock": device.lock})["holder"]
        except BaseException:
            self._link.close()
            raise

    @property
    def ssh_pid(self) -> int:
        """Of the connection's process."""
        return self._link.pid

    def __enter__(self) -> Board:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connection; jobs on the board go on."""
        self._link.close()

    def _start_agent(self) -> None:
        data = agent_bytes()
        asked = {"store": self.device.store, "sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
        with contextlib.suppress(LinkLost):  # the greeting that does not come says why
            self._link.send(json.dumps(asked).encode("ascii") + b"\n")
        answer = self._link.greeting()
        if answer == "need":
            self._link.send(data)
            answer = self._link.greeting()
        kind, _, rest = answer.partition(" ")
        if kind == "python":
            raise DeviceError(
                "device-old-python",
                f"the Python of the device is {rest}, and the agent needs 3.5",
                context=self._context(),
                hint='name another one with python = "PATH" in devices.toml',
            )
        if kind == "error":
            _, reason, file = json.loads(rest)
            raise DeviceError(
                "device-unwritable",
                "the device's store cannot be written",
                context={**self._context(), "file": file},
                note=reason,
                hint='free some space there, or name another folder with store = "PATH" in devices.toml',
            )

    def _context(self) -> dict[str, str]:
        return {"device": self.device.name}

    def ask(self, question: Mapping[str, Any], data: bytes = b"") -> dict[str, Any]:
        """Ask, and return the answer.

        Raises:
            DeviceError: the board refuses, or cannot.
            LinkLost: the connection ended.
        """
        self._link.send(
            json.dumps({**question, **({"bytes": len(data)} if data else {})}).encode("ascii") + b"\n" + data
        )
        return self.answer()

    def answer(self) -> dict[str, Any]:
        """Return the next answer; see `ask`."""
        answer: dict[str, Any] = json.loads(self._link.line(_LONGEST_LINE))
        if size := answer.pop("bytes", 0):
            answer["payload"] = self._link.read(size)
        if "error" in answer and answer["error"] != "busy":
            raise self._refusal(answer)
        return answer

    def _refusal(self, answer: Mapping[str, Any]) -> DeviceError:
        if answer["error"] == "space":
            return DeviceError(
                "device-full",
                "the device does not have room for the files",
                context={
                    **self._context(),
                    "needed": f"{answer['needed'] / 1e6:.1f} MB",
                    "free": f"{answer['free'] / 1e6:.1f} MB",
                },
                note=answer["reason"],
                hint=f"`deploycc device clean {self.device.name}` removes what no job needs",
            )
        return DeviceError(
            "device-refuses",
            "the agent on the device cannot do that",
            context=self._context(),
            note=answer["reason"],
            hint=answer.get("hint"),
        )

    def jobs(self) -> list[dict[str, Any]]:
        """Return the jobs on the board, the oldest first.

        Raises:
            LinkLost: the connection ended.
        """
        jobs: list[dict[str, Any]] = self.ask({"ask": "jobs"})["jobs"]
        return jobs

    def push(self, files: Sequence[StoredFile], more: int = 0, say: Say = quiet) -> int:
        """Send the files that the board does not have; return how many bytes went.

        Args:
            files: what is needed there.
            more: bytes that must be free besides.
            say: progress.

        Raises:
            DeviceError: ``device-full`` before anything is sent, and others.
            LinkLost: the connection ended; what arrived stays there.
        """
        named = {file.sha256: file for file in files}
        asked = [{"sha256": file.sha256, "size": file.size} for file in named.values()]
        missing = self.ask({"ask": "missing", "files": asked, "more": more})["files"]
        total = sum(file["size"] for file in missing)
        done = sum(file["arrived"] for file in missing)
        sent = 0
        for absent in missing:
            file = named[absent["sha256"]]
            with file.path.open("rb") as stream:
                offset = min(absent["arrived"], file.size)
                stream.seek(offset)
                while True:
                    say(f"sending {file.path.name}, MB", round(done / 1e6), max(1, round(total / 1e6)))
                    piece = stream.read(_PIECE_BYTES)
                    answer = self._put(file, offset, piece)
                    offset, done, sent = offset + len(piece), done + len(piece), sent + len(piece)
                    if answer["whole"]:
                        break
                    if not piece:
                        raise DeviceError(
                            "file-changed-meanwhile",
                            f"{file.path.name} became shorter while it was sent",
                            context={"file": file.path},
                        )
        return sent

    def _put(self, file: StoredFile, offset: int, piece: bytes) -> dict[str, Any]:
        question = {"ask": "put", "sha256": file.sha256, "size": file.size, "offset": offset}
        while "error" in (answer := self.ask(question, piece)):  # another host sends it
            time.sleep(_BUSY_S)
            again = self.ask({"ask": "missing", "files": [{"sha256": file.sha256, "size": file.size}], "more": 0})
            if not again["files"]:
                return {"whole": True}
        return answer

    def fetch(self, sha256: str, path: Path, say: Say = quiet) -> None:
        """Get an object; ``path`` may hold its beginning.

        Raises:
            DeviceError: it is not there, or not what its digest says.
            LinkLost: the connection ended; ``path`` holds what arrived.
        """
        with path.open("ab") as stream:
            while True:
                answer = self.ask({"ask": "get", "sha256": sha256, "offset": stream.tell()})
                stream.write(answer.get("payload", b""))
                say(f"fetching {path.name}, MB", round(stream.tell() / 1e6), max(1, round(answer["size"] / 1e6)))
                if stream.tell() >= answer["size"]:
                    break
        if sha256_of(path) != sha256:
            path.unlink()
            raise DeviceError(
                "device-file-damaged",
                "a file arrived damaged from the device",
                context={**self._context(), "sha256": sha256},
                hint="the board's memory or disk may be at fault",
            )


__all__ = ["Board", "LinkLost", "StoredFile"]
