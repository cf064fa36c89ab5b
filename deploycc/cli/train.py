"""``deploycc train ssd``: train a detector, dense or with kernel gates; ``deploycc train export``: write it as ONNX."""

from __future__ import annotations

import json
import sys
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

if TYPE_CHECKING:
    from deploycc.lkam.config import GateConfig, TrainConfig

app = typer.Typer(help="Train SSD detectors, with or without kernel gates.", no_args_is_help=True)

# The convolutions that hold most of each trunk's multiply-accumulates.
_GATED = {
    "mobilenet": "backend.0.[45].conv,backend.[12].[01].conv",
    "squeezenet": "backend.*.expand3.conv",
}


@app.command("ssd")
def ssd(
    data: Annotated[
        str, typer.Option("--data", "-d", help="Training data: voc:FOLDER[@SPLIT] or generated:SEED:COUNT.")
    ],
    validation: Annotated[str, typer.Option("--validation", help="What the result is scored on, likewise.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Checkpoint, metrics and ONNX file.")],
    name: Annotated[str, typer.Option("--name", help="Name of the detector and of its ONNX file.")] = "ssd",
    architecture: Annotated[str, typer.Option("--arch", help="mobilenet or squeezenet.")] = "mobilenet",
    size: Annotated[int, typer.Option("--size", help="Height and width of the input, a multiple of 32.")] = 160,
    width: Annotated[float, typer.Option("--width", help="Multiplies the trunk's channel counts.")] = 1.0,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Optimiser steps.")] = 8000,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Pictures a step.")] = 16,
    rate: Annotated[float, typer.Option("--lr", min=0, help="Highest learning rate.")] = 2e-3,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of weights, order and augmentation.")] = 1,
    initial: Annotated[
        Optional[Path],  # noqa: UP045 - typer reads the annotation at run time on Python 3.10
        typer.Option("--from", metavar="CHECKPOINT", help="Start from the weights of another run."),
    ] = None,
    teacher: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--teacher", metavar="CHECKPOINT", help="Learn from this detector's outputs too."),
    ] = None,
    gates: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--gates", help="Insert kernel gates: kernel, block or nested."),
    ] = None,
    gate_layers: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--gate-layers", metavar="LIST", help="Convolutions to gate; * and [..] allowed."),
    ] = None,
    place: Annotated[
        str, typer.Option("--gate-place", help="Where the mask multiplies: norm (after BatchNorm) or conv.")
    ] = "norm",
    block: Annotated[int, typer.Option("--block", min=1, help="Kernels per block, for block and nested.")] = 32,
    shared: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--shared",
            metavar="UNITS",
            help="One gate for all of them, of so many equal blocks; or where blocks end, as 40,60,80,100 (per cent).",
        ),
    ] = None,
    keep: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option("--keep", min=0, max=1, help="Share of the gated MACs to keep engaged; default: press always."),
    ] = None,
    gain: Annotated[float, typer.Option("--gain", min=0, help="Weight of the sparsity term.")] = 0.3,
    threshold: Annotated[
        float, typer.Option("--gate-threshold", min=0.01, max=0.99, help="Of the gates' decisions.")
    ] = 0.5,
    explore: Annotated[
        float, typer.Option("--explore", min=0, max=1, help="Share of the steps with random numbers of nested blocks.")
    ] = 0.0,
    spread: Annotated[
        float, typer.Option("--spread", min=0, help="Standard deviation of the engaged share to ask for.")
    ] = 0.05,
    freeze: Annotated[
        float, typer.Option("--freeze", min=0, max=1, help="Share of the steps after which decisions stay as they are.")
    ] = 0.75,
    retire: Annotated[
        float, typer.Option("--retire", min=0, max=1, help="Then switch units off that fewer pictures than this use.")
    ] = 0.0,
    threads: Annotated[int, typer.Option("--threads", min=1, help="CPU threads.")] = 2,
    verbose: Annotated[bool, typer.Option("--verbose", help="Print each record of the history on stderr.")] = False,
) -> None:
    """Train an SSD detector; run the same command again to resume."""
    _require_torch()
    import torch

    from deploycc.cli import console
    from deploycc.errors import InputError
    from deploycc.evaluation.dataset import open_dataset
    from deploycc.lkam.config import TrainConfig
    from deploycc.lkam.export import export_checkpoint
    from deploycc.lkam.network import SsdConfig
    from deploycc.lkam.samples import Samples
    from deploycc.lkam.training import CHECKPOINT, train

    if architecture not in _GATED:
        raise InputError("train-architecture", f"--arch {architecture} is none of {', '.join(_GATED)}")
    if size % 32 or size < 96:
        raise InputError("train-size", f"--size {size} is no multiple of 32 from 96 on")
    torch.set_num_threads(threads)
    dataset = open_dataset(data, size=size)
    held_out = open_dataset(validation, size=size, classes=dataset.class_names)
    config = TrainConfig(
        network=SsdConfig(len(dataset.class_names) + 1, size, architecture, width),  # type: ignore[arg-type]
        class_names=dataset.class_names,
        data=data,
        validation=validation,
        steps=steps,
        batch=batch,
        lr=rate,
        warmup=min(200, max(1, steps // 10)),
        seed=seed,
        mirror_only=data.startswith("generated:"),  # the generator varies more than an augmentation could
        initial=str(initial) if initial else None,
        teacher=str(teacher) if teacher else None,
        gates=_gate_config(
            gates,
            gate_layers or _GATED[architecture],
            place,
            block,
            shared=_units(shared),
            keep=keep,
            gain=gain,
            spread=spread,
            explore=explore,
            freeze=freeze,
            retire=retire,
            threshold=threshold,
        ),
    )
    with console.progress("train") as say:
        samples = Samples(dataset, size, seed, mirror_only=config.mirror_only, say=say)

        def report(record: dict[str, Any]) -> None:
            if verbose:
                print(json.dumps(record), file=sys.stderr, flush=True)  # noqa: T201

        train(config, samples, held_out, output, report=report, say=say)
    export_checkpoint(output / CHECKPOINT, output / f"{name}.onnx")
    _show(config, output)
    console.out(str(output / f"{name}.onnx"))


@app.command("export")
def export(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="checkpoint.pt of a training run.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The ONNX file.")],
    gates_metadata: Annotated[
        bool, typer.Option("--gates-metadata/--no-gates-metadata", help="Describe the gates in the file's metadata.")
    ] = True,
    threshold: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option("--gate-threshold", min=0.01, max=0.99, help="Instead of the run's; higher switches more off."),
    ] = None,
) -> None:
    """Write a trained detector as one ONNX file that every command of deploycc reads."""
    _require_torch()
    from deploycc.cli import console
    from deploycc.lkam.export import export_checkpoint

    export_checkpoint(checkpoint, output, gates_metadata=gates_metadata, threshold=threshold)
    console.out(str(output))


