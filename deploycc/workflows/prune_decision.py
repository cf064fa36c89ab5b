"""Which kernels go, and which gates become constants: everything that pruning decides before it changes anything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deploycc.documents.pruning import Scope
from deploycc.errors import ArtefactError, InputError
from deploycc.workflows.prune_settings import PruneSettings, cpu_options

if TYPE_CHECKING:
    from deploycc.detector import Detector
    from deploycc.documents.pruning import LatencyGoalRecord
    from deploycc.documents.utilisation import LayerUse, UtilisationProfile
    from deploycc.errors import Note
    from deploycc.graph.blocks.search import Block
    from deploycc.graph.channels.groups import ChannelGroups
    from deploycc.graph.gates.search import Gate
    from deploycc.passes.options import Prune
    from deploycc.prediction.costs import PredictedCosts
    from deploycc.progress import Say
    from deploycc.pruning.decide import Choice
    from deploycc.pruning.kept_counts import Rounded
    from deploycc.timing.convolutions import Costs
    from deploycc.workflows.fisher import FisherImportance

_ALL = 1.01  # a limit below which every kernel is


@dataclass(frozen=True, eq=False)
class PruneDecision:
    """What is to be removed.

    Attributes:
        original: the network as pruning finds it, after the passes before it, gates included.
        dense: the same with the gates that go replaced by constants, which are not folded into weights yet.
        groups: the channel groups of ``dense``.
        prune: what the passes `fold_gates` and `prune_channels` are told.
        choice: the useless kernels.
        rounded: how many kernels the layers keep.
        relative_times: of whole networks (`deploycc.pruning.kept_counts.fastest_counts`,
            `deploycc.workflows.profiled_pruning.profiled_counts`); empty where nothing was timed.
        stays: useless channels that stay, whatever their number.
        folded: the gates that become constants.
        rankings: how often the kernels were ranked.
        goal: of latency, and how it was met; None where none was given.
        blocks: that go whole.
    """

    original: Detector
    dense: Detector
    groups: ChannelGroups
    prune: Prune
    choice: Choice
    rounded: tuple[Rounded, ...]
    relative_times: Mapping[str, float]
    stays: tuple[Note, ...]
    folded: tuple[Gate, ...]
    rankings: int = 1
    goal: LatencyGoalRecord | None = None
    blocks: tuple[Block, ...] = ()


def decide_pruning(
    detector: Detector,
    settings: PruneSettings,
    *,
    profile: UtilisationProfile | None,
    mask: Mapping[str, tuple[int, ...]] | None,
    importance: FisherImportance | None = None,
    costs: Costs | PredictedCosts,
    say: Say,
) -> PruneDecision:
    """Decide what goes; ``detector`` stays as it is.

    Args:
        detector: as imported.
        settings: how to prune.
        profile: of this network; needed by ``utilisation`` and for gates that become constants.
        mask: layer to kernels, for ``by="mask"``.
        importance: of the kernels, for ``by="fisher"``.
        costs: where ``settings.multiple`` is None: predicted for a target, or measured, also what is not known yet.
        say: progress.

    Raises:
        InputError, ArtefactError: the profile, the mask or the settings do not fit the network.
        ModelError: the mask names a layer or a kernel that the network does not have.
        MeasureError: ONNX Runtime refuses a network that is timed.
        BudgetMissed: ``latency-goal``, ``macs-goal``: no pruning meets the goal.
    """
    from dataclasses import replace

    from deploycc.graph.channels.labels import channel_groups
    from deploycc.graph.gates.search import find_gates
    from deploycc.passes import DROP_DEAD, FOLD, run
    from deploycc.passes.fold_gates import fold_gates
    from deploycc.passes.options import Prune
    from deploycc.passes.prune_channels import check_kernels, choose
    from deploycc.pruning.decide import kernels_of
    from deploycc.workflows.constant_carriers import constant_carriers
    from deploycc.workflows.goal_choice import GoalInputs
    from deploycc.workflows.prune_goal import choose_for_goal
    from deploycc.workflows.prune_macs import choose_for_macs

    options = cpu_options()
    say("preparing the network")
    original = dense = run(detector, options, FOLD + DROP_DEAD).detector
    gates = find_gates(original.graph, original.gates)
    _check_inputs(original, profile, mask, importance, settings)
    layers = _layers(original, gates, settings)
    folded = tuple(gate for gate in gates if not settings.keep_gates or _hardly_switches(gate, profile, settings))
    coefficients = {gate.layer: _coefficients(gate, profile, settings) for gate in folded}
    if folded:
        dense = run(original, replace(options, prune=Prune(coefficients=coefficients)), [fold_gates]).detector
    say("finding the channels")
    groups = channel_groups(dense.graph)
    check_kernels(groups, mask or {})
    if settings.has_goal or settings.by == "fisher":
        possible = _everything(dense, groups, profile, importance, layers, settings)
        known = importance.blocks if importance is not None else {}
        inputs, met = GoalInputs(original, dense, groups, possible, layers, known), None
        if settings.has_goal:
            chosen, met = choose_for_goal(inputs, settings, costs, say)
        else:
            chosen = choose_for_macs(inputs, settings)
        return PruneDecision(
            original=original,
            dense=dense,
            groups=groups,
            prune=Prune(
                chosen.choice.kernels,
                carriers=chosen.carriers,
                coefficients=coefficients,
                blocks=tuple(block.key for block in chosen.blocks),
            ),
            choice=chosen.choice,
            rounded=chosen.rounded,
            relative_times={},
            stays=(),
            folded=folded,
            rankings=1 if importance is None else importance.rankings,
            goal=met,
            blocks=chosen.blocks,
        )
    choice = _choose(dense, groups, profile, mask or {}, layers, settings)
    carriers = constant_carriers(dense.graph, groups, choice)
    able, _, stays = choose(dense.graph, groups, Prune(choice.kernels, carriers=carriers))
    wider = choice.with_spare()
    spare = choose(dense.graph, groups, Prune(wider.kernels, carriers=carriers))[0] - able
    say("choosing how many kernels stay")
    going, rounded, times = _round(dense, groups, wider, able, spare, layers, settings, costs, say)
    return PruneDecision(
        original=original,
        dense=dense,
        groups=groups,
        prune=Prune(kernels_of(groups, wider, going), carriers=carriers, coefficients=coefficients),
        choice=choice,
        rounded=rounded,
        relative_times=times,
        stays=stays,
        folded=folded,
    )


def all_coefficients(profile: UtilisationProfile, layer: LayerUse) -> dict[str, Any]:
    """The constants that can replace a gate, by name, [kernels] each."""
    from deploycc.pruning.gate_constants import least_squares_coefficients

    return {"mean": profile.mean_utilisation(layer), "least-squares": least_squares_coefficients(layer)}


def check_profile_given(settings: PruneSettings, given: bool) -> None:
    """Refuse pruning by utilisation without a profile.

    Raises:
        InputError: ``prune-no-profile``.
    """
    if settings.by == "utilisation" and not given:
        raise InputError(
            "prune-no-profile",
            "pruning by utilisation needs a profile",
            hint="`deploycc profile MODEL --images FOLDER -o FILE` makes it; give it with `profile=FILE`; or `by=l1`",
        )


def _check_inputs(
    original: Detector,
    profile: UtilisationProfile | None,
    mask: Mapping[str, tuple[int, ...]] | None,
    importance: FisherImportance | None,
    settings: PruneSettings,
) -> None:
    """Refuse a profile of another network, and what the criterion needs and does not get."""
    from deploycc.utilisation.compatibility import check_profile, kernels_of
    from deploycc.utilisation.probe import layers_to_probe

    if settings.by == "mask" and mask is None:
        raise InputError("prune-no-mask", "pruning by a mask needs one", hint="`mask=FILE`")
    check_profile_given(settings, profile is not None)
    if settings.by == "fisher" and importance is None:
        raise InputError(
            "prune-no-pictures",
            "pruning by Fisher information needs pictures",
            note="they show which kernels the network's own outputs depend on; no labels are needed",
            hint="`pictures=FOLDER`",
        )
    if profile is None:
        return
    source = original.source
    check_profile(profile, source.sha256, source.random_weights, kernels_of(original.graph))
    for layer in layers_to_probe(original):
        if (profile.layer(layer.name).gate is None) != (layer.gate is None):
            raise ArtefactError(
                "profile-other-layers",
                f"layer {layer.name} is gated in the network or in the profile, but not in both",
                hint=f"make the profile again for this network with `{profile.MADE_BY}`",
            )


def _layers(original: Detector, gates: tuple[Gate, ...], settings: PruneSettings) -> set[str]:
    """Names of the nodes that may lose kernels; gate modules only follow."""
    found = _layers_of_scope(original, gates, settings.scope)
    if unknown := set(settings.layers) - found:
        raise InputError(
            "prune-option",
            f"{min(unknown)} is no layer that may lose kernels",
            context={"scope": settings.scope},
            hint="name convolutions of the scope as `inspect` shows them",
        )
    return set(settings.layers) or found


def _layers_of_scope(original: Detector, gates: tuple[Gate, ...], scope: Scope) -> set[str]:
    from deploycc.graph.cost import node_macs
    from deploycc.graph.split import split_heads

    modules = {name for gate in gates for name in gate.nodes}
    if original.heads is None:
        if scope == "front-end":
            raise InputError("prune-scope", "the detector's heads are unknown, and so is its front-end")
        return {node.name for node in original.graph.nodes if node_macs(node)} - modules
    split = split_heads(original.graph, original.heads.locations, original.heads.scores)
    parts = {"back-end": [split.backend], "front-end": [split.frontend], "both": [split.backend, split.frontend]}
    return {name for part in parts[scope] for name in part.nodes} - modules


def _hardly_switches(gate: Gate, profile: UtilisationProfile | None, settings: PruneSettings) -> bool:
    """Return whether every kernel that stays is on in nearly all pictures: such a gate costs time and saves nothing."""
    if profile is None or settings.by != "utilisation":
        return False
    used = profile.mean_utilisation(profile.layer(gate.layer))
    staying = used[used >= settings.below]
    return bool((staying >= settings.always_from).all())


def _coefficients(gate: Gate, profile: UtilisationProfile | None, settings: PruneSettings) -> Any:
    import numpy as np

    if settings.coefficient == "none":
        return np.ones(gate.kernels)
    if profile is None:
        raise InputError(
            "prune-no-profile",
            f"the gate of {gate.layer} can only become a constant where a profile says how often it is on",
            hint="give `profile=FILE`, or `keep_gates`, or `coefficient=none`",
        )
    return all_coefficients(profile, profile.layer(gate.layer))[settings.coefficient]


def _everything(
    dense: Detector,
    groups: ChannelGroups,
    profile: UtilisationProfile | None,
    importance: FisherImportance | None,
    layers: set[str],
    settings: PruneSettings,
) -> Choice:
    """Every kernel that may go, and what each is worth."""
    from dataclasses import replace

    from deploycc.pruning.decide import Choice

    if importance is None:
        return _choose(dense, groups, profile, {}, layers, replace(settings, below=_ALL))
    every = {name: tuple(range(len(groups.layers[name]))) for name in groups.layers if name in layers}
    known = {name: importance.values[name] for name in every if name in importance.values}
    return Choice(every, known, "")


def _choose(
    dense: Detector,
    groups: ChannelGroups,
    profile: UtilisationProfile | None,
    mask: Mapping[str, tuple[int, ...]],
    layers: set[str],
    settings: PruneSettings,
) -> Choice:
    from deploycc.pruning.decide import by_mask, by_norm, by_utilisation

    if settings.by == "l1":
        return by_norm(dense.graph, groups, min(settings.below, 1.0), layers)
    if settings.by == "mask":
        return by_mask(dense.graph, groups, mask, layers)
    assert profile is not None
    use = {layer.name: profile.mean_utilisation(layer) for layer in profile.layers}
    return by_utilisation(use, settings.below, layers)


def _round(
    dense: Detector,
    groups: ChannelGroups,
    choice: Choice,
    able: set[int],
    spare: set[int],
    layers: set[str],
    settings: PruneSettings,
    costs: Costs | PredictedCosts,
    say: Say,
) -> tuple[frozenset[int], tuple[Rounded, ...], dict[str, float]]:
    from deploycc.prediction.costs import PredictedCosts
    from deploycc.pruning.kept_counts import fastest_counts, fixed_multiple
    from deploycc.pruning.predicted_counts import cheapest_counts
    from deploycc.workflows.profiled_pruning import profiled_counts

    if settings.multiple is not None:
        return *fixed_multiple(groups, choice, able, layers, settings.multiple), {}
    if settings.budget_s is not None and not isinstance(costs, PredictedCosts):
        return profiled_counts(dense, groups, choice, able, layers, costs, spare, settings.budget_s, say)
    if isinstance(costs, PredictedCosts):
        return *cheapest_counts(dense.graph, groups, choice, able, layers, costs.time_ms, spare), {}
    return fastest_counts(dense.graph, groups, choice, able, layers, costs, spare, say)
