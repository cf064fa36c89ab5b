"""Compiling: from a detector and targets to output folders with networks, engines, figures and a report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from deploycc.errors import DeployError, InputError
from deploycc.progress import Say, prefixed, quiet
from deploycc.workflows.compile_outputs import Refused, check_outputs, output_folders, raise_refusals, trained_files
from deploycc.workflows.gate_plan_check import check_gate_plan

if TYPE_CHECKING:
    from deploycc.detector import Detector
    from deploycc.detector.picture_list import PictureList
    from deploycc.documents.compile import AccuracyRecord, CompileReport, VerificationRecord
    from deploycc.documents.gate_plan import GatePlan, LayerPlan
    from deploycc.documents.plan import Measurement, Variant
    from deploycc.documents.utilisation import UtilisationProfile
    from deploycc.evaluation.dataset import Dataset
    from deploycc.integration.contract_files import Expected
    from deploycc.passes.options import Detection, Precision, Prune
    from deploycc.target import Target
    from deploycc.workflows.networks import WrittenNetwork
    from deploycc.workflows.prune import Pruned
    from deploycc.workflows.report import Report
    from deploycc.workflows.verify import Verifier


@dataclass(frozen=True)
class CompileSettings:
    """How to compile.

    Attributes:
        precisions: to build; empty for all that a target does.
        detection: where decoding and suppression happen; None for the target's preferred place.
        keep_fp32: layers that stay FP32 in an FP16 network, by name.
        verify: read every network back and compare it with what it was compiled from; every engine that is built is
            then run on pictures, where that is possible.
        original: where the network is pruned or its gates become branches, also build and time it as it was.
        build: build the engines that can be built here, or on the device.
        measure: time the engines that can run here, or on the device.
        device: where they are built and timed, as `deploycc.agent_host.devices.find` takes it; None: here.
        max_performance: time them in the fastest power mode of a Jetson, with fixed clocks; what was before is back
            afterwards.
        quick: time for half a second: a smoke test, which is never valid.
        threads: CPU threads of the runtime; 0 for one per core.
        dump_to: folder for the network as ONNX text after every pass.
        command: the command line, for the report.
    """

    precisions: tuple[Precision, ...] = ()
    detection: Detection | None = None
    keep_fp32: tuple[str, ...] = ()
    verify: bool = True
    original: bool = True
    build: bool = True
    measure: bool = True
    device: str | None = None
    max_performance: bool = False
    quick: bool = False
    threads: int = 0
    dump_to: Path | None = None
    command: str | None = None


@dataclass(frozen=True, eq=False)
class _Job:
    """One compilation, whatever the target.

    Attributes:
        detector: what the pipeline starts from.
        prune: what its pruning passes are told.
        original: the network to compare with; None where there is no other.
        shown: the detector that the report describes.
        profile: that it was pruned by on the way, if any.
        verifier: compares what is written with what it was compiled from; None where nothing is compared.
    """

    detector: Detector
    prune: Prune | None
    original: Detector | None
    shown: Detector
    profile: UtilisationProfile | None = None
    verifier: Verifier | None = None


def compile(
    detector: Detector,
    targets: str | Target | Sequence[str | Target],
    output: str | Path,
    settings: CompileSettings | None = None,
    *,
    pruned: Pruned | Mapping[str, Pruned] | None = None,
    gate_plan: GatePlan | None = None,
    pictures: str | Path | PictureList | None = None,
    score: str | None = None,
    class_names: Sequence[str] = (),
    say: Say = quiet,
) -> list[Report]:
    """Compile for one or more targets.

    Args:
        detector: as `deploycc.load` reads it.
        targets: names, ``.toml`` files or loaded targets; several make one folder each inside ``output``.
        output: folder; what this tool wrote into it before is replaced, other files stay.
        settings: how to compile.
        pruned: what `deploycc.prune` made of this detector, for all targets or by target.
        gate_plan: what `deploycc.plan_gates` decided; for one target.
        pictures: FP16 is compared with FP32 on these (`deploycc.workflows.pictures.open_pictures`).
        score: annotated pictures, ``voc:FOLDER[@SPLIT]`` or ``generated:SEED[:COUNT]``.
        class_names: the model's class names in order, for ``score``, where the detector does not know them.
        say: progress.

    Returns:
        One report per target.

    Raises:
        DeployError: as `compile_targets`; why the one target was refused, or ``targets-refused`` where some of
            several were, once the others are compiled.
    """
    from deploycc import target as shipped
    from deploycc.evaluation.dataset import open_dataset
    from deploycc.workflows.pictures import open_pictures

    listed = [targets] if isinstance(targets, str | shipped.Target) else targets
    outcomes = compile_targets(
        detector,
        [shipped.load(target) if isinstance(target, str) else target for target in listed],
        Path(output),
        settings,
        pruned=pruned,
        gate_plan=gate_plan,
        pictures=None if pictures is None else open_pictures(pictures, detector.input),
        score=None if score is None else open_dataset(score, size=detector.input.height),
        class_names=class_names,
        say=say,
    )
    reports, refused = [], []
    for outcome in outcomes:
        if isinstance(outcome, Refused):
            refused.append(outcome)
        else:
            reports.append(outcome)
    raise_refusals(refused, len(listed))
    return reports


def compile_targets(
    detector: Detector,
    targets: Sequence[Target],
    output: Path,
    settings: CompileSettings | None = None,
    *,
    pruned: Pruned | Mapping[str, Pruned | Refused] | None = None,
    gate_plan: GatePlan | None = None,
    pictures: PictureList | None = None,
    score: Dataset | None = None,
    class_names: Sequence[str] = (),
    inputs: Sequence[Path] = (),
    say: Say = quiet,
) -> Iterator[Report | Refused]:
    """Compile for one target after the other; yields each report when its folder is whole.

    A target that is refused does not keep the later ones from being compiled.

    Args:
        detector: as imported.
        targets: several make one folder each inside ``output``.
        output: folder; what this tool wrote into it before is replaced, other files stay.
        settings: how to compile.
        pruned: what `deploycc.prune` made of this detector, for all targets or by target: the pipeline prunes the same.
            A target whose goal could not be met is refused (`deploycc.workflows.target_pruning.prune_for_targets`).
        gate_plan: how gates are carried out; for one target.
        pictures: FP16 is compared with FP32 on these.
        score: annotated pictures on which the network is scored, and the original one too.
        class_names: the model's class names in order, for ``score``, where the detector does not know them.
        inputs: other files that were read, which stay where they are in an output folder.
        say: progress.

    Raises:
        InputError, ArtefactError: something does not fit, or an output folder cannot be written; nothing is compiled.
        PictureError: a picture cannot be read.
    """
    from deploycc.workflows.devices import choose_device

    settings = settings or CompileSettings()
    check_outputs(detector, targets, output)
    if gate_plan is not None and pruned is not None:
        raise InputError(
            "gate-plan-and-pruning",
            "a gate plan is for a network as it is, not for one that is still to be pruned",
            hint="`deploycc prune` first, `deploycc gates` on what it writes, then compile that with `gate_plan`",
        )
    for target in targets:
        choose_device(settings.device, target.name)
    for target in targets:
        check_gate_plan(gate_plan, detector, target)
    verifier = None
    if settings.verify:
        from deploycc.workflows.verify import Verifier

        verifier = Verifier()
    prunings = [pruned.get(target.name) if isinstance(pruned, Mapping) else pruned for target in targets]
    jobs: dict[Pruned | None, _Job] = {}
    accuracies: dict[Pruned | None, tuple[AccuracyRecord, ...]] = {}
    scored: tuple[AccuracyRecord, ...] = ()
    for pruning in dict.fromkeys(prunings):
        if isinstance(pruning, Refused):
            continue
        job = replace(_job(detector, pruning, settings, changed=gate_plan is not None), verifier=verifier)
        jobs[pruning] = job
        if verifier is not None and pruning is not None and pruning.changes_weights:
            verifier.compare_with_itself(job.detector)
        if score is not None:
            scored = _score(job, gate_plan, score, class_names, scored, say)
        accuracies[pruning] = scored
    inputs = (*inputs, *trained_files(detector))
    for target, folder, pruning in zip(targets, output_folders(targets, output), prunings, strict=True):
        if isinstance(pruning, Refused):
            yield pruning
            continue
        named, job, accuracy = prefixed(say, target.name), jobs[pruning], accuracies[pruning]
        try:
            yield _compile_one(job, target, folder, settings, gate_plan, pictures, accuracy, inputs, named)
        except DeployError as error:
            yield Refused(target.name, error)


def _job(detector: Detector, pruned: Pruned | None, settings: CompileSettings, *, changed: bool) -> _Job:
    from deploycc.workflows.load import find_original

    if pruned is None:
        original = (find_original(detector) or detector) if detector.prunings or changed else None
        if original is detector and not changed:
            original = None  # the pruned network alone: its original is gone
        return _Job(detector, None, original if settings.original else None, detector)
    named = replace(detector, prunings=pruned.detector.prunings)
    original = detector if settings.original else None
    if pruned.changes_weights:  # the pipeline does not
        return _Job(pruned.detector, None, original, named, pruned.profile)
    return _Job(named, pruned.decision.prune, original, named, pruned.profile)


def _score(
    job: _Job,
    gate_plan: GatePlan | None,
    dataset: Dataset,
    class_names: Sequence[str],
    before: tuple[AccuracyRecord, ...],
    say: Say,
) -> tuple[AccuracyRecord, ...]:
    """Score the compiled network and the original one, unless it was scored ``before``, in FP32 on this machine."""
    from deploycc.passes import PIPELINE, run
    from deploycc.workflows.prune import cpu_options
    from deploycc.workflows.scoring import score_variants

    plan = () if gate_plan is None else gate_plan.layers
    options = replace(cpu_options(), prune=job.prune, gate_plan=plan)
    networks: dict[Variant, Detector] = {"compiled": run(job.detector, options, PIPELINE).detector}
    known = tuple(record for record in before if record.variant == "original" and job.original is not None)
    if job.original is not None and not known:
        networks["original"] = run(job.original, cpu_options(), PIPELINE).detector
    return (*score_variants(networks, dataset, class_names, say), *known)


def _compile_one(
    job: _Job,
    target: Target,
    output: Path,
    settings: CompileSettings,
    gate_plan: GatePlan | None,
    pictures: PictureList | None,
    accuracy: tuple[AccuracyRecord, ...],
    inputs: Sequence[Path],
    say: Say,
) -> Report:
    from deploycc.workflows.contract import write_folder_contract
    from deploycc.workflows.devices import build_and_measure, is_remote
    from deploycc.workflows.networks import write_plan_and_agent
    from deploycc.workflows.output_folder import render_folder, write_report
    from deploycc.workflows.report import read_report
    from deploycc.workflows.staging import staged_folder
    from deploycc.workflows.verify import verify_networks

    plan = () if gate_plan is None else gate_plan.layers
    kept: list[str] = []
    with staged_folder(output, inputs, kept.append) as folder:
        networks = _networks(job, target, folder, settings, plan, say)
        started = [(_start(job, network), network) for network in networks]
        verified = verify_networks(started, folder, job.verifier, say) if job.verifier is not None else ()
        written = [each.network for each in networks]
        build_plan = write_plan_and_agent(folder, target, written, job.detector, _measurement(settings))
        write_folder_contract(folder, build_plan, networks, job.shown, _expected(settings, networks, pictures, say))
        if job.profile is not None:
            job.profile.write(folder / job.profile.FILE_NAME)
        if gate_plan is not None:
            gate_plan.write(folder / gate_plan.FILE_NAME)
        write_report(folder, _report(job, target, networks, verified, settings, pictures, accuracy, say))
        if settings.build and not is_remote(settings.device):
            build_and_measure(folder, None, settings.measure, say, settings.max_performance)
        say("writing the report")
        render_folder(folder)
    if settings.build and is_remote(settings.device):  # the folder is whole: whoever attaches later finds it
        build_and_measure(output, settings.device, settings.measure, say, settings.max_performance)
    return replace(read_report(output), kept=tuple(kept))


def _expected(
    settings: CompileSettings, networks: list[WrittenNetwork], pictures: PictureList | None, say: Say
) -> dict[str, Expected]:
    """What engines must find in a few pictures; nothing where networks are not verified."""
    from deploycc.workflows.smoke import expected_of, smoke_pictures

    if not settings.verify:
        return {}
    return expected_of(networks, smoke_pictures(networks[0].compiled.detector.input, pictures), say)


def _networks(
    job: _Job,
    target: Target,
    folder: Path,
    settings: CompileSettings,
    plan: tuple[LayerPlan, ...],
    say: Say,
) -> list[WrittenNetwork]:
    from deploycc.workflows.networks import run_passes, write_network

    written = []
    for precision in settings.precisions or target.precisions:
        keep_fp32 = settings.keep_fp32 if precision == "fp16" else ()
        compiled = run_passes(
            job.detector,
            target,
            precision,
            detection=settings.detection,
            keep_fp32=keep_fp32,
            prune=job.prune,
            gate_plan=plan,
            dump_to=settings.dump_to,
            say=say,
        )
        say(f"{precision} writing the network")
        written.append(write_network(compiled, target, folder, "compiled"))
        if job.original is not None:
            compiled = run_passes(
                job.original,
                target,
                precision,
                detection=settings.detection,
                keep_fp32=keep_fp32,
                say=prefixed(say, "original network"),
            )
            written.append(write_network(compiled, target, folder, "original"))
    return written


def _start(job: _Job, written: WrittenNetwork) -> Detector:
    """Return the detector that the pipeline of a network started from."""
    return job.original if written.network.variant == "original" and job.original is not None else job.detector


def _measurement(settings: CompileSettings) -> Measurement:
    from deploycc.documents.plan import QUICK, Measurement
    from deploycc.timing.machine import usable_cores

    threads = settings.threads or usable_cores()
    return QUICK.model_copy(update={"threads": threads}) if settings.quick else Measurement(threads=threads)


def _report(
    job: _Job,
    target: Target,
    networks: Sequence[WrittenNetwork],
    verified: tuple[VerificationRecord, ...],
    settings: CompileSettings,
    pictures: PictureList | None,
    accuracy: tuple[AccuracyRecord, ...],
    say: Say,
) -> CompileReport:
    from deploycc.documents.compile import CompileReport
    from deploycc.documents.document import this_tool
    from deploycc.workflows.precision import compare
    from deploycc.workflows.predict import predicted_latencies
    from deploycc.workflows.records import detector_record, source_record, target_record

    comparison = None
    if pictures is not None and any(network.network.precision == "fp16" for network in networks):
        comparison = compare(job.detector, target, pictures, settings.keep_fp32, job.prune, say)
    return CompileReport(
        tool=this_tool(),
        command=settings.command,
        source=source_record(job.shown),
        detector=detector_record(job.shown),
        target=target_record(target),
        prunings=job.shown.prunings,
        accuracy=accuracy,
        networks=tuple(network.record for network in networks),
        verified=verified,
        predictions=predicted_latencies(networks, target),
        comparison=comparison,
    )
