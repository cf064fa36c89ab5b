"""``deploycc prune MODEL --profile P -o OUT.onnx``: useless kernels leave the network, physically."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deploycc.cli import complete
from deploycc.cli.model_options import ModelChoice, model_choice, one_source, warn_if_assumed
from deploycc.cli.pruning_options import PruningChoice, pruning_choice
from deploycc.cli.shared_options import takes
from deploycc.errors import InputError
from deploycc.terminal import console

if TYPE_CHECKING:
    from deploycc.documents.pruning import PruningRecord
    from deploycc.errors import Note


@takes(choice=model_choice, pruning=pruning_choice)
def command(
    choice: ModelChoice,
    pruning: PruningChoice,
    output: Annotated[
        Path,
        typer.Option("-o", "--output", metavar="FILE", help="Pruned detector: .onnx, or .prototxt with .caffemodel."),
    ],
    target: Annotated[
        str,
        typer.Option(
            "--target",
            "-t",
            metavar="TARGET",
            autocompletion=complete.target,
            help="Target whose times --round-to auto follows: measured for this machine's CPU, else predicted.",
        ),
    ] = "x86-cpu",
    threads: Annotated[int, typer.Option(metavar="N", min=0, help="CPU threads of --round-to auto; 0: all cores.")] = 0,
    reconstruct: Annotated[
        bool, typer.Option("--reconstruct", help="Refit the weights that are left on pictures, without labels.")
    ] = False,
    images: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder of pictures for --reconstruct.")] = None,
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            "-d",
            metavar="DATA",
            help="Pictures instead of --images: voc:FOLDER[@SPLIT] or generated:SEED[:COUNT].",
        ),
    ] = None,
    explain: Annotated[bool, typer.Option("--explain", help="List every channel that had to stay, and why.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Remove kernels that are hardly used.

    Every channel that depends on them goes too.
    """
    from deploycc import target as targets
    from deploycc.files import check_writable, sha256_of
    from deploycc.timing.machine import check_threads, usable_cores
    from deploycc.workflows.export import caffe_files, export_files
    from deploycc.workflows.prune import prune
    from deploycc.workflows.written import save_network

    check_threads(threads)
    (how,) = pruning.for_targets([targets.load(target)], threads or usable_cores())
    source = one_source(images, data) if reconstruct else None
    if not reconstruct and (images is not None or data is not None):
        raise InputError("prune-option", "--images and --data are for --reconstruct", hint="add --reconstruct")
    caffe = caffe_files(output)
    outputs = caffe or (output,)
    check_writable(*outputs, pruning.costs, inputs=[choice.model, choice.weights, pruning.profile, pruning.mask])
    profile, mask = pruning.read_profile(), pruning.read_mask()
    with console.progress("prune") as say:
        say("reading")
        detector = choice.load()
        pruned = prune(detector, how.settings, profile=profile, mask=mask, pictures=source, costs=how.costs, say=say)
    pruning.write_costs(how.costs)
    if source is not None:
        warn_if_assumed(detector.input, "what was refitted")
    notes: tuple[Note, ...] = ()
    if caffe is None:
        sha256 = save_network(pruned.detector, output)
    else:
        notes = export_files(pruned.detector, *caffe).notes
        sha256 = sha256_of(caffe[0])
    if as_json:
        facts = {"network": detector.name, "file": str(outputs[0]), "sha256": sha256}
        console.print_json({**facts, **pruned.record.model_dump(mode="json")})
    else:
        _show(pruned.record, detector.name, explain)
    if caffe is not None:
        console.notes(notes)
        console.note("Caffe files hold no record of what was removed: reports on them start at the pruned network")
    console.wrote(*outputs)


def _show(record: PruningRecord, network: str, explain: bool) -> None:
    from deploycc.report.pruning import gates_table, layers_table, parts_table, refitted_table, remarks, stays_table

    tables = [layers_table(record, network), parts_table(record), gates_table(record)]
    if explain:
        tables += [refitted_table(record), stays_table(record)]
    for number, table in enumerate([table for table in tables if table is not None]):
        if number:
            console.out()
        console.table(table.columns, table.rows, title=table.title or None)
    for sentence in remarks(record, network, explain):
        console.note(sentence)
    for note in record.not_analysed if explain else ():
        console.out(f"not analysed: {note.node}: {note.reason} ({note.code})")
