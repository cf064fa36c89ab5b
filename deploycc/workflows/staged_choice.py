"""Whether a plan runs two networks in a row: what a shared decision allows, timed and compared with one network."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from deploycc.errors import MeasureError, Note
from deploycc.progress import Say, prefixed, quiet

if TYPE_CHECKING:
    import numpy as np
    import onnx_graphsurgeon as gs
    from numpy.typing import NDArray

    from deploycc.documents.document import Evidence
    from deploycc.documents.staged_times import StagedRecord, TimesApart, TimesInARow
    from deploycc.gate_planning.check import Checked, Lower, Networks, Tensors
    from deploycc.timing.timer import Loaded, Timer
    from deploycc.workflows.gate_decision import RecordedPictures
    from deploycc.workflows.predicted_gate_costs import AnyGateCosts, PredictedGateCosts
    from deploycc.workflows.staged_split import Split

Key = TypeVar("Key", bound=Hashable)

IN_A_ROW = "two networks in a row"
NOT_WANTED = "it is better, but holds more weights and needs a host that chooses; `deploycc gates --staged` plans it"
_CALLS = 9  # samples of each network that is timed apart
_WORST_PICTURES, _WORST_ROUNDS, _WORST_LEAST_ROUNDS = 2, 200, 5
_TRIES = 3  # a busy moment must not drop what is within its bounds


@dataclass(frozen=True)
class Limits:
    """What a plan must keep.

    Attributes:
        worst_case, time: with every kernel on and on the pictures, as multiples of the dense network's time.
    """

    worst_case: float
    time: float


@dataclass(frozen=True, eq=False)
class Contest:
    """What networks in a row are timed beside, where, and what they must keep.

    Attributes:
        networks: the network without gates and with them.
        lower: carries a plan out in one network.
        active: decisions about the pictures of the profile, which tell the shares where nothing runs.
        recorded: pictures to run; None: nothing runs.
        checked: the best plan in one network, as measured on these pictures; None likewise.
        costs: of what the plan is for.
        limits: that must be kept.
        seconds: for each comparison of networks, about.
        only_way: no other plan skips work there: what is predicted may be chosen then.
        say: progress.
    """

    networks: Networks
    lower: Lower
    active: Mapping[str, NDArray[np.bool_]]
    recorded: RecordedPictures | None
    checked: Checked | None
    costs: AnyGateCosts
    limits: Limits
    seconds: float
    only_way: bool = False
    say: Say = quiet


def consider_split(
    split: Split, contest: Contest, *, wanted: bool, go_on: Callable[[], bool] = lambda: True
) -> tuple[StagedRecord | None, tuple[Note, ...]]:
    """Time two networks in a row and compare them with the best plan in one, or predict how long they take.

    Args:
        split: of the network.
        contest: see there.
        wanted: choose them where they are better; False: only show them.
        go_on: asked whether there is time.

    Returns:
        The times, with the choice and its reason; or None and a note where the target refuses a network, or there is
        no time.

    Raises:
        MeasureError: a network does not run.
    """
    record: StagedRecord | Note
    if go_on():
        record = _timed(split, contest)
    else:
        record = Note(split.layers[0].layer, "gate-not-staged", "the budget was over before it was timed")
    if isinstance(record, Note):
        return None, (record,)
    if record.chosen and not wanted:
        record = record.model_copy(update={"chosen": False, "why": NOT_WANTED})
    return record, ()


def _timed(split: Split, contest: Contest) -> StagedRecord | Note:
    """Time or predict, as the costs are; see `consider_split`."""
    from deploycc.documents.document import Evidence
    from deploycc.workflows.predicted_gate_costs import PredictedGateCosts

    costs, recorded, checked, dense = contest.costs, contest.recorded, contest.checked, contest.networks.dense
    if isinstance(costs, PredictedGateCosts):
        return _predicted(split, contest, costs)
    evidence = Evidence(kind="measured", source=costs.describe())
    if recorded is None or checked is None:
        apart = _timed_apart(split, split.shares(contest.active), dense, costs.timer, evidence)
        why = "no pictures were there to compare it with one network"
        return apart if isinstance(apart, Note) else apart.model_copy(update={"why": why})
    shares, timer = split.shares(recorded.active), costs.timer
    if (stages := timer.load_stages(split.models(), split.stages.decision, {"network": _name(dense)})) is None:
        record = _timed_apart(split, shares, dense, timer, evidence)
    else:
        record = _timed_in_a_row(split, shares, stages, contest, recorded.tensors, checked, timer, evidence)
    return record if isinstance(record, Note) else _judged(record, checked, contest.limits)


def _name(network: gs.Graph) -> str:
    return network.name or "network"


def _predicted(split: Split, contest: Contest, costs: PredictedGateCosts) -> StagedRecord:
    """Return predicted times, which decide only where there is no other way to skip work."""
    from deploycc.documents.document import Evidence
    from deploycc.documents.staged_times import TimesApart

    dense = contest.networks.dense
    first, *second = [(costs.network_ms(graph),) for graph in split.graphs()]
    parts = TimesApart(
        dense_ms=(costs.network_ms(dense),), first_ms=first, second_ms=tuple(second), reading_ms=costs.reading_ms
    )
    evidence = Evidence(kind="predicted", source=costs.describe())
    record = _record(split, split.shares(contest.active), evidence, parts=parts)
    why = "they are predicted, and two networks in a row are chosen only where they were measured"
    if contest.only_way:
        why = _beyond(record, contest.limits)
    return record.model_copy(update={"chosen": not why, "why": why})


def _timed_apart(
    split: Split, shares: tuple[float, ...], dense: gs.Graph, timer: Timer, evidence: Evidence
) -> StagedRecord | Note:
    """Time each network by itself, in turns with the one without gates; a note where the target refuses one.

    Raises:
        MeasureError: a network does not run.
    """
    from deploycc.documents.staged_times import TimesApart
    from deploycc.graph.export import to_onnx

    context = {"network": _name(dense), "part": f"of {IN_A_ROW}"}
    try:
        loaded = [timer.load(model, context) for model in (to_onnx(dense), *split.models())]
    except MeasureError as error:
        if error.code != "device-network-refused":
            raise
        return Note(split.layers[0].layer, "gate-not-staged", error.note or error.message)
    dense_ms, first_ms, *second_ms = timer.time_calls(loaded, _CALLS)
    parts = TimesApart(dense_ms=dense_ms, first_ms=first_ms, second_ms=tuple(second_ms), reading_ms=None)
    return _record(split, shares, evidence, parts=parts)


def _timed_in_a_row(
    split: Split,
    shares: tuple[float, ...],
    stages: Sequence[Loaded],
    contest: Contest,
    pictures: Tensors,
    checked: Checked,
    timer: Timer,
    evidence: Evidence,
) -> StagedRecord:
    """Time both networks one after the other, in turns with the network without gates and the best plan in one.

    Limits count as missed only where repeated measurements miss them.

    Args:
        split: of the network.
        shares: of its second networks, on the pictures.
        stages: what `deploycc.timing.timer.Timer.load_stages` returned.
        contest: the network without gates, limits, and seconds for each comparison of networks.
        pictures: prepared tensors.
        checked: the best plan that needs no other network.
        timer: of the machine that the plan is for.
        evidence: what measures.

    Raises:
        MeasureError: a network does not run.
    """
    from deploycc.documents.staged_times import TimesInARow
    from deploycc.gate_planning.check import graph_session, least, time_pictures

    networks, limits, seconds = contest.networks, contest.limits, contest.seconds
    say = prefixed(contest.say, IN_A_ROW)
    lowered = any(layer.lowering != "multiply" for layer in checked.layers)
    one = contest.lower(networks.multiply, checked.layers) if lowered else networks.multiply
    dense, planned = (graph_session(graph, timer) for graph in (networks.dense, one))
    on_pictures = {"dense": dense, "planned": planned, "staged": stages[0]}
    on_few: dict[str | int, Loaded] = {"dense": dense, **dict(enumerate(stages[1:]))}
    few, rounds = pictures[:_WORST_PICTURES], _WORST_ROUNDS
    samples: dict[str, NDArray[np.float64]] = {}
    worst: dict[str | int, NDArray[np.float64]] = {}
    for _ in range(_TRIES):
        _add(samples, time_pictures(on_pictures, pictures, seconds, timer=timer, say=say))
        _add(
            worst,
            time_pictures(on_few, few, seconds / 2, _WORST_LEAST_ROUNDS, most_rounds=rounds, timer=timer, say=say),
        )
        slowest = max(range(len(stages) - 1), key=lambda number: float(least(worst[number]).mean()))
        whole = TimesInARow(
            dense_ms=_rounds(samples["dense"]),
            planned_ms=_rounds(samples["planned"]),
            staged_ms=_rounds(samples["staged"]),
            worst_dense_ms=_rounds(worst["dense"]),
            worst_staged_ms=_rounds(worst[slowest]),
        )
        record = _record(split, shares, evidence, whole=whole)
        if record.worst_case <= limits.worst_case and record.relative_time <= limits.time:
            break
    return record


def _add(samples: dict[Key, NDArray[np.float64]], more: Mapping[Key, NDArray[np.float64]]) -> None:
    """Add rounds to those that are there."""
    import numpy as np

    for name, times in more.items():
        samples[name] = np.concatenate([samples[name], times]) if name in samples else times


def _judged(record: StagedRecord, checked: Checked, limits: Limits) -> StagedRecord:
    """Choose two networks in a row where they keep the limits and one network is slower, or does not keep them."""
    why = _why_not(record, checked, limits)
    return record.model_copy(update={"chosen": not why, "why": why})


def _why_not(record: StagedRecord, checked: Checked, limits: Limits) -> str:
    from deploycc.gate_planning.planner import NEAR_TIE

    if beyond := _beyond(record, limits):
        return beyond
    one = checked.relative_time if record.planned_ms is None else record.planned_ms / record.dense_ms
    keeps = one <= limits.time and checked.worst_case <= limits.worst_case
    if keeps and record.relative_time > one * (1 - NEAR_TIE):
        return f"it takes {record.relative_time:.3f} of the dense network's time, and one network {one:.3f}"
    return ""


def _beyond(record: StagedRecord, limits: Limits) -> str:
    """Say which limit is missed; empty where all are kept."""
    if record.worst_case > limits.worst_case:
        return (
            f"with the slowest second network it takes {record.worst_case:.3f} of the dense network's time, "
            f"more than {limits.worst_case:g}"
        )
    if record.relative_time > limits.time:
        return f"it takes {record.relative_time:.3f} of the dense network's time, more than {limits.time:g}"
    return ""


def _record(
    split: Split,
    shares: tuple[float, ...],
    evidence: Evidence,
    *,
    whole: TimesInARow | None = None,
    parts: TimesApart | None = None,
    why: str = "",
) -> StagedRecord:
    from deploycc.documents.staged_times import StagedRecord

    return StagedRecord(
        layers=tuple(layer.layer for layer in split.layers),
        sizes=tuple(layer.sizes for layer in split.layers),
        shares=shares,
        added_bytes=split.added_bytes,
        evidence=evidence,
        whole=whole,
        parts=parts,
        why=why,
    )


def _rounds(samples_ms: NDArray[np.float64]) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(row) for row in samples_ms.round(6).tolist())
