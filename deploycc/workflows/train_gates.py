"""Training gates for a network as its file has it: it learns from its own outputs, and from labels if there are any."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploycc.errors import InputError, ModelError, Note
from deploycc.progress import Say, quiet
from deploycc.workflows.pictures_with_objects import pictures_with_objects
from deploycc.workflows.recover import open_for_training, pictures_sentence
from deploycc.workflows.train import require_torch, use_threads

if TYPE_CHECKING:
    from deploycc.detector import Detector
    from deploycc.detector.picture_list import FitPictures, PictureList
    from deploycc.distillation.gating import Gated
    from deploycc.distillation.gating_settings import GatingSettings
    from deploycc.distillation.loop import TrainingSettings

_REFIT = 200  # pictures on which weights are refitted before they are trained
_SPARE = 0.5  # of the share of kernels that begins off in the mean: layers with less to spare get no gate by default
LEAST_KERNELS = 8
LEAST_SHARE = 0.01
"""Of the back-end's MACs; by default, layers with less are not gated: their gates could hardly save anything."""


@dataclass(frozen=True, eq=False)
class GateTraining:
    """A network with trained gates.

    Attributes:
        detector: to save; its notes say what it was trained on.
        training: see `deploycc.distillation.gating.Gated`.
        class_names: of the classes in its agreement, as far as they are known.
    """

    detector: Detector
    training: Gated
    class_names: dict[int, str]

    def write(self, output: Path, metrics: Path) -> None:
        """Write the network as ONNX, and the history of the training as JSON.

        Raises:
            ArtefactError: a file cannot be written.
            ModelError: ``written-unreadable``.
        """
        from deploycc.files import write_text
        from deploycc.workflows.written import save_network

        facts = {
            "layers": self.training.layers,
            "gated_share": self.training.gated_share,
            "agreement": self.training.agreement.map50,
            "engaged": self.training.engaged,
            "retired": self.training.retired,
            "steps": self.training.steps,
            "minutes": self.training.minutes,
            "stopped": self.training.stopped,
            "history": self.training.history,
        }
        write_text(metrics, json.dumps(facts, indent=1) + "\n")
        save_network(self.detector, output)


