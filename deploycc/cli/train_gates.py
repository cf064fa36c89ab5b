"""``deploycc train gates MODEL --images DIR``: kernel gates for a trained detector, from its file alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from deploycc.cli.model_options import ModelChoice, warn_if_assumed
from deploycc.cli.options import option, takes_options
from deploycc.cli.shared_options import ClassNames, Pictures, comma_list
from deploycc.cli.train_options import GateOptions, OutputFile, TeachingOptions
from deploycc.terminal import console


@dataclass(frozen=True)
class GateTeachingOptions(TeachingOptions):
    """Gates are calibrated on the pictures of a step: it takes two of them."""

    batch: Annotated[int, option("N", "Pictures per step.", min=2)] = 8
    seed: Annotated[int, option("SEED", "Seed of gates, order and changes.", min=0)] = 1


@takes_options
def command(
    *,
    output: OutputFile,
    pictures: Pictures,
    names: ClassNames = None,
    gates: GateOptions,
    teaching: GateTeachingOptions,
    threads: Annotated[int, option("N", "CPU threads; 0: all cores.", min=0, max=1024)] = 0,
    choice: ModelChoice,
) -> None:
    """Train kernel gates for a detector, from its file alone.

    No labels are needed; those of --data join the loss. The checkpoint lies beside the output, and the same command
    goes on from it.
    """
    from deploycc.files import check_writable
    from deploycc.report.training import agreement_table, gates_sentence, record_sentence
    from deploycc.workflows.train import require_torch
    from deploycc.workflows.train_gates import train_gates

    require_torch()
    checkpoint, metrics = output.with_suffix(".checkpoint.pt"), output.with_suffix(".metrics.json")
    check_writable(output, checkpoint, metrics, inputs=[choice.model, choice.weights])
    gating, source = gates.settings(), pictures.source()

    with console.progress("train gates") as say:
        original = choice.load(say)
        done = train_gates(
            original,
            source,
            teaching.settings(),
            gates=gating,
            layers=comma_list(gates.gate_layers),
            names=comma_list(names),
            threads=threads,
            checkpoint=checkpoint,
            report=lambda record: console.note(record_sentence(record, "network without gates")),
            say=say,
        )
    warn_if_assumed(original.input, "what was trained")
    done.write(output, metrics)
    console.tables(agreement_table(done.training.agreement, done.class_names))
    console.note(gates_sentence(done.training.engaged, done.training.gated_share))
    if done.training.retired:
        console.note(f"{done.training.retired} units were hardly used and are switched off for good")
    if done.training.stopped:
        console.note(done.training.stopped)
    console.wrote(checkpoint, metrics)
    console.wrote(output, answer=True)
