"""Costs of a machine with the files that keep them: what was measured once is not measured again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from deploycc.progress import Say, quiet

if TYPE_CHECKING:
    from deploycc.gate_planning.costs import GateCosts
    from deploycc.prediction.costs import PredictedCosts
    from deploycc.target import Target
    from deploycc.timing.convolutions import Costs
    from deploycc.timing.timer import Timer
    from deploycc.workflows.predicted_gate_costs import AnyGateCosts


def read_costs(path: Path | None, timer: Timer) -> Costs:
    """Return times of convolutions on one machine, with what a file knows already.

    Args:
        path: a cost table; None, or a file that does not exist: nothing is known. Profiles of whole networks are
            written there one by one.
        timer: measures there what is missing.

    Raises:
        ArtefactError: the file cannot be used, or holds times of another machine.
    """
    from deploycc.documents.costs import CostTable
    from deploycc.documents.document import read_document
    from deploycc.timing.convolutions import Costs

    table = None if path is None or not path.exists() else read_document(path, CostTable)
    return Costs(timer.machine, table, timer=timer, keep=None if path is None else lambda known: known.write(path))


def write_costs(path: Path | None, costs: Costs | PredictedCosts) -> None:
    """Keep times of convolutions that were measured; nothing is written without a path, or of predicted times."""
    if path is None or costs.evidence == "predicted":
        return
    table = costs.table()
    if table.timings or table.profiles:
        table.write(path)


@contextmanager
def gate_costs_of(
    target: Target, device: str | None, path: Path | None, threads: int, say: Say = quiet
) -> Iterator[AnyGateCosts]:
    """Yield the costs of gates on a target: measured on its device or on this machine, otherwise predicted.

    Args:
        target: that gates are planned for.
        device: that is one; None: this machine, or nothing.
        path: see `kept_gate_costs`; nothing is read or written where costs are predicted.
        threads: of the CPU, for this machine; 0: all cores.
        say: progress.

    Raises:
        DeployError: see `kept_gate_costs`, `deploycc.workflows.device_timer.timer_on` and
            `deploycc.workflows.gates.target_gate_costs`.
    """
    from deploycc.workflows.costs import measured_here
    from deploycc.workflows.device_timer import timer_on
    from deploycc.workflows.gates import target_gate_costs

    if device is None and not measured_here(target):
        yield target_gate_costs(target)
        return
    with timer_on(device, target, threads, say) as timer, kept_gate_costs(path, timer) as known:
        yield known


@contextmanager
def kept_gate_costs(path: Path | None, timer: Timer) -> Iterator[GateCosts]:
    """Yield costs of gate planning on one machine; what the block measures is kept, also where it fails.

    Args:
        path: a table of such costs; None: nothing is known, and nothing is kept.
        timer: measures there what is missing.

    Raises:
        ArtefactError: the file cannot be used, or holds times of another machine.
    """
    from deploycc.documents.costs import GateCostTable
    from deploycc.documents.document import read_document
    from deploycc.gate_planning.costs import GateCosts

    known = None if path is None or not path.exists() else read_document(path, GateCostTable)
    costs = GateCosts(timer.machine, known, timer)
    try:
        yield costs
    finally:
        table = costs.table()
        if path is not None and (table.operations or table.convolutions) and table != known:
            table.write(path)
