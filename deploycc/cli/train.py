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
from deploycc.cli.options import argument, option, switch, takes_options
from deploycc.cli.train_options import GateOptionsFromScratch, OutputFile
from deploycc.terminal import console

app = typer.Typer(help="Train SSD detectors, with or without kernel gates.", no_args_is_help=True)


@dataclass(frozen=True)
class RunOptions:
    """A training run; each field is a parameter of `deploycc.workflows.train.train_detector`."""

    data: Annotated[
        str, option("DATA", "Training pictures: voc:FOLDER[@SPLIT] or generated:SEED:COUNT.", "--data", "-d")
    ]
    validation: Annotated[str, option("DATA", "Pictures for scoring the result, in the same notation.")]
    folder: Annotated[Path, option("DIR", "Folder for checkpoint, metrics and ONNX file.", "--output", "-o")]
    name: Annotated[str, option("NAME", "Name of the detector and of its ONNX file.")] = "ssd"
    architecture: Annotated[str, option("mobilenet|squeezenet", "Architecture of the trunk.", "--arch")] = "mobilenet"
    size: Annotated[int, option("PIXELS", "Height and width of the input, a multiple of 32.")] = 160
    width: Annotated[float, option("FACTOR", "Multiplier for the channel counts of the trunk.", min=0.01, max=100)] = (
        1.0
    )
    steps: Annotated[int, option("N", "Number of training steps.", min=1)] = 8000
    batch: Annotated[int, option("N", "Pictures per step.", min=1)] = 16
    rate: Annotated[float, option("RATE", "Peak learning rate.", "--lr", min=0)] = 2e-3
    seed: Annotated[int, option("SEED", "Seed for initial weights, sample order and augmentation.", min=0)] = 1
    initial: Annotated[Path | None, option("CHECKPOINT", "Start from the weights of another run.", "--from")] = None
    teacher: Annotated[Path | None, option("CHECKPOINT", "Also learn from the outputs of this detector.")] = None


@app.command("ssd")
@takes_options
def ssd(
    *,
    run: RunOptions,
    gates: GateOptionsFromScratch,
    threads: Annotated[int, option("N", "CPU threads; 0: all cores.", min=0, max=1024)] = 0,
    verbose: Annotated[
        bool, switch("--verbose", "Print the records of the training history as JSON on stderr.")
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
    checkpoint: Annotated[Path, argument("CHECKPOINT", "File checkpoint.pt of a training run.")],
    output: OutputFile,
    gates_metadata: Annotated[
        bool, switch("--gates-metadata/--no-gates-metadata", "Describe the gates in the metadata of the file.")
    ] = True,
    threshold: Annotated[
        float | None,
        option(
            "T",
            "Gate threshold; higher ones switch more off; default: the run's.",
            "--gate-threshold",
            min=0.01,
            max=0.99,
        ),
    ] = None,
) -> None:
    """Write a trained detector as ONNX, for all other commands."""
    from deploycc.workflows.train import export_trained

    export_trained(checkpoint, output, gates_metadata=gates_metadata, threshold=threshold)
    console.wrote(output, answer=True)


app.command("gates")(train_gates.command)
app.command("recover")(train_recover.command)
