"""The final check: whether the target's parser accepts the network."""

from __future__ import annotations

from deploycc.detector import Detector
from deploycc.errors import Note
from deploycc.parsers.support import refusals, unproven
from deploycc.passes.options import Options
from deploycc.passes.runner import Result


def check_backend(detector: Detector, options: Options) -> Result:
    """Note every node that the parser would refuse, why, and the first release that accepts it; change nothing.

    Before: any network
    After:  the same network; one Note ``parser-refuses`` per reason and node, and one Note ``parser-unproven`` on what
    no source confirms
    """
    notes = []
    for refusal in refusals(detector.graph, options.contract):
        since = f" (supported since TensorRT {refusal.first_release})" if refusal.first_release else ""
        reason = f"{refusal.op}: {refusal.reason}{since}; source: {refusal.source}"
        notes.append(Note(refusal.node, "parser-refuses", reason))
    doubt = unproven(detector.graph, options.contract)
    if doubt is not None and not notes:
        notes.append(Note("", "parser-unproven", doubt))
    return Result(detector, changed=False, notes=tuple(notes))
