"""``deploycc train recover PRUNED --teacher MODEL --images DIR``: a pruned network learns from its original."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deploycc.cli.model_options import one_source, warn_if_assumed
from deploycc.terminal import console

if TYPE_CHECKING:
    from deploycc.workflows.recover import Recovery


def command(
    pruned: Annotated[str, typer.Argument(metavar="PRUNED", help="Pruned network (.onnx) that `prune` wrote.")],
    teacher: Annotated[str, typer.Option(metavar="MODEL", help="Trained network that it was pruned from.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="ONNX file to write.")],
    weights: Annotated[
        Path | None, typer.Option("--teacher-weights", metavar="FILE", help="Caffe weights of the teacher.")
    ] = None,
    images: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder of pictures; they need no labels.")] = None,
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            "-d",
            metavar="DATA",
            help="Pictures instead of --images: voc:FOLDER[@SPLIT] or generated:SEED[:COUNT]; labels are not used.",
        ),
    ] = None,
    stages: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=0,
            help="Prune PRUNED (it may be MODEL itself) in this number of cuts by l1, and recover after each.",
        ),
    ] = 0,
    below: Annotated[
        float,
        typer.Option(metavar="SHARE", min=0.001, max=0.95, help="Share of each layer's kernels that --stages remove."),
    ] = 0.2,
    steps: Annotated[int, typer.Option(metavar="N", min=1, help="Number of training steps.")] = 4000,
    minutes: Annotated[
        float | None, typer.Option(metavar="M", min=0.01, help="End after this time, if the steps take longer.")
    ] = None,
    batch: Annotated[int, typer.Option(metavar="N", min=1, help="Pictures per step.")] = 8,
    rate: Annotated[
        float, typer.Option("--lr", metavar="RATE", min=0, help="Peak learning rate, relative to each layer's weights.")
    ] = 0.003,
    check_every: Annotated[
        int, typer.Option(metavar="N", min=1, help="Steps between two checks and checkpoints.")
    ] = 250,
    seed: Annotated[int, typer.Option(metavar="SEED", min=0, help="Seed of order and augmentation.")] = 1,
    bfloat16: Annotated[
        bool, typer.Option("--bfloat16/--float32", help="Compute in 16 bits; weights keep 32.")
    ] = False,
    memory: Annotated[
        int, typer.Option(metavar="MIB", min=0, help="Memory for the teacher's answers, which come again.")
    ] = 2048,
    threads: Annotated[int, typer.Option(metavar="N", min=1, max=1024, help="CPU threads.")] = 1,
) -> None:
    """Train a pruned network on the outputs of its original.

    No labels are needed. The checkpoint lies beside the output, and the same command goes on from it. Several processes
    share each step: `torchrun --nproc-per-node 2 -m deploycc train recover ...`.
    """
    from deploycc.files import check_writable, write_text
    from deploycc.workflows.load import load
    from deploycc.workflows.recover import recover, recover_in_stages
    from deploycc.workflows.train import require_torch
    from deploycc.workflows.written import save_network

    require_torch()
    from deploycc.distillation.loop import TrainingSettings
    from deploycc.distillation.processes import is_first

    checkpoint, metrics = output.with_suffix(".checkpoint.pt"), output.with_suffix(".metrics.json")
    check_writable(output, checkpoint, metrics, inputs=[pruned, teacher, weights])
    settings = TrainingSettings(steps, minutes, batch, rate, check_every, seed, bfloat16, memory_mib=memory)

    def report(record: dict[str, float]) -> None:
        agreement = 100 * record["agreement"]
        stage = f"stage {record['stage']}, " if "stage" in record else ""
        console.note(
            f"{stage}step {record['step']}: loss {record['scores']:.3f} + {record['locations']:.3f} + "
            f"{record['maps']:.3f}, "
            f"agreement with the teacher {agreement:.1f} %"
        )

    source = one_source(images, data)
    with console.progress("train recover") as say:
        say("reading")
        student, original = load(pruned), load(teacher, weights=weights)
        if stages:
            staged = recover_in_stages(
                student,
                original,
                source,
                settings,
                below=below,
                stages=stages,
                threads=threads,
                checkpoint=checkpoint,
                report=report,
                say=say,
            )
        else:
            staged = (
                recover(
                    student, original, source, settings, threads=threads, checkpoint=checkpoint, report=report, say=say
                ),
            )
    done = staged[-1]
    if not is_first():  # of the processes of torchrun, one writes
        return
    warn_if_assumed(student.input, "what was trained")
    facts = {"stages": [_facts(stage) for stage in staged]} if stages else _facts(done)
    write_text(metrics, json.dumps(facts, indent=1) + "\n")
    _show(done)
    console.wrote(*sorted(checkpoint.parent.glob(f"{checkpoint.stem}*{checkpoint.suffix}")), metrics)
    if done.improved or stages:
        save_network(done.detector, output)
        console.wrote(output, answer=True)
    else:
        console.note(f"training made the network no better, so {output} was not written; {pruned} is as it was")


def _facts(done: Recovery) -> dict[str, Any]:
    training = done.training
    return {
        "before": training.before.map50,
        "after": training.after.map50,
        "steps": training.steps,
        "minutes": training.minutes,
        "stopped": training.stopped,
        "history": list(training.history),
    }


def _show(done: Recovery) -> None:
    training = done.training
    before = training.before.by_class
    rows = [
        [done.class_names[number], str(count), f"{100 * before[number][0]:.1f}", f"{100 * after:.1f}"]
        for number, (after, count) in sorted(training.after.by_class.items())
    ]
    rows.append(["mean", "", f"{100 * training.before.map50:.1f}", f"{100 * training.after.map50:.1f}"])
    console.table(
        ["class", "objects", "before", "after"], rows, "agreement with the teacher, AP50 % on pictures held out"
    )
    if training.stopped:
        console.note(training.stopped)
