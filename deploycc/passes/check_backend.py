"""The final check: whether the target's parser accepts the network."""

from __future__ import annotations

from deploycc.detector import Detector
from deploycc.errors import Note
from deploycc.parsers.support import refusals
from deploycc.passes.options import Options
from deploycc.passes.runner import Result


def check_backend(detector: Detector, options: Options) -> Result:
    """Note every node that the parser would refuse, why, and the first release that accepts it; change nothing.

    Before: any network
    After:  the same network; one Note ``parser-refuses`` per refused node
    """
    notes = []
    for refusal in refusals(detector.graph, options.contract):
        since = f" (supported since TensorRT {refusal.first_release})" if refusal.first_release else ""
        notes.append(Note(refusal.node, "parser-refuses", f"{refusal.op}: {refusal.reason}{since}"))
    return Result(detector, changed=False, notes=tuple(notes))
