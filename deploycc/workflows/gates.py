"""The middle of `gates`: from a detector and a profile to a checked plan, the lowered network and a report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploycc.errors import ArtefactError, BudgetMissed, InputError, PictureError, TargetError
from deploycc.workflows.gate_costs import Pictures, Settings, measured_costs, plan_layers

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs
    from numpy.typing import NDArray

    from deploycc.detector import Detector
    from deploycc.documents.gate_plan import LayerPlan
    from deploycc.documents.gates import GateReport
    from deploycc.documents.utilisation import UtilisationProfile
    from deploycc.errors import Note
    from deploycc.gate_planning.check import Checked, Lower, Networks, Tensors
    from deploycc.gate_planning.planner import Planned
    from deploycc.graph.branches.gated_network import GatedNetwork
    from deploycc.graph.gates.search import Gate
    from deploycc.passes.options import Options
    from deploycc.progress import Say
    from deploycc.target import Target

NETWORK_FILE = "network.onnx"
_MOST_PICTURES = 100


def plan_detector(
    detector: Detector, settings: Settings, output: Path, say: Say
) -> tuple[GateReport, tuple[Note, ...]]:
    """Plan, check, and write ``gate-plan.json``, the lowered network and ``gates.json`` into a folder.

    Raises:
        InputError, ArtefactError, TargetError: the profile, the costs or the target do not fit.
        BudgetMissed: ``gates-worst-case``.
        MeasureError: ONNX Runtime refuses a network.
    """
    from deploycc import target as targets
    from deploycc.documents.utilisation import gate_vectors, read_profile
    from deploycc.gate_planning.layers import planned_layers
    from deploycc.graph.branches.gated_network import read_gated_network
    from deploycc.graph.gates.search import as_described
    from deploycc.workflows.staging import staged_folder

    target = targets.load(settings.target)
    _check_target(target)
    options = _options(target)
    say("preparing the network")
    network = prepare_network(detector, options)
    gated = read_gated_network(network.graph)
    gates, differing = as_described(gated.gates, network.gates)
    notes = (*gated.notes, *differing)
    profile = read_profile(settings.profile)
    _check_profile(profile, network, gates)
    active = {layer.name: gate_vectors(layer, profile.pictures.count) for layer in profile.layers}
    layers, said = planned_layers(gated, gates, active)
    with staged_folder(output) as folder:
        say("measuring convolutions and branches")
        model, busy = measured_costs(layers, settings)
        networks = networks_of(network, gates)
        lower = lowering_of(gated)
        pictures = _pictures(network, gates, profile, settings)
        planned, stuck = plan_layers(gated, layers, model, networks, pictures, settings, say)
        checked = None
        if pictures is not None:
            from deploycc.gate_planning.check import check_plan

            checked = check_plan(
                planned,
                networks,
                lower,
                pictures.tensors,
                threads=settings.threads,
                max_worst_case=settings.max_worst_case,
                seconds=settings.seconds,
                say=say,
            )
        _check_bound(planned, checked, settings.max_worst_case)
        say("writing the network")
        report = _write(
            folder, network, gated, networks, target, options, profile, planned, checked, pictures, settings
        )
    return report, (*notes, *said, *stuck, *busy)


def _check_target(target: Target) -> None:
    if target.runtime != "onnxruntime":
        raise TargetError(
            "gates-not-measurable",
            f"costs of target {target.name} cannot be measured here",
            context={"runtime": target.runtime},
            note="a plan is made from times that were measured with the target's own runtime on its own device",
            hint="--target x86-cpu plans for ONNX Runtime on this machine",
        )


def _options(target: Target) -> Options:
    from deploycc.passes.for_target import options_for

    return options_for(target, detection="raw")


def prepare_network(detector: Detector, options: Options) -> Detector:
    """The network as gates are lowered in it: after all passes in front of that."""
    from deploycc.passes import DROP_DEAD, FOLD, PRUNE, run

    return run(detector, options, FOLD + DROP_DEAD + PRUNE).detector


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


def networks_of(network: Detector, gates: Sequence[Gate]) -> Networks:
    """What a plan is compared with; raises ModelError where gates cannot be kept on."""
    from deploycc.gate_planning.check import Networks
    from deploycc.graph.gates.fixed import with_gates_on, without_gates

    graph = network.graph
    return Networks(multiply=graph, dense=without_gates(graph, gates), all_on=with_gates_on(graph, gates))


def lowering_of(network: GatedNetwork) -> Lower:
    """How a plan is carried out on a graph that differs from this network in numbers only."""
    from deploycc.passes.lower_gates import lowered_copy

    def lower(graph: gs.Graph, plans: Sequence[LayerPlan]) -> gs.Graph:
        return lowered_copy(replace(network, graph=graph), plans)

    return lower


def _pictures(
    network: Detector, gates: Sequence[Gate], profile: UtilisationProfile, settings: Settings
) -> Pictures | None:
    """At most `_MOST_PICTURES`, evenly spread; None where the profile's own are gone and no others were given."""
    from deploycc.detector.pictures import prepare
    from deploycc.utilisation.probe import Probe, layers_to_probe
    from deploycc.workflows.pictures import open_pictures

    given = settings.images if settings.images is not None else settings.data
    try:
        found = open_pictures(given if given is not None else profile.pictures.source, network.input)
    except (PictureError, InputError):
        if given is not None:
            raise
        return None
    count = len(found.names)
    chosen = sorted({round(number * (count - 1) / max(1, _MOST_PICTURES - 1)) for number in range(_MOST_PICTURES)})
    chosen = [number for number in chosen if number < count]
    tensors = [prepare(found.read(number), network.input) for number in chosen]
    names = tuple(found.names[number] for number in chosen)
    probe = Probe(network, layers_to_probe(network, gates), threads=settings.threads)
    return Pictures(names, tensors, recorded(probe, tensors, names))


