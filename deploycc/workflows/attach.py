"""Jobs that are on a device: brought home, ended, cleared away."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploycc.errors import DeviceError, InputError
from deploycc.progress import Say, quiet

if TYPE_CHECKING:
    from deploycc.agent_host.board import Board
    from deploycc.agent_host.devices import Device
    from deploycc.target.device import Difference

_FOLLOWER_LOOKS_S = 1.0  # whoever follows a job that is cancelled learns of it before the job is forgotten


def the_device(name: str) -> Device:
    """Return the one device of a name.

    Raises:
        DeviceError: there is none, or there are several.
    """
    from deploycc.agent_host.devices import LOCAL, find

    devices = find(name)
    if len(devices) != 1:
        raise DeviceError(
            "device-not-one",
            f"{name!r} is this machine" if name == LOCAL else f"{name!r} names several devices",
            context={"devices": ", ".join(device.name for device in devices)} if devices else {},
            hint="name one that is reached over SSH",
        )
    return devices[0]


@dataclass(frozen=True)
class CheckedDevice:
    """A device beside a target.

    Attributes:
        device: as it was named.
        target: name of the target.
        differences: facts of the target that the device does not confirm, those that matter first.
    """

    device: str
    target: str
    differences: tuple[Difference, ...]

    def raise_if_other(self) -> None:
        """Refuse a device where engines of the target cannot be built or run.

        Raises:
            DeviceError: ``device-differs``.
        """
        wrong = [difference.fact for difference in self.differences if difference.matters]
        if wrong:
            raise DeviceError(
                "device-differs",
                f"{self.device} is not a {self.target}",
                context={"facts": ", ".join(wrong)},
                hint=self.differences[0].todo,
            )


def check_device(name: str, target: str | None = None) -> CheckedDevice:
    """Compare what a device says of itself with a target.

    Args:
        name: of the device.
        target: what it should be; None: its target in ``devices.toml``.

    Raises:
        InputError: ``no-target``: nothing says what it should be.
        DeviceError: it cannot be reached or used.
        TargetError: there is no such target.
    """
    from deploycc.target import load
    from deploycc.target.device import differences

    wanted = target or the_device(name).target
    if wanted is None:
        raise InputError("no-target", "nothing says what the device should be", hint="give `target`")
    return CheckedDevice(name, wanted, tuple(differences(load(wanted), probe(name)["environment"])))


@contextmanager
def connected(device: Device) -> Iterator[Board]:
    """Yield a connection to a device.

    Raises:
        DeviceError: it cannot be reached or used, or the connection broke.
    """
    from deploycc.agent_host.board import Board
    from deploycc.agent_host.ssh import LinkLost

    try:
        with Board(device) as board:
            yield board
    except LinkLost as lost:
        raise DeviceError("device-link-lost", f"the link to {device.name} is lost", note=lost.said or None) from lost


def attach(name: str, folder: Path | None = None, say: Say = quiet) -> list[Path]:
    """Follow this user's jobs on a device to their end, and bring their results home.

    Args:
        name: of the device.
        folder: an output folder: its jobs only. None: all jobs, each with its own folder.
        say: progress.

    Returns:
        The output folders that got results.

    Raises:
        DeviceError: there is no such job, or its folder was compiled anew since.
        BuildError, MeasureError: a job found out that an engine cannot be built or timed; that is in the folder.
    """
    from deploycc.agent_host.remote import is_mine

    device = the_device(name)
    with connected(device) as board:
        jobs = [job for job in board.jobs() if is_mine(job)]
    if folder is not None:
        jobs = [job for job in jobs if _is_of(job, folder)]
    if not jobs:
        raise DeviceError(
            "device-no-job",
            f"no work of yours is on {device.name}" + ("" if folder is None else f" for {folder}"),
            hint=f"`deploycc device probe {device.name}` shows what is there",
        )
    for job in jobs:
        _bring_home(device, job, _folders(job, folder), say)
    return list(dict.fromkeys(each for job in jobs for each in _folders(job, folder)))


def _is_of(job: dict[str, Any], folder: Path) -> bool:
    return str(folder.resolve()) in job["folders"] or _plan_of(folder) in _planned(job)


def _folders(job: dict[str, Any], given: Path | None) -> list[Path]:
    """Return the folders that a job's results go to; one that the user gives replaces that of the same plan."""
    folders = [Path(folder) for folder in job["folders"]]
    if given is None or str(given.resolve()) in job["folders"]:
        return folders
    plan = _plan_of(given)
    return [given if planned == plan else folder for planned, folder in zip(_planned(job), folders, strict=True)]


