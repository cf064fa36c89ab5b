"""Planning gates: from a detector and its profile to a checked plan, the lowered network and a report."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from deploycc.errors import ArtefactError, InputError, TargetError
from deploycc.progress import Say, quiet
from deploycc.workflows.gate_decision import choose_lowerings, record_decisions
from deploycc.workflows.gate_effort import Allowance, check_budget, look_ahead
from deploycc.workflows.gate_limits import check_in_a_row, check_limits
from deploycc.workflows.gate_network import prepare_network
from deploycc.workflows.staged_choice import Contest, Limits, consider_split
from deploycc.workflows.staged_split import find_split

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs

    from deploycc.detector import Detector
    from deploycc.detector.picture_list import PictureList
    from deploycc.documents.gate_plan import GatePlan, LayerPlan
    from deploycc.documents.gates import GateReport
    from deploycc.documents.utilisation import UtilisationProfile
    from deploycc.errors import Note
    from deploycc.gate_planning.check import Checked, Lower, Networks
    from deploycc.gate_planning.costs import GateCosts
    from deploycc.graph.branches.gated_network import GatedNetwork
    from deploycc.graph.gates.search import Gate
    from deploycc.passes.options import Options
    from deploycc.target import Target
    from deploycc.workflows.predicted_gate_costs import AnyGateCosts
    from deploycc.workflows.staged import StagedDetector

NETWORK_FILE = "network.onnx"
PAGE_FILE = "gates.html"


@dataclass(frozen=True, eq=False)
class GatePlanning:
    """A plan for the gates of a detector.

    Attributes:
        plan: how each gate is lowered, for `deploycc.compile`.
        lowered: the detector with the best plan in one network carried out; it is the plan unless that is staged.
        report: what was considered, predicted and measured.
        notes: what had to stay a multiply, and why; what else may make the plan a poor one.
        staged: the networks of a plan that is staged.
    """

    plan: GatePlan
    lowered: Detector
    report: GateReport
    notes: tuple[Note, ...]
    staged: StagedDetector | None = None

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a user must know before using the plan, a sentence each."""
        sentences = []
        if self.report.timings is None and self.report.intervals is None:
            sentences.append("nothing was run: the pictures of the profile are not there, so all figures are predicted")
        return tuple(sentences)

    def write(
        self, folder: Path, inputs: Iterable[Path] = (), on_kept: Callable[[str], None] = lambda sentence: None
    ) -> None:
        """Write ``gate-plan.json``, ``network.onnx``, ``gates.json`` and ``gates.html`` into a folder.

        Of a plan that is staged, the files of `StagedDetector.write` take the place of ``network.onnx``.

        Args and errors are those of `deploycc.workflows.staging.staged_folder`.
        """
        from deploycc.files import write_text
        from deploycc.report.gates import render_gates_html
        from deploycc.workflows.staging import staged_folder
        from deploycc.workflows.written import save_network

        with staged_folder(folder, inputs, on_kept) as staged:
            self.plan.write(staged / self.plan.FILE_NAME)
            if self.staged is not None:
                self.staged.save(staged)
            else:
                save_network(self.lowered, staged / NETWORK_FILE)
            self.report.write(staged / self.report.FILE_NAME)
            write_text(staged / PAGE_FILE, render_gates_html(self.report))