def recorded(probe: Any, tensors: Tensors, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Decisions of every gate, [pictures, kernels], by layer."""
    import numpy as np

    readings = [probe.read(tensor, name) for tensor, name in zip(tensors, names, strict=True)]
    return {
        layer.name: np.array([reading[number].used > 0 for reading in readings])
        for number, layer in enumerate(probe.layers)
    }


def _check_bound(planned: Planned, checked: Checked | None, bound: float) -> None:
    if checked is None:
        kind, ratio = "predicted", planned.all_on_ms / planned.dense_ms
    else:
        kind, ratio = "measured", checked.worst_case
    if ratio > bound:
        raise BudgetMissed(
            "gates-worst-case",
            f"with every kernel on the network takes {ratio:.3f} of the dense one's time, more than {bound:g}",
            context={"evidence": kind},
            note="the gates themselves are computed for every picture, and branches have a price of their own",
            hint=f"--max-worst-case {ratio * 1.02:.2f} allows it; `deploycc prune` makes gates constants instead",
        )


def _write(
    folder: Path,
    network: Detector,
    gated: GatedNetwork,
    networks: Networks,
    target: Target,
    options: Options,
    profile: UtilisationProfile,
    planned: Planned,
    checked: Checked | None,
    pictures: Pictures | None,
    settings: Settings,
) -> GateReport:
    from deploycc.detector.file import save
    from deploycc.documents.document import Evidence, this_tool
    from deploycc.documents.gate_plan import GatePlan
    from deploycc.documents.gates import GateReport
    from deploycc.files import sha256_of, write_text
    from deploycc.graph.cost import measure_cost
    from deploycc.passes import CHECK, FIT, LOWER, run
    from deploycc.report.gates import render_gates_html
    from deploycc.timing.machine import this_machine
    from deploycc.workflows.gate_records import added_bytes_of, considered_records, region_records, timings_record

    machine = this_machine(settings.threads).describe()
    layers = checked.layers if checked is not None else planned.layers()
    plan = GatePlan(
        tool=this_tool(),
        evidence=Evidence(kind="measured" if checked else "predicted", source=machine),
        source_sha256=network.source.sha256,
        random_weights=network.source.random_weights,
        network=network.name,
        target=target.name,
        layers=layers,
    )
    plan.write(folder / plan.FILE_NAME)
    lowered = run(network, replace(options, gate_plan=layers), LOWER + FIT + CHECK).detector
    save(lowered, folder / NETWORK_FILE)
    report = GateReport(
        tool=this_tool(),
        network=network.name,
        source_sha256=network.source.sha256,
        plan_sha256=sha256_of(folder / plan.FILE_NAME),
        profile_sha256=sha256_of(settings.profile),
        target=target.name,
        threads=settings.threads,
        network_macs=measure_cost(networks.dense).macs,
        scope_macs=profile.scope_macs,
        max_worst_case=settings.max_worst_case,
        max_growth=settings.max_growth,
        weight_bytes=4 * measure_cost(network.graph).params,
        added_bytes=added_bytes_of(planned, checked),
        predicted=Evidence(kind="predicted", source=f"from convolutions, branches and variants, timed on {machine}"),
        predicted_dense_ms=planned.dense_ms,
        predicted_expected_ms=planned.expected_ms,
        predicted_all_on_ms=planned.all_on_ms,
        considered=considered_records(planned),
        regions=region_records(planned, checked),
        timings=timings_record(gated, pictures, checked, machine) if pictures and checked else None,
    )
    report.write(folder / report.FILE_NAME)
    write_text(folder / "gates.html", render_gates_html(report))
    return report
