"""Predicting: how long a detector takes on boards that are not here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from deploycc.errors import DeployError, InputError, TargetError
from deploycc.progress import Say, prefixed, quiet

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs

    from deploycc.detector import Detector
    from deploycc.documents.compile import PredictedLatency
    from deploycc.documents.prediction import Interval, PredictionReport, TargetPrediction
    from deploycc.documents.utilisation import UtilisationProfile
    from deploycc.passes.options import Precision
    from deploycc.prediction.stacks import Basis
    from deploycc.target import Target
    from deploycc.workflows.networks import WrittenNetwork

_COMPOSED = (
    "composed: the sum of networks in a row, each second one by the share of the pictures that need it; what the host "
    "takes to read the decision is an assumption"
)
Kept = Mapping[str, Sequence[int]]
"""Gated convolution to the number of its kernels that are on, per picture."""


def predict(
    model: Detector | str | Path,
    targets: str | Target | Sequence[str | Target],
    *,
    precisions: Sequence[Precision] = (),
    profile: UtilisationProfile | None = None,
    active: float | None = None,
    runtime: str | None = None,
    say: Say = quiet,
) -> PredictionReport:
    """Predict the latency of a detector on one or more targets, without running it.

    Args:
        model: a detector, or what `deploycc.load` reads; a Caffe definition needs no weights.
        targets: names, ``.toml`` files or loaded targets.
        precisions: of the engines; empty for all that a target builds.
        profile: of this network: gated convolutions are also predicted with the kernels that its pictures use.
        active: share of the kernels that gates leave on, instead of a profile.
        runtime: ``caffe`` for the framework with cuDNN instead of the target's own runtime.
        say: progress.

    Returns:
        One prediction per target and precision; a target among several that cannot be predicted is named as refused.

    Raises:
        TargetError: ``prediction-none``, ``prediction-facts``: no target can be predicted; the target does not build
            this precision.
        ModelError: the network cannot be read, or the parser of the only target refuses it.
        InputError, ArtefactError: the profile, ``active`` or ``runtime`` does not fit.
    """
    from deploycc import target as shipped
    from deploycc.documents.document import this_tool
    from deploycc.documents.prediction import PredictionReport, RefusedTarget
    from deploycc.workflows.load import is_untrained, load
    from deploycc.workflows.records import source_record

    if runtime not in (None, "caffe"):
        message = f"{runtime} is not a runtime that can be predicted"
        raise InputError("prediction-runtime", message, hint="`runtime=caffe`, or leave it out")
    if isinstance(model, str | Path):
        detector = load(model, random_weights=0 if is_untrained(model) else None)
    else:
        detector = model
    listed = [targets] if isinstance(targets, str | shipped.Target) else targets
    chosen = [shipped.load(each) if isinstance(each, str) else each for each in listed]
    kept, how = _active_kernels(detector, profile, active)
    predictions: list[TargetPrediction] = []
    refused: list[RefusedTarget] = []
    for target in chosen:
        try:
            predictions += _predict_target(detector, target, precisions, kept, how, runtime, prefixed(say, target.name))
        except DeployError as error:
            if len(chosen) == 1:
                raise
            refused.append(RefusedTarget(target=target.name, code=error.code, reason=error.message))
    if not predictions:
        raise TargetError(
            "prediction-none",
            "none of the targets can be predicted",
            context={each.target: each.reason for each in refused},
            hint="`deploycc compile` measures where the engine runs",
        )
    return PredictionReport(
        tool=this_tool(),
        source=source_record(detector),
        predictions=tuple(predictions),
        refused=tuple(refused),
    )


def predicted_latencies(networks: Sequence[WrittenNetwork], target: Target) -> tuple[PredictedLatency, ...]:
    """Predict compiled networks; nothing where the target has no constants of prediction."""
    from deploycc.documents.compile import PredictedLatency
    from deploycc.prediction.stacks import basis_for

    found = []
    for written in networks:
        precision, variant = written.network.precision, written.network.variant
        try:
            basis = basis_for(target, precision)
        except TargetError:
            continue
        row = written.row
        graphs = [written.compiled.detector.graph] if row is None else [part.graph for part in row.parts]
        parts = [_prediction(graph, target, precision, basis) for graph in graphs]
        times, remarks = [part.time for part in parts], parts[0].remarks
        time = times[0]
        if row is not None:
            time = _in_a_row(times, row.shares, basis.model.branch_us * 1e-3)
            remarks = (*remarks, _COMPOSED)
        found.append(
            PredictedLatency(
                variant=variant,
                precision=precision,
                evidence=parts[0].evidence,
                ms=time.ms,
                low_ms=time.low_ms,
                high_ms=time.high_ms,
                remarks=remarks,
            )
        )
    return tuple(found)


def _in_a_row(times: Sequence[Interval], shares: Sequence[float], reading_ms: float) -> Interval:
    """Return the sum of the first network's time, the second ones' by their shares, and the reading of the decision.

    Where shares are not known, the slowest second network counts. Errors of one board's constants go the same way for
    all networks, so that the ends of intervals are added too.
    """
    from deploycc.documents.prediction import Interval

    first, *second = times
    weights = shares or [float(each is max(second, key=lambda time: time.ms)) for each in second]

    def total(end: Callable[[Interval], float]) -> float:
        return end(first) + reading_ms + sum(weight * end(each) for weight, each in zip(weights, second, strict=True))

    return Interval(
        ms=total(lambda time: time.ms), low_ms=total(lambda time: time.low_ms), high_ms=total(lambda time: time.high_ms)
    )


def _predict_target(
    detector: Detector,
    target: Target,
    precisions: Sequence[Precision],
    kept: Kept,
    how: str,
    runtime: str | None,
    say: Say,
) -> list[TargetPrediction]:
    from deploycc.graph.shapes import infer_shapes
    from deploycc.prediction.stacks import basis_for
    from deploycc.target import capabilities
    from deploycc.workflows.networks import run_passes

    wanted: Sequence[Precision] = precisions or target.precisions
    if runtime is not None and not precisions:
        wanted = ("fp32",)
    bases = {precision: basis_for(target, precision, runtime) for precision in wanted}
    graphs: dict[str, gs.Graph] = {}
    predictions = []
    for precision, basis in bases.items():
        typed = precision if capabilities(target).fp16 == "typed" else "any"
        if runtime is not None:
            graph = detector.graph.copy()
            infer_shapes(graph)
            graphs[typed] = graph
        elif typed not in graphs or precision not in target.precisions:
            graphs[typed] = run_passes(detector, target, precision, say=say).detector.graph
        prediction = _prediction(graphs[typed], target, precision, basis)
        if how:
            skipping, text = _skipping(graphs[typed], target, precision, basis, kept, how)
            prediction = prediction.model_copy(update={"skipping": skipping, "gates": text})
        predictions.append(prediction)
    return predictions


def _prediction(graph: gs.Graph, target: Target, precision: Precision, basis: Basis) -> TargetPrediction:
    from deploycc.documents.document import Evidence
    from deploycc.documents.prediction import TargetPrediction
    from deploycc.graph.cost import measure_cost
    from deploycc.prediction.launches import count_branches
    from deploycc.prediction.network import interval, predict_network
    from deploycc.workflows.records import target_record

    found = predict_network(graph, basis, precision)
    branches = count_branches(graph)
    branch_ms = branches * basis.model.branch_us * 1e-3
    plugins = sum(launch.kind == "plugin" for launch in found.launches)
    remarks = [*basis.remarks]
    if plugins:
        remarks.append(f"operators that no measurement holds, such as plugins ({plugins} here), count too little")
    if branches:
        remarks.append("the cost of a branch is an assumption")
    return TargetPrediction(
        target=target_record(target),
        precision=precision,
        evidence=Evidence(kind="predicted", source=f"{basis.stack.title}, fitted to {basis.stack.source}"),
        timed=basis.stack.timed,
        remarks=tuple(remarks),
        time=interval(basis, found.time.ms + branch_ms),
        network_ms=found.network_ms,
        nodes=measure_cost(graph).nodes,
        macs=found.macs,
        wasted_macs=found.wasted_macs,
        branches=branches,
        branch_ms=branch_ms,
        launches=found.launches,
    )


def _active_kernels(
    detector: Detector, profile: UtilisationProfile | None, active: float | None
) -> tuple[dict[str, list[int]], str]:
    """Return how many kernels of each gated convolution are on, per picture, and where that comes from."""
    from deploycc.documents.utilisation import gate_vectors
    from deploycc.graph.gates.search import find_gates
    from deploycc.utilisation.compatibility import check_profile, kernels_of

    if active is not None and profile is not None:
        raise InputError("active-and-profile", "the active kernels come either from a profile or from a share")
    if active is not None and not 0 <= active <= 1:
        raise InputError("active-share", f"{active:g} is not a share from 0 to 1")
    gates = find_gates(detector.graph, detector.gates)
    if profile is None and active is None:
        return {}, ""
    if not gates:
        raise InputError(
            "predict-no-gates",
            "the network has no gates: every kernel is on in every picture",
            context={"network": detector.name},
            hint="omit `active` and `profile`",
        )
    if active is not None:
        return {gate.layer: [round(active * gate.kernels)] for gate in gates}, f"{active:.0%} of the kernels on"
    assert profile is not None
    source = detector.source
    check_profile(profile, source.sha256, source.random_weights, kernels_of(detector.graph))
    count = profile.pictures.count
    kept = {
        layer.name: gate_vectors(layer, count).sum(axis=1).astype(int).tolist()
        for layer in profile.layers
        if layer.gate is not None
    }
    return kept, f"gate vectors of {count} pictures of {profile.pictures.source}"


def _skipping(
    graph: gs.Graph, target: Target, precision: Precision, basis: Basis, kept: Kept, how: str
) -> tuple[Interval, str]:
    from deploycc.passes.for_target import options_for
    from deploycc.prediction.network import gated_ms, interval

    refusal = options_for(target, precision=target.precisions[0]).no_conditional
    branch_us = 0.0 if refusal else basis.model.branch_us
    ms = gated_ms(graph, basis, precision, kept, branch_us)
    if refusal:
        limit = f"a bound that only engines chosen by the host could reach: {refusal}"
    else:
        limit = f"with one decision of {branch_us:g} us per gated convolution (an assumption)"
    return interval(basis, ms), f"{how}; {limit}"


def write_prediction(report: PredictionReport, folder: Path) -> None:
    """Write ``prediction.json`` and its page; a folder that this tool wrote before is replaced."""
    from deploycc.files import write_text
    from deploycc.report.prediction import render_prediction_html
    from deploycc.workflows.staging import staged_folder

    with staged_folder(folder) as staged:
        report.write(staged / report.FILE_NAME)
        write_text(staged / "prediction.html", render_prediction_html(report))
