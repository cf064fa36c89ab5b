"""What pruning left learns as `train recover` teaches: labels of a data set join, and those that cannot are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="PyTorch, of the extra train, is not installed")

import deploycc
from deploycc.cli import main
from deploycc.detector.picture_list import FitPictures
from deploycc.errors import InputError
from deploycc.prediction.costs import PredictedCosts
from deploycc.target import load
from deploycc.workflows import prune, target_pruning
from deploycc.workflows import prune_on_the_way as module
from deploycc.workflows.cut import make_cut
from deploycc.workflows.fisher import FisherImportance
from deploycc.workflows.prune import Pruned, host_costs
from deploycc.workflows.prune_on_the_way import Recovering, prune_on_the_way
from deploycc.workflows.target_pruning import TargetPruning

PICTURES = "generated:5:24"
OTHER_NAMES = "background,car,truck,bus,pedestrian,cyclist,sign"


@pytest.mark.parametrize(("weight", "said"), [(1.0, "and their labels"), (0.0, "without labels")])
def test_labels_of_a_data_set_join_the_loss_unless_they_have_no_weight(
    weight: float, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    unfitted: Any = lambda decision, pictures, say: make_cut(decision, None, say)  # noqa: E731
    monkeypatch.setattr(prune, "make_cut", unfitted)  # which leaves more to learn
    settings = deploycc.PruneSettings(by="l1", below=0.3, multiple=8)
    how = TargetPruning((load("x86-cpu"),), settings, host_costs())
    nothing: dict[str, Any] = {"profile": None, "mask": None, "data": None, "cost_file": None}
    made, notes = prune_on_the_way(
        deploycc.load("street_ssd"), [how], recovering=Recovering(PICTURES, 8, weight, threads=1), **nothing
    )
    pruned = made["x86-cpu"]
    assert isinstance(pruned, Pruned)
    assert pruned.recovered
    assert not notes
    (note,) = (note for note in pruned.detector.notes if note.code == "weights-recovered")
    assert said in note.reason
    assert "for 22 pictures" in note.reason  # two of the 24 only judge


def test_kernels_are_ranked_by_the_costs_of_each_goal(monkeypatch: pytest.MonkeyPatch) -> None:
    detector = deploycc.load("street_ssd")
    worths = {
        node.name: np.arange(1.0, 1.0 + node.inputs[1].shape[0]) for node in detector.graph.nodes if node.op == "Conv"
    }
    settings = deploycc.PruneSettings(by="fisher", speedup=1.05)
    targets = [load(name) for name in ("jetson-tx2-jp461", "jetson-xavier-jp512")]
    hows = [TargetPruning((target,), settings, PredictedCosts(target)) for target in targets]
    asked: list[tuple[object, ...]] = []

    def ranked(_: object, pictures: object, goal: object, *, costs: object, **__: object) -> FisherImportance:
        asked.append((pictures, goal, costs))
        return FisherImportance(worths, PICTURES, 1, rankings=len(asked) + 1)

    monkeypatch.setattr(target_pruning, "importance_for", ranked)
    nothing: dict[str, Any] = {"profile": None, "mask": None, "cost_file": None}
    made, _ = prune_on_the_way(detector, hows, data=PICTURES, recovering=Recovering(), **nothing)
    assert [how for _, *how in asked] == [[settings, how.costs] for how in hows]
    chosen = {id(pictures): pictures for pictures, *_ in asked}
    (pictures,) = chosen.values()  # they are looked at once
    assert isinstance(pictures, FitPictures)
    assert pictures.source == PICTURES
    records = [one.record for one in made.values() if isinstance(one, Pruned)]
    assert [record.rankings for record in records] == [2, 3]


@pytest.mark.parametrize(
    ("more", "refused"),
    [([], True), (["--recover-label-weight", "0"], False), (["--recover", "FOLDER"], False)],
    ids=["labels", "no-weight", "folder"],
)
def test_labels_of_other_classes_are_refused_before_anything_long(
    more: list[str], refused: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def begin(*_: object, **__: object) -> None:
        raise InputError("reached", "pruning began")

    monkeypatch.setattr(module, "prune_for_targets", begin)
    given = ["--by", "l1", "--below", "0.3", "--recover", PICTURES, "--names", OTHER_NAMES]
    given += [str(tmp_path) if word == "FOLDER" else word for word in more]
    assert main(["compile", "street_ssd", *given, "-t", "x86-cpu", "-o", str(tmp_path / "out")]) == 1
    shown = " ".join(capsys.readouterr().err.split())
    assert ("error[labels-of-other-classes]" in shown) == refused
    assert ("error[reached]" in shown) != refused
    assert ("a label weight of 0" in shown) == refused
