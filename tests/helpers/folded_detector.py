"""A detector as it is trained: with its constants folded."""

from __future__ import annotations

from deploycc.detector import Detector
from deploycc.passes import FOLD, run
from deploycc.workflows.prune import cpu_options


def folded(detector: Detector) -> Detector:
    """Fold constants; the detector stays as it is."""
    return run(detector, cpu_options(), FOLD).detector