def train_gates(
    detector: Detector,
    pictures: str | Path | PictureList,
    settings: TrainingSettings | None = None,
    *,
    gates: GatingSettings | None = None,
    layers: Sequence[str] = (),
    names: tuple[str, ...] = (),
    threads: int = 0,
    checkpoint: Path | None = None,
    report: Callable[[dict[str, float]], None] = lambda record: None,
    say: Say = quiet,
) -> GateTraining:
    """Insert gates at convolutions, and train them and the weights on what the network says without them.

    Labels of a data set join the loss, unless the settings give them no weight.

    Args:
        detector: with SSD heads that are known.
        pictures: a folder or a data set (`deploycc.workflows.pictures`).
        settings: how to train.
        gates: settings of the gates; their layers are those of ``layers``. None: a gate per kernel.
        layers: names of convolutions, with ``*`` and ``[...]`` as in shell patterns; none: the back-end's convolutions
            that have at least `LEAST_SHARE` of its MACs and kernels to spare (`GatingSettings.spare`).
        names: the network's class names with the background, if it does not know them and there are labels.
        threads: see `deploycc.workflows.train.use_threads`.
        checkpoint: written while training; where it exists, the training goes on from it.
        report: called with every record of the history.
        say: progress.

    Raises:
        DeployError: ``train-extra-missing``, ``distillation-nothing-seen``, ``training-no-result``.
        ModelError: the network's heads are not known, it has nothing to gate, or an operator cannot be trained.
        InputError, PictureError: a layer cannot be gated, or the pictures cannot be used;
            ``labels-of-other-classes``.
        ArtefactError: the checkpoint belongs to another training.
    """
    require_torch()
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError("train-processes", "gates are trained by one process", hint="run it without torchrun")

    from deploycc.detector.pictures import prepare
    from deploycc.distillation.balance import balance_by
    from deploycc.distillation.gating import train_gates as train
    from deploycc.distillation.gating_settings import GatingSettings
    from deploycc.distillation.loop import TrainingSettings
    from deploycc.distillation.samples import Samples
    from deploycc.passes import FOLD, run
    from deploycc.pruning.gated_refit import refit_gated
    from deploycc.pruning.reconstruct import HELD_OUT
    from deploycc.trainable.gated import GateShape
    from deploycc.workflows.fisher import fisher_by_picture
    from deploycc.workflows.prune_settings import cpu_options

    use_threads(threads)
    teacher = run(detector, cpu_options(), FOLD).detector
    chosen = layers_to_gate(teacher, layers)
    gating = GatingSettings(chosen, GateShape()) if gates is None else replace(gates, layers=chosen)
    if not layers and gating.keep is not None:
        gating = replace(gating, spare=_SPARE * (1 - gating.keep))
    say("reading the pictures")
    settings = settings or TrainingSettings()
    opened, labels, notes = open_for_training(pictures, detector, settings, names)
    samples = Samples(opened, detector.input, settings.seed, labels, balance_by(teacher, settings.balance))

    @cache
    def with_objects() -> FitPictures:
        return pictures_with_objects(opened, teacher, say)

    def rank() -> Any:
        # Once: in rounds, as for a cut, the kernels that went would all be worth next to nothing in every layer.
        return fisher_by_picture(teacher, with_objects(), chosen, threads=threads, seed=settings.seed, say=say)

    def refit(gated: Detector) -> Mapping[str, Any]:
        fit_on = with_objects().some(_REFIT, settings.seed)
        if len(fit_on.names) < HELD_OUT:
            return {}
        return refit_gated(
            teacher, gated, lambda number: prepare(fit_on.read(number), teacher.input), len(fit_on.names), say
        )

    how: dict[str, Any] = {"rank": rank, "refit": refit, "checkpoint": checkpoint, "report": report, "say": say}
    training = train(teacher, samples, settings, gating, **how)
    gated = training.layers
    count = (
        f"{len(gated)} layers"
        if gated == chosen
        else f"{len(gated)} of {len(chosen)} layers, those with kernels to spare,"
    )
    reason = (
        f"{count} have gates, trained for {training.steps} steps on the outputs of {detector.name} for "
        f"{len(samples.trained_on)} {pictures_sentence(opened, labels is not None)}"
    )
    result = replace(training.detector, notes=(*training.detector.notes, *notes, Note("", "gates-trained", reason)))
    shown = {number: detector.class_name(number) for number in training.agreement.by_class}
    return GateTraining(result, training, shown)


def layers_to_gate(detector: Detector, patterns: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the convolutions to gate, in graph order.

    Args:
        detector: as gates are inserted: passes have run.
        patterns: see `train_gates`.

    Raises:
        ModelError: ``distillation-no-heads``: back-end and front-end are not known; ``gate-no-layer``.
        InputError: ``gate-pattern``: a pattern matches no convolution.
    """
    from deploycc.distillation.heads import known_heads
    from deploycc.graph.cost import node_macs
    from deploycc.graph.gates.search import find_gates
    from deploycc.graph.split import split_heads
    from deploycc.trainable.gate import match_layers

    graph = detector.graph
    gated = {gate.layer for gate in find_gates(graph, detector.gates)}
    convolutions = [node for node in graph.nodes if node.op == "Conv" and node.name not in gated]
    if patterns:
        return tuple(match_layers(patterns, [node.name for node in convolutions]))
    heads = known_heads(detector)
    backend = split_heads(graph, heads.locations, heads.scores).backend
    chosen = tuple(
        node.name
        for node in convolutions
        if node.name in backend.nodes
        and int(node.attrs.get("group", 1)) == 1
        and node.inputs[0].name != detector.input.name  # gates lie between two layers
        and int(node.inputs[1].shape[0]) >= LEAST_KERNELS
        and node_macs(node) >= LEAST_SHARE * backend.macs
    )
    if not chosen:
        raise ModelError(
            "gate-no-layer", "the network has no convolution that is worth a gate", context={"network": detector.name}
        )
    return chosen
