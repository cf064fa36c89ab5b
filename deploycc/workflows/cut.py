"""Making the cut that was decided: channels leave the network, and the weights that are left may be refitted."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from deploycc.workflows.prune_settings import cpu_options

if TYPE_CHECKING:
    from deploycc.detector import Detector
    from deploycc.detector.picture_list import PictureList
    from deploycc.passes.prune_channels import PruneReport
    from deploycc.progress import Say
    from deploycc.pruning.reconstruct import Reconstruction
    from deploycc.workflows.prune_decision import PruneDecision


@dataclass(frozen=True, eq=False)
class Cut:
    """A network without what was to go.

    Attributes:
        detector: the network.
        report: what was removed.
        reconstruction: of its weights; None where they stay as they were.
    """

    detector: Detector
    report: PruneReport
    reconstruction: Reconstruction | None


def make_cut(decision: PruneDecision, refit_on: PictureList | None, say: Say) -> Cut:
    """Remove what was decided.

    Args:
        decision: what goes; its networks stay as they are.
        refit_on: pictures to refit the weights on that are left; None: they are not refitted.
        say: progress.

    Raises:
        InputError, PictureError, MeasureError: as `deploycc.pruning.reconstruct.reconstruct`.
    """
    from deploycc.passes.fold_affine import fold_affine
    from deploycc.passes.prune_channels import prune as remove
    from deploycc.pruning.reconstruct import rewired_nodes

    say("removing channels")
    small = replace(decision.dense, graph=decision.dense.graph.copy())
    report = remove(small, decision.prune)
    rewired = rewired_nodes(decision.dense.graph, small.graph) if decision.blocks else frozenset()
    small = _describe_gates(fold_affine(small, cpu_options()).detector)
    if refit_on is None:
        return Cut(small, report, None)
    return _reconstruct(decision, small, report, rewired, refit_on, say)


def _describe_gates(small: Detector) -> Detector:
    from deploycc.graph.gates.search import describe_again

    return replace(small, gates=describe_again(small.graph, small.gates)) if small.gates else small


def _reconstruct(
    decision: PruneDecision,
    small: Detector,
    report: PruneReport,
    rewired: frozenset[str],
    pictures: PictureList,
    say: Say,
) -> Cut:
    """Refit weights; the detector then says that its weights are not the trained ones any more."""
    from deploycc.detector.pictures import prepare
    from deploycc.errors import Note
    from deploycc.pruning.reconstruct import reconstruct

    original = decision.original
    refit = reconstruct(
        original,
        small,
        report.removed,
        decision.folded,
        lambda number: prepare(pictures.read(number), original.input),
        len(pictures.names),
        say,
        rewired=rewired,
    )
    changed = sum(layer.ridge is not None for layer in refit.layers)
    if changed:
        reason = f"weights of {changed} layers were refitted on {len(pictures.names)} pictures without labels"
        note = Note("", "weights-refitted", f"{reason}: {pictures.source}, sha256 {pictures.sha256[:16]}...")
        small = replace(small, notes=(*small.notes, note))
    return Cut(small, report, refit)
