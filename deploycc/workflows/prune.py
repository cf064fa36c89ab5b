"""The middle of `prune`: from a detector and a profile to a smaller detector and what to say about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from deploycc.errors import ArtefactError, InputError

if TYPE_CHECKING:
    from deploycc.detector import Detector
    from deploycc.documents.utilisation import LayerUse, UtilisationProfile
    from deploycc.errors import Note
    from deploycc.graph.channels.groups import ChannelGroups
    from deploycc.graph.gates.search import Gate
    from deploycc.passes.options import Options
    from deploycc.passes.prune_channels import PruneReport
    from deploycc.progress import Say
    from deploycc.pruning.decide import Choice
    from deploycc.pruning.kept_counts import Rounded
    from deploycc.pruning.reconstruct import Reconstruction
    from deploycc.timing.convolutions import Costs
    from deploycc.utilisation.measure import PictureList

Criterion = Literal["utilisation", "l1", "mask"]
Scope = Literal["backend", "frontend", "both"]
Coefficient = Literal["mean", "least-squares", "none"]
_PASSES_OF = "x86-cpu"  # what stands in front of pruning is the same for every target


@dataclass(frozen=True)
class Settings:
    """How to prune; see the options of `deploycc prune`.

    Attributes:
        multiple: of kernels that each layer keeps; None for what is measured to be fastest.
        keep_gates: leave gates in, except where the profile says that they hardly ever switch anything off:
        always_from: utilisation from which on a kernel counts as always on.
        costs: cost table to read and to add to; None measures and forgets.
        threads: CPU threads of these measurements.
    """

    by: Criterion
    below: float
    scope: Scope
    coefficient: Coefficient
    multiple: int | None
    keep_gates: bool
    profile: Path | None
    mask: Path | None
    costs: Path | None
    threads: int
    always_from: float = 0.95


@dataclass(frozen=True)
class FoldedGate:
    """A gate that became constants.

    Attributes:
        layer, place: see `deploycc.graph.gates.search.Gate`.
        macs: of the gate module, which are gone.
        errors: share of the gated response's energy that each coefficient gets wrong, removed kernels included
            (`deploycc.pruning.fold_gates.response_error`); None without a profile.
    """

    layer: str
    place: str
    macs: int
    errors: Mapping[str, float] | None


@dataclass(frozen=True, eq=False)
class Pruned:
    """A pruned detector.

    Attributes:
        detector: ready to save.
        report: of the pruning itself.
        sizes: MACs and parameters by part, before and after; before, gates that were folded are gone already.
        choice: the useless kernels.
        rounded: how many kernels the layers keep.
        compared: relative times of whole networks (`deploycc.pruning.kept_counts.fastest_counts`); empty unless asked.
        stays: useless channels that stay, whatever their number.
        gates: those that were folded.
        reconstruction: how weights were refitted; None where that was not asked for.
    """

    detector: Detector
    report: PruneReport
    sizes: dict[str, dict[str, tuple[int, int]]]
    choice: Choice
    rounded: tuple[Rounded, ...]
    compared: Mapping[str, float]
    stays: tuple[Note, ...]
    gates: tuple[FoldedGate, ...]
    reconstruction: Reconstruction | None = None


def prune_detector(detector: Detector, settings: Settings, say: Say, calibration: PictureList | None = None) -> Pruned:
    """Decide, fold gates, remove channels, and refit what is left on calibration pictures where there are any.

    Raises:
        InputError, ArtefactError: the profile, the mask or the cost table does not fit.
        PictureError: a calibration picture cannot be read.
        MeasureError: a network does not run on the calibration pictures.
    """
    from deploycc.graph.channels.labels import channel_groups
    from deploycc.graph.gates.search import find_gates
    from deploycc.passes import PIPELINE, run
    from deploycc.passes.fold_affine import fold_affine
    from deploycc.passes.options import Prune
    from deploycc.passes.prune_channels import check_kernels, choose, prune, prune_channels
    from deploycc.pruning.decide import kernels_of
    from deploycc.pruning.fold_gates import describe_remaining, fold_gates

    options = _options()
    say("preparing the network")
    dense = run(detector, options, PIPELINE[: PIPELINE.index(prune_channels)]).detector
    gates = find_gates(dense.graph, dense.gates)
    profile, mask = _read_profile(dense, settings), _read_mask(settings)
    layers = _layers(dense, gates, settings.scope)
    folded = tuple(gate for gate in gates if not settings.keep_gates or _hardly_switches(gate, profile, settings))
    original = None if calibration is None else replace(dense, graph=dense.graph.copy())
    if folded:
        fold_gates(dense, folded, {gate.layer: _coefficients(gate, profile, settings) for gate in folded})
    say("finding the channels")
    graph, groups = dense.graph, channel_groups(dense.graph)
    before = _sizes(run(dense, options, [fold_affine]).detector if folded else dense)
    check_kernels(groups, mask)
    choice = _choose(dense, groups, profile, mask, layers, settings)
    able, _, stays = choose(graph, groups, Prune(choice.kernels))
    wider = choice.with_next()
    spare = choose(graph, groups, Prune(wider.kernels))[0] - able
    say("choosing how many kernels stay")
    going, rounded, compared = _round(dense, groups, wider, able, spare, layers, settings, say)
    say("removing channels")
    report = prune(dense, Prune(kernels_of(groups, wider, going)))
    small = describe_remaining(fold_affine(dense, options).detector)
    after, reconstruction = _sizes(small), None
    if calibration is not None and original is not None:
        small, reconstruction = _reconstruct(original, small, report, folded, calibration, say)
    return Pruned(
        detector=small,
        report=report,
        sizes={part: {what: (n, after[part][what]) for what, n in both.items()} for part, both in before.items()},
        choice=choice,
        rounded=rounded,
        compared=compared,
        stays=(*stays, *report.stays),
        gates=tuple(_folded(gate, profile, report) for gate in folded),
        reconstruction=reconstruction,
    )


def _reconstruct(
    original: Detector,
    small: Detector,
    report: PruneReport,
    folded: tuple[Gate, ...],
    pictures: PictureList,
    say: Say,
) -> tuple[Detector, Reconstruction]:
    """Refit weights; the detector then says that its weights are not the trained ones any more."""
    from deploycc.detector.pictures import prepare
    from deploycc.errors import Note
    from deploycc.pruning.reconstruct import reconstruct

    found = reconstruct(
        original,
        small,
        report.removed,
        folded,
        lambda number: prepare(pictures.read(number), original.input),
        len(pictures.names),
        say,
    )
    changed = sum(layer.ridge is not None for layer in found.layers)
    said = f"weights of {changed} layers were refitted on {len(pictures.names)} pictures without labels"
    note = Note("", "weights-refitted", f"{said}: {pictures.source}, sha256 {pictures.sha256[:16]}...")
    return replace(small, notes=(*small.notes, note)) if changed else small, found


def _options() -> Options:
    from deploycc import target as targets
    from deploycc.passes.for_target import options_for

    return options_for(targets.load(_PASSES_OF), detection="raw")


def _read_profile(dense: Detector, settings: Settings) -> UtilisationProfile | None:
    """The profile, if it is of this network and complete."""
    from deploycc.documents.utilisation import check_profile, read_profile
    from deploycc.utilisation.probe import kernels_of, layers_to_probe

    if settings.profile is None:
        if settings.by == "utilisation":
            raise InputError(
                "prune-no-profile",
                "pruning by utilisation needs a profile",
                hint="`deploycc profile MODEL --images FOLDER -o FILE` makes it; give it with --profile FILE",
            )
        return None
    profile = read_profile(settings.profile)
    check_profile(profile, dense.source.sha256, dense.source.random_weights, kernels_of(dense.graph))
    for layer in layers_to_probe(dense):
        if (profile.layer(layer.name).gate is None) != (layer.gate is None):
            raise ArtefactError(
                "profile-other-layers",
                f"layer {layer.name} is gated in the network or in the profile, but not in both",
                hint=f"make the profile again for this network with `{profile.MADE_BY}`",
            )
    return profile


def _read_mask(settings: Settings) -> dict[str, tuple[int, ...]]:
    from deploycc.documents.mask import read_mask

    if settings.by != "mask":
        return {}
    if settings.mask is None:
        raise InputError("prune-no-mask", "pruning by a mask needs its file", hint="--mask FILE")
    return read_mask(settings.mask)


def _layers(dense: Detector, gates: tuple[Gate, ...], scope: Scope) -> set[str]:
    """Names of the nodes that may lose kernels; gate modules only follow."""
    from deploycc.graph.cost import node_macs
    from deploycc.graph.split import split_heads

    modules = {name for gate in gates for name in gate.nodes}
    if dense.heads is None:
        if scope == "frontend":
            raise InputError("prune-scope", "the detector's heads are unknown, and so is its front-end")
        return {node.name for node in dense.graph.nodes if node_macs(node)} - modules
    split = split_heads(dense.graph, dense.heads.locations, dense.heads.scores)
    parts = {"backend": [split.backend], "frontend": [split.frontend], "both": [split.backend, split.frontend]}
    return {name for part in parts[scope] for name in part.nodes} - modules


def _hardly_switches(gate: Gate, profile: UtilisationProfile | None, settings: Settings) -> bool:
    """Whether every kernel that stays is on in nearly all pictures: such a gate costs its time and saves nothing."""
    from deploycc.documents.utilisation import utilisation

    if profile is None or settings.by != "utilisation":
        return False
    used = utilisation(profile, profile.layer(gate.layer))
    staying = used[used >= settings.below]
    return bool((staying >= settings.always_from).all())


def _coefficients(gate: Gate, profile: UtilisationProfile | None, settings: Settings) -> Any:
    import numpy as np

    if settings.coefficient == "none":
        return np.ones(gate.kernels)
    if profile is None:
        raise InputError(
            "prune-no-profile",
            f"the gate of {gate.layer} can only become a constant where a profile says how often it is on",
            hint="give --profile FILE, or --keep-gates, or --coefficient none",
        )
    return _all_coefficients(profile, profile.layer(gate.layer))[settings.coefficient]


def _all_coefficients(profile: UtilisationProfile, layer: LayerUse) -> dict[str, Any]:
    from deploycc.documents.utilisation import least_squares_coefficients, utilisation

    return {"mean": utilisation(profile, layer), "least-squares": least_squares_coefficients(layer)}


def _choose(
    dense: Detector,
    groups: ChannelGroups,
    profile: UtilisationProfile | None,
    mask: Mapping[str, tuple[int, ...]],
    layers: set[str],
    settings: Settings,
) -> Choice:
    from deploycc.documents.utilisation import utilisation
    from deploycc.pruning.decide import by_mask, by_norm, by_utilisation

    if settings.by == "l1":
        return by_norm(dense.graph, groups, settings.below, layers)
    if settings.by == "mask":
        return by_mask(dense.graph, groups, mask, layers)
    assert profile is not None
    return by_utilisation({each.name: utilisation(profile, each) for each in profile.layers}, settings.below, layers)


def _round(
    dense: Detector,
    groups: ChannelGroups,
    choice: Choice,
    able: set[int],
    spare: set[int],
    layers: set[str],
    settings: Settings,
    say: Say,
) -> tuple[frozenset[int], tuple[Rounded, ...], dict[str, float]]:
    from deploycc.pruning.kept_counts import fastest_counts, fixed_multiple

    if settings.multiple is not None:
        return *fixed_multiple(groups, choice, able, layers, settings.multiple), {}
    costs = _costs(settings)
    found = fastest_counts(dense.graph, groups, choice, able, layers, costs, spare, say)
    table = costs.table()
    if settings.costs is not None and table.timings:
        table.write(settings.costs)
    return found


def _costs(settings: Settings) -> Costs:
    from deploycc.documents.costs import CostTable
    from deploycc.documents.document import read_document
    from deploycc.timing.convolutions import Costs
    from deploycc.timing.machine import this_machine

    table = None
    if settings.costs is not None and settings.costs.exists():
        table = read_document(settings.costs, CostTable)
    return Costs(this_machine(settings.threads), table)


def _sizes(detector: Detector) -> dict[str, dict[str, int]]:
    """MACs and parameters of back-end, front-end and total."""
    from deploycc.graph.cost import measure_cost
    from deploycc.graph.split import split_heads

    total, found = measure_cost(detector.graph), {}
    if detector.heads is not None:
        split = split_heads(detector.graph, detector.heads.locations, detector.heads.scores)
        for name, part in (("back-end", split.backend), ("front-end", split.frontend)):
            found[name] = {"macs": part.macs, "params": part.params}
    return {**found, "total": {"macs": total.macs, "params": total.params}}


def _folded(gate: Gate, profile: UtilisationProfile | None, report: PruneReport) -> FoldedGate:
    import numpy as np

    from deploycc.pruning.fold_gates import response_error

    errors = None
    if profile is not None:
        layer = profile.layer(gate.layer)
        assert layer.gate is not None
        squares, used_squares = np.array(layer.squares), np.array(layer.gate.used_squares)
        errors = {}
        for name, coefficients in _all_coefficients(profile, layer).items():
            left = np.array(coefficients)
            left[list(report.removed.get(gate.layer, ()))] = 0
            errors[name] = response_error(squares, used_squares, left)
    return FoldedGate(gate.layer, gate.place, gate.macs, errors)