def _planned(job: dict[str, Any]) -> list[str]:
    """Return the digests of a job's plans, in the order of its folders."""
    from deploycc.documents.plan import BuildPlan

    digests = {file["name"]: file["sha256"] for file in job["files"]}
    if len(job["folders"]) == 1:
        return [digests[BuildPlan.FILE_NAME]]
    return [digests[f"{number}/{BuildPlan.FILE_NAME}"] for number in range(len(job["folders"]))]


def _plan_of(folder: Path) -> str | None:
    from deploycc.documents.plan import BuildPlan
    from deploycc.files import sha256_of

    file = folder / BuildPlan.FILE_NAME
    return sha256_of(file) if file.is_file() else None


def _bring_home(device: Device, job: dict[str, Any], folders: Sequence[Path], say: Say) -> None:
    from deploycc.agent_host.local import check_measured, detect
    from deploycc.agent_host.remote import Step, on_device
    from deploycc.agent_host.session import Scenario
    from deploycc.workflows.rebuild import bench_folders, build_folder

    if other := [folder for folder, plan in zip(folders, _planned(job), strict=True) if plan != _plan_of(folder)]:
        raise DeviceError(
            "device-other-plan",
            f"the work on {device.name} is for another plan than the folder's",
            context={"folder": other[0]},
            note="it was compiled anew since, or it is gone; the results stay on the device",
            hint=f"give a copy of that folder: `deploycc device attach {device.name} DIR`; or "
            f"`deploycc device clean {device.name} --all` drops them",
        )
    steps = [
        Step(step["command"], step["only"], scenario=Scenario(**step["scenario"]) if step["scenario"] else None)
        for step in job["steps"]
    ]
    with on_device(device, folders, steps, say, job["id"]) as session:
        for step in steps:
            if step.command == "build":
                build_folder(folders[0], say, session)
                continue
            if step.command == "detect":
                found = detect(folders[0], folders[0], say, step.only, session=session)
                found.write(folders[0] / found.FILE_NAME)
                continue
            for latency in bench_folders(folders, say, step.only, session=session, scenario=step.scenario):
                check_measured(latency)


def cancel(name: str, *, everybody: bool = False) -> Sequence[dict[str, Any]]:
    """End this user's jobs on a device; what they have built or measured by then stays for `attach`.

    Args:
        name: of the device.
        everybody: also jobs of other users and hosts, as far as they use the same store.

    Returns:
        The jobs that were ended.

    Raises:
        DeviceError: there is none, or the device cannot be used.
    """
    from deploycc.agent_host.remote import is_mine

    device = the_device(name)
    with connected(device) as board:
        jobs = [job for job in board.jobs() if job["state"] != "ended" and (everybody or is_mine(job))]
        if not jobs:
            raise DeviceError("device-no-job", f"no work of yours is on {device.name}")
        ended = [board.ask({"ask": "cancel", "job": job["id"]})["job"] for job in jobs]
        time.sleep(_FOLLOWER_LOOKS_S)
        left = {job["id"] for job in board.jobs()}
        for job in ended:
            if job["id"] in left and not job["results"]:
                board.ask({"ask": "forget", "job": job["id"]})
    return ended


def clean(name: str, *, everything: bool = False) -> tuple[dict[str, int], list[dict[str, Any]]]:
    """Remove from a device what no job needs.

    Args:
        name: of the device.
        everything: also results that nobody fetched.

    Returns:
        Number of ``files`` that went and their ``bytes``; the jobs that stay.

    Raises:
        DeviceError: the device cannot be used.
    """
    with connected(the_device(name)) as board:
        answer = board.ask({"ask": "clean", "all": everything})
    return answer["gone"], answer["jobs"]


def probe(name: str) -> dict[str, Any]:
    """Return what a device says of itself: environment, free bytes of its store, who works on it, jobs.

    Raises:
        DeviceError: the device cannot be used.
    """
    device = the_device(name)
    with connected(device) as board:
        answer = board.ask({"ask": "probe"})
        return {**answer, "device": device.name, "address": device.url, "holder": board.holder, "jobs": board.jobs()}
