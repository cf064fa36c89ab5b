"""``deploycc train recover PRUNED --teacher MODEL --images DIR``: a pruned network learns from its original."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

from deploycc.cli.model_options import warn_if_assumed
from deploycc.cli.options import argument, option, takes_options
from deploycc.cli.shared_options import ClassNames, Pictures, comma_list
from deploycc.cli.train_options import OutputFile, TeachingOptions
from deploycc.terminal import console


@takes_options
def command(
    *,
    pruned: Annotated[str, argument("PRUNED", "Pruned network (.onnx) that `prune` wrote.")],
    teacher: Annotated[str, option("MODEL", "Trained network that it was pruned from.")],
    output: OutputFile,
    weights: Annotated[Path | None, option("FILE", "Caffe weights of the teacher.", "--teacher-weights")] = None,
    pictures: Pictures,
    names: ClassNames = None,
    stages: Annotated[
        int,
        option("N", "Prune PRUNED (maybe MODEL itself) in this number of cuts by fisher; recover after each.", min=0),
    ] = 0,
    below: Annotated[float, option("SHARE", "Share of the MACs that --stages remove.", min=0.001, max=0.95)] = 0.2,
    teaching: TeachingOptions,
    threads: Annotated[int, option("N", "CPU threads; 0: all cores.", min=0, max=1024)] = 0,
) -> None:
    """Train a pruned network on the outputs of its original.

    No labels are needed; those of --data join the loss. The checkpoint lies beside the output, and the same command
    goes on from it. Several processes share each step: `torchrun --nproc-per-node 2 -m deploycc train recover ...`.
    """
    from deploycc.files import check_writable, write_text
    from deploycc.report.training import record_sentence, recovery_table
    from deploycc.workflows.load import load
    from deploycc.workflows.recover import recover_in_stages
    from deploycc.workflows.train import require_torch
    from deploycc.workflows.written import save_network

    require_torch()
    from deploycc.distillation.processes import is_first

    checkpoint, metrics = output.with_suffix(".checkpoint.pt"), output.with_suffix(".metrics.json")
    check_writable(output, checkpoint, metrics, inputs=[pruned, teacher, weights])
    source = pictures.source()
    with console.progress("train recover") as say:
        say("reading")
        student, original = load(pruned), load(teacher, weights=weights)
        how: dict[str, Any] = {
            "settings": teaching.settings(),
            "names": comma_list(names),
            "threads": threads,
            "checkpoint": checkpoint,
            "say": say,
        }
        how["report"] = lambda record: console.note(record_sentence(record, "teacher"))
        staged = recover_in_stages(student, original, source, below=below, stages=stages, **how)
    done = staged[-1]
    if not is_first():  # of the processes of torchrun, one writes
        return
    warn_if_assumed(done.detector.input, "what was trained")
    facts = {"stages": [stage.facts() for stage in staged]} if stages else done.facts()
    write_text(metrics, json.dumps(facts, indent=1) + "\n")
    console.tables(recovery_table(done.training.before, done.training.after, done.class_names))
    if done.training.stopped:
        console.note(done.training.stopped)
    console.wrote(*sorted(checkpoint.parent.glob(f"{checkpoint.stem}*{checkpoint.suffix}")), metrics)
    if done.improved or stages:
        save_network(done.detector, output)
        console.wrote(output, answer=True)
    else:
        console.note(f"training made the network no better, so {output} was not written; {pruned} is as it was")
