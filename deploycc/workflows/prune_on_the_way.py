"""Pruning as a step of compiling: what it needs is found on pictures first, and what is left may be trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploycc.errors import InputError, Note
from deploycc.progress import Say, quiet
from deploycc.workflows.compile_outputs import Refused
from deploycc.workflows.pictures import check_labels, open_pictures
from deploycc.workflows.profile import measure_profile
from deploycc.workflows.recover import recover_for_targets
from deploycc.workflows.target_pruning import TargetPruning, prune_for_targets
from deploycc.workflows.train import require_torch

if TYPE_CHECKING:
    from deploycc.detector import Detector
    from deploycc.documents.utilisation import UtilisationProfile
    from deploycc.workflows.prune import Pruned


@dataclass(frozen=True)
class Recovering:
    """How what is left is trained.

    Attributes:
        pictures: a folder or a data set (`deploycc.workflows.recover.recover`); None: it is not trained.
        steps: of each training.
        label_weight: of the labels of a data set beside the teacher; 0: they are not looked at.
        names: the detector's class names with the background, if it does not know them and there are labels.
        threads: CPU threads; 0: one per core.
    """

    pictures: str | None = None
    steps: int = 4000
    label_weight: float = 1.0
    names: tuple[str, ...] = ()
    threads: int = 0

    def check(self, detector: Detector) -> None:
        """Refuse labels of classes that the detector does not know, before anything long.

        Raises:
            InputError, ModelError: as `deploycc.workflows.pictures.check_labels`.
        """
        if self.pictures is not None and self.label_weight:
            require_torch()
            check_labels(self.pictures, detector, self.names)

    def apply(self, detector: Detector, pruned: Mapping[str, Pruned], say: Say) -> dict[str, Pruned]:
        """Recover what a detector was pruned to for each target; see `deploycc.workflows.recover`."""
        require_torch()
        from deploycc.distillation.loop import TrainingSettings

        assert self.pictures is not None
        settings = TrainingSettings(steps=self.steps, label_weight=self.label_weight)
        how: dict[str, Any] = {"names": self.names, "threads": self.threads, "say": say}
        return recover_for_targets(detector, pruned, self.pictures, settings, **how)


def check_on_the_way(profile: Path | None, data: str | None, recover: str | None, *, pruned: bool) -> None:
    """Refuse options that do not go together.

    Args:
        profile: of the network.
        data: pictures that a profile is made from.
        recover: pictures to train on.
        pruned: anything says what to prune.

    Raises:
        InputError: ``prune-option``.
    """
    if data is not None and profile is not None:
        raise InputError("prune-option", "give either `profile=FILE` or `data`, which makes one")
    if recover is not None and data is None and not pruned:
        message = "`recover` trains what pruning left, and nothing is pruned"
        raise InputError("prune-option", message, hint="say what to prune: `by`, `data`")


def prune_on_the_way(
    detector: Detector,
    prunings: Sequence[TargetPruning],
    *,
    profile: UtilisationProfile | None,
    mask: Mapping[str, tuple[int, ...]] | None,
    data: str | None,
    recovering: Recovering,
    cost_file: Path | None,
    say: Say = quiet,
) -> tuple[dict[str, Pruned | Refused], tuple[Note, ...]]:
    """Find out what kernels do, prune for each target, and recover.

    Args:
        detector: as imported.
        prunings: see `deploycc.workflows.target_pruning.target_prunings`.
        profile: see `deploycc.workflows.prune.prune`.
        mask: likewise.
        data: pictures to profile or to rank kernels on, as the criterion needs; None: nothing is found out.
        recovering: how what is left is trained.
        cost_file: keeps what was measured.
        say: progress.

    Returns:
        Name of a target to what it gets, or to why nothing meets its goal, and what is to be said of the profile and of
        the training.

    Raises:
        DeployError: as the workflows that it calls.
    """
    recovering.check(detector)
    notes: tuple[Note, ...] = ()
    ranked = prunings[0].settings.by == "fisher"
    if data is not None and not ranked:
        profiled = measure_profile(detector, open_pictures(data, detector.input), say=say)
        profile, notes = profiled.profile, profiled.notes
    pruned = prune_for_targets(
        detector,
        prunings,
        profile=profile,
        mask=mask,
        rank_on=data if ranked else None,
        pictures=recovering.pictures,
        cost_file=cost_file,
        say=say,
    )
    if recovering.pictures is not None:
        left = {name: made for name, made in pruned.items() if not isinstance(made, Refused)}
        left = recovering.apply(detector, left, say)
        pruned |= left
        reason = "training made the network no better; its weights are as pruning left them"
        notes += tuple(Note(name, "recovery-no-better", reason) for name, one in left.items() if not one.recovered)
    return pruned, notes
