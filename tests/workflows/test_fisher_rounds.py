"""Kernels ranked in rounds: what went stays gone, what is left is ranked as it is now, and more of the network is left."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch, of the extra train, is not installed")

import deploycc  # noqa: E402
from deploycc.detector import Detector  # noqa: E402
from deploycc.distillation.agreement import Judge  # noqa: E402
from deploycc.errors import BudgetMissed, InputError  # noqa: E402
from deploycc.prediction.costs import PredictedCosts  # noqa: E402
from deploycc.progress import quiet  # noqa: E402
from deploycc.report.pruning import remarks  # noqa: E402
from deploycc.target import load  # noqa: E402
from deploycc.workflows import fisher_rounds  # noqa: E402
from deploycc.workflows.fisher import FisherImportance  # noqa: E402
from deploycc.workflows.fisher_rounds import importance_for, number_of_rounds  # noqa: E402
from deploycc.workflows.latency_clock import latency_clock  # noqa: E402
from deploycc.workflows.pictures import open_pictures  # noqa: E402

SETTINGS = deploycc.PruneSettings(by="fisher", below=0.3, rounds=3)
PICTURES = "generated:7:60"
PREDICTED = PredictedCosts(load("jetson-tx2-jp461"))


@pytest.fixture(scope="module")
def detector() -> Detector:
    return deploycc.load("street_ssd")


@pytest.fixture(scope="module")
def in_rounds(detector: Detector) -> FisherImportance:
    return importance_for(detector, PICTURES, SETTINGS)


@pytest.mark.parametrize(
    ("settings", "rounds"),
    [
        (replace(SETTINGS, rounds=0, below=0.05), 1),
        (replace(SETTINGS, rounds=0, below=0.22), 4),
        (replace(SETTINGS, rounds=0, below=0.35), 6),
        (replace(SETTINGS, rounds=0, speedup=1.3), 4),
        (replace(SETTINGS, rounds=0, speedup=1.3, blocks=True), 1),
        (replace(SETTINGS, rounds=0, below=1.0), 1),
        (replace(SETTINGS, rounds=2), 2),
    ],
)
def test_at_most_seven_percent_go_at_a_time(settings: deploycc.PruneSettings, rounds: int) -> None:
    assert number_of_rounds(settings) == rounds


def test_whole_blocks_are_ranked_once() -> None:
    with pytest.raises(InputError, match="ranked once"):
        number_of_rounds(replace(SETTINGS, speedup=1.3, blocks=True))


@pytest.mark.parametrize("speedup", [0.0, -1.0, 0.5])
def test_a_goal_that_cannot_be_meant_is_refused_before_anything_long(speedup: float) -> None:
    with pytest.raises(InputError, match="is not faster"):
        number_of_rounds(replace(SETTINGS, speedup=speedup))


def test_a_goal_out_of_reach_is_refused_as_one_of_latency(
    detector: Detector, in_rounds: FisherImportance, monkeypatch: pytest.MonkeyPatch
) -> None:
    rankings = []

    def ranked(*_: object, **__: object) -> FisherImportance:
        rankings.append(1)
        return replace(in_rounds, rankings=1)

    monkeypatch.setattr(fisher_rounds, "fisher_importance", ranked)
    settings = replace(SETTINGS, speedup=1e6, rounds=40)
    importance = importance_for(detector, "generated:7:2", settings, costs=PREDICTED)
    assert importance.rankings == len(rankings) == 1  # what cannot be met is known before all the other rounds
    with pytest.raises(BudgetMissed, match="no pruning makes the network take"):
        deploycc.prune(detector, settings, importance=importance, costs=PREDICTED)


def test_what_went_in_a_round_goes_again(detector: Detector, in_rounds: FisherImportance) -> None:
    pruned = deploycc.prune(detector, SETTINGS, importance=in_rounds)
    assert any("ranked 3 times" in sentence for sentence in remarks(pruned.record, "street"))
    part = pruned.record.part("back-end")
    assert part is not None
    assert 0.3 <= 1 - part.macs[1] / part.macs[0] < 0.33
    for name, worths in in_rounds.values.items():
        removed = set(pruned.record.removed.get(name, ()))
        carriers = set(pruned.decision.prune.carriers.get(name, ()))  # zeros that hold a constant for those that went
        least = np.argsort(worths)[: len(removed | carriers)]
        assert removed | carriers == set(least.tolist()), name


def test_more_is_left_than_where_kernels_are_ranked_once(detector: Detector, in_rounds: FisherImportance) -> None:
    once = importance_for(detector, PICTURES, replace(SETTINGS, rounds=1))
    assert once.rankings == 1
    judged = open_pictures("generated:5:40", detector.input)
    judge = Judge(detector, range(40), judged.read)
    ours, theirs = (
        judge.agreement(deploycc.prune(detector, SETTINGS, importance=each).detector).map50
        for each in (in_rounds, once)
    )
    assert ours > theirs + 0.05


def test_pruning_with_pictures_ranks_in_rounds(
    detector: Detector, in_rounds: FisherImportance, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    worths = {name: np.arange(1.0, 1.0 + len(values)) for name, values in in_rounds.values.items()}

    def ranked(_: Detector, __: object, settings: deploycc.PruneSettings, **___: object) -> FisherImportance:
        asked.append(settings.rounds)
        return FisherImportance(worths, PICTURES, 1, rankings=settings.rounds)

    monkeypatch.setattr("deploycc.workflows.prune.importance_for", ranked)
    pruned = deploycc.prune(detector, replace(SETTINGS, below=0.02), pictures=PICTURES, refit=False)
    assert asked == [3]
    assert pruned.record.rankings == 3
    assert all(kernels[0] == 0 for kernels in pruned.record.removed.values())  # no first kernel that must stay


def test_each_round_ranks_the_network_of_the_round_before(detector: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    real, seen = fisher_rounds.fisher_importance, []

    def counted(network: Detector, pictures: object, **how: object) -> FisherImportance:
        kernels = sum(int(node.inputs[1].shape[0]) for node in network.graph.nodes if node.op == "Conv")
        seen.append((kernels, how["count"], how["seed"]))
        return real(network, "generated:7:4", count=4, seed=1)

    monkeypatch.setattr(fisher_rounds, "fisher_importance", counted)
    importance_for(detector, "generated:7:8", SETTINGS)
    kernels = [number for number, _, _ in seen]
    assert kernels == sorted(kernels, reverse=True)
    assert len(set(kernels)) == 3
    assert [how for _, *how in seen] == [[200, 1], [200, 2], [400, 3]]


@pytest.fixture
def cuts(detector: Detector, monkeypatch: pytest.MonkeyPatch) -> list[deploycc.PruneSettings]:
    """Settings of the cuts: the whole one, which must be possible, and those between rounds; few pictures are ranked."""
    ranked, decided = fisher_rounds.fisher_importance, fisher_rounds.decide_pruning
    asked: list[deploycc.PruneSettings] = []

    def decide(network: Detector, settings: deploycc.PruneSettings, **how: Any) -> Any:
        asked.append(settings)
        return decided(network, settings, **how)

    def few(network: Detector, _: object, **how: Any) -> FisherImportance:
        return ranked(network, "generated:7:4", **{**how, "count": 4})

    monkeypatch.setattr(fisher_rounds, "decide_pruning", decide)
    monkeypatch.setattr(fisher_rounds, "fisher_importance", few)
    return asked


@pytest.mark.parametrize("as_ms", [False, True])
def test_rounds_go_towards_a_latency_by_its_costs(
    detector: Detector, cuts: list[deploycc.PruneSettings], as_ms: bool
) -> None:
    before_ms = latency_clock(detector, PREDICTED, quiet).before_ms
    goal: dict[str, float] = {"latency_ms": before_ms / 1.1} if as_ms else {"speedup": 1.1}
    importance = importance_for(detector, "generated:7:4", replace(SETTINGS, rounds=3, **goal), costs=PREDICTED)
    assert importance.rankings == 3
    assert [cut.speedup for cut in cuts] == pytest.approx([1.1, 1.1 ** (1 / 3), 1.1 ** (1 / 3)], rel=0.01)
    assert {(cut.latency_ms, cut.multiple) for cut in cuts} == {(None, None)}
    pruned = deploycc.prune(detector, replace(SETTINGS, **goal), importance=importance, costs=PREDICTED)
    assert pruned.decision.goal is not None
    assert pruned.decision.goal.after_ms <= before_ms / 1.1


def test_a_latency_that_is_met_already_needs_one_round(detector: Detector, cuts: list[deploycc.PruneSettings]) -> None:
    settings = replace(SETTINGS, rounds=0, latency_ms=1000.0)
    assert importance_for(detector, "generated:7:4", settings, costs=PREDICTED).rankings == 1
    assert not cuts


def test_rounds_build_nothing_on_a_device_that_has_a_budget(
    detector: Detector, cuts: list[deploycc.PruneSettings]
) -> None:
    settings = replace(SETTINGS, speedup=1.25, budget_s=60.0)
    importance_for(detector, "generated:7:4", settings, costs=PREDICTED)
    assert [cut.below for cut in cuts] == pytest.approx([0.2, 1 - 0.8 ** (1 / 3), 1 - 0.8 ** (1 / 3)])
    assert {(cut.speedup, cut.budget_s) for cut in cuts} == {(None, None)}
