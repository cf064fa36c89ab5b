"""``deploycc train``: ``ssd`` trains a detector, dense or with kernel gates, ``export`` writes it as ONNX.

``gates`` (`deploycc.cli.train_gates`) trains gates for a detector from its file alone, ``recover``
(`deploycc.cli.train_recover`) a pruned network on what its original says.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deploycc.cli import train_gates, train_recover
from deploycc.cli.model_options import comma_list
from deploycc.cli.train_options import read_blocks
from deploycc.errors import InputError
from deploycc.terminal import console

if TYPE_CHECKING:
    from deploycc.workflows.train import Trained

app = typer.Typer(help="Train SSD detectors, with or without kernel gates.", no_args_is_help=True)


@app.command("ssd")
def ssd(
    data: Annotated[
        str,
        typer.Option(
            "--data", "-d", metavar="DATA", help="Training pictures: voc:FOLDER[@SPLIT] or generated:SEED:COUNT."
        ),
    ],
    validation: Annotated[
        str, typer.Option(metavar="DATA", help="Pictures for scoring the result, in the same notation.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Folder for checkpoint, metrics and ONNX file.")
    ],
    name: Annotated[str, typer.Option(metavar="NAME", help="Name of the detector and of its ONNX file.")] = "ssd",
    architecture: Annotated[
        str, typer.Option("--arch", metavar="mobilenet|squeezenet", help="Architecture of the trunk.")
    ] = "mobilenet",
    size: Annotated[int, typer.Option(metavar="PIXELS", help="Height and width of the input, a multiple of 32.")] = 160,
    width: Annotated[
        float, typer.Option(metavar="FACTOR", min=0.01, max=100, help="Multiplier for the channel counts of the trunk.")
    ] = 1.0,
    steps: Annotated[int, typer.Option(metavar="N", min=1, help="Number of training steps.")] = 8000,
    batch: Annotated[int, typer.Option(metavar="N", min=1, help="Pictures per step.")] = 16,
    rate: Annotated[float, typer.Option("--lr", metavar="RATE", min=0, help="Peak learning rate.")] = 2e-3,
    seed: Annotated[
        int, typer.Option(metavar="SEED", min=0, help="Seed for initial weights, sample order and augmentation.")
    ] = 1,
    initial: Annotated[
        Path | None, typer.Option("--from", metavar="CHECKPOINT", help="Start from the weights of another run.")
    ] = None,
    teacher: Annotated[
        Path | None, typer.Option(metavar="CHECKPOINT", help="Also learn from the outputs of this detector.")
    ] = None,
    gates: Annotated[
        str | None,
        typer.Option(
            metavar="kernel|block|nested",
            help="Insert gates that switch single kernels, blocks of kernels, or blocks in a fixed order.",
        ),
    ] = None,
    gate_layers: Annotated[
        str | None,
        typer.Option(
            metavar="LIST", help="Convolutions to gate; * and [..] are wildcards; default: those with most MACs."
        ),
    ] = None,
    place: Annotated[
        str,
        typer.Option(
            "--gate-place", metavar="norm|conv", help="Let gates multiply after BatchNorm, or directly after conv."
        ),
    ] = "norm",
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
        float | None,
        typer.Option(metavar="SHARE", min=0, max=1, help="Share of the gated MACs to keep engaged; default: no limit."),
    ] = None,
    gain: Annotated[float, typer.Option(metavar="GAIN", min=0, help="Weight of the sparsity loss.")] = 0.3,
    threshold: Annotated[
        float,
        typer.Option(
            "--gate-threshold",
            metavar="T",
            min=0.01,
            max=0.99,
            help="Threshold of the gates; a higher one switches more kernels off.",
        ),
    ] = 0.5,
    explore: Annotated[
        float,
        typer.Option(
            metavar="SHARE",
            min=0,
            max=1,
            help="Share of the steps, from the first, in which each picture engages a random number of nested blocks.",
        ),
    ] = 0.0,
    spread: Annotated[
        float,
        typer.Option(
            metavar="SHARE", min=0, help="Target standard deviation, over pictures, of the engaged share of MACs."
        ),
    ] = 0.05,
    freeze: Annotated[
        float, typer.Option(metavar="SHARE", min=0, max=1, help="Share of the steps after which gates are frozen.")
    ] = 0.75,
    retire: Annotated[
        float,
        typer.Option(
            metavar="SHARE", min=0, max=1, help="Switch off for good what less than this share of the pictures engages."
        ),
    ] = 0.0,
    threads: Annotated[int, typer.Option(metavar="N", min=1, max=1024, help="Number of CPU threads.")] = 2,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Print the records of the training history as JSON on stderr.")
    ] = False,
) -> None:
    """Train an SSD detector and write it as ONNX.

    An interrupted run is resumed by the same command.
    """
    from deploycc.workflows.train import GATED_LAYERS, require_torch, train_detector

    require_torch()
    from deploycc.lkam.config import GateConfig
    from deploycc.trainable.sparsity import Ramp

    config = None
    if gates is not None:
        config = GateConfig(
            comma_list(gate_layers) or GATED_LAYERS.get(architecture, ()),
            gates,  # type: ignore[arg-type]
            place=place,  # type: ignore[arg-type]
            block=block,
            shared=read_blocks(shared),
            target=keep,
            gain=gain,
            spread=spread,
            explore=explore,
            freeze=freeze,
            retire=retire,
            threshold=Ramp(threshold, threshold),
        )
    else:
        for option, value in {"shared": shared, "keep": keep, "explore": explore, "retire": retire}.items():
            if value:
                raise InputError("train-gates", f"`{option}` is for gates, and there are none", hint="`gates=nested`")

    def report(record: dict[str, Any]) -> None:
        if verbose:
            print(json.dumps(record), file=sys.stderr, flush=True)  # noqa: T201

    with console.progress("train") as say:
        trained = train_detector(
            data,
            validation,
            output,
            name=name,
            architecture=architecture,
            size=size,
            width=width,
            steps=steps,
            batch=batch,
            rate=rate,
            seed=seed,
            initial=initial,
            teacher=teacher,
            gates=config,
            threads=threads,
            report=report,
            say=say,
        )
    _show(trained)
    console.wrote(trained.checkpoint, trained.metrics)
    console.wrote(trained.network, answer=True)


@app.command("export")
def export(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="File checkpoint.pt of a training run.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="ONNX file to write.")],
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
    from deploycc.files import check_writable
    from deploycc.workflows.train import require_torch

    require_torch()
    check_writable(output, inputs=[checkpoint])
    from deploycc.lkam.export import export_checkpoint
    from deploycc.workflows.written import read_back

    export_checkpoint(checkpoint, output, gates_metadata=gates_metadata, threshold=threshold)
    read_back(output)
    console.wrote(output, answer=True)


app.command("gates")(train_gates.command)
app.command("recover")(train_recover.command)


def _show(trained: Trained) -> None:
    result = trained.result
    rows = [[name, f"{100 * value:.1f}"] for name, value in result["classes"].items()]
    rows.append(["mean", f"{100 * result['map50_area']:.1f}"])
    console.table(["class", "AP50"], rows, f"{result['data']}: {result['pictures']} pictures")
    if "gates" in result:
        saved = result["gates"]["saved_percent"]
        console.note(
            f"gates switch off {saved['mean']:.1f} % of their MACs (std {saved['std']:.1f}, "
            f"{saved['min']:.1f} to {saved['max']:.1f})"
        )
