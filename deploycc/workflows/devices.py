"""Building and measuring on a device: output folders stay here, and what the device finds out comes back to them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from deploycc.errors import DeviceError, InputError

if TYPE_CHECKING:
    from deploycc.agent_host.devices import Device
    from deploycc.agent_host.remote import Step
    from deploycc.agent_host.session import Session
    from deploycc.progress import Say


def is_remote(name: str | None) -> bool:
    """Return whether a device is another machine than this one; None is this one."""
    from deploycc.agent_host.devices import LOCAL

    return name is not None and name != LOCAL


def target_of(name: str | None) -> str:
    """Return the target of a device from ``devices.toml``.

    Args:
        name: as for `choose_device`.

    Raises:
        InputError: ``no-target``: no target is given for it there.
        DeviceError: there is no such device.
    """
    from deploycc.agent_host.devices import LOCAL, find

    for device in find(name or LOCAL):
        if device.target is not None:
            return device.target
    raise InputError(
        "no-target",
        "nothing says what to compile for",
        hint="give `target`; a device in devices.toml may name its own",
    )


def choose_device(name: str | None, target: str) -> Device | None:
    """Return the device that a user means; None for this machine.

    Args:
        name: as `deploycc.agent_host.devices.find` takes it; None: this machine.
        target: what is to be built and measured there.

    Raises:
        DeviceError: there is no such device, or it is known to be another board than the target.
    """
    from deploycc.agent_host.devices import LOCAL, find

    devices = find(name or LOCAL)
    if not devices:
        return None
    devices = fitting(devices, target)
    return _free_one(devices) if len(devices) > 1 else devices[0]


def fitting(devices: Sequence[Device], target: str) -> tuple[Device, ...]:
    """Return those of some devices that may be a target: all of which nothing else is known.

    Args:
        devices: at least one.
        target: name of what is to be built and measured there.

    Raises:
        DeviceError: ``device-other-target``: all of them are known to be other boards.
    """
    from deploycc.target import load

    fit = tuple(device for device in devices if device.target is None or load(device.target).name == target)
    if not fit:
        other = devices[0]
        raise DeviceError(
            "device-other-target",
            f"{other.name} is a {other.target}, and this is for {target}",
            context={"device": other.name},
            hint=f"compile with --target {other.target}, or choose another device",
        )
    return fit


def _free_one(pool: Sequence[Device]) -> Device:
    """Return a device that nobody works on; where all of them are at work, the first that can be reached.

    Raises:
        DeviceError: none can be reached; the reason is that of the first.
    """
    from deploycc.agent_host.board import Board
    from deploycc.agent_host.ssh import LinkLost

    reached, refused = [], []
    for device in pool:
        try:
            with Board(device) as board:
                if board.holder is None:
                    return device
                reached.append(device)
        except (DeviceError, LinkLost) as error:
            refused.append(error)
    if not reached:
        raise refused[0]
    return reached[0]


def planned_target(target: str | None, device: str | None) -> str:
    """Return the target that something is planned for: the one that is given, else the device's, else this machine.

    Raises:
        InputError: ``no-target``: a device that no target is given for.
        DeviceError: there is no such device.
    """
    return target or (target_of(device) if is_remote(device) else "x86-cpu")


@contextmanager
def session_on(
    name: str | None, folder: Path | Sequence[Path], steps: Sequence[Step], say: Say
) -> Iterator[Session | None]:
    """Yield a session on a device for an output folder; None for this machine.

    Args:
        name: as for `choose_device`.
        folder: the output folder, with a plan; several, for one target, whose engines are measured in turns.
        steps: what the block does, in this order.
        say: progress.

    Raises:
        DeviceError: there is no such device, it is of another target, or it cannot be used.
    """
    from deploycc.agent_host.remote import on_device
    from deploycc.documents.plan import read_plan

    folders = [folder] if isinstance(folder, Path) else list(folder)
    device = choose_device(name, read_plan(folders[0]).target.name)
    if device is None:
        yield None
        return
    with on_device(device, folders, steps, say) as session:
        yield session


def build_and_measure(folder: Path, name: str | None, measure: bool, say: Say, max_performance: bool = False) -> None:
    """Build the engines of a folder's plan, and time them.

    Args:
        folder: output folder; for this machine, one that is being made.
        name: as for `choose_device`.
        measure: time them too.
        say: progress.
        max_performance: as for `deploycc.workflows.rebuild.bench_folders`.

    Raises:
        BuildError, MeasureError: an engine could not be built or timed by the device. That this machine cannot is not
            an error.
        DeviceError: as `session_on`.
    """
    with session_on(name, folder, build_steps(measure, max_performance), say) as session:
        if session is not None:
            build_and_measure_there(folder, session, measure, say, max_performance)
            return
        from deploycc.agent_host.local import check_measured
        from deploycc.workflows.output_folder import bench_staged, build_staged

        build_staged(folder, say)
        if measure:
            check_measured(bench_staged(folder, say, max_performance))


def build_steps(measure: bool, max_performance: bool) -> list[Step]:
    """Return the steps of a job that builds, and maybe measures."""
    from deploycc.agent_host.remote import Step

    return [Step("build"), Step("bench", max_performance=max_performance)] if measure else [Step("build")]


def build_and_measure_there(
    folder: Path, session: Session, measure: bool, say: Say, max_performance: bool = False
) -> None:
    """Build and time on a device; see `build_and_measure`."""
    from deploycc.agent_host.local import check_built, check_measured
    from deploycc.workflows.rebuild import bench_folders, build_folder

    built = build_folder(folder, say, session)
    if measure:
        [latency] = bench_folders([folder], say, session=session, max_performance=max_performance)
        check_measured(latency, every=True)
    check_built(built)
