"""The average of weights: what it is, that it can stand in for the weights, and that it can be gone on with."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="PyTorch, of the extra train, is not installed")

from mutation import mutant  # noqa: E402

from deploycc.distillation import average  # noqa: E402

VALUES = st.lists(st.floats(-8, 8, width=32), min_size=1, max_size=30)


def averaged(module: ModuleType, values: Sequence[float], interrupted: int | None = None) -> float:
    """The average of a weight that is 0 and then has these values, one a step."""
    network = torch.nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        network.weight.zero_()
        weights = dict(network.named_parameters())
        made = module.Average(weights)
        for number, value in enumerate(values, start=1):
            network.weight.fill_(value)
            made.add()
            if number == interrupted:
                made = module.Average(weights, deepcopy(made.state()))
    with made.instead():
        found = network.weight.item()
    assert network.weight.item() == values[-1]
    return found


def expected(values: Sequence[float]) -> float:
    """By the definition: step n weighs at most a thousandth, or what makes the average one over a tenth of n steps."""
    result = 0.0
    for number, value in enumerate(values, start=1):
        kept = min(0.999, number / (number + 10))
        result = kept * result + (1 - kept) * value
    return result


@given(VALUES)
def test_it_is_the_average_by_definition(values: list[float]) -> None:
    assert averaged(average, values) == pytest.approx(expected(values), abs=1e-4)


@given(VALUES, st.data())
def test_it_can_be_gone_on_with(values: list[float], data: st.DataObject) -> None:
    at = data.draw(st.integers(1, len(values)))
    assert averaged(average, values, at) == averaged(average, values)


def test_nothing_is_averaged_before_the_first_step() -> None:
    weight = torch.nn.Parameter(torch.zeros(1))
    made = average.Average({"weight": weight})
    weight.data.fill_(3.0)  # steps that do not count
    with made.instead():
        assert weight.item() == 3.0


def test_a_long_training_averages_over_about_a_thousand_steps() -> None:
    assert averaged(average, [0.0] * 12000 + [1.0] * 1000) == pytest.approx(1 - 0.999**1000, abs=0.01)


@pytest.mark.parametrize(
    ("line", "bug"),
    [
        ("weight.detach(), share)", "weight.detach(), 1 - share)"),
        ("self._steps / (self._steps + _SOONER)", "_DECAY"),
        ("self._values[name].copy_(value)", "pass"),
        ('int(known["steps"])', "0"),
        ("            self._swap()\n", "            pass\n"),
    ],
)
def test_planted_bugs_are_noticed(line: str, bug: str) -> None:
    broken = mutant(average, line, bug)
    try:
        held = averaged(broken, [1, 2, 3], 2) == pytest.approx(expected([1, 2, 3]), abs=1e-4)
    except AssertionError:
        held = False
    assert not held
