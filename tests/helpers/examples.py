"""How many examples a property test tries."""

from __future__ import annotations

import os

CAMPAIGN = 1000


def examples(ordinary: int) -> int:
    """Return this number, or a thousand in a campaign (``HYPOTHESIS_PROFILE=campaign``)."""
    return CAMPAIGN if os.environ.get("HYPOTHESIS_PROFILE") == "campaign" else ordinary
