"""The contract of an output folder: from a compilation to ``contract.json`` and the files that it names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deploycc.detector import Detector
    from deploycc.documents.contract import IntegrationContract, TrainedFile
    from deploycc.documents.plan import BuildPlan
    from deploycc.integration.contract_files import Expected
    from deploycc.workflows.networks import WrittenNetwork


def write_folder_contract(
    folder: Path,
    plan: BuildPlan,
    networks: Sequence[WrittenNetwork],
    detector: Detector,
    expected: Mapping[str, Expected],
) -> IntegrationContract:
    """Write the contract of a folder that holds networks, plan and agent.

    Args:
        folder: where.
        plan: of the folder.
        networks: as written, one per network of the plan.
        detector: what was compiled.
        expected: for a smoke test of the engines, by variant.

    Raises:
        ArtefactError: ``file-unwritable``.
    """
    from deploycc.agent_host.zipapp import FILE_NAME as AGENT_FILE
    from deploycc.documents.contract import InputContract, IntegrationContract, NmsContract
    from deploycc.documents.document import this_tool
    from deploycc.integration.contract_files import ContractNetwork, write_contract
    from deploycc.workflows.records import input_record, source_record

    nms = detector.nms
    frame = IntegrationContract.model_construct(
        tool=this_tool(),
        detector=detector.name,
        target=plan.target.name,
        runtime=plan.target.runtime,
        runtime_version=plan.target.runtime_version,
        source=source_record(detector),
        trained_files=_trained_files(detector),
        input=InputContract(**dict(input_record(detector.input))),
        class_names=detector.class_names,
        nms=NmsContract(
            score_threshold=nms.score_threshold,
            iou_threshold=nms.iou_threshold,
            top_k=nms.top_k,
            keep_top_k=nms.keep_top_k,
        ),
        networks=(),
        files=(),
    )
    engines = {engine.label: engine.files for engine in plan.engines}
    written = [
        ContractNetwork(
            each.network,
            engines[each.network.label][0],
            each.compiled.detector,
            each.compiled.notes,
            expected.get(each.network.variant),
            engines[each.network.label][1:],
        )
        for each in networks
    ]
    return write_contract(folder, frame, written, (plan.FILE_NAME, AGENT_FILE))


def _trained_files(detector: Detector) -> tuple[TrainedFile, ...]:
    """Each trained file by itself, and the files that prunings made of them, first to last."""
    from deploycc.documents.contract import TrainedFile
    from deploycc.workflows.records import source_record

    sources = [record.source for record in detector.prunings]
    if not sources or sources[-1] != source_record(detector):
        sources.append(source_record(detector))
    return tuple(
        TrainedFile(name=name, sha256=sha256, role="trained" if number == 0 else "pruned")
        for number, source in enumerate(sources)
        for name, sha256 in zip(source.files, source.file_sha256, strict=False)
    )
