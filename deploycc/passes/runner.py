"""Running passes: time, cost before and after, notes, dumps."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from deploycc.detector import Detector
from deploycc.errors import Note
from deploycc.graph.cost import Cost, measure_cost
from deploycc.passes.options import Options


@dataclass(frozen=True)
class Result:
    """What a pass returns.

    Attributes:
        detector: the detector after the pass.
        changed: whether the pass did anything.
        notes: what it decided or had to leave.
    """

    detector: Detector
    changed: bool
    notes: tuple[Note, ...] = ()


Pass = Callable[[Detector, Options], Result]


@dataclass(frozen=True)
class Step:
    """One pass that ran.

    Attributes:
        name: the pass.
        seconds: wall time of the pass alone, without cost counting and dumping.
        changed: whether it did anything.
        before, after: size of the network around it.
        notes: what it said.
    """

    name: str
    seconds: float
    changed: bool
    before: Cost
    after: Cost
    notes: tuple[Note, ...]


@dataclass(frozen=True, eq=False)
class Compiled:
    """A detector after the pipeline, with a record of every pass."""

    detector: Detector
    options: Options
    steps: tuple[Step, ...]

    @property
    def notes(self) -> tuple[Note, ...]:
        """All notes of the importer and the passes, in order."""
        return self.detector.notes + tuple(note for step in self.steps for note in step.notes)


def run(
    detector: Detector,
    options: Options,
    passes: Sequence[Pass],
    *,
    dump_to: Path | None = None,
    before_each: Callable[[str], None] = lambda name: None,
) -> Compiled:
    """Run ``passes`` in order on a copy of ``detector``; weights are shared with the original, the graph is not.

    Args:
        detector: stays as it is.
        options: handed to every pass.
        passes: usually `deploycc.passes.PIPELINE`.
        dump_to: folder that receives ``NN_name.txt``, the ONNX text of the graph after each pass.
        before_each: receives the name of each pass before it runs (progress).
    """
    current = replace(detector, graph=detector.graph.copy())
    cost = measure_cost(current.graph)
    steps: list[Step] = []
    for number, step in enumerate(passes):
        name = step.__name__
        before_each(name)
        start = time.perf_counter()
        result = step(current, options)
        seconds = time.perf_counter() - start
        before, cost = cost, measure_cost(result.detector.graph) if result.changed else cost
        steps.append(Step(name, seconds, result.changed, before, cost, result.notes))
        current = result.detector
        if dump_to is not None:
            from deploycc.graph.text import write_text

            write_text(current.graph, dump_to / f"{number:02d}_{name}.txt")
    return Compiled(current, options, tuple(steps))
