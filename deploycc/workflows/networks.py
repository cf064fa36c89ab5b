"""The middle of `compile`: from a detector and a target to network files, plan and agent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from deploycc.errors import ModelError
from deploycc.progress import Say, quiet

if TYPE_CHECKING:
    from deploycc.detector import Detector
    from deploycc.documents.compile import NetworkRecord, SecondFile
    from deploycc.documents.gate_plan import LayerPlan
    from deploycc.documents.plan import BuildPlan, Measurement, Network, Variant
    from deploycc.passes import Compiled
    from deploycc.passes.options import Detection, Precision, Prune
    from deploycc.target import Target
    from deploycc.workflows.row_files import CompiledRow

_REFUSALS_SHOWN = 8


@dataclass(frozen=True, eq=False)
class WrittenNetwork:
    """One network after the passes, written to its file.

    Attributes:
        compiled: of a row, the network in one that computes what the row does, with the steps of the row.
        network: as the plan has it.
        record: as the report has it.
        detector_file: holds the detector of ``compiled``; of a row, no engine is built of it.
        row: the networks in a row; None for a single network.
    """

    compiled: Compiled
    network: Network
    record: NetworkRecord
    detector_file: str
    row: CompiledRow | None = None


def run_passes(
    detector: Detector,
    target: Target,
    precision: Precision,
    *,
    detection: Detection | None = None,
    keep_fp32: Sequence[str] = (),
    prune: Prune | None = None,
    gate_plan: tuple[LayerPlan, ...] = (),
    dump_to: Path | None = None,
    say: Say = quiet,
) -> Compiled:
    """Run the pipeline for one precision.

    Raises:
        ModelError: ``parser-refuses``: the target's parser would refuse nodes; each is named.
        TargetError: the target does not do what was asked.
    """
    from deploycc.passes import PIPELINE, run
    from deploycc.passes.for_target import options_for

    options = options_for(target, precision=precision, detection=detection, keep_fp32=keep_fp32)
    options = replace(options, prune=prune, gate_plan=gate_plan)
    folder = dump_to / precision if dump_to else None
    compiled = run(detector, options, PIPELINE, dump_to=folder, before_each=lambda name: say(f"{precision} {name}"))
    refuse_unparsable(compiled, target)
    return compiled


def refuse_unparsable(compiled: Compiled, target: Target) -> None:
    """Refuse a network with nodes that the target's parser would refuse.

    Raises:
        ModelError: ``parser-refuses``.
    """
    refused: dict[str, list[str]] = {}
    for note in compiled.notes:
        if note.code == "parser-refuses":
            refused.setdefault(note.node, []).append(note.reason)
    if refused:
        shown = {node: "; ".join(refused[node]) for node in list(refused)[:_REFUSALS_SHOWN]}
        more = len(refused) - len(shown)
        nodes = "node" if len(refused) == 1 else "nodes"
        raise ModelError(
            "parser-refuses",
            f"the parser of target {target.name} would refuse {len(refused)} {nodes}",
            context={**shown, **({"...": f"and {more} more"} if more else {})},
            hint="`deploycc inspect MODEL` shows which targets take it",
        )


def write_network(
    compiled: Compiled, target: Target, folder: Path, variant: Variant, row: CompiledRow | None = None
) -> WrittenNetwork:
    """Write one compiled network in the format that the target's builder reads, and those of a row beside it."""
    from deploycc.detector.file import save
    from deploycc.documents.plan import Network, Tensor
    from deploycc.files import sha256_of
    from deploycc.workflows.records import network_record
    from deploycc.workflows.row_files import write_row

    detector, options = compiled.detector, compiled.options
    ending = "" if variant == "compiled" else f"-{variant}"
    stem = f"network-{options.precision if options.typed else 'fp32'}{ending}"
    file, weights = folder / f"{stem}.onnx", None
    sha256 = sha256_of(file) if file.exists() else save(detector, file)
    if target.model_format == "caffe":
        from deploycc.exporters import caffe

        file, weights = folder / f"{stem}.prototxt", folder / f"{stem}.caffemodel"
        caffe.save(detector, file, weights)
        sha256 = sha256_of(file)
    whole, described = file.name, None
    second: tuple[SecondFile, ...] = ()
    if row is not None:
        file, sha256, described, second = write_row(row, folder, stem)
    network = Network(
        variant=variant,
        file=file.name,
        sha256=sha256,
        weights_file=weights.name if weights else None,
        weights_sha256=sha256_of(weights) if weights else None,
        format=target.model_format,
        precision=options.precision,
        typed=options.typed,
        keep_fp32=tuple(sorted(options.keep_fp32)),
        input=Tensor(name=detector.input.name, shape=detector.input.shape),
        outputs=tuple(tensor.name for tensor in detector.graph.outputs),
        row=described,
    )
    record = network_record(compiled, file, sha256, variant).model_copy(update={"second": second})
    return WrittenNetwork(compiled, network, record, whole, row)


def write_plan_and_agent(
    folder: Path, target: Target, networks: Sequence[Network], detector: Detector, measurement: Measurement
) -> BuildPlan:
    """Write ``plan.json`` and the agent that obeys it."""
    from deploycc.agent_host.zipapp import FILE_NAME as AGENT_FILE
    from deploycc.agent_host.zipapp import write_agent
    from deploycc.engine.plan import make_plan

    plan = make_plan(target, networks, source_sha256=detector.source.sha256, measurement=measurement)
    plan.write(folder / plan.FILE_NAME)
    write_agent(folder / AGENT_FILE)
    return plan
