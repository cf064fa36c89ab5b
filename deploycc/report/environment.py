"""Reading the environment a measurement was taken in.

The agent writes what each device can tell, so the tree differs between devices; facts are found by the last word of
their key (``governor``, ``_mhz``, ``load``), wherever they stand.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pydantic import JsonValue

Leaf = str | int | float | bool | None
Flat = dict[str, Leaf]

CLOCK_TOLERANCE = 0.05
"""Relative difference of a clock that counts as a change: readings of a fixed clock jitter by a few percent."""

_CLOCK = re.compile(r"_(mhz|khz|hz)$")
_CLOCK_LIMIT = re.compile(r"(^|_)(max|min|cap|limit|base)_")
_VOLATILE = re.compile(
    r"_(mhz|khz|hz|c|mc|celsius|mw|w|percent)$|(^|[._])load|temperature|uptime|(^|[._])(time|date|pid)$"
    r"|timestamp|(^|_)events$|(^|[._])(free|available|used)([._]|$)"
)
_CPUS = ("cpus_online", "cpus", "cpu_count")
_SMI = "nvidia_smi"  # one line a GPU: name, driver, then clocks, heat and power


@dataclass(frozen=True)
class Difference:
    """One fact that two environments do not share; None where one of them does not state it."""

    key: str
    baseline: object
    candidate: object

    def __str__(self) -> str:
        return f"{self.key}: {_shown(self.baseline)} -> {_shown(self.candidate)}"


def flatten(environment: Mapping[str, JsonValue], prefix: str = "") -> Flat:
    """Return the tree's leaves under dotted keys, in the file's order; items of a list are numbered from 0."""
    return dict(_leaves(environment, prefix))


def free_governors(environment: Mapping[str, JsonValue]) -> list[str]:
    """Return ``key value`` of every clock governor that lets its clock follow the load.

    That is any but ``performance``, unless the unit's lowest and highest clock are stated and equal, which is how
    jetson_clocks fixes a GPU without changing its governor.
    """
    facts = flatten(environment)
    found = []
    for key, value in facts.items():
        if "governor" not in _last(key) or value in (None, "", "performance"):
            continue
        unit = key.replace("governor", "clock")
        lowest, highest = facts.get(f"{unit}_min_mhz"), facts.get(f"{unit}_max_mhz")
        if lowest is None or lowest != highest:
            found.append(f"{key} {value}")
    return found


def load_average(environment: Mapping[str, JsonValue]) -> float | None:
    """Return the load average (runnable programs) over the shortest stated period, or None."""
    for key, value in flatten(environment).items():
        if "load" in key.lower() and isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
    return None


def busy_with_others(after: Mapping[str, JsonValue]) -> float | None:
    """Return how many CPUs other programs kept busy during a run, or None where the agent could not tell."""
    for key, value in flatten(after).items():
        if _last(key) == "cpus_busy_with_others" and isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
    return None


def cpu_count(environment: Mapping[str, JsonValue]) -> int:
    """Return the number of CPUs, or 1 where it is not stated."""
    for key, value in flatten(environment).items():
        if _last(key) in _CPUS and isinstance(value, int):
            return max(1, value)
    return 1


def changed_clocks(before: Mapping[str, JsonValue], after: Mapping[str, JsonValue]) -> list[Difference]:
    """Return the current clocks that both trees state and that differ by more than `CLOCK_TOLERANCE`."""
    first, second = flatten(before), flatten(after)
    return [
        Difference(key, value, second[key])
        for key, value in first.items()
        if key in second
        and _CLOCK.search(_last(key))
        and not _CLOCK_LIMIT.search(_last(key))
        and _clocks_differ(value, second[key])
    ]


def differences(baseline: Mapping[str, JsonValue], candidate: Mapping[str, JsonValue]) -> list[Difference]:
    """Return the facts that differ, without those that always do (current clocks, load, heat, time, free memory)."""
    first, second = flatten(baseline), flatten(candidate)
    keys = [*first, *(key for key in second if key not in first)]
    return [
        Difference(key, first.get(key), second.get(key))
        for key in keys
        if (_CLOCK_LIMIT.search(_last(key)) or not _VOLATILE.search(key.lower()))
        and _steady(key, first.get(key)) != _steady(key, second.get(key))
    ]


def _steady(key: str, value: Leaf) -> Leaf:
    """The part of a fact that does not change by itself."""
    if _last(key) == _SMI and isinstance(value, str):
        return "; ".join(", ".join(gpu.split(", ")[:2]) for gpu in value.split("; "))
    return value


def _clocks_differ(before: Leaf, after: Leaf) -> bool:
    """Whether any clock differs by more than `CLOCK_TOLERANCE`; a text lists clocks as ``unit:value unit:value``."""
    first, second = _clocks(before), _clocks(after)
    return any(
        abs(clock - second[unit]) > CLOCK_TOLERANCE * max(clock, second[unit])
        for unit, clock in first.items()
        if unit in second
    )


def _clocks(value: Leaf) -> dict[str, float]:
    if isinstance(value, str):
        return {unit: float(clock) for unit, clock in re.findall(r"(\w+):(\d+(?:\.\d+)?)", value)}
    return {"": float(value)} if value is not None else {}


def _leaves(value: JsonValue | Mapping[str, JsonValue], key: str) -> Iterator[tuple[str, Leaf]]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _leaves(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _leaves(inner, f"{key}.{number}")
    else:
        yield key, value


def _last(key: str) -> str:
    return key.rsplit(".", 1)[-1].lower()


def _shown(value: object) -> str:
    return "not stated" if value is None else str(value)
