"""Where the time of two networks of the same layers goes: ONNX Runtime's own profile, taken in turns."""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from deploycc.detector import Detector
from deploycc.graph.export import to_onnx


@dataclass(frozen=True)
class Step:
    """One thing that ONNX Runtime computes, or all of a kind where a network has no or another such thing.

    Attributes:
        name: of the node; Concat and the like are counted together.
        weights: shape of its filters, or nothing.
        time_ms: median over the rounds.
    """

    name: str
    weights: tuple[int, ...]
    time_ms: float


@dataclass(frozen=True)
class Shortfall:
    """A step before and after pruning.

    Attributes:
        before, after: the step; None where the network has no such step.
        missing_ms: what it takes more than its time before, reduced as the whole network's MACs are. The sum over
            all steps is what the network misses of 1 saved in time for 1 saved in MACs.
    """

    name: str
    before: Step | None
    after: Step | None
    missing_ms: float


def shortfalls(dense: Detector, pruned: Detector, macs_saved: float, threads: int, rounds: int) -> list[Shortfall]:
    """Profile both networks; the steps that miss most come first."""
    before, after = _profiles([dense, pruned], threads, rounds)
    found = []
    for name in {**before, **after}:
        one, other = before.get(name), after.get(name)
        expected = (1 - macs_saved) * (one.time_ms if one else 0.0)
        found.append(Shortfall(name, one, other, (other.time_ms if other else 0.0) - expected))
    return sorted(found, key=lambda each: -each.missing_ms)


def describe(found: list[Shortfall], count: int) -> str:
    """A table of the steps that miss most, and of what all steps miss together."""
    lines = [f"    {'misses ms':>9}  {'before':>7}  {'after':>7}  filters before and after"]
    for each in found[:count]:
        times = [f"{step.time_ms:7.3f}" if step else "      -" for step in (each.before, each.after)]
        shapes = [" x ".join(map(str, step.weights)) for step in (each.before, each.after) if step and step.weights]
        lines.append(f"    {each.missing_ms:9.3f}  {'  '.join(times)}  {each.name}  {' -> '.join(shapes)}".rstrip())
    lines.append(f"    {sum(each.missing_ms for each in found):9.3f}  all of {len(found)} steps together")
    return "\n".join(lines)


def _profiles(detectors: list[Detector], threads: int, rounds: int) -> list[dict[str, Step]]:
    with tempfile.TemporaryDirectory() as folder:
        sessions = [_session(detector, threads, Path(folder) / str(i)) for i, detector in enumerate(detectors)]
        feed = np.random.default_rng(0).standard_normal(detectors[0].input.shape, np.float32)
        for _ in range(rounds + 2):
            for session in sessions:
                session.run(None, {session.get_inputs()[0].name: feed})
        events = [json.loads(Path(session.end_profiling()).read_text(encoding="utf-8")) for session in sessions]
    return [_steps(each, rounds) for each in events]


def _session(detector: Detector, threads: int, prefix: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.enable_profiling = True
    options.profile_file_prefix = str(prefix)
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return ort.InferenceSession(to_onnx(detector.graph).SerializeToString(), options, ["CPUExecutionProvider"])


def _steps(events: list[Mapping[str, Any]], rounds: int) -> dict[str, Step]:
    """Medians over the last rounds; everything without filters is counted by its operator."""
    ends = "_kernel_time"
    nodes: dict[str, list[float]] = {}
    weights: dict[str, tuple[int, ...]] = {}
    operators: dict[str, str] = {}
    for event in events:
        if event.get("cat") != "Node" or not event["name"].endswith(ends):
            continue
        name, arguments = event["name"][: -len(ends)].removesuffix("_nchwc"), event["args"]
        shapes = [tuple(next(iter(each.values()))) for each in arguments["input_type_shape"] if each]
        nodes.setdefault(name, []).append(event["dur"] / 1000)
        operators[name] = arguments["op_name"]
        if arguments["op_name"] == "Conv":
            weights[name] = shapes[1]
    steps: dict[str, Step] = {}
    for name, times in nodes.items():
        key = name if name in weights else operators[name]
        median = statistics.median(times[-rounds:])
        known = steps.get(key)
        steps[key] = Step(key, weights.get(name, ()), median + (known.time_ms if known else 0.0))
    return steps