def _gate_config(
    gates: str | None, layers: str, place: str, block: int, *, threshold: float, **pressure: Any
) -> GateConfig | None:
    from deploycc.cli.model_options import comma_list
    from deploycc.errors import InputError
    from deploycc.lkam.config import GateConfig
    from deploycc.lkam.sparsity import Ramp

    if gates is None:
        for option in ("shared", "keep", "explore", "retire"):
            if pressure[option]:
                raise InputError("train-gates", f"--{option} is about gates, and there are none", hint="--gates nested")
        return None
    if gates not in ("kernel", "block", "nested"):
        raise InputError("train-gates", f"--gates {gates} is none of kernel, block, nested")
    if place not in ("norm", "conv"):
        raise InputError("train-gates", f"--gate-place {place} is none of norm, conv")
    if pressure["explore"] and gates != "nested":
        raise InputError("train-explore", f"--explore needs --gates nested, whose blocks have an order, not {gates}")
    if pressure["explore"] and pressure["explore"] >= pressure["freeze"]:
        raise InputError(
            "train-explore",
            f"--explore {pressure['explore']:g} leaves no steps for the gates to learn in",
            note=f"their decisions stay as they are from {pressure['freeze']:g} of the steps on",
            hint="explore for less, or --freeze later",
        )
    pressure["target"] = pressure.pop("keep")
    return GateConfig(
        comma_list(layers),
        gates,  # type: ignore[arg-type]
        place=place,  # type: ignore[arg-type]
        block=block,
        threshold=Ramp(threshold, threshold),
        **pressure,
    )


def _units(shared: str | None) -> int | tuple[float, ...]:
    from deploycc.cli.model_options import comma_list
    from deploycc.errors import InputError

    if shared is None:
        return 0
    try:
        numbers = [float(each) for each in comma_list(shared)]
    except ValueError:
        numbers = []
    if len(numbers) == 1 and numbers[0].is_integer() and numbers[0] >= 2:
        return int(numbers[0])
    if len(numbers) > 1 and all(low < high for low, high in pairwise((0, *numbers))) and numbers[-1] == 100:
        return tuple(each / 100 for each in numbers)
    raise InputError(
        "train-shared",
        f"--shared {shared} is no number of blocks from 2 on, nor rising percentages up to 100",
        hint="--shared 4 or --shared 40,60,80,100",
    )


def _show(config: TrainConfig, output: Path) -> None:
    from deploycc.cli import console
    from deploycc.lkam.training import METRICS

    result = json.loads((output / METRICS).read_text(encoding="utf-8"))["result"]
    rows = [[name, f"{100 * value:.1f}"] for name, value in result["classes"].items()]
    rows.append(["mean", f"{100 * result['map50_area']:.1f}"])
    console.table(["class", "AP50"], rows, f"{config.validation}: {result['pictures']} pictures")
    if "gates" in result:
        saved = result["gates"]["saved_percent"]
        console.note(
            f"gates switch off {saved['mean']:.1f} % of their MACs (std {saved['std']:.1f}, "
            f"{saved['min']:.1f} to {saved['max']:.1f})"
        )


def _require_torch() -> None:
    from deploycc.errors import DeployError

    try:
        import torch  # noqa: F401
    except ImportError:
        raise DeployError(
            "train-extra-missing",
            "training needs PyTorch, which is not installed",
            hint="pip install 'deploycc[train]'",
        ) from None
