"""``deploycc train``: ``ssd`` trains a detector, dense or with kernel gates, ``export`` writes it as ONNX.

``gates`` (`deploycc.cli.train_gates`) trains gates for a detector from its file alone, ``recover``
(`deploycc.cli.train_recover`) a pruned network on what its original says.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from deploycc.cli import train_gates, train_recover
from deploycc.cli.option_classes import takes_options
from deploycc.cli.train_options import GateOptionsFromScratch, OutputFile
from deploycc.terminal import console

app = typer.Typer(help="Train SSD detectors, with or without kernel gates.", no_args_is_help=True)


@dataclass(frozen=True)
class RunOptions:
    """A training run; each field is a parameter of `deploycc.workflows.train.train_detector`."""

    data: Annotated[
        str,
        typer.Option(
            "--data", "-d", metavar="DATA", help="Training pictures: voc:FOLDER[@SPLIT] or generated:SEED:COUNT."
        ),
    ]
    validation: Annotated[
        str, typer.Option(metavar="DATA", help="Pictures for scoring the result, in the same notation.")
    ]
    folder: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Folder for checkpoint, metrics and ONNX file.")
    ]
    name: Annotated[str, typer.Option(metavar="NAME", help="Name of the detector and of its ONNX file.")] = "ssd"
    architecture: Annotated[
        str, typer.Option("--arch", metavar="mobilenet|squeezenet", help="Architecture of the trunk.")
    ] = "mobilenet"
    size: Annotated[int, typer.Option(metavar="PIXELS", help="Height and width of the input, a multiple of 32.")] = 160
    width: Annotated[
        float, typer.Option(metavar="FACTOR", min=0.01, max=100, help="Multiplier for the channel counts of the trunk.")
    ] = 1.0
    steps: Annotated[int, typer.Option(metavar="N", min=1, help="Number of training steps.")] = 8000
    batch: Annotated[int, typer.Option(metavar="N", min=1, help="Pictures per step.")] = 16
    rate: Annotated[float, typer.Option("--lr", metavar="RATE", min=0, help="Peak learning rate.")] = 2e-3
    seed: Annotated[
        int, typer.Option(metavar="SEED", min=0, help="Seed for initial weights, sample order and augmentation.")
    ] = 1
    initial: Annotated[
        Path | None, typer.Option("--from", metavar="CHECKPOINT", help="Start from the weights of another run.")
    ] = None
    teacher: Annotated[
        Path | None, typer.Option(metavar="CHECKPOINT", help="Also learn from the outputs of this detector.")
    ] = None


@app.command("ssd")
@takes_options
def ssd(
    *,
    run: RunOptions,
    gates: GateOptionsFromScratch,
    threads: Annotated[int, typer.Option(metavar="N", min=1, max=1024, help="Number of CPU threads.")] = 2,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Print the records of the training history as JSON on stderr.")
    ] = False,
) -> None:
    """Train an SSD detector and write it as ONNX.

    An interrupted run is resumed by the same command.
    """
    from deploycc.report.training import saved_sentence, scores_table
    from deploycc.workflows.train import require_torch, train_detector

    def report(record: dict[str, Any]) -> None:
        if verbose:
            print(json.dumps(record), file=sys.stderr, flush=True)  # noqa: T201

    require_torch()
    config = gates.config(run.architecture)
    with console.progress("train") as say:
        trained = train_detector(**vars(run), gates=config, threads=threads, report=report, say=say)
    console.tables(scores_table(trained.result))
    if "gates" in trained.result:
        console.note(saved_sentence(trained.result["gates"]["saved_percent"]))
    console.wrote(trained.checkpoint, trained.metrics)
    console.wrote(trained.network, answer=True)


@app.command("export")
def export(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="File checkpoint.pt of a training run.")],
    output: OutputFile,
    gates_metadata: Annotated[
        bool,
        typer.Option("--gates-metadata/--no-gates-metadata", help="Describe the gates in the metadata of the file."),
    ] = True,
    threshold: Annotated[
        float | None,
        typer.Option(
            "--gate-threshold",
            metavar="T",
            min=0.01,
            max=0.99,
            help="Threshold of the gates; a higher one switches more kernels off; default: that of the run.",
        ),
    ] = None,
) -> None:
    """Write a trained detector as ONNX, for all other commands."""
    from deploycc.workflows.train import export_trained

    export_trained(checkpoint, output, gates_metadata=gates_metadata, threshold=threshold)
    console.wrote(output, answer=True)


app.command("gates")(train_gates.command)
app.command("recover")(train_recover.command)
