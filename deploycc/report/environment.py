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
_CLOCK_LIMIT = re.compile(r"(max|min|limit|base|available)")
_VOLATILE = re.compile(
    r"_(mhz|khz|hz|c|mc|celsius|mw|w|percent)$|load|temperature|uptime|time$|timestamp|date$|free|available|used|pid$"
)
_CPUS = ("cpus", "cores", "cpu_count", "logical_cpus")


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


def governors(environment: Mapping[str, JsonValue]) -> set[str]:
    """Return the names of all clock governors stated anywhere."""
    return {str(value) for key, value in flatten(environment).items() if "governor" in _last(key) and value}


def load_average(environment: Mapping[str, JsonValue]) -> float | None:
    """Return the load average (runnable programs) over the shortest stated period, or None."""
    for key, value in flatten(environment).items():
        if "load" in key.lower() and isinstance(value, (int, float)) and not isinstance(value, bool):
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
    changed = []
    for key in first.keys() & second.keys():
        a, b = first[key], second[key]
        if not _CLOCK.search(_last(key)) or _CLOCK_LIMIT.search(_last(key)):
            continue
        if isinstance(a, (int, float)) and isinstance(b, (int, float)) and abs(a - b) > CLOCK_TOLERANCE * max(a, b):
            changed.append(Difference(key, a, b))
    return sorted(changed, key=lambda difference: difference.key)


def differences(baseline: Mapping[str, JsonValue], candidate: Mapping[str, JsonValue]) -> list[Difference]:
    """Return the facts that differ, without those that always do (current clocks, load, heat, time, free memory)."""
    first, second = flatten(baseline), flatten(candidate)
    keys = [*first, *(key for key in second if key not in first)]
    return [
        Difference(key, first.get(key), second.get(key))
        for key in keys
        if first.get(key) != second.get(key) and (_CLOCK_LIMIT.search(_last(key)) or not _VOLATILE.search(key.lower()))
    ]


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
