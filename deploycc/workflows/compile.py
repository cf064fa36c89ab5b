"""Compiling: from a detector and targets to output folders with networks, engines, figures and a report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from deploycc.errors import DeployError, InputError
from deploycc.progress import Say, prefixed, quiet
from deploycc.workflows.compile_outputs import Refused, check_outputs, output_folders, raise_refusals, trained_files
from deploycc.workflows.compile_settings import CompileSettings
from deploycc.workflows.gate_plan_check import check_gate_plan

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from deploycc.agent_host.remote import RemoteSession
    from deploycc.detector import Detector
    from deploycc.detector.picture_list import PictureList
    from deploycc.documents.compile import AccuracyRecord
    from deploycc.documents.gate_plan import GatePlan
    from deploycc.documents.plan import Variant
    from deploycc.evaluation.dataset import Dataset
    from deploycc.target import Target
    from deploycc.workflows.compile_networks import Compilation, Start
    from deploycc.workflows.compile_workers import Write
    from deploycc.workflows.prune import Pruned
    from deploycc.workflows.report import Report


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
    executor: Executor | None = None,
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
        executor: of ``concurrent.futures``, whose workers make the networks of several targets at once, such as a
            ``ProcessPoolExecutor``, or ``get_executor()`` of a Dask client (extra ``farm``); they read the detector's
            files and the pictures under the same paths. Engines are built and timed one after the other, once all
            networks are made. None: this process makes them. What is made is the same.
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
        executor=executor,
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
    executor: Executor | None = None,
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
        executor: as for `compile`.
        say: progress.

    Raises:
        InputError, ArtefactError: something does not fit, or an output folder cannot be written; nothing is compiled.
        PictureError: a picture cannot be read.
    """
    from deploycc.timing.machine import usable_cores
    from deploycc.workflows.compile_networks import Compilation
    from deploycc.workflows.compile_workers import written_by_workers
    from deploycc.workflows.devices import choose_device, is_remote

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
    settings = replace(settings, threads=settings.threads or usable_cores())
    verifier = None
    if settings.verify:
        from deploycc.workflows.verify import Verifier

        verifier = Verifier()
    prunings = [pruned.get(target.name) if isinstance(pruned, Mapping) else pruned for target in targets]
    starts: dict[Pruned | None, Start] = {}
    accuracies: dict[Pruned | None, tuple[AccuracyRecord, ...]] = {}
    scored: tuple[AccuracyRecord, ...] = ()
    if score is not None and len(set(prunings)) > 1:
        from deploycc.evaluation.dataset import remembered

        score = remembered(score)  # each pruned network is scored on the same pictures
    for pruning in dict.fromkeys(prunings):
        if isinstance(pruning, Refused):
            continue
        start = starts[pruning] = _start(detector, pruning, settings, changed=gate_plan is not None)
        if verifier is not None and start.own_weights:
            verifier.compare_with_itself(start.detector)
        if score is not None:
            scored = _score(start, gate_plan, score, class_names, scored, say)
        accuracies[pruning] = scored
    compilations = [
        Compilation(starts[pruning], target, settings, gate_plan, pictures, accuracies[pruning])
        for target, pruning in zip(targets, prunings, strict=True)
        if not isinstance(pruning, Refused)
    ]
    inputs = (*inputs, *trained_files(detector))
    with ExitStack() as stack:
        writers: list[Write]
        if executor is None:
            writers = [partial(compilation.write, verifier=verifier) for compilation in compilations]
        else:
            writers = stack.enter_context(written_by_workers(compilations, executor, say))
        ready = iter(zip(compilations, writers, strict=True))
        written: list[Report | Refused] = []
        on_boards = settings.build and is_remote(settings.device)
        for target, folder, pruning in zip(targets, output_folders(targets, output), prunings, strict=True):
            outcome: Report | Refused
            if isinstance(pruning, Refused):
                outcome = pruning
            else:
                try:
                    outcome = _compile_one(*next(ready), folder, inputs, prefixed(say, target.name))
                except DeployError as error:
                    outcome = Refused(target.name, error)
            if on_boards:  # the folder is whole: whoever attaches later finds it
                written.append(outcome)
            else:
                yield outcome
    if on_boards:
        yield from _built_on_boards(written, settings, say)


def _start(detector: Detector, pruned: Pruned | None, settings: CompileSettings, *, changed: bool) -> Start:
    from deploycc.workflows.compile_networks import Start
    from deploycc.workflows.load import find_original

    if pruned is None:
        original = (find_original(detector) or detector) if detector.prunings or changed else None
        if original is detector and not changed:
            original = None  # the pruned network alone: its original is gone
        return Start(detector, None, original if settings.original else None, detector)
    named = replace(detector, prunings=pruned.detector.prunings)
    original = detector if settings.original else None
    if pruned.changes_weights:  # the pipeline does not
        return Start(pruned.detector, None, original, named, pruned.profile, own_weights=True)
    return Start(named, pruned.decision.prune, original, named, pruned.profile)


def _score(
    start: Start,
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
    options = replace(cpu_options(), prune=start.prune, gate_plan=plan)
    networks: dict[Variant, Detector] = {"compiled": run(start.detector, options, PIPELINE).detector}
    known = tuple(record for record in before if record.variant == "original" and start.original is not None)
    if start.original is not None and not known:
        networks["original"] = run(start.original, cpu_options(), PIPELINE).detector
    return (*score_variants(networks, dataset, class_names, say), *known)


def _compile_one(compilation: Compilation, write: Write, output: Path, inputs: Sequence[Path], say: Say) -> Report:
    from deploycc.workflows.devices import build_and_measure, is_remote
    from deploycc.workflows.output_folder import render_folder
    from deploycc.workflows.report import read_report
    from deploycc.workflows.staging import staged_folder

    settings = compilation.settings
    kept: list[str] = []
    with staged_folder(output, inputs, kept.append) as folder:
        write(folder, say=say)
        if settings.build and not is_remote(settings.device):
            build_and_measure(folder, None, settings.measure, say, settings.max_performance)
        say("writing the report")
        render_folder(folder)
    return replace(read_report(output), kept=tuple(kept))


def _built_on_boards(
    written: Sequence[Report | Refused], settings: CompileSettings, say: Say
) -> Iterator[Report | Refused]:
    """Build and time what was written on the boards of ``settings.device``, as many at once as there are."""
    from deploycc.agent_host.devices import find
    from deploycc.workflows.board_pool import BoardJob, run_on_boards
    from deploycc.workflows.devices import build_and_measure_there, build_steps
    from deploycc.workflows.report import read_report

    def work(session: RemoteSession, say: Say) -> str:
        build_and_measure_there(session.folder, session, settings.measure, say, settings.max_performance)
        return session.device.name

    steps = tuple(build_steps(settings.measure, settings.max_performance))
    reports = [outcome for outcome in written if not isinstance(outcome, Refused)]
    jobs = [BoardJob(report.target, (report.folder,), steps, work) for report in reports]
    device = settings.device or ""
    results: list[str | DeployError] = run_on_boards(device, jobs, say)
    ends = iter(results)
    is_pool = len(find(device)) > 1
    for outcome in written:
        if isinstance(outcome, Refused):
            yield outcome
        elif isinstance(end := next(ends), DeployError):
            yield Refused(outcome.target, end)
        else:
            yield replace(read_report(outcome.folder), kept=outcome.kept, board=end if is_pool else None)