def plan_gates(
    detector: Detector,
    profile: UtilisationProfile,
    *,
    target: Target,
    pictures: PictureList | None = None,
    costs: AnyGateCosts | None = None,
    max_worst_case: float = 1.05,
    max_time: float = 1.0,
    max_growth: float = 1.0,
    seconds: float = 20.0,
    budget_s: float | None = None,
    staged: bool = False,
    say: Say = quiet,
    tell: Callable[[str], None] = lambda sentence: None,
) -> GatePlanning:
    """Plan which gates become branches that skip work, and check the plan by running it.

    Args:
        detector: as imported, with kernel gates; it stays as it is.
        profile: of this detector's gates (`deploycc.profile`).
        target: what the plan is for: ONNX Runtime on this machine, what the costs are measured on, or a board that is
            not here, whose times are predicted.
        pictures: the plan is checked on these, on 100 at most (8 where a device times them); None, or predicted costs:
            it is only predicted, and nothing is checked.
        costs: times that were measured before, and the machine that measures others, which may be a device
            (`deploycc.workflows.device_timer`), or predicted ones; None: `target_gate_costs`.
        max_worst_case: bound of the time with every kernel on, as a multiple of the dense network's.
        max_time: bound of the time on the pictures, as a multiple of the dense network's.
        max_growth: bound of the weights that branches add, as a multiple of all weights.
        seconds: for each comparison of networks, about.
        budget_s: of a device that builds engines: nothing is begun that would leave no time for the end. What there is
            no time to check multiplies.
        staged: choose two networks in a row where one decision switches many layers and they are measured to be faster
            than one network, within the same bounds. They are timed and shown in any case. Where a branch skips nothing
            they are the only way to skip work, and predicted times may choose them.
        say: progress.
        tell: told once how many engines a device is to build and how long that takes, after it has built the first.

    Raises:
        InputError: ``gates-none``: there are no gates to plan; ``gates-option``: a budget for a machine that builds no
            engines.
        ArtefactError: the profile or the costs do not fit.
        TargetError: ``gates-not-measurable``: no branch runs there, or costs are neither measured nor predicted.
        BudgetMissed: ``gates-worst-case``, ``gates-slower``, ``gates-in-a-row``; ``gates-budget``: it is over before
            there is a plan.
        ModelError: ``gate-not-fixed``: the worst case cannot be timed.
        PictureError: a picture cannot be read.
        MeasureError: a network does not run.
    """
    from deploycc.documents.utilisation import gate_vectors
    from deploycc.gate_planning.check import check_plan
    from deploycc.gate_planning.costs import GateCosts
    from deploycc.gate_planning.layers import planned_layers
    from deploycc.graph.branches.gated_network import read_gated_network
    from deploycc.graph.gates.search import as_described
    from deploycc.timing.machine import usable_cores
    from deploycc.workflows.gate_records import gate_report

    start_s = time.monotonic()
    costs = costs or target_gate_costs(target)
    conditional = _check_target(target, costs, staged)
    check_budget(costs, budget_s)
    measured = costs if isinstance(costs, GateCosts) else None
    say("preparing the network")
    prepared, options = prepare_network(detector, target)
    network = read_gated_network(prepared.graph)
    gates, differences = as_described(network.gates, prepared.gates)
    _check_profile(profile, prepared, gates)
    active = {layer.name: gate_vectors(layer, profile.pictures.count) for layer in profile.layers}
    layers, unfit = planned_layers(network, gates, active)
    networks = _networks(prepared, gates)
    convolutions = [(layer.convolution, layer.joins) for layer in layers]
    outlook = None if measured is None else look_ahead(networks.dense, network, layers, measured, seconds, say)
    if outlook is not None:
        tell(outlook.sentence(budget_s))
    allowance = Allowance(outlook, budget_s, start_s)
    model = costs.model(convolutions, say, allowance.for_an_engine, conditional)
    recorded = None
    if pictures is not None and measured is not None:
        recorded = record_decisions(
            prepared,
            gates,
            pictures,
            threads=min(costs.threads, usable_cores()),
            most=measured.timer.most_pictures,
            say=say,
        )
    planned, shared, stuck = choose_lowerings(
        network,
        layers,
        model,
        networks,
        None if recorded is None else recorded.tensors,
        max_worst_case=max_worst_case,
        max_growth=max_growth,
        costs=costs,
        conditional=conditional,
        say=say,
    )
    checked = None
    if recorded is not None and measured is not None:
        checked = check_plan(
            planned,
            networks,
            _lowering(network),
            recorded.tensors,
            timer=measured.timer,
            max_worst_case=max_worst_case,
            max_time=max_time,
            seconds=seconds,
            say=say,
            go_on=allowance.for_ways,
        )
    in_a_row = None
    split, unstaged = find_split(prepared, network, layers, shared, model, planned, max_growth)
    if split is not None:
        limits, lower = Limits(max_worst_case, max_time), _lowering(network)
        contest = Contest(networks, lower, active, recorded, checked, costs, limits, seconds, not conditional, say)
        in_a_row, more = consider_split(split, contest, wanted=staged, go_on=allowance.for_stages)
        unstaged += more
    chosen = split if in_a_row is not None and in_a_row.chosen else None
    if not conditional:
        check_in_a_row(in_a_row, unstaged, target, costs)
    elif chosen is None:
        check_limits(planned, checked, costs, max_worst_case=max_worst_case, max_time=max_time)
    say("lowering the network")
    in_one = checked.layers if checked is not None else planned.layers()
    shares = in_a_row.shares if in_a_row is not None and chosen is not None else ()
    plan = _plan(prepared, target, in_one if chosen is None else chosen.plan, checked, costs, shares)
    report = gate_report(
        plan, network, networks, profile, planned, checked, recorded, costs, max_worst_case, max_growth, in_a_row
    )
    notes = (*network.notes, *differences, *unfit, *stuck, *unstaged, *costs.notes())
    lowered = _lowered(prepared, options, in_one)
    return GatePlanning(plan, lowered, report, notes, None if chosen is None else chosen.stages)


def host_gate_costs() -> GateCosts:
    """Costs that this machine measures, on all cores that the process may use."""
    from deploycc.gate_planning.costs import GateCosts
    from deploycc.timing.machine import this_machine, usable_cores

    return GateCosts(this_machine(usable_cores()))


