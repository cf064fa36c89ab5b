"""Facts of the machine that this process runs on."""

from __future__ import annotations

import os

from deploycc.documents.costs import Machine
from deploycc.errors import ArtefactError, InputError


def usable_cores() -> int:
    """Number of CPU cores this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on Linux
        return os.cpu_count() or 1


def check_threads(threads: int) -> None:
    """Refuse more threads than cores: they would wait for one another, and a measurement would say nothing.

    Raises:
        InputError: ``too-many-threads``.
    """
    if threads > usable_cores():
        raise InputError(
            "too-many-threads", f"{threads} threads are more than the {usable_cores()} cores that this machine has"
        )


def this_machine(threads: int) -> Machine:
    """Return the processor's name and ONNX Runtime's version."""
    import onnxruntime as ort

    return Machine(processor=_processor(), onnxruntime=ort.__version__, threads=threads)


def check_machine(table: Machine, here: Machine) -> None:
    """Refuse times of another machine.

    Raises:
        ArtefactError: ``costs-other-machine``.
    """
    if table != here:
        raise ArtefactError(
            "costs-other-machine",
            "the cost table was measured on another machine",
            context={"table": table.describe(), "here": here.describe()},
            note=_difference(table, here) if table.device == here.device is not None else None,
            hint="choose another file with `costs`; the times are measured again",
        )


def _difference(table: Machine, here: Machine) -> str:
    """Say which settings of a device are others."""
    others = [name for name in type(table).model_fields if getattr(table, name) != getattr(here, name)]
    return f"the device is set otherwise than it was: {', '.join(others).replace('_', ' ')}"


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123 - no path of the user's
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:  # not on Linux
        names = []
    if names:
        return names[0]
    import platform

    return platform.processor() or platform.machine()
