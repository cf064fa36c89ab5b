"""Training a detector, dense or with kernel gates, and writing it as ONNX."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploycc.errors import DeployError, InputError
from deploycc.progress import Say, quiet

if TYPE_CHECKING:
    from deploycc.lkam.config import GateConfig

GATED_LAYERS = {
    "mobilenet": ("backend.0.[45].conv", "backend.[12].[01].conv"),
    "squeezenet": ("backend.*.expand3.conv",),
}
"""By architecture, patterns of the convolutions with most of the trunk's multiply-accumulates."""

GRANULARITIES = ("kernel", "block", "nested")
_PLACES = ("norm", "conv")
_STRIDE = 32  # of the trunk's last map; heads need a map of 3x3 there
_LARGEST = 4096  # pixels; larger pictures fill the memory
_WARMUP_STEPS = 200


@dataclass(frozen=True)
class Trained:
    """A finished training run.

    Attributes:
        network: the ONNX file.
        checkpoint, metrics: the other files.
        result: accuracy and what gates do on the validation pictures, see `deploycc.lkam.assess.assess`.
    """

    network: Path
    checkpoint: Path
    metrics: Path
    result: dict[str, Any]


def require_torch() -> None:
    """Check that PyTorch is installed; `deploycc.lkam` needs it.

    Raises:
        DeployError: ``train-extra-missing``.
    """
    # Threads that spin while they wait take whole cores from all else: 17 s of CPU instead of 7 beside other work.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when PyTorch is loaded
    try:
        import torch  # noqa: F401
    except ImportError:
        raise DeployError(
            "train-extra-missing",
            "training needs PyTorch, which is not installed",
            hint="python3 -m pip install 'torch>=2.4'",
        ) from None


def use_threads(threads: int) -> None:
    """Let PyTorch compute on this many threads; 0: a core each, or what ``OMP_NUM_THREADS`` says."""
    import torch

    if threads:
        torch.set_num_threads(threads)


def train_detector(
    data: str,
    validation: str,
    folder: Path,
    *,
    name: str = "ssd",
    architecture: str = "mobilenet",
    size: int = 160,
    width: float = 1.0,
    steps: int = 8000,
    batch: int = 16,
    rate: float = 2e-3,
    seed: int = 1,
    initial: Path | None = None,
    teacher: Path | None = None,
    gates: GateConfig | None = None,
    threads: int = 0,
    report: Callable[[dict[str, Any]], None] = lambda record: None,
    say: Say = quiet,
) -> Trained:
    """Train an SSD detector, or resume a run that was interrupted, and write it as ONNX.

    Args:
        data: training pictures, ``voc:FOLDER[@SPLIT]`` or ``generated:SEED:COUNT``.
        validation: pictures for scoring the result, likewise.
        folder: receives checkpoint, metrics and network. The run of a checkpoint in it is resumed.
        name: of the detector and its ONNX file.
        architecture: a key of `GATED_LAYERS`.
        size: height and width of the input in pixels, a multiple of 32 from 96 on.
        width: multiplier for the channel counts of the trunk.
        steps: number of training steps.
        batch: pictures per step.
        rate: peak learning rate.
        seed: of initial weights, sample order and augmentation.
        initial: checkpoint with the initial weights.
        teacher: checkpoint of a detector whose outputs serve as additional targets.
        gates: None trains a dense detector.
        threads: see `use_threads`.
        report: called with every record of the history.
        say: told how many pictures are read and how many steps are done.

    Raises:
        DeployError: ``train-extra-missing``, ``training-diverged``.
        InputError: an argument is out of range, or data or checkpoints cannot be used.
        ArtefactError: the folder holds the checkpoint of another run.
    """
    require_torch()
    _check_network(architecture, size)
    if gates is not None:
        _check_gates(gates)

    from deploycc.evaluation.dataset import open_dataset
    from deploycc.lkam.config import TrainConfig
    from deploycc.lkam.export import export_checkpoint
    from deploycc.lkam.network import SsdConfig
    from deploycc.lkam.samples import Samples
    from deploycc.lkam.training import CHECKPOINT, METRICS, train
    from deploycc.workflows.written import checked

    use_threads(threads)
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
        warmup=min(_WARMUP_STEPS, max(1, steps // 10)),
        seed=seed,
        mirror_only=data.startswith("generated:"),  # the generator varies more than an augmentation could
        initial=str(initial) if initial else None,
        teacher=str(teacher) if teacher else None,
        gates=gates,
    )
    samples = Samples(dataset, size, seed, mirror_only=config.mirror_only, say=say)
    train(config, samples, held_out, folder, report=report, say=say)
    network, checkpoint, metrics = folder / f"{name}.onnx", folder / CHECKPOINT, folder / METRICS
    say("writing the network")
    checked((network,), lambda file: export_checkpoint(checkpoint, file, name=network.stem))
    return Trained(network, checkpoint, metrics, json.loads(metrics.read_text(encoding="utf-8"))["result"])


def export_trained(
    checkpoint: Path, output: Path, *, gates_metadata: bool = True, threshold: float | None = None
) -> None:
    """Write the detector of a training run as ONNX.

    Args:
        checkpoint: of the run.
        output: file to write.
        gates_metadata: describe the gates in the file's metadata.
        threshold: of the gates; None: that of the run.

    Raises:
        DeployError: ``train-extra-missing``.
        ArtefactError: the checkpoint cannot be read, or the file cannot be written.
        ModelError: ``written-unreadable``.
    """
    require_torch()
    from deploycc.files import check_writable
    from deploycc.lkam.export import export_checkpoint
    from deploycc.workflows.written import checked

    check_writable(output, inputs=[checkpoint])

    def write(file: Path) -> None:
        export_checkpoint(checkpoint, file, name=output.stem, gates_metadata=gates_metadata, threshold=threshold)

    checked((output,), write)


def _check_network(architecture: str, size: int) -> None:
    if architecture not in GATED_LAYERS:
        raise InputError("train-architecture", f"`architecture={architecture}` is not one of {', '.join(GATED_LAYERS)}")
    if size % _STRIDE or not 3 * _STRIDE <= size <= _LARGEST:
        reason = f"`size={size}` is not a multiple of {_STRIDE} from {3 * _STRIDE} to {_LARGEST}"
        raise InputError("train-size", reason)


def _check_gates(gates: GateConfig) -> None:
    for parameter, value, choices in (
        ("gates", gates.granularity, GRANULARITIES),
        ("place", gates.place, _PLACES),
    ):
        if value not in choices:
            raise InputError("train-gates", f"`{parameter}={value}` is not one of {', '.join(choices)}")
    if gates.explore and gates.granularity != "nested":
        raise InputError(
            "train-explore",
            "`explore` needs `gates=nested`: only nested blocks have an order",
            context={"granularity": gates.granularity},
        )
    if gates.explore and gates.explore >= gates.freeze:
        raise InputError(
            "train-explore",
            f"`explore={gates.explore:g}` leaves no steps for the gates to learn in",
            note=f"they no longer train after {gates.freeze:g} of the steps",
            hint="a smaller `explore` or a larger `freeze`",
        )
