"""The last word before the network leaves: would the target's parser take it?"""

from __future__ import annotations

from deploycc.detector import Detector
from deploycc.errors import Note
from deploycc.parsers.support import refusals
from deploycc.passes.options import Options
from deploycc.passes.runner import Result


def check_backend(detector: Detector, options: Options) -> Result:
    """Name every node that the parser would refuse, why, and the first release that takes it; change nothing.

    Before: any network
    After:  the same network; one Note ``parser-refuses`` a refused node
    """
    notes = []
    for refusal in refusals(detector.graph, options.contract):
        taken = f" (taken from {refusal.first_release} on)" if refusal.first_release else ""
        notes.append(Note(refusal.node, "parser-refuses", f"{refusal.op}: {refusal.reason}{taken}"))
    return Result(detector, changed=False, notes=tuple(notes))
