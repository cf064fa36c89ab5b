"""The measuring loop: single stream, the next picture as soon as the last one is done."""

import gc
import time
from typing import Any, Callable, Dict, List


def measure(
    run_once: "Callable[[], Any]",
    warmup_s: float,
    min_duration_s: float,
    min_samples: int,
    clock: "Callable[[], float]" = time.perf_counter,
) -> "Dict[str, Any]":
    """Time ``run_once`` until both limits are reached, after a warm-up of at least one call.

    Args:
        run_once: returns when the picture is done.
        warmup_s: seconds of calls that are not kept.
        min_duration_s: from the first sample's start to the last one's end; both limits must be reached.
        min_samples: number of samples.
        clock: seconds, monotonic.

    Returns:
        ``samples_ms``, ``start_offsets_s`` (from the first sample's start), ``duration_s`` (first start to last end),
        ``warmup_samples``, ``warmup_s``; times as the clock gave them, to the nanosecond.
    """
    begin = clock()
    warmup_samples = 0
    while warmup_samples == 0 or clock() - begin < warmup_s:
        run_once()
        warmup_samples += 1
    warmed_s = clock() - begin
    starts = []  # type: List[float]
    ends = []  # type: List[float]
    collecting = gc.isenabled()
    gc.disable()  # a collection of this process is no part of the engine's latency
    try:
        while len(ends) < min_samples or ends[-1] - starts[0] < min_duration_s:
            start = clock()
            run_once()
            ends.append(clock())
            starts.append(start)
    finally:
        if collecting:
            gc.enable()
    first = starts[0]
    pairs = zip(starts, ends)  # noqa: B905 - strict came with Python 3.10
    return {
        "samples_ms": [round((end - start) * 1e3, 6) for start, end in pairs],
        "start_offsets_s": [round(start - first, 9) for start in starts],
        "duration_s": ends[-1] - first,
        "warmup_samples": warmup_samples,
        "warmup_s": warmed_s,
    }


def with_shares(layers: "List[Dict[str, Any]]") -> "List[Dict[str, Any]]":
    """Give every layer its share of the sum of medians, 0..1."""
    total = sum(layer["median_ms"] for layer in layers)
    for layer in layers:
        layer["share"] = layer["median_ms"] / total if total else 0.0
    return layers
