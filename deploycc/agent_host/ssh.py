"""One connection to a board by the OpenSSH client, as git and rsync use it: the user's configuration holds.

Nothing is asked, and no host key is accepted that the user's configuration does not accept. Everything goes through one
channel; ``ControlMaster`` of the user's configuration lets several commands share one connection.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
import tempfile
from typing import IO

from deploycc.agent_host import bootstrap
from deploycc.agent_host.devices import Device
from deploycc.errors import DeviceError

PROGRAM = "DEPLOYCC_SSH"
"""Environment variable with another program than ``ssh``."""

_ALWAYS = (
    *("BatchMode=yes", "RequestTTY=no", "RemoteCommand=none", "ClearAllForwardings=yes", "StdinNull=no"),
    *("ForkAfterAuthentication=no", "EscapeChar=none"),
)
_UNLESS_CONFIGURED = {  # a link that is gone is noticed within a minute
    "connecttimeout": ("none", "20"),
    "serveraliveinterval": ("0", "15"),
}
_NOISE_BYTES = 1 << 16
_GRACE_S = 2.0
_SHELL_MISSES_PROGRAM = 127
_SHELL_REFUSES_PROGRAM = 126
_TELLING = (  # in this order: what ssh says, and what that means
    ("REMOTE HOST IDENTIFICATION HAS CHANGED", "device-host-key-changed"),
    ("Host key verification failed", "device-host-key-unknown"),
    ("Permission denied", "device-login-refused"),
    ("Too many authentication failures", "device-login-refused"),
)

_BROKE = ("closed by", "reset by", "Broken pipe")  # of a connection that had come about


class LinkLost(Exception):  # noqa: N818 - an outcome
    """The connection is gone, and whoever asked may try again.

    Attributes:
        said: what ssh said last.
    """

    def __init__(self, said: str) -> None:
        super().__init__(said)
        self.said = said


class Link:
    """A process on a board that obeys: bytes in, bytes out."""

    def __init__(self, device: Device) -> None:
        """Connect, and start the board's Python with the first words of the agent.

        Raises:
            DeviceError: there is no ssh, or the device's address is not one.
        """
        self._device = device
        command = [*_command(device), bootstrap.command(device.python)]
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            start_new_session=True,  # Ctrl-C comes to this process, which decides
        )

    @property
    def pid(self) -> int:
        """Of the ssh process."""
        return self._process.pid

    def send(self, data: bytes) -> None:
        """Write.

        Raises:
            LinkLost: nobody reads any more.
        """
        try:
            _there(self._process.stdin).write(data)
            _there(self._process.stdin).flush()
        except OSError:
            raise self._lost() from None

    def line(self, most: int) -> bytes:
        """Return the next line.

        Raises:
            LinkLost: there is none.
        """
        line = _there(self._process.stdout).readline(most)
        if not line.endswith(b"\n"):
            raise self._lost()
        return line

    def read(self, size: int) -> bytes:
        """Return so many bytes.

        Raises:
            LinkLost: there are fewer.
        """
        data = _there(self._process.stdout).read(size)
        if len(data) < size:
            raise self._lost()
        return data

    def greeting(self) -> str:
        """Return the first words of the board, after whatever its shell prints.

        Raises:
            DeviceError: the board cannot be used.
            LinkLost: the connection ended.
        """
        skipped = 0
        try:
            while skipped < _NOISE_BYTES:
                line = self.line(_NOISE_BYTES)
                if line.startswith(bootstrap.GREETING):
                    return line[len(bootstrap.GREETING) :].decode("utf-8", "replace").strip()
                skipped += len(line)
        except LinkLost as lost:
            raise self._diagnosed(lost) from None
        raise DeviceError(
            "device-talks",
            "the login shell of the device prints without end",
            context=self._where(),
            hint="what ~/.bashrc prints must be kept from logins without a terminal",
        )

    def close(self) -> None:
        """End the connection."""
        with contextlib.suppress(OSError):
            _there(self._process.stdin).close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=_GRACE_S)
        self._process.kill()
        self._process.wait()
        _there(self._process.stdout).close()
        self._errors.close()

    def _lost(self) -> LinkLost:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=_GRACE_S)
        return LinkLost(self._said())

    def _said(self) -> str:
        self._errors.seek(0)
        text = self._errors.read(_NOISE_BYTES).decode("utf-8", "backslashreplace")
        return " | ".join(line.strip() for line in text.splitlines() if line.strip(" @\r\t"))

    def _where(self) -> dict[str, str]:
        device = self._device
        return {"device": device.name} | ({} if device.name == device.url else {"address": device.url})

    def _diagnosed(self, lost: LinkLost) -> Exception:
        """Say why there was no greeting."""
        code = self._process.poll()
        if code in (_SHELL_MISSES_PROGRAM, _SHELL_REFUSES_PROGRAM):
            return DeviceError(
                "device-no-python",
                f"the device cannot run {self._device.python}",
                context=self._where(),
                note=lost.said or None,
                hint='say where its Python is with python = "PATH" in devices.toml; 3.5 or later',
            )
        for words, kind in _TELLING:
            if words in lost.said:
                return _refused(kind, self._where(), lost.said)
        if code == 255 and not any(words in lost.said for words in _BROKE):
            return Unreachable(
                "device-unreachable",
                "the device cannot be reached",
                context=self._where(),
                note=lost.said or None,
                hint=f"try it by hand: {shlex.join(['ssh', *_destination(self._device)])}",
            )
        return lost


class Unreachable(DeviceError):  # noqa: N818 - names what was found out
    """No connection came about; a later one may."""


def _refused(code: str, where: dict[str, str], said: str) -> DeviceError:
    by_hand = "connect once by hand with ssh"
    if code == "device-host-key-changed":
        return DeviceError(
            "device-host-key-changed",
            "the device has another host key than the one that is known",
            context=where,
            note=said,
            hint="find out why; where the board was installed anew, remove the old key with ssh-keygen -R",
        )
    if code == "device-host-key-unknown":
        return DeviceError(
            "device-host-key-unknown",
            "the host key of the device is not known",
            context=where,
            note=said,
            hint=f"{by_hand}, compare the fingerprint, and accept it",
        )
    return DeviceError(
        "device-login-refused",
        "the device refuses the login",
        context=where,
        note=said,
        hint=f"{by_hand}; nothing is asked here, so a key must do (ssh-copy-id, or an agent)",
    )


def _command(device: Device) -> list[str]:
    """Return program and arguments that lead to a device; the last one is its host."""
    program = os.environ.get(PROGRAM) or "ssh"
    if shutil.which(program) is None:
        raise DeviceError(
            "no-ssh", f"there is no program {program} here", hint="install the OpenSSH client (openssh-client)"
        )
    where = _destination(device)
    options = [*_ALWAYS, *_defaults([program, "-G", *where])]
    return [program, "-T", *(word for option in options for word in ("-o", option)), *where]


def _destination(device: Device) -> list[str]:
    host, user, port = device.destination()
    return [*(["-l", user] if user else []), *(["-p", str(port)] if port else []), "--", host]


def _defaults(question: list[str]) -> list[str]:
    """Return options that the user's configuration leaves open."""
    asked = subprocess.run(question, capture_output=True, check=False, stdin=subprocess.DEVNULL)
    settings = dict(line.partition(" ")[::2] for line in asked.stdout.decode("utf-8", "replace").splitlines())
    return [
        f"{name}={ours}" for name, (unset, ours) in _UNLESS_CONFIGURED.items() if settings.get(name, unset) == unset
    ]


def _there(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None  # all of them are pipes
    return stream
