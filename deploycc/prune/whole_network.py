"""Timing whole networks against one another: the last word on how many kernels stay.

Convolutions timed one by one do not see what stands between them: a concatenation of counts that are no multiple of
the block, for example, makes ONNX Runtime rearrange every map that it joins.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TypeVar

import numpy as np
import onnx_graphsurgeon as gs
import onnxruntime as ort

from deploycc.errors import MeasureError
from deploycc.graph.export import to_onnx
from deploycc.graph.groups import ChannelGroups
from deploycc.graph.removal import remove_channels

_WARMUP, _LEAST, _MOST = 1, 4, 40
_SECONDS = 10.0  # for the rounds, where fewer than the least number do not take longer
_WORTH = 0.99  # a network that loses fewer channels must be 1 % faster

Key = TypeVar("Key")


def relative_times(
    graph: gs.Graph, groups: ChannelGroups, candidates: Mapping[Key, frozenset[int]], threads: int
) -> dict[Key, float]:
    """Time a network with different channels removed, in turns.

    Args:
        graph: as analysed; stays as it is.
        groups: of the graph.
        candidates: groups to remove.
        threads: CPU threads.

    Returns:
        For each candidate the median over the rounds of its share of the round's time, times the number of
        candidates: 1 is average. Load that comes and goes meets all of a round alike.

    Raises:
        MeasureError: ``onnxruntime-refuses``.
    """
    sessions = {}
    for key, going in candidates.items():
        small = graph.copy()
        remove_channels(small, groups, going)  # what the channels hold does not matter here
        sessions[key] = _session(small, threads)
    tensor = graph.inputs[0]
    feed = {tensor.name: np.random.default_rng(0).standard_normal(tensor.shape, np.float32)}
    rounds: list[list[float]] = []
    start = time.perf_counter()
    while len(rounds) < _WARMUP + _LEAST or (len(rounds) < _MOST and time.perf_counter() - start < _SECONDS):
        times = []
        for session in sessions.values():
            begin = time.perf_counter_ns()
            session.run(None, feed)
            times.append(float(time.perf_counter_ns() - begin))
        rounds.append(times)
    measured = np.array(rounds[_WARMUP:])
    shares = np.median(measured / measured.mean(axis=1, keepdims=True), axis=0)
    return dict(zip(sessions, shares.tolist(), strict=True))


def fastest(candidates: Mapping[Key, frozenset[int]], times: Mapping[Key, float]) -> Key:
    """The candidate that loses most channels among those that are within 1 % of the fastest."""
    best = min(times.values())
    close = [key for key in candidates if times[key] * _WORTH <= best]
    return max(close, key=lambda key: (len(candidates[key]), -times[key]))


def _session(graph: gs.Graph, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.add_session_config_entry("session.force_spinning_stop", "1")  # an idle network takes no core of the next
    try:
        return ort.InferenceSession(to_onnx(graph).SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions share no class
        raise MeasureError(
            "onnxruntime-refuses",
            "ONNX Runtime cannot load the network to time it",
            note=str(error).splitlines()[0],
            hint="--round-to 16 needs no timing",
        ) from None