def target_gate_costs(target: Target) -> AnyGateCosts:
    """Return the costs of gates on a target without a device: measured here for this machine, otherwise predicted.

    Raises:
        TargetError: ``gates-not-measurable``: no branch runs there, or the target cannot be predicted.
    """
    from deploycc.passes.for_target import options_for
    from deploycc.prediction.costs import PredictedCosts
    from deploycc.workflows.costs import measured_here
    from deploycc.workflows.predicted_gate_costs import PredictedGateCosts

    if measured_here(target):
        return host_gate_costs()
    if target.model_format == "caffe":
        raise _not_known(target, options_for(target, detection="raw").no_conditional, measurable=False)
    try:
        return PredictedGateCosts(PredictedCosts(target))
    except TargetError as error:
        raise _not_known(target, error.message, measurable=True, predictable=False) from error


def _check_target(target: Target, costs: AnyGateCosts, staged: bool) -> bool:
    """Refuse a target whose branches are not timed or predicted, and say what is missing.

    Returns:
        whether branches skip work there; where they do not, networks in a row do.
    """
    from deploycc.passes.for_target import options_for

    if target.runtime == "onnxruntime":
        return True
    refusal = options_for(target, detection="raw").no_conditional
    in_a_row = bool(refusal) and target.model_format != "caffe"
    if refusal and not (in_a_row and staged):
        raise _not_known(target, refusal, measurable=False, in_a_row=in_a_row)
    if costs.of_this_machine:
        raise _not_known(target, "times of this machine are another runtime's", measurable=True)
    return not refusal


def _not_known(
    target: Target, missing: str, *, measurable: bool, predictable: bool = True, in_a_row: bool = False
) -> TargetError:
    bound = f"`deploycc predict MODEL --profile FILE --target {target.name}` gives a bound of what skipping saves; "
    return TargetError(
        "gates-not-measurable",
        f"gates of target {target.name} cannot be planned here: costs of its branches are not known",
        context={"runtime": target.runtime, "missing": missing},
        note="a plan follows times of the target's own runtime; this machine's are another's",
        hint=("`staged=True` plans networks in a row, which need no branch; " if in_a_row else "")
        + ("`device=NAME` measures them there; " if measurable else "")
        + (bound if predictable else "")
        + "`target=x86-cpu` plans for ONNX Runtime on this machine; `deploycc prune` makes constants of gates",
    )


def _check_profile(profile: UtilisationProfile, network: Detector, gates: Sequence[Gate]) -> None:
    from deploycc.utilisation.compatibility import check_profile, kernels_of

    if not gates:
        raise InputError(
            "gates-none",
            "the network has no kernel gates",
            context={"network": network.name},
            hint="`deploycc inspect MODEL` lists what was found; `deploycc train` adds gates",
        )
    check_profile(profile, network.source.sha256, network.source.random_weights, kernels_of(network.graph))
    if profile.kind != "gates" or {layer.name for layer in profile.layers} != {gate.layer for gate in gates}:
        raise ArtefactError(
            "profile-other-layers",
            "the profile does not record the gates of this network",
            context={"profile": profile.kind, "gates": ", ".join(gate.layer for gate in gates)},
            hint=f"make it again for this network with `{profile.MADE_BY}`",
        )


def _networks(network: Detector, gates: Sequence[Gate]) -> Networks:
    from deploycc.gate_planning.check import Networks
    from deploycc.graph.gates.fixed import with_gates_on, without_gates

    graph = network.graph
    return Networks(multiply=graph, dense=without_gates(graph, gates), all_on=with_gates_on(graph, gates))


def _lowering(network: GatedNetwork) -> Lower:
    """Return what carries a plan out on a graph that differs from this network only in constants."""
    from deploycc.passes.lower_gates import lowered_copy

    def lower(graph: gs.Graph, plans: Sequence[LayerPlan]) -> gs.Graph:
        return lowered_copy(replace(network, graph=graph), plans)

    return lower


def _plan(
    network: Detector,
    target: Target,
    layers: Sequence[LayerPlan],
    checked: Checked | None,
    costs: AnyGateCosts,
    shares: tuple[float, ...],
) -> GatePlan:
    """Return the plan; one with shares of second networks is staged."""
    from deploycc.documents.document import Evidence, this_tool
    from deploycc.documents.gate_plan import GatePlan

    return GatePlan(
        tool=this_tool(),
        evidence=Evidence(kind="measured" if checked else "predicted", source=costs.describe()),
        source_sha256=network.source.sha256,
        random_weights=network.source.random_weights,
        network=network.name,
        target=target.name,
        layers=tuple(layers),
        staged=bool(shares),
        shares=shares,
    )


def _lowered(network: Detector, options: Options, layers: tuple[LayerPlan, ...]) -> Detector:
    from deploycc.passes import CHECK, FIT, LOWER, run

    return run(network, replace(options, gate_plan=layers), LOWER + FIT + CHECK).detector
