"""Pruning by what the outputs depend on: as many MACs as asked for, and more of what the network says is left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch", reason="PyTorch, of the extra train, is not installed")

import deploycc  # noqa: E402
from deploycc.detector import Detector  # noqa: E402
from deploycc.distillation.agreement import Judge  # noqa: E402
from deploycc.distillation.samples import Samples  # noqa: E402
from deploycc.errors import BudgetMissed, InputError  # noqa: E402
from deploycc.prediction.costs import PredictedCosts  # noqa: E402
from deploycc.target import load  # noqa: E402
from deploycc.workflows.fisher import FisherImportance, fisher_importance  # noqa: E402
from deploycc.workflows.pictures import open_pictures  # noqa: E402

SETTINGS = deploycc.PruneSettings(by="fisher", below=0.2, multiple=4)


@pytest.fixture(scope="module")
def detector() -> Detector:
    return deploycc.load("street_ssd")


@pytest.fixture(scope="module")
def importance(detector: Detector) -> FisherImportance:
    return fisher_importance(detector, "generated:7:40", count=24)


def back_end(pruned: deploycc.Pruned) -> float:
    before, after = next(part.macs for part in pruned.record.parts if part.name == "back-end")
    return 1 - after / before


def test_as_many_macs_go_as_asked_for(detector: Detector, importance: FisherImportance) -> None:
    pruned = deploycc.prune(detector, SETTINGS, importance=importance)
    assert 0.2 <= back_end(pruned) < 0.23
    assert pruned.record.criterion == "fisher"
    assert all(layer.kernels[1] % 4 == 0 for layer in pruned.record.layers if layer.kernels[0] % 4 == 0)


def agreements(detector: Detector, networks: Sequence[Detector]) -> list[float]:
    samples = Samples(open_pictures("generated:5:30", detector.input), detector.input, 1)
    judge = Judge(detector, range(30), samples.picture)
    return [judge.agreement(network).map50 for network in networks]


def test_more_is_left_than_by_the_size_of_filters(detector: Detector, importance: FisherImportance) -> None:
    by_outputs = deploycc.prune(detector, SETTINGS, importance=importance)
    by_norm = deploycc.prune(detector, replace(SETTINGS, by="l1", below=0.11, multiple=1))
    assert back_end(by_norm) <= back_end(by_outputs)
    ours, theirs = agreements(detector, [by_outputs.detector, by_norm.detector])
    assert ours > theirs + 0.2


def test_a_goal_of_latency_is_met(detector: Detector, importance: FisherImportance) -> None:
    settings = deploycc.PruneSettings(by="fisher", speedup=1.15)
    pruned = deploycc.prune(detector, settings, importance=importance, costs=PredictedCosts(load("jetson-tx2-jp461")))
    goal = pruned.record.goal
    assert goal is not None
    assert 0.98 * goal.goal_ms <= goal.after_ms <= goal.goal_ms
    first = pruned.record.removed.get("backend.0.0/conv/Conv", ())
    assert len(first) <= 4  # the outputs depend on the first layer most


def test_what_is_missing_is_said(detector: Detector, importance: FisherImportance) -> None:
    with pytest.raises(InputError, match="needs pictures"):
        deploycc.prune(detector, SETTINGS)
    with pytest.raises(InputError, match="cannot be removed"):
        deploycc.prune(detector, replace(SETTINGS, below=1.0), importance=importance)
    with pytest.raises(BudgetMissed, match=r"at most \d+\.\d% of the MACs"):
        deploycc.prune(detector, replace(SETTINGS, below=0.999), importance=importance)


@pytest.mark.parametrize(("count", "directions"), [(5, 1), (12, 2), (400, 4)])
def test_few_pictures_give_several_directions_each(
    count: int, directions: int, detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[int] = []

    def looked(_: object, __: object, ___: object, numbers: list[int], **____: object) -> dict[str, object]:
        passes.extend(numbers)
        return {}

    monkeypatch.setattr("deploycc.distillation.importance.output_change", looked)
    found = fisher_importance(detector, "generated:7:5", count=count)
    assert found.pictures == 5
    assert sorted(passes) == sorted([*range(5)] * directions)
