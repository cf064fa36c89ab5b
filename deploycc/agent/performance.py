"""The fastest power mode and fixed clocks while engines are measured, and what was before them afterwards, always.

``nvpmodel`` and ``jetson_clocks`` of a Jetson do it. What was before is kept in a folder of the user's cache, and a
process of its own session, the keeper, brings it back when this one lets go of a pipe: by ending in whatever way. After
a crash of the whole board the folder is still there, and the next agent that measures brings it back.
"""

import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from typing import Any, Dict, List, Optional

from . import files, jetson
from .outcome import Failed
from .progress import say
from .system import listed, read

_PREFIX = "performance-"
_CLOCKS = "clocks"
_MODE = "mode.json"
_LOCK = "lock"
_LIMIT_S = 60
_FASTEST = re.compile(r"<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=(MAXN\S*)\s*>")


def parent_folder() -> str:
    """Where what was before is kept."""
    caches = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(caches, "deploycc")


class MaxPerformance:
    """Sets the fastest mode when it is entered; what was before is back when it has been left."""

    def __init__(self, starter: "List[str]") -> None:
        """Take how to start this program again."""
        self._starter = starter
        self._pipe = -1
        self._keeper = None  # type: Any
        self.radios = radios()
        self.before = None  # type: Any
        self.after = None  # type: Any

    def __enter__(self) -> "MaxPerformance":
        """Keep what is, start the keeper, and set the mode and the clocks.

        Raises:
            Failed: this is not a Jetson, or the mode or the clocks cannot be set; what was before is back.
        """
        restore_abandoned()
        number, name = _fastest_mode()
        self.before = jetson.software()["nvpmodel"]
        mode = re.search(r"\((\d+)\)$", self.before or "")
        if mode is None:
            raise Failed("nvpmodel does not tell the power mode", hint=_hint())
        os.makedirs(parent_folder(), 0o700, exist_ok=True)
        folder = tempfile.mkdtemp(prefix=_PREFIX, dir=parent_folder())
        lock = os.open(os.path.join(folder, _LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            _run(["jetson_clocks", "--store", os.path.join(folder, _CLOCKS)])
            files.write_json({"mode": int(mode.group(1))}, os.path.join(folder, _MODE))
            self._start_keeper(folder, lock)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        finally:
            os.close(lock)  # the keeper holds it too
        say("power mode {} and fixed clocks; {} was before".format(name, self.before))
        if self.radios:
            say("radios that take power meanwhile: {}; `rfkill block all` switches them off".format(self.radios))
        try:
            _run(["nvpmodel", "-m", number])
            _run(["jetson_clocks"])
        except BaseException:
            self._let_go()
            raise
        return self

    def __exit__(self, *error: "Any") -> None:
        """Bring back what was before."""
        self._let_go()
        self.after = jetson.software()["nvpmodel"]
        if self.after != self.before:
            say("the power mode was {} and is {} now: set it back with nvpmodel".format(self.before, self.after))

    def record(self, environment: "Dict[str, Any]") -> None:
        """Write what was before and is now into the environment of a measurement."""
        environment["nvpmodel_before"] = self.before
        environment["nvpmodel_restored"] = self.after
        environment["radios_on"] = self.radios

    def _start_keeper(self, folder: str, lock: int) -> None:
        watched, self._pipe = os.pipe()
        try:
            self._keeper = subprocess.Popen(
                [*self._starter, "restore-performance", folder, "--parent-fd", str(watched)],
                stdin=subprocess.DEVNULL,
                stdout=sys.stderr,
                pass_fds=[watched, lock],
                start_new_session=True,
            )
        except OSError as error:
            raise Failed("cannot start a process: {}".format(error.strerror)) from error
        finally:
            os.close(watched)

    def _let_go(self) -> None:
        os.close(self._pipe)
        self._keeper.wait()


def radios() -> "Optional[str]":
    """Return the radios that are on, ``bluetooth hci0, wlan phy0``; an empty text where none is, None without any.

    They are left as they are: this may be the link that the board is reached by.
    """
    folders = listed("/sys/class/rfkill/rfkill*")
    facts = [[read("{}/{}".format(folder, name)) for name in ("type", "name", "soft", "hard")] for folder in folders]
    on = ["{} {}".format(kind, name) for kind, name, soft, hard in facts if (soft, hard) == ("0", "0")]
    return ", ".join(sorted(on)) if folders else None


def keep(folder: str, pipe: int) -> int:
    """Wait until the other end of a pipe is closed, and bring back what a folder holds.

    Returns:
        the exit code.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    while os.read(pipe, 1):
        pass
    return 0 if restore(folder) else 1


def restore(folder: str) -> bool:
    """Bring back what a folder holds, and remove it; return whether all of it is back."""
    clocks = os.path.join(folder, _CLOCKS)
    try:
        mode = files.read_json(os.path.join(folder, _MODE))["mode"]
        _run(["nvpmodel", "-m", str(int(mode))])
        _run(["jetson_clocks", "--restore", clocks])
    except (Failed, KeyError, TypeError, ValueError) as error:
        say("power mode and clocks are not back: {}".format(error))
        return False
    shutil.rmtree(folder, ignore_errors=True)
    return True


def restore_abandoned() -> None:
    """Bring back what agents left whose keeper is gone too: the board was switched off."""
    try:
        names = sorted(os.listdir(parent_folder()))
    except OSError:
        return
    for folder in [os.path.join(parent_folder(), name) for name in names if name.startswith(_PREFIX)]:
        try:
            lock = os.open(os.path.join(folder, _LOCK), os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)  # a keeper at work is waited for
            if os.path.isdir(folder):
                say("bring back the power mode that an interrupted measurement left")
                restore(folder)
        finally:
            os.close(lock)


def _fastest_mode() -> "Any":
    """Return number and name of the fastest mode that /etc/nvpmodel.conf offers.

    Raises:
        Failed: it offers none that is named so.
    """
    found = _FASTEST.findall(read("/etc/nvpmodel.conf") or "")
    if not found:
        raise Failed("/etc/nvpmodel.conf offers no power mode MAXN", hint=_hint())
    return max(found, key=lambda mode: len(mode[1]))  # MAXN_SUPER is above MAXN


def _hint() -> str:
    return "--max-performance is for Jetsons; elsewhere fix the clocks by hand and measure without it"


def _run(command: "List[str]") -> None:
    """Run a program that needs root.

    Raises:
        Failed: it is absent, refuses, or takes too long.
    """
    if shutil.which(command[0]) is None:
        raise Failed("{} is not on this machine".format(command[0]), hint=_hint())
    words = command if os.geteuid() == 0 else ["sudo", "-n", *command]
    try:
        subprocess.check_output(words, stdin=subprocess.DEVNULL, stderr=subprocess.STDOUT, timeout=_LIMIT_S)
    except subprocess.CalledProcessError as error:
        said = error.output.decode("utf-8", "replace").strip().splitlines()
        raise Failed(
            "{} fails: {}".format(" ".join(command[:2]), said[-1] if said else "code {}".format(error.returncode)),
            hint="run the agent as root, or let this user call nvpmodel and jetson_clocks through sudo",
        ) from error
    except (OSError, subprocess.SubprocessError) as error:
        raise Failed("{} does not run: {}".format(command[0], error)) from error
