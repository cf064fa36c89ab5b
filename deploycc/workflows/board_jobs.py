"""Several output folders built, or measured each by itself: here one after the other, on boards as many as are free."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from deploycc.errors import DeployError
from deploycc.progress import Say

if TYPE_CHECKING:
    from deploycc.agent_host.remote import RemoteSession, Step
    from deploycc.agent_host.session import Session
    from deploycc.documents.build import BuildResult
    from deploycc.documents.latency import LatencyReport

T = TypeVar("T")
OnNote = Callable[[str], None]


def build_folders(
    folders: Sequence[Path], device: str | None, say: Say, on_note: OnNote
) -> list[BuildResult | DeployError]:
    """Build the engines of each folder's plan.

    Args:
        folders: output folders.
        device: as `deploycc.agent_host.devices.find` takes it; each folder goes to a board that is free.
        say: progress.
        on_note: told, in sentences, what else the user should know.

    Returns:
        For each folder what was built, or why it failed.

    Raises:
        DeviceError: there is no such device, or none of a folder's target.
        Detached: interrupted; the jobs that were given out go on.
    """
    from deploycc.agent_host.remote import Step
    from deploycc.workflows.rebuild import build_folder

    def build(folder: Path, session: Session | None, say: Say) -> BuildResult:
        return build_folder(folder, say, session, on_note)

    return _each(folders, device, Step("build"), build, say, on_note)


def bench_each(
    folders: Sequence[Path], device: str | None, step: Step, say: Say, on_note: OnNote, *, apart: bool = False
) -> Sequence[LatencyReport | DeployError]:
    """Measure the engines of folders.

    Args:
        folders: output folders.
        device: as for `build_folders`.
        step: how.
        say: progress.
        on_note: told, in sentences, what else the user should know.
        apart: each folder by itself, also for different targets; else all of them in turns, on one board.

    Returns:
        For each folder what was measured, or why it failed.

    Raises:
        DeployError: what concerns all folders.
        Detached: as `build_folders`.
    """
    from deploycc.workflows.devices import session_on
    from deploycc.workflows.rebuild import bench_folders

    how = (on_note, step.scenario, step.max_performance)

    def bench(folder: Path, session: Session | None, say: Say) -> LatencyReport:
        [latency] = bench_folders([folder], say, step.only, step.input_file, session, *how)
        return latency

    if apart:
        return _each(folders, device, step, bench, say, on_note)
    with session_on(device, folders, [step], say) as session:
        return bench_folders(folders, say, step.only, step.input_file, session, *how)


def _each(
    folders: Sequence[Path],
    device: str | None,
    step: Step,
    work: Callable[[Path, Session | None, Say], T],
    say: Say,
    on_note: OnNote,
) -> list[T | DeployError]:
    from deploycc.agent_host.devices import find
    from deploycc.documents.plan import read_plan
    from deploycc.workflows.board_pool import BoardJob, run_on_boards
    from deploycc.workflows.devices import is_remote

    if device is not None and is_remote(device):
        is_pool = len(find(device)) > 1

        def run(session: RemoteSession, say: Say) -> T:
            outcome = work(session.folder, session, say)
            if is_pool:  # progress names the board too, but of short work it shows nothing outside a terminal
                on_note(f"{session.folder}: done on {session.device.name}")
            return outcome

        jobs = [BoardJob(read_plan(folder).target.name, (folder,), (step,), run) for folder in folders]
        return run_on_boards(device, jobs, say)
    outcomes: list[T | DeployError] = []
    for folder in folders:
        try:
            outcomes.append(work(folder, None, say))
        except DeployError as error:
            outcomes.append(error)
    return outcomes


def raise_failures(
    folders: Sequence[Path], outcomes: Sequence[T | DeployError], check: Callable[[T], None] = lambda outcome: None
) -> None:
    """Raise what says which folders failed.

    Args:
        folders: those that were asked for.
        outcomes: for each what became of it.
        check: raises an error where an outcome is a failure too.

    Raises:
        DeployError: the reason where one was asked for; else ``folders-failed``.
    """
    failed: dict[str, DeployError] = {}
    for folder, outcome in zip(folders, outcomes, strict=True):
        try:
            if isinstance(outcome, DeployError):
                raise outcome
            check(outcome)
        except DeployError as failure:
            failed[str(folder)] = failure
    if len(folders) == 1:
        for error in failed.values():
            raise error
    elif failed:
        raise DeployError(
            "folders-failed",
            f"{len(failed)} of {len(folders)} folders failed; the others are done",
            context={folder: f"{error.code}: {error.message}" for folder, error in failed.items()},
        )
