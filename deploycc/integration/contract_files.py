"""Writing the contract of an output folder, with the files that it names: priors, variances, decoders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from deploycc.documents.contract import (
    DetectionsContract,
    DroppedPriors,
    HeadsContract,
    IntegrationContract,
    NetworkContract,
    RowContract,
    SecondContract,
    SmokeContract,
)
from deploycc.documents.document import NoteRecord
from deploycc.documents.folder import ListedFile
from deploycc.files import replacing, sha256_of, write_text
from deploycc.integration.decoder_cpp import cpp_decoder
from deploycc.integration.decoder_python import python_decoder
from deploycc.integration.outputs import activation, box_formula, describe_outputs
from deploycc.integration.prior_header import prior_header

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deploycc.detector import Detector, SsdHeads
    from deploycc.documents.plan import Network
    from deploycc.errors import Note

_NOTES = ("dead-priors", "detection-", "opaque")


@dataclass(frozen=True, eq=False)
class Expected:
    """What a network computes of pictures in FP32.

    Attributes:
        pictures: [N, height, width, 3] uint8, red first, as large as the input.
        score_threshold: of the detections.
        outputs: raw outputs by name, [N, elements] float32; empty where it decodes itself.
        detections: per picture class, score and corners (0..1) of each.
    """

    pictures: NDArray[np.uint8]
    score_threshold: float
    outputs: Mapping[str, NDArray[np.float32]]
    detections: tuple[tuple[tuple[int, float, float, float, float, float], ...], ...]


@dataclass(frozen=True, eq=False)
class ContractNetwork:
    """A network as written, and the detector that it is.

    Attributes:
        network: as the plan has it.
        engine: file of its engine.
        detector: after all passes.
        notes: of the passes.
        expected: for a smoke test of its engine; None: it gets none.
        second: of a row, files of the engines that follow.
    """

    network: Network
    engine: str
    detector: Detector
    notes: tuple[Note, ...] = ()
    expected: Expected | None = None
    second: tuple[str, ...] = ()


@dataclass
class _Folder:
    """The files that a contract lists, each once."""

    path: Path
    files: dict[str, ListedFile] = field(default_factory=dict)

    def add(self, name: str) -> str:
        """List a file that is there; returns its name."""
        file = self.path / name
        self.files[name] = ListedFile(name=name, sha256=sha256_of(file), size_bytes=file.stat().st_size)
        return name

    def table(self, name: str, values: NDArray[np.generic]) -> str:
        """Write a .npy file; returns its name."""
        with replacing(self.path / name) as partial, partial.open("wb") as file:
            np.lib.format.write_array(file, np.ascontiguousarray(values), version=(1, 0))
        return self.add(name)

    def text(self, name: str, text: str) -> str:
        """Write a text file; returns its name."""
        write_text(self.path / name, text)
        return self.add(name)


def write_contract(
    folder: Path, frame: IntegrationContract, networks: Sequence[ContractNetwork], others: Sequence[str] = ()
) -> IntegrationContract:
    """Write ``contract.json`` and what it names into a folder that holds the networks.

    Networks whose outputs are read alike share their files; the names of others end in ``-original`` or the precision.

    Args:
        folder: where.
        frame: a contract that is true but for its networks and files.
        networks: at least one.
        others: further files of the folder to list.

    Raises:
        ArtefactError: ``file-unwritable``.
    """
    files = _Folder(folder)
    suffixes: dict[object, str] = {}
    described = []
    for each in networks:
        key = _how_read(each.detector), each.second
        if key not in suffixes:
            ending = "" if each.network.variant == "compiled" else f"-{each.network.variant}"
            choices = (ending, f"{ending}-{each.network.precision}")
            suffixes[key] = next(choice for choice in choices if choice not in suffixes.values())
        described.append((_describe(files, each, suffixes[key]), suffixes[key]))
    contract = frame.model_copy(update={"files": tuple(files.files.values())})
    written = [_with_decoders(files, contract, *pair) for pair in described]
    for name in others:
        files.add(name)
    contract = IntegrationContract(
        **dict(contract) | {"networks": tuple(written), "files": tuple(file for _, file in sorted(files.files.items()))}
    )
    contract.write(folder / contract.FILE_NAME)
    return contract


def _how_read(detector: Detector) -> object:
    """Return what tells networks apart whose outputs are read in different ways."""
    heads = None
    if detector.heads is not None:
        values = (getattr(detector.heads, each.name) for each in fields(detector.heads))
        heads = tuple(value.tobytes() if isinstance(value, np.ndarray) else value for value in values)
    return detector.detections, heads, tuple(output.model_dump_json() for output in describe_outputs(detector))


def _describe(files: _Folder, each: ContractNetwork, suffix: str) -> NetworkContract:
    network, detector = each.network, each.detector
    heads = detections = None
    if (found := detector.detections) is not None:
        detections = DetectionsContract(
            boxes=found.boxes, scores=found.scores, classes=found.classes, count=found.count, layout=found.layout
        )
    elif detector.heads is not None:
        heads = _heads(files, detector, detector.heads, each.notes, suffix)
    for name in network.files:
        files.add(name)
    return NetworkContract(
        precision=network.precision,
        variant=network.variant,
        file=network.file,
        sha256=network.sha256,
        weights_file=network.weights_file,
        weights_sha256=network.weights_sha256,
        engine=each.engine,
        outputs=describe_outputs(detector),
        decoding="network" if detections else "host" if heads else "unknown",
        heads=heads,
        detections=detections,
        smoke=None if each.expected is None else _smoke(files, each.expected, network.variant),
        row=_row(each),
        notes=tuple(
            NoteRecord(node=note.node, code=note.code, reason=note.reason)
            for note in each.notes
            if note.code.startswith(_NOTES)
        ),
    )


def _row(each: ContractNetwork) -> RowContract | None:
    row = each.network.row
    if row is None:
        return None
    second = tuple(
        SecondContract(file=network.file, sha256=network.sha256, engine=engine, reads=network.reads)
        for network, engine in zip(row.second, each.second, strict=True)
    )
    return RowContract(decision=row.decision, handed=row.handed, second=second, shares=row.shares)


def _heads(files: _Folder, detector: Detector, heads: SsdHeads, notes: Sequence[Note], suffix: str) -> HeadsContract:
    dropped = None
    if heads.trained_rows is not None and heads.trained_priors is not None:
        reasons = [note.reason for note in notes if note.code == "dead-priors"]
        dropped = DroppedPriors(
            trained=heads.trained_priors,
            kept=len(heads.priors),
            rows=files.table(f"kept_priors{suffix}.npy", heads.trained_rows),
            reason=reasons[0] if reasons else "they were dropped by an earlier run",
        )
    header = prior_header(heads.priors, heads.variances, _symbol(suffix))
    return HeadsContract(
        locations=heads.locations,
        scores=heads.scores,
        activation=activation(detector),
        classes=heads.classes,
        background=heads.background,
        box_coding=heads.box_coding,
        variance_encoded=heads.variance_encoded,
        y_first=heads.y_first,
        clip=heads.clip,
        formula=box_formula(heads),
        prior_count=len(heads.priors),
        priors=files.table(f"priors{suffix}.npy", heads.priors.astype("<f4")),
        variances=files.table(f"variances{suffix}.npy", heads.variances.astype("<f4")),
        header=files.text(f"priors{suffix}.h", header),
        dropped=dropped,
    )


def _smoke(files: _Folder, expected: Expected, variant: str) -> SmokeContract:
    ending = "" if variant == "compiled" else f"-{variant}"
    outputs = {}
    for number, (name, values) in enumerate(sorted(expected.outputs.items())):
        outputs[name] = files.table(f"smoke-output{number}{ending}.npy", values.astype("<f4"))
    return SmokeContract(
        pictures=files.table("smoke-pictures.npy", expected.pictures),
        score_threshold=expected.score_threshold,
        outputs=outputs,
        detections=expected.detections,
    )


def _with_decoders(
    files: _Folder, contract: IntegrationContract, network: NetworkContract, suffix: str
) -> NetworkContract:
    if network.decoding == "unknown":
        return network
    python = files.text(f"decoder{suffix}.py".replace("-", "_"), python_decoder(contract, network))
    cpp = files.text(f"decoder{suffix}.hpp", cpp_decoder(contract, network, _symbol(suffix)))
    return network.model_copy(update={"python": python, "cpp": cpp})


def _symbol(suffix: str) -> str:
    return suffix.replace("-", "_")
