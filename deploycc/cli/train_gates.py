"""``deploycc train gates MODEL --images DIR``: kernel gates for a trained detector, from its file alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deploycc.cli.model_options import comma_list, one_source, warn_if_assumed
from deploycc.terminal import console

if TYPE_CHECKING:
    from deploycc.workflows.train_gates import GateTraining


def command(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Trained detector, as `inspect` takes it.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="ONNX file to write.")],
    weights: Annotated[Path | None, typer.Option(metavar="FILE", help="Caffe weights.")] = None,
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
    granularity: Annotated[
        str,
        typer.Option(
            "--gates",
            metavar="kernel|block|nested",
            help="Gates that switch single kernels, blocks of kernels, or blocks in a fixed order.",
        ),
    ] = "kernel",
    layers: Annotated[
        str | None,
        typer.Option(
            "--gate-layers",
            metavar="LIST",
            help="Convolutions to gate; * and [..] are wildcards; default: those of the back-end with at least 1 % "
            "of its MACs.",
        ),
    ] = None,
    block: Annotated[
        int, typer.Option(metavar="N", min=1, help="Kernels per block, with --gates block or nested.")
    ] = 32,
    shared: Annotated[
        str | None,
        typer.Option(
            metavar="BLOCKS",
            help="Use one gate for all layers, with this number of equal blocks, or with blocks that end at these "
            "percentages of the kernels, such as 40,60,80,100.",
        ),
    ] = None,
    keep: Annotated[
        float, typer.Option(metavar="SHARE", min=0, max=1, help="Share of the gated MACs to keep engaged.")
    ] = 0.75,
    gain: Annotated[float, typer.Option(metavar="GAIN", min=0, help="Weight of the sparsity loss.")] = 0.3,
    spread: Annotated[
        float,
        typer.Option(
            metavar="SHARE", min=0, help="Target standard deviation, over pictures, of the engaged share of MACs."
        ),
    ] = 0.05,
    freeze: Annotated[
        float,
        typer.Option(metavar="SHARE", min=0, max=0.99, help="Share of the training after which gates are frozen."),
    ] = 0.75,
    retire: Annotated[
        float,
        typer.Option(
            metavar="SHARE",
            min=0,
            max=1,
            help="Then switch off for good what less than this share of the pictures engages.",
        ),
    ] = 0.0,
    steps: Annotated[int, typer.Option(metavar="N", min=1, help="Number of training steps.")] = 4000,
    minutes: Annotated[
        float | None, typer.Option(metavar="M", min=0.01, help="End after this time, if the steps take longer.")
    ] = None,
    batch: Annotated[int, typer.Option(metavar="N", min=2, help="Pictures per step.")] = 8,
    rate: Annotated[
        float, typer.Option("--lr", metavar="RATE", min=0, help="Peak learning rate, relative to each layer's weights.")
    ] = 0.003,
    check_every: Annotated[
        int, typer.Option(metavar="N", min=1, help="Steps between two checks and checkpoints.")
    ] = 250,
    seed: Annotated[int, typer.Option(metavar="SEED", min=0, help="Seed of gates, order and changes.")] = 1,
    threads: Annotated[int, typer.Option(metavar="N", min=1, help="CPU threads.")] = 1,
) -> None:
    """Train kernel gates for a detector, from its file alone.

    No labels are needed. The checkpoint lies beside the output, and the same command goes on from it.
    """
    from deploycc.cli.train_options import read_blocks, read_granularity
    from deploycc.detector.file import save
    from deploycc.files import check_writable, write_text
    from deploycc.workflows.load import load
    from deploycc.workflows.train import require_torch
    from deploycc.workflows.train_gates import train_gates

    require_torch()
    from deploycc.distillation.gating import GatingSettings
    from deploycc.distillation.loop import TrainingSettings
    from deploycc.trainable.gated import GateShape

    checkpoint, metrics = output.with_suffix(".checkpoint.pt"), output.with_suffix(".metrics.json")
    check_writable(output, checkpoint, metrics, inputs=[model, weights])
    shape = GateShape(read_granularity(granularity), block, read_blocks(shared))

    def gates(names: tuple[str, ...]) -> GatingSettings:
        return GatingSettings(names, shape, keep, gain, spread=spread, freeze=freeze, retire=retire)

    def report(record: dict[str, float]) -> None:
        console.note(
            f"step {record['step']}: loss {record['scores']:.3f} + {record['locations']:.3f} + {record['maps']:.3f}, "
            f"agreement with the network without gates {100 * record['agreement']:.1f} %, gated MACs engaged "
            f"{100 * record['engaged']:.1f} %"
        )

    source = one_source(images, data)
    with console.progress("train gates") as say:
        say("reading")
        original = load(model, weights=weights)
        done = train_gates(
            original,
            source,
            TrainingSettings(steps, minutes, batch, rate, check_every, seed),
            gates=gates,
            layers=comma_list(layers),
            threads=threads,
            checkpoint=checkpoint,
            report=report,
            say=say,
        )
    warn_if_assumed(original.input, "what was trained")
    write_text(metrics, json.dumps(_facts(done), indent=1) + "\n")
    _show(done)
    save(done.detector, output)
    console.wrote(checkpoint, metrics)
    console.wrote(output, answer=True)


def _facts(done: GateTraining) -> dict[str, Any]:
    training = done.training
    return {
        "layers": list(done.layers),
        "agreement": training.agreement.map50,
        "engaged": list(training.engaged),
        "retired": training.retired,
        "steps": training.steps,
        "minutes": training.minutes,
        "stopped": training.stopped,
        "history": list(training.history),
    }


def _show(done: GateTraining) -> None:
    from statistics import mean, pstdev

    training = done.training
    rows = [
        [done.class_names[number], str(count), f"{100 * precision:.1f}"]
        for number, (precision, count) in sorted(training.agreement.by_class.items())
    ]
    rows.append(["mean", "", f"{100 * training.agreement.map50:.1f}"])
    console.table(["class", "objects", "AP50"], rows, "agreement with the network without gates, on pictures held out")
    off = [100 * (1 - share) for share in training.engaged]
    console.note(
        f"gates switch off {mean(off):.1f} % of their MACs (std {pstdev(off):.1f}, {min(off):.1f} to {max(off):.1f})"
    )
    if training.retired:
        console.note(f"{training.retired} units were hardly used and are switched off for good")
    if training.stopped:
        console.note(training.stopped)
