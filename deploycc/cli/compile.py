"""``deploycc compile MODEL --target T -o DIR``: import, passes, plan, build, measure, report, in a row."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deploycc.cli.model_options import ModelChoice, warn_if_assumed
from deploycc.cli.options import option, switch, takes_options
from deploycc.cli.pruning_options import PruningChoice
from deploycc.cli.shared_options import ClassNames, Device, Jobs, MaxPerformance, Precisions, comma_list, target_option
from deploycc.terminal import console

if TYPE_CHECKING:
    from deploycc.workflows.compile_outputs import Refused
    from deploycc.workflows.report import Report


@takes_options
def command(
    *,
    output: Annotated[Path, option("DIR", "Folder for everything that is made.", "--output", "-o")],
    target: Annotated[
        list[str] | None,
        target_option(
            "Target name or .toml file; repeat it for several, each in a folder of its own inside DIR. Default: "
            "that of --device."
        ),
    ] = None,
    device: Device = None,
    data: Annotated[
        str | None,
        option(
            "DATA",
            "Prune by what kernels do on these pictures, by their use or as --by says: a folder, voc:FOLDER[@SPLIT] "
            "or generated:SEED[:COUNT].",
            "--data",
            "-d",
        ),
    ] = None,
    recover: Annotated[
        str | None,
        option(
            "DATA",
            "After pruning, refit and train what is left on the original's outputs for these pictures: a folder, or a "
            "data set as --data takes it, whose labels join the loss (needs the extra train).",
        ),
    ] = None,
    recover_steps: Annotated[int, option("N", "Training steps of --recover.", min=1)] = 4000,
    recover_label_weight: Annotated[
        float, option("W", "Weight of the labels of --recover beside the original; 0: learn without labels.", min=0)
    ] = 1.0,
    score: Annotated[
        str | None,
        option("DATA", "Measure accuracy on annotated pictures: voc:FOLDER[@SPLIT] or generated:SEED[:COUNT]."),
    ] = None,
    names: ClassNames = None,
    gate_plan: Annotated[
        Path | None, option("FILE", "Plan from `deploycc gates` that says how gates are lowered.")
    ] = None,
    precision: Precisions = None,
    detection: Annotated[
        str | None,
        option("raw|onnx-nms|efficient-nms|nms-plugin", "Where boxes are decoded and suppressed; default: the best."),
    ] = None,
    keep_fp32: Annotated[str | None, option("LAYERS", "Names of layers that stay FP32 in the FP16 network.")] = None,
    images: Annotated[Path | None, option("DIR", "Compare FP16 with FP32 on the pictures of this folder.")] = None,
    verify: Annotated[
        bool, typer.Option(help="Run what was compiled beside the imported file on seeded pictures, and compare.")
    ] = True,
    original: Annotated[
        bool, typer.Option(help="Also build and time the network as it was before pruning or gate planning.")
    ] = True,
    build: Annotated[bool, typer.Option(help="Build the engines that can be built here.")] = True,
    measure: Annotated[bool, typer.Option(help="Time the engines that can run here.")] = True,
    max_performance: MaxPerformance = False,
    quick: Annotated[bool, switch("--quick", "Measure for half a second only; the result is not valid.")] = False,
    threads: Annotated[int, option("N", "CPU threads of the runtime; 0: all cores.", min=0)] = 0,
    jobs: Jobs = 1,
    dump_each: Annotated[Path | None, option("DIR", "Write the network as ONNX text after every pass.")] = None,
    as_json: Annotated[bool, switch("--json", "Print JSON instead of folder names.")] = False,
    choice: ModelChoice,
    pruning: PruningChoice,
) -> None:
    """Compile a trained SSD detector for one or more targets.

    With --data, --profile, --mask or --by it is pruned on the way.
    """
    from deploycc import target as targets
    from deploycc.documents.document import read_document
    from deploycc.documents.gate_plan import GatePlan
    from deploycc.evaluation.dataset import open_dataset
    from deploycc.files import check_writable, path_text
    from deploycc.timing.machine import check_threads
    from deploycc.workflows.compile import compile_targets
    from deploycc.workflows.compile_outputs import Refused, check_outputs, outcome_json, raise_refusals
    from deploycc.workflows.compile_settings import CompileSettings
    from deploycc.workflows.device_timer import timer_on
    from deploycc.workflows.devices import target_of
    from deploycc.workflows.output_folder import summarise_folder
    from deploycc.workflows.pictures import open_pictures
    from deploycc.workflows.processes import local_processes
    from deploycc.workflows.prune_on_the_way import Recovering, check_on_the_way, prune_on_the_way

    if build:
        check_threads(threads)
    check_on_the_way(pruning.profile, data, recover, pruned=pruning != PruningChoice())
    settings = CompileSettings(
        precisions=comma_list(precision),  # type: ignore[arg-type]
        detection=detection,  # type: ignore[arg-type]
        keep_fp32=comma_list(keep_fp32),
        verify=verify,
        original=original,
        build=build,
        measure=measure,
        device=device,
        max_performance=max_performance,
        quick=quick,
        threads=threads,
        dump_to=dump_each,
        command=path_text(shlex.join(["deploycc", *sys.argv[1:]])),
    )
    chosen = [targets.load(name) for name in target or [target_of(device)]]  # all of them before the first long step
    plan = None if gate_plan is None else read_document(gate_plan, GatePlan)
    for one in chosen:
        if (images or keep_fp32) and "fp16" not in (settings.precisions or one.precisions):
            console.warn(f"{one.name}: --images and --keep-fp32 concern FP16, which is not compiled here")
    check_outputs(None, chosen, output)
    check_writable(pruning.costs, inputs=[choice.model, choice.weights])
    with console.progress("compile") as say, local_processes(jobs) as executor:
        detector = choice.load(say)
        console.notes(detector.notes)
        pruned = None
        if pruning != PruningChoice() or data is not None:
            with timer_on(device if pruning.budget else None, chosen[0], threads, say) as timer:
                prunings = pruning.for_targets(chosen, timer)
                if data is not None or recover is not None:
                    warn_if_assumed(detector.input, "what is pruned")
                profile, mask = pruning.read_inputs()
                pruned, notes = prune_on_the_way(
                    detector,
                    prunings,
                    profile=profile,
                    mask=mask,
                    data=data,
                    recovering=Recovering(recover, recover_steps, recover_label_weight, comma_list(names), threads),
                    cost_file=pruning.costs,
                    say=say,
                )
            console.notes(notes)
        outcomes: list[Report | Refused] = []
        for outcome in compile_targets(
            detector,
            chosen,
            output,
            settings,
            pruned=pruned,
            gate_plan=plan,
            pictures=None if images is None else open_pictures(images, detector.input),
            score=None if score is None else open_dataset(score, size=detector.input.height),
            class_names=comma_list(names),
            inputs=tuple(filter(None, (pruning.profile, pruning.mask, gate_plan))),
            executor=executor,
            say=say,
        ):
            outcomes.append(outcome)
            if isinstance(outcome, Refused):
                if len(chosen) > 1:
                    console.warn(f"{outcome.target} is refused")
                    console.fail(outcome.error)
                continue
            for sentence in outcome.kept:
                console.warn(sentence)
            if outcome.board:
                console.note(f"{outcome.folder}: done on {outcome.board}")
            if not as_json:
                console.say(f"{outcome.target}: {detector.name}", summarise_folder(outcome.folder))
            console.wrote(outcome.folder, answer=not as_json)
    refused = [outcome for outcome in outcomes if isinstance(outcome, Refused)]
    if as_json and len(refused) < len(chosen):
        console.print_json([outcome_json(outcome) for outcome in outcomes])
    raise_refusals(refused, len(chosen))
