"""Networks in a row on this machine: the decided second network, or one that is asked for."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from deploycc.documents.costs import Machine
from deploycc.timing.in_a_row import SessionsInARow
from deploycc.timing.timer import LocalTimer

HEAD = '<ir_version: 8, opset_import: ["": 13]>'
FIRST = f"""{HEAD} first (float[1,1,2,2] x) => (int32[1] number, float[1,1,2,2] made) {{
    most = ReduceMax <keepdims = 0> (x) shape = Constant <value = int64[1] {{1}}> ()
    one = Reshape (most, shape) number = Cast <to = 6> (one) made = Add (x, x) }}"""
SECOND = f"""{HEAD} second (float[1,1,2,2] made) => (float[1,1,2,2] y) {{
    factor = Constant <value = float[1] {{FACTOR.0}}> () y = Mul (made, factor) }}"""


def models() -> list[onnx.ModelProto]:
    second = [SECOND.replace("FACTOR", str(factor)) for factor in (3, 5)]
    return [onnx.parser.parse_model(text) for text in (FIRST, *second)]


def picture(number: int) -> np.ndarray:
    return np.array([[[[number, 0], [0, 0]]]], np.float32)


@pytest.mark.parametrize(("number", "asked", "factor"), [(0, None, 3), (1, None, 5), (0, 1, 5), (1, 0, 3)])
def test_the_first_decides_unless_another_is_asked_for(number: int, asked: int | None, factor: int) -> None:
    stages = SessionsInARow(iter(models()), "number", 1, {})
    assert stages.count == 2
    chosen, outputs = stages.run(picture(number), asked)
    assert chosen == (number if asked is None else asked)
    np.testing.assert_array_equal(outputs["y"], 2 * factor * picture(number))


def test_a_timer_gives_the_whole_and_each_second_network() -> None:
    timer = LocalTimer(Machine(processor="a test", onnxruntime="1", threads=1))
    as_decided, *fixed = timer.load_stages(models(), "number", {})
    assert as_decided(picture(1))[0] == 1  # type: ignore[index]
    assert [run(picture(1))[0] for run in fixed] == [0, 1]  # type: ignore[index]
    times = timer.time_pictures(
        {"staged": as_decided, 1: fixed[1]},
        [picture(0), picture(1)],
        seconds=1,
        least_rounds=2,
        most_rounds=2,
        warm_up=1,
    )
    assert {name: each.shape for name, each in times.items()} == {"staged": (2, 2), 1: (2, 2)}
