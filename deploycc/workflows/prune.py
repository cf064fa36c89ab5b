"""Pruning: from a detector and what is known of its kernels to a smaller detector and the record of the change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from deploycc.progress import Say, quiet
from deploycc.workflows.costs import host_costs
from deploycc.workflows.cut import make_cut
from deploycc.workflows.fisher_rounds import importance_for, number_of_rounds
from deploycc.workflows.pictures_with_objects import pictures_with_objects
from deploycc.workflows.prune_decision import PruneDecision, decide_pruning
from deploycc.workflows.prune_settings import PruneSettings, cpu_options
from deploycc.workflows.pruning_record import pruning_record

if TYPE_CHECKING:
    from deploycc.detector import Detector
    from deploycc.detector.picture_list import PictureList
    from deploycc.documents.pruning import PruningRecord
    from deploycc.documents.utilisation import UtilisationProfile
    from deploycc.errors import Note
    from deploycc.prediction.costs import PredictedCosts
    from deploycc.timing.convolutions import Costs
    from deploycc.workflows.fisher import FisherImportance


@dataclass(frozen=True, eq=False)
class Pruned:
    """A pruned detector.

    Attributes:
        detector: ready to save; its ``prunings`` end with the record.
        decision: what was to be removed, for compilers that run the same pruning inside their pipeline.
        record: what was removed.
        profile: that it was decided by, if any.
        recovered: its weights were trained again afterwards.
    """

    detector: Detector
    decision: PruneDecision
    record: PruningRecord
    profile: UtilisationProfile | None = None
    recovered: bool = False

    @property
    def changes_weights(self) -> bool:
        """Return whether the weights that are left are no longer the trained ones."""
        return self.recovered or self.record.reconstruction is not None


@dataclass(frozen=True)
class WrittenDetector:
    """A detector that was written.

    Attributes:
        files: that it is in, the network first.
        sha256: of the first.
        notes: what these files do not hold.
    """

    files: tuple[Path, ...]
    sha256: str
    notes: tuple[Note, ...] = ()


def prune(
    detector: Detector,
    settings: PruneSettings | None = None,
    *,
    profile: UtilisationProfile | None = None,
    mask: Mapping[str, tuple[int, ...]] | None = None,
    importance: FisherImportance | None = None,
    pictures: str | Path | PictureList | None = None,
    refit: bool = True,
    costs: Costs | PredictedCosts | None = None,
    say: Say = quiet,
) -> Pruned:
    """Remove kernels that are hardly used, with every channel that depends on them.

    Args:
        detector: as imported; it stays as it is.
        settings: how to prune; None: kernels used in less than 5 % of the pictures.
        profile: of this network (`deploycc.profile`).
        mask: layer to kernels, for ``by="mask"``.
        importance: of the kernels, for ``by="fisher"``; None: found on ``pictures``.
        pictures: without labels (`deploycc.workflows.pictures`); None: none are looked at.
        refit: the weights that are left, on ``pictures`` with objects (`deploycc.workflows.pictures_with_objects`),
            without those by which `deploycc.recover` then judges.
        costs: times of convolutions, by which each layer's number of kernels is chosen: predicted for a target
            (`deploycc.workflows.costs.predicted_costs`), or measured on a machine that also measures what is missing;
            None: this machine, one thread per core, nothing known.
        say: progress.

    Raises:
        InputError, ArtefactError: the profile, the mask or the settings do not fit the network.
        ModelError: the mask names a layer or a kernel that the network does not have.
        PictureError: a picture cannot be read.
        MeasureError: a network does not run.
    """
    settings, costs = settings or PruneSettings(), costs or host_costs()
    if settings.by == "fisher" and importance is None and pictures is not None:
        number_of_rounds(settings)  # refuses settings before it looks at pictures
        pictures = pictures_with_objects(pictures, detector, say)
        importance = importance_for(detector, pictures, settings, profile=profile, costs=costs, say=say)
    decision = decide_pruning(
        detector, settings, profile=profile, mask=mask, importance=importance, costs=costs, say=say
    )
    refit_on = None if pictures is None or not refit else pictures_with_objects(pictures, detector, say)
    cut = make_cut(decision, refit_on, say)
    record = pruning_record(decision, settings, cut, profile, costs, refit_on)
    return Pruned(replace(cut.detector, prunings=(*detector.prunings, record)), decision, record, profile)


def write_pruned(pruned: Pruned, output: Path) -> WrittenDetector:
    """Write a pruned detector.

    Args:
        pruned: its record goes into an ONNX file; Caffe files hold none.
        output: an ONNX file, or one of the two files of Caffe.

    Raises:
        ArtefactError: a file cannot be written.
        ModelError: ``caffe-cannot-express``, ``written-unreadable``.
    """
    from deploycc.errors import Note
    from deploycc.files import sha256_of
    from deploycc.workflows.export import caffe_files, export_files
    from deploycc.workflows.written import save_network

    files = caffe_files(output)
    if files is None:
        return WrittenDetector((output,), save_network(pruned.detector, output))
    notes = export_files(pruned.detector, *files).notes
    reason = "Caffe files hold no record of what was removed: reports on them start at the pruned network"
    return WrittenDetector(files, sha256_of(files[0]), (*notes, Note("", "caffe-no-record", reason)))


__all__ = [
    "PruneDecision",
    "PruneSettings",
    "Pruned",
    "cpu_options",
    "decide_pruning",
    "host_costs",
    "prune",
    "write_pruned",
]
