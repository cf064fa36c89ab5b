"""The files of networks that run in a row: one that decides, and one for each width.

The folder also gets the network in one file, whose gates multiply: it computes what the row computes, and is what
`deploycc evaluate DIR`, `deploycc detect DIR` and the expected answers of the smoke test use. No engine is built of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deploycc.detector import Detector
    from deploycc.documents.compile import SecondFile
    from deploycc.documents.plan import Row


@dataclass(frozen=True, eq=False)
class CompiledRow:
    """Networks in a row after all passes.

    Attributes:
        first: decides, and computes what second networks read.
        decision: its output that says which one follows, one number.
        second: the networks that may follow, each with all outputs of the detector.
        shares: for each, the share of the pictures that need it; empty where that is not known.
    """

    first: Detector
    decision: str
    second: tuple[Detector, ...]
    shares: tuple[float, ...]

    @property
    def parts(self) -> tuple[Detector, ...]:
        """The first network and the second ones."""
        return (self.first, *self.second)


def write_row(row: CompiledRow, folder: Path, stem: str) -> tuple[Path, str, Row, tuple[SecondFile, ...]]:
    """Write the networks of a row.

    Args:
        row: the networks.
        folder: where.
        stem: of the files' names.

    Returns:
        the first network's file and its SHA-256; what the plan and the report say of the row.
    """
    from deploycc.documents.compile import SecondFile
    from deploycc.documents.plan import Row, SecondNetwork, Tensor

    files = [folder / f"{stem}-first.onnx"]
    files += [folder / f"{stem}-second-{number}.onnx" for number in range(len(row.second))]
    digests = [_write(detector, file) for detector, file in zip(row.parts, files, strict=True)]
    handed = [tensor for tensor in row.first.graph.outputs if tensor.name != row.decision]
    second = tuple(
        SecondNetwork(file=file.name, sha256=sha256, reads=tuple(tensor.name for tensor in detector.graph.inputs))
        for detector, file, sha256 in zip(row.second, files[1:], digests[1:], strict=True)
    )
    record = Row(
        decision=row.decision,
        handed=tuple(Tensor(name=tensor.name, shape=tuple(tensor.shape)) for tensor in handed),
        second=second,
        shares=row.shares,
    )
    sizes = tuple(
        SecondFile(file=each.file, sha256=each.sha256, size_bytes=(folder / each.file).stat().st_size)
        for each in second
    )
    return files[0], digests[0], record, sizes


def _write(detector: Detector, file: Path) -> str:
    """Write a part as a plain network: alone it is no detector, and must not be read as one. Returns its SHA-256."""
    from deploycc.files import replacing, sha256_of
    from deploycc.graph.onnx_stream import write_onnx

    if file.exists():  # of another precision, which the builder is told
        return sha256_of(file)
    with replacing(file) as partial, partial.open("wb") as out:
        return write_onnx(detector.graph, {}, out)
