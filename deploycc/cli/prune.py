"""``deploycc prune MODEL --profile P -o OUT.onnx``: useless kernels leave the network, physically."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from deploycc.cli.model_options import ModelChoice, warn_if_assumed
from deploycc.cli.options import option, switch, takes_options
from deploycc.cli.pruning_options import PruningChoice
from deploycc.cli.shared_options import AsJson, Device, OrData, one_source, target_option
from deploycc.errors import InputError
from deploycc.terminal import console


@takes_options
def command(
    *,
    output: Annotated[Path, option("FILE", "Pruned detector: .onnx, or .prototxt with .caffemodel.", "-o", "--output")],
    target: Annotated[
        str | None,
        target_option(
            "Target whose times --round-to auto follows: measured on --device and for this machine's CPU, else "
            "predicted; default: that of --device, else x86-cpu."
        ),
    ] = None,
    device: Device = None,
    threads: Annotated[int, option("N", "CPU threads of --round-to auto; 0: all cores.", min=0)] = 0,
    reconstruct: Annotated[
        bool, switch("--reconstruct", "Refit the weights that are left on pictures, without labels.")
    ] = False,
    images: Annotated[Path | None, option("DIR", "Folder of pictures for --reconstruct and --by fisher.")] = None,
    data: OrData = None,
    explain: Annotated[bool, switch("--explain", "List every channel that had to stay, and why.")] = False,
    as_json: AsJson = False,
    choice: ModelChoice,
    pruning: PruningChoice,
) -> None:
    """Remove kernels that are hardly used.

    Every channel that depends on them goes too.
    """
    from deploycc import target as targets
    from deploycc.files import check_writable
    from deploycc.report.pruning import not_analysed, pruning_tables, remarks
    from deploycc.workflows.cost_files import write_costs
    from deploycc.workflows.device_timer import timer_on
    from deploycc.workflows.devices import planned_target
    from deploycc.workflows.export import caffe_files
    from deploycc.workflows.prune import prune, write_pruned

    chosen = targets.load(planned_target(target, device))
    pruning.check(device)
    source = one_source(images, data) if reconstruct or pruning.by == "fisher" else None
    if source is None and (images is not None or data is not None):
        raise InputError("prune-option", "--images and --data are for --reconstruct and --by fisher", hint="add one")
    outputs = caffe_files(output) or (output,)
    check_writable(*outputs, pruning.costs, inputs=[choice.model, choice.weights, pruning.profile, pruning.mask])
    profile, mask = pruning.read_inputs()
    with console.progress("prune") as say, timer_on(device, chosen, threads, say) as timer:
        (how,) = pruning.for_targets([chosen], timer)
        detector = choice.load(say)
        known: dict[str, Any] = {"profile": profile, "mask": mask, "pictures": source, "costs": how.costs}
        pruned = prune(detector, how.settings, refit=reconstruct, **known, say=say)
    write_costs(pruning.costs, how.costs)
    if source is not None:
        warn_if_assumed(detector.input, "what was refitted" if reconstruct else "the order of the kernels")
    written = write_pruned(pruned, output)
    record, name = pruned.record, detector.name
    facts = {"network": name, "file": str(outputs[0]), "sha256": written.sha256, **record.model_dump(mode="json")}
    console.show(as_json, facts, *pruning_tables(record, name, explain), remarks=remarks(record, name, explain))
    for line in not_analysed(record) if explain and not as_json else ():
        console.out(line)
    console.notes(written.notes)
    console.wrote(*outputs)
