"""The comparison of compiled networks with what they were compiled from, in one line per network."""

from __future__ import annotations

from collections.abc import Sequence

from deploycc.documents.compile import VerificationRecord

_AGAINST = {"file": "its file", "import": "the imported network", "pruned": "the network after pruning"}


def verified_lines(records: Sequence[VerificationRecord]) -> list[str]:
    """Say what was compared, how far apart it is, and how long that took."""
    return [_line(record) for record in records]


def _line(record: VerificationRecord) -> str:
    network = f"{record.label} network"
    if not record.tensors:
        return f"{network}: not compared: it shares no tensor with {_AGAINST[record.against]}"
    pictures = f"{record.pictures} seeded picture{'s' if record.pictures > 1 else ''}"
    far = f"largest difference {record.largest_difference:.0e} of the largest value"
    took = f", {record.seconds:.1f} s" if record.seconds else ", same network"
    reason = f"; the file was not run: {record.reason}" if record.reason else ""
    return (
        f"{network} equals {_AGAINST[record.against]} on {pictures} "
        f"({far if record.largest_difference else 'no difference'}{took}){reason}"
    )
