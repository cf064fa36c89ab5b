"""NVIDIA's programs, trtexec and tensorRT_optimization: where they are, and running them.

No plan says where. They are looked for on PATH and where NVIDIA's packages put them, or the user says it.
"""

import glob
import os
import shutil
import subprocess
from typing import Any, Dict, List, Optional

from . import processes
from .outcome import Failed, NotPossible
from .progress import say
from .trtexec_log import Log

_PLACES = {
    "trtexec": ("/usr/src/tensorrt/bin", "/opt/tensorrt/bin", "/usr/local/tensorrt/bin", "/usr/local/TensorRT*/bin"),
    "tensorRT_optimization": (
        "/usr/local/driveworks*/tools",
        "/usr/local/driveworks*/tools/*",
        "/usr/local/driveworks*/bin",
    ),
}
_LONGEST_LINE = 1 << 16


def find(name: str, path: "Optional[str]") -> str:
    """Return the path of a program.

    Args:
        name: ``trtexec`` or ``tensorRT_optimization``.
        path: where the user says that it is; None: look for it.

    Raises:
        NotPossible: it is not on this machine.
    """
    if path is not None:
        found = shutil.which(os.path.abspath(path))
        if found is None:
            raise NotPossible("{} is not a program on this machine".format(path))
        return found
    places = [place for pattern in _PLACES[name] for place in sorted(glob.glob(pattern), reverse=True)]
    # entries of PATH that are relative would be looked up in whatever folder this runs in
    on_path = [place for place in os.environ.get("PATH", os.defpath).split(os.pathsep) if os.path.isabs(place)]
    found = shutil.which(name, path=os.pathsep.join(on_path + places))
    if found is None:
        raise NotPossible(
            "{} is not on this machine".format(name),
            "copy this folder to the target and run there: python3 agent.pyz build plan.json; where it is installed "
            "elsewhere, put its folder on PATH, or give its path: --program PATH",
        )
    return found


def run(command: "List[str]", folder: str, variables: "Dict[str, str]") -> Log:
    """Run a program in a folder of its own, passing its output on, and return what it said.

    Args:
        command: program and arguments.
        folder: its working folder. It should hold nothing from elsewhere: many boards search it for libraries.
        variables: set beside those of this process.

    Raises:
        Failed: it cannot start, ends with an error, or says that it failed; the reason holds its first telling errors.
    """
    name = os.path.basename(command[0])
    settings = dict(os.environ)
    settings.update(variables)
    try:
        child = processes.Child(
            command, False, cwd=folder, env=settings, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
    except (OSError, ValueError) as error:
        raise Failed("{} does not start: {}".format(name, getattr(error, "strerror", None) or error)) from error
    log = Log()
    try:
        _pass_on(child.stdout, log)
        code = child.wait()
    finally:
        child.end()
        child.stdout.close()
    if code < 0:
        hint = "signal 9 is how the kernel ends a process when memory runs out" if code == -9 else None
        raise Failed("{} was killed by signal {}".format(name, -code), log.node(), hint)
    if code != 0 or log.ended == "FAILED":
        raise Failed("{} ended with code {}: {}".format(name, code, log.cause()), log.node())
    return log


def _pass_on(stream: "Any", log: Log) -> None:
    """Read a program's output to its end; a line that comes again and again is shown once, with its count."""
    last, times = None, 0
    for data in iter(lambda: stream.readline(_LONGEST_LINE), b""):
        line = data.decode("utf-8", "backslashreplace").rstrip("\r\n")
        log.read(line)
        if line == last:
            times += 1
            continue
        _say_repeated(times)
        say(line)
        last, times = line, 0
    _say_repeated(times)


def _say_repeated(times: int) -> None:
    if times:
        say("(the same line {} more times)".format(times))


def read_release(program: str, folder: str) -> "Any":
    """Return the TensorRT release that trtexec's banner names, as numbers; None where it names none (up to 7.x).

    ``--version`` is not an option of trtexec: it prints its banner, then an error, and touches no GPU.
    """
    log = Log()
    try:
        child = processes.Child(
            [program, "--version"], False, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
    except OSError:
        return None
    try:
        for data in iter(lambda: child.stdout.readline(_LONGEST_LINE), b""):
            log.read(data.decode("utf-8", "backslashreplace"))
        child.wait()
    finally:
        child.end()
        child.stdout.close()
    return log.version
