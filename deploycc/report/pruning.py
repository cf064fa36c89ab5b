"""A pruning as tables and sentences: which kernels went, what that did to the size, and what had to stay."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from statistics import median

from deploycc.documents.pruning import LatencyGoalRecord, PrunedBlock, PrunedLayer, PruningRecord
from deploycc.report.format import change, count
from deploycc.report.table import Table

_CODES_SHOWN = 3
_PAYS = 0.9  # of the time, per share of the multiply-accumulates: below that, a goal's price is explained


def layers_table(record: PruningRecord, network: str) -> Table | None:
    """Every layer that lost kernels or inputs, or was to lose some; None where there is none."""
    rows = [
        [
            layer.name,
            *map(str, layer.kernels),
            *map(count, layer.macs),
            change(*layer.macs),
            _reason(layer),
        ]
        for layer in record.layers
        if layer.kernels[0] != layer.kernels[1] or layer.useless or layer.macs[0] != layer.macs[1]
    ]
    if not rows:
        return None
    columns = ("layer", "kernels", "after", "MACs", "after", "change", "why")
    return Table(f"{network}: kernels {record.useless} are useless", columns, _tuples(rows))


def pruning_tables(record: PruningRecord, network: str, explained: bool = False) -> list[Table]:
    """What was removed, and with ``explained`` what was refitted and what had to stay."""
    tables = [layers_table(record, network), parts_table(record), gates_table(record)]
    if explained:
        tables += [refitted_table(record), stays_table(record)]
    return [table for table in tables if table is not None]


def not_analysed(record: PruningRecord) -> list[str]:
    """Say which nodes were not analysed, and why."""
    return [f"not analysed: {note.node}: {note.reason} ({note.code})" for note in record.not_analysed]


def parts_table(record: PruningRecord) -> Table:
    """Sizes by part of the network."""
    rows = [
        [part.name, *map(count, part.macs), change(*part.macs), *map(count, part.params), change(*part.params)]
        for part in record.parts
    ]
    columns = ("part", "MACs", "after", "change", "parameters", "after", "change")
    return Table("", columns, _tuples(rows))


def gates_table(record: PruningRecord) -> Table | None:
    """Gates that became constants; None where none did."""
    if not record.gates:
        return None
    rows = []
    for gate in record.gates:
        errors = gate.response_error or {}
        shares = [f"{100 * errors[name]:.1f} %" if name in errors else "-" for name in ("mean", "least-squares")]
        rows.append([gate.layer, gate.place, count(gate.macs), *shares])
    title = f"gates that became constants ({record.coefficient}), and the share of the response's energy that is wrong"
    return Table(title, ("layer", "place", "gate MACs", "mean", "least-squares"), _tuples(rows))


def refitted_table(record: PruningRecord) -> Table | None:
    """Layers whose weights were refitted; None where nothing was."""
    refit = record.reconstruction
    if refit is None or not refit.layers:
        return None
    rows = [
        [
            layer.name,
            "unchanged" if layer.ridge is None else f"{layer.ridge:g}",
            *(f"{100 * error:.2f} %" for error in layer.error),
        ]
        for layer in refit.layers
    ]
    title = f"share of the response's energy that is wrong on {refit.held_out} held-out pictures"
    return Table(title, ("layer", "refitted with ridge", "pruned", "refitted"), _tuples(rows))


def stays_table(record: PruningRecord) -> Table | None:
    """Useless channels that had to stay, each with its reason; None where there are none."""
    rows = [[note.node, note.code, note.reason] for note in record.stays]
    return Table("", ("layer", "code", "why it stays"), _tuples(rows)) if rows else None


def remarks(record: PruningRecord, network: str, explained: bool = False) -> list[str]:
    """What the tables do not say, in sentences.

    Args:
        record: of the pruning.
        network: its name.
        explained: the tables of refitted layers and of channels that stay are shown too.
    """
    sentences = []
    if layers_table(record, network) is None:
        sentences.append(f"{network}: kernels {record.useless} are useless; no layer has any that could be removed")
    if record.rankings > 1:
        sentences.append(f"kernels were ranked {record.rankings} times: a part of them went, the rest was ranked again")
    if record.blocks:
        sentences.append(f"removed whole: {'; '.join(map(_block, record.blocks))}")
    if record.goal is not None:
        sentences += _goal(record, record.goal)
    if record.relative_times:
        sentences.append(_times(record))
    if record.times == "predicted" and record.timed_on is not None and record.goal is None:
        sentences.append(f"numbers of kernels follow predicted times: {record.timed_on}")
    if record.reconstruction is not None:
        sentences += _refit(record, explained)
    if record.stays and not explained:
        codes = Counter(note.code for note in record.stays)
        listed = ", ".join(f"{number} {code}" for code, number in codes.most_common(_CODES_SHOWN))
        sentences.append(f"{len(record.stays)} useless channels had to stay ({listed}); `explain` lists them")
    return sentences


def _goal(record: PruningRecord, goal: LatencyGoalRecord) -> list[str]:
    """Say how a goal was met, and what time it saved beside the multiply-accumulates."""
    sentences = [
        f"goal {goal.asked}, at most {goal.goal_ms:.3g} ms: {goal.before_ms:.3g} ms before, {goal.after_ms:.3g} ms "
        f"after, {record.times} on {record.timed_on}"
    ]
    total = record.part("total")
    if total is not None and total.macs[1] < total.macs[0]:
        macs, time = 1 - total.macs[1] / total.macs[0], 1 - goal.after_ms / goal.before_ms
        said = f"{time:.1%} of the time for {macs:.1%} of the multiply-accumulates"
        if time < _PAYS * macs:
            said += ": layers that lost kernels had a smaller share of the time than of these"
            if record.times == "predicted":
                said += "; `deploycc predict` names what bounds each launch"
        sentences.append(said)
    return sentences


def _tuples(rows: Iterable[Iterable[str]]) -> tuple[tuple[str, ...], ...]:
    return tuple(map(tuple, rows))


def _reason(layer: PrunedLayer) -> str:
    before, after = layer.kernels
    parts = []
    if before and not after:
        return "removed whole"
    if layer.useless:
        parts.append(f"{layer.useless} useless")
        stay = layer.useless - (before - after) - layer.kept_for_multiple + layer.dropped_for_multiple
        if layer.kept_for_multiple:
            parts.append(f"{layer.kept_for_multiple} kept for a multiple of {layer.multiple}")
        if layer.dropped_for_multiple:
            parts.append(f"{layer.dropped_for_multiple} more dropped for a multiple of {layer.multiple}")
        if stay > 0:
            parts.append(f"{stay} must stay")
    elif before != after:
        parts.append(f"goes with {layer.decided_with}" if layer.decided_with else "its channels are constant")
    else:
        parts.append("fewer inputs")
    return ", ".join(parts)


def _block(block: PrunedBlock) -> str:
    how = {"sum": "a branch of a sum", "concat": "a branch of a concatenation", "identity": "its input takes its place"}
    return f"{', '.join(block.layers)} ({how[block.kind]})"


def _times(record: PruningRecord) -> str:
    spelled = {
        "each": "each layer's fastest",
        "down": "multiples of 16, down where few are over",
        "all": "all",
        "profiles": "those that profiles of whole networks chose",
    }
    shown = ", ".join(
        f"{spelled.get(name, f'multiples of {name}')} {value:.2f}" for name, value in record.relative_times.items()
    )
    kept = shown if "all" in record.relative_times else f"{shown}; on equal terms 16 is kept"
    return f"the whole network's time by kernels kept, measured on {record.timed_on}: {kept}"


def _refit(record: PruningRecord, explained: bool) -> list[str]:
    refit = record.reconstruction
    assert refit is not None
    sentences = [f"{note.node}: {note.reason}" for note in refit.notes]
    if not refit.layers:
        return [*sentences, "no layer needed refitting"]
    changed = sum(layer.ridge is not None for layer in refit.layers)
    before, after = (100 * median(layer.error[side] for layer in refit.layers) for side in (0, 1))
    more = "" if explained else "; `explain` lists them"
    return [
        *sentences,
        f"{changed} of {len(refit.layers)} layers refitted on {refit.fitted} pictures without labels; on "
        f"{refit.held_out} others the share of the response's energy that is wrong fell from {before:.1f} % to "
        f"{after:.1f} % (median layer{more})",
    ]
