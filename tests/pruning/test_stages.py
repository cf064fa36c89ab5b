"""Stages return the same tensors as whole runs, also if later weights change in between."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from graph_text import network
from numpy.typing import NDArray

from deploycc.detector import Detector
from deploycc.pruning import stages
from deploycc.pruning.responses import Responses

RTOL, ATOL = 1e-5, 1e-6
COUNT = 3

TEXT = """<ir_version: 8, opset_import: ["" : 13]>
steps (float[1,2,4,4] x, float[2,2,1,1] u, float[2,2,1,1] v, float[2,2,1,1] w) => (float[1,2,4,4] z) {
 a = Conv(x, u)
 b = Conv(a, v)
 c = Add(a, b)
 z = Conv(c, w)
}"""


def read(number: int) -> NDArray[np.float32]:
    return np.random.default_rng(number).normal(size=(1, 2, 4, 4)).astype(np.float32)


@pytest.mark.parametrize("kept_bytes", [0, 4 << 20])
def test_each_step_sees_the_weights_as_they_are_then(
    kept_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages, "_KEPT_BYTES", kept_bytes)
    found = network(TEXT)
    steps = stages.Stages(found, read, COUNT, tmp_path)
    for wanted, later, change in ((["x", "a"], ["c", "z"], "v"), (["c"], ["z"], "w"), (["z"], [], None)):
        expected = [answers(found, wanted, number) for number in range(COUNT)]
        got = list(steps.run(wanted, later))
        assert len(got) == COUNT
        for one, other in zip(got, expected, strict=True):
            for name in wanted:
                np.testing.assert_allclose(one[name], other[name], rtol=RTOL, atol=ATOL)
        if change:
            weight = found.graph.tensors()[change]
            weight.values = weight.values + 1
        stored = len(list(tmp_path.iterdir()))
        assert stored == (COUNT if kept_bytes and later else 0), "one tensor is what the next step starts from"


def answers(found: Detector, wanted: list[str], number: int) -> dict[str, NDArray[np.float32]]:
    return Responses("steps", found.graph, wanted).run({"x": read(number)}, number)
