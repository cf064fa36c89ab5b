"""Where `compile` writes, and what became of each target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploycc.errors import DeployError

if TYPE_CHECKING:
    from deploycc.detector import Detector
    from deploycc.target import Target
    from deploycc.workflows.report import Report


@dataclass(frozen=True, eq=False)
class Refused:
    """A target for which the detector was not compiled.

    Attributes:
        target: its name.
        error: why.
    """

    target: str
    error: DeployError


def outcome_json(outcome: Report | Refused) -> dict[str, Any]:
    """Return what became of one target, as plain values."""
    from deploycc.report.terminal import latency_json

    if isinstance(outcome, Refused):
        return {"target": outcome.target, "error": {"code": outcome.error.code, "message": outcome.error.message}}
    return {
        "folder": str(outcome.folder),
        **({"board": outcome.board} if outcome.board else {}),
        "compile": outcome.compiled.model_dump(mode="json", by_alias=True),
        "latency": outcome.latency and latency_json(outcome.latency),
    }


def raise_refusals(refused: Sequence[Refused], targets: int) -> None:
    """Raise what says which targets were refused.

    Args:
        refused: those; none raises nothing.
        targets: number of targets that were asked for.

    Raises:
        DeployError: the reason where one was asked for; else ``targets-refused``.
    """
    if targets == 1:
        for outcome in refused:
            raise outcome.error
    elif refused:
        raise DeployError(
            "targets-refused",
            f"{len(refused)} of {targets} targets cannot be compiled for; the others are done",
            context={outcome.target: f"{outcome.error.code}: {outcome.error.message}" for outcome in refused},
        )


def output_folders(targets: Sequence[Target], output: Path) -> list[Path]:
    """Return the folder of each target: ``output``, or one in it where there are several."""
    return [output / target.name if len(targets) > 1 else output for target in targets]


def check_outputs(detector: Detector | None, targets: Sequence[Target], output: Path) -> None:
    """Refuse output folders that cannot be written, before the work.

    Args:
        detector: whose files may not be replaced; None where it is not read yet.
        targets: as for `compile_targets`.
        output: likewise.

    Raises:
        ArtefactError: as `deploycc.workflows.staging.check_output_folder`.
    """
    from deploycc.workflows.staging import check_output_folder

    for folder in output_folders(targets, output):
        check_output_folder(folder, () if detector is None else trained_files(detector))


def trained_files(detector: Detector) -> tuple[Path, ...]:
    """Return the files that a detector was read from, and those that it was pruned from."""
    pruned = (file for record in detector.prunings for file in record.source.files)
    return tuple(map(Path, (*detector.source.files, *pruned)))
