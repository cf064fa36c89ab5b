"""Verifying a written network: it is read back, run on seeded pictures, and compared with the trained file."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploycc.errors import MeasureError, ModelError
from deploycc.progress import Say, quiet
from deploycc.workflows.verify_errors import Against, differs_error, not_finite_error
from deploycc.workflows.verify_row import RowRunner
from deploycc.workflows.written import read_back

if TYPE_CHECKING:
    import numpy as np
    import onnx_graphsurgeon as gs
    from numpy.typing import NDArray

    from deploycc.detector import Detector
    from deploycc.documents.compile import VerificationRecord
    from deploycc.passes.options import Options
    from deploycc.passes.runner import Compiled, Pass
    from deploycc.verification.comparison import Difference
    from deploycc.workflows.networks import WrittenNetwork

    Values = Mapping[str, NDArray[Any]]

_PICTURES, _FEW_PICTURES, _MORE_PICTURES = 2, 1, 5
_MANY_MACS = 5_000_000_000
"""From here on, one picture is enough: each number of an output is a sum over thousands of weights."""


@dataclass(eq=False)
class _Reference:
    """What a network should compute.

    Attributes:
        detector: whose outputs they are.
        against: what computes them: the trained file, or the detector's own graph after import or after pruning.
        run: from an input to values by tensor name.
        reason: why the file does not compute them, as the end of a sentence; empty if it does.
    """

    detector: Detector
    against: Against
    run: Callable[[NDArray[np.float32]], Values]
    reason: str = ""
    _known: dict[int, Values] = field(default_factory=dict)

    def values(self, seed: int) -> Values:
        """Return the values for a seeded picture, which must be finite.

        Raises:
            ModelError: ``network-not-finite``.
        """
        from deploycc.verification.comparison import not_finite
        from deploycc.verification.pictures import seeded_picture

        if seed not in self._known:
            picture = seeded_picture(self.detector.input, seed)
            self._known[seed] = self.run(picture)
            if bad := not_finite(self._known[seed]):
                raise not_finite_error(self.detector.graph, self.detector, bad[0], picture)
        return self._known[seed]


def verify_networks(
    networks: Sequence[tuple[Detector, WrittenNetwork]], folder: Path, verifier: Verifier, say: Say = quiet
) -> tuple[VerificationRecord, ...]:
    """Verify networks that were written to one folder.

    Args:
        networks: each with the detector that its pipeline started from.
        folder: where they were written.
        verifier: of the whole compilation.
        say: progress.

    Raises:
        ModelError: as `Verifier.verify`.
    """
    return tuple(verifier.verify(start, written, folder / written.network.file, say) for start, written in networks)


class Verifier:
    """Verifies the networks of one compilation; what several have in common is run once."""

    def __init__(self) -> None:
        self._imported: dict[int, _Reference] = {}
        self._pruned: dict[int, _Reference] = {}
        self._done: dict[tuple[str, ...], VerificationRecord] = {}

    def verify(self, start: Detector, written: WrittenNetwork, file: Path, say: Say = quiet) -> VerificationRecord:
        """Read a written network back and compare it with what its pipeline started from.

        If the detector comes from an ONNX file, the file itself is run. Pruning changes outputs on purpose, so a pruned
        network is compared with the network after the pruning passes, and the import with the file.

        Args:
            start: what the pipeline started from, as imported.
            written: the network.
            file: where it was written. Of a row, the network in one that lies beside it is compared first.
            say: progress.

        Raises:
            ModelError: the file cannot be read back, computes something else, or gives NaN or infinity.
        """
        from deploycc.documents.compile import VerificationRecord

        network, compiled = written.network, written.compiled
        identity = {"precision": network.precision, "variant": network.variant}
        known = self._done.get(digests := tuple(network.files.values()))
        if known is not None:
            return known.model_copy(update={**identity, "seconds": 0.0})
        begin = time.perf_counter()
        say(f"{network.precision} verifying")
        read = read_back(file.with_name(written.detector_file))
        reference, passes = self._reference_of(start), _pipeline()
        if compiled.options.prune is not None:
            _check_import(reference)
            reference, passes = self._after_pruning(start, compiled.options, reference.reason)
        tolerance = _tolerance(reference, compiled.options)
        found = _compare(reference, _Runner.of(reference.detector, read, compiled.options), tolerance)
        if found.wrong:
            raise _differs(reference, compiled, passes, found)
        if written.row is not None:
            row = RowRunner(reference.detector, network, file.parent, compiled.options, _threads())
            found = _compare(reference, _InARow(reference.detector, row, compiled.options), tolerance)
            if found.wrong:
                raise differs_error(reference.detector, reference.against, found.worst, "split_at_decision", tolerance)
        self._done[digests] = VerificationRecord(
            **identity,  # type: ignore[arg-type]
            against=reference.against,
            reason=reference.reason or None,
            pictures=found.pictures,
            tensors=found.tensors,
            largest_difference=found.worst.share,
            tolerance=tolerance,
            seconds=time.perf_counter() - begin,
        )
        return self._done[digests]

    def compare_with_itself(self, start: Detector) -> None:
        """Take a detector's own graph as what its networks are compared with: its weights are no longer its file's."""
        self._imported[id(start)] = _own_graph(start, "pruned", "")

    def _reference_of(self, start: Detector) -> _Reference:
        from deploycc.verification.comparison import comparable_tensors
        from deploycc.verification.file_outputs import CannotRun, FileOutputs

        if id(start) not in self._imported:
            try:
                file = FileOutputs(start, comparable_tensors(start.graph), _threads())
                reference = self._imported[id(start)] = _Reference(start, "file", file)
                reference.values(0)  # a file that can be read may still fail while it runs
            except CannotRun as error:
                reason = str(error) if start.source.format == "onnx" else ""
                self._imported[id(start)] = _own_graph(start, "import", reason)
        return self._imported[id(start)]

    def _after_pruning(self, start: Detector, options: Options, reason: str) -> tuple[_Reference, tuple[Pass, ...]]:
        """Return the network after the pruning passes, and the passes that are left."""
        from deploycc.passes import CHECK, DROP_DEAD, FIT, FOLD, LOWER, PRUNE, run

        if id(start) not in self._pruned:
            pruned = run(start, options, FOLD + DROP_DEAD + PRUNE).detector
            self._pruned[id(start)] = _own_graph(pruned, "pruned", reason)
        return self._pruned[id(start)], LOWER + FIT + CHECK


@dataclass(frozen=True)
class _Found:
    """Result of a comparison.

    Attributes:
        worst: the largest difference that counts.
        wrong: it exceeds the tolerance.
        seed: the picture that shows it.
        pictures, tensors: how many were compared.
    """

    worst: Difference
    wrong: bool
    seed: int
    pictures: int
    tensors: int


class _Runner:
    """Runs a network up to the tensors that it shares with its reference."""

    def __init__(self, reference: Detector, graph: gs.Graph, rows: NDArray[np.bool_] | None = None) -> None:
        import onnx_graphsurgeon as graphsurgeon

        from deploycc.graph.session import GraphRunner, cut_at
        from deploycc.verification.comparison import comparable_tensors

        tensors = graph.tensors()
        names = comparable_tensors(reference.graph)
        self.names = [name for name in names if isinstance(tensors.get(name), graphsurgeon.Variable)]
        self.reference, self.graph, self._rows = reference, graph, rows
        cut, context = cut_at(graph, self.names), {"network": reference.name}
        self._run: Callable[[Values], Values] = GraphRunner(cut, _threads(), context)

    @staticmethod
    def of(reference: Detector, read: Detector, options: Options) -> _Runner:
        """Return a runner of a network whose pipeline may have dropped priors, and rounds to FP16 where it says so."""
        from deploycc.precision.comparison import store_as_half

        graph = read.graph
        if options.typed and options.precision == "fp16":  # ONNX Runtime drops the Casts that would round
            graph = store_as_half(graph)
        return _Runner(reference, graph, _kept_priors(reference, options))

    def values(self, picture: NDArray[np.float32]) -> Values:
        return self._run({self.reference.input.name: picture})

    def expected(self, values: Values) -> Values:
        """Return the values of the reference that the network still has: without those of dropped priors."""
        heads, rows = self.reference.heads, self._rows
        if heads is None or rows is None:
            return values
        cut = {name: values[name].reshape(len(rows), -1)[rows] for name in (heads.locations, heads.scores)}
        return {**values, **cut}


class _InARow(_Runner):
    """Networks in a row, which the first one chooses from."""

    def __init__(self, reference: Detector, row: RowRunner, options: Options) -> None:
        self.names, self.reference, self.graph = row.names, reference, reference.graph
        self._rows = _kept_priors(reference, options)
        self._run = lambda given: row.values(given[reference.input.name])


def _compare(reference: _Reference, runner: _Runner, tolerance: float) -> _Found:
    """Run both on seeded pictures.

    A number beside a threshold may fall on either side of it: a network with thresholds is wrong only if it is on most
    of some more pictures.
    """
    from deploycc.graph.cost import measure_cost
    from deploycc.verification.comparison import has_thresholds

    count = _FEW_PICTURES if measure_cost(reference.detector.graph).macs > _MANY_MACS else _PICTURES
    differences = [_difference(reference, runner, seed) for seed in range(count)]
    wrong = [difference.share > tolerance for difference in differences]
    if any(wrong) and has_thresholds(reference.detector.graph):
        differences += [_difference(reference, runner, seed) for seed in range(count, _MORE_PICTURES)]
        wrong = [difference.share > tolerance for difference in differences]
        if sum(wrong) <= len(wrong) / 2:
            differences = [difference for difference in differences if difference.share <= tolerance]
    seed = max(range(len(differences)), key=lambda number: differences[number].share)
    worst = differences[seed]
    return _Found(worst, worst.share > tolerance, seed, len(wrong), len(runner.names))


def _difference(reference: _Reference, runner: _Runner, seed: int) -> Difference:
    from deploycc.verification.comparison import largest_difference, not_finite
    from deploycc.verification.pictures import seeded_picture

    expected = runner.expected(reference.values(seed))
    picture = seeded_picture(reference.detector.input, seed)
    values = runner.values(picture)
    if bad := not_finite(values):
        raise not_finite_error(runner.graph, reference.detector, bad[0], picture)
    return largest_difference(expected, values)


def _check_import(reference: _Reference) -> None:
    """Compare an imported graph with its file, for a pruned network, which the file cannot be compared with."""
    if reference.against != "file":
        return
    detector = reference.detector
    tolerance = _tolerance(reference, None)
    found = _compare(reference, _Runner(detector, detector.graph), tolerance)
    if found.wrong:
        raise differs_error(reference.detector, reference.against, found.worst, "import", tolerance)


def _own_graph(detector: Detector, against: Against, reason: str) -> _Reference:
    runner = _Runner(detector, detector.graph)
    return _Reference(detector, against, runner.values, reason)


def _pipeline() -> tuple[Pass, ...]:
    from deploycc.passes import PIPELINE

    return PIPELINE


def _kept_priors(reference: Detector, options: Options) -> NDArray[np.bool_] | None:
    """Return which priors the pipeline keeps; None if it keeps all of them, or if the heads are unknown."""
    import numpy as np

    from deploycc.passes import DROP_DEAD, FOLD, run

    heads = reference.heads
    if heads is None or options.prune is not None:  # after pruning, the reference has dropped them already
        return None
    numbers = np.repeat(np.arange(len(heads.priors), dtype=np.float32)[:, None], 4, axis=1)
    numbered = replace(reference, heads=replace(heads, priors=numbers))
    kept = run(numbered, options, FOLD + DROP_DEAD).detector.heads
    if kept is None or len(kept.priors) == len(numbers):
        return None
    rows = np.zeros(len(numbers), np.bool_)
    rows[kept.priors[:, 0].astype(int)] = True
    return rows


def _tolerance(reference: _Reference, options: Options | None) -> float:
    from deploycc.importers.onnx_half import HALF_WIDENED
    from deploycc.verification.comparison import FP16_TOLERANCE, FP32_TOLERANCE, STEPPED_TOLERANCE, is_quantised

    if options is not None and options.precision == "fp16" and options.typed:
        return FP16_TOLERANCE
    in_half = reference.against == "file" and any(note.code == HALF_WIDENED for note in reference.detector.notes)
    return STEPPED_TOLERANCE if in_half or is_quantised(reference.detector.graph) else FP32_TOLERANCE


def _threads() -> int:
    from deploycc.timing.machine import usable_cores

    return usable_cores()


def _differs(reference: _Reference, compiled: Compiled, passes: Sequence[Pass], found: _Found) -> ModelError:
    """Run the passes one by one to name the one after which the network computes something else."""
    from deploycc.passes import run

    detector, options = reference.detector, compiled.options
    tolerance = _tolerance(reference, options)
    current, guilty = detector, "writing the file"
    steps: list[Pass | None] = [None, *passes]
    for step in steps:
        if step is not None:
            current = run(current, options, (step,)).detector
        rows = _kept_priors(detector, options) if current.heads is None or _fewer(current, detector) else None
        try:
            difference = _difference(reference, _Runner(detector, current.graph, rows), found.seed)
        except MeasureError:
            continue
        if difference.share > tolerance:
            guilty = "import" if step is None else step.__name__
            break
    return differs_error(detector, reference.against, found.worst, guilty, tolerance)


def _fewer(current: Detector, before: Detector) -> bool:
    return None not in (current.heads, before.heads) and len(current.heads.priors) < len(before.heads.priors)  # type: ignore[union-attr]
