"""The network that gates are lowered in: after the passes before, whatever the plan."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deploycc.detector import Detector
    from deploycc.passes.options import Options
    from deploycc.target import Target


def prepare_network(detector: Detector, target: Target) -> tuple[Detector, Options]:
    """Return the network that gates are lowered in, and the options that the passes before have followed."""
    from deploycc.passes import DROP_DEAD, FOLD, PRUNE, run
    from deploycc.passes.for_target import options_for

    options = options_for(target, detection="raw")
    return run(detector, options, FOLD + DROP_DEAD + PRUNE).detector, options
