"""Gates are trained without labels, and come out as gates that the compiler knows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch, of the extra train, is not installed")

from folded_detector import folded  # noqa: E402

import deploycc  # noqa: E402
from deploycc.detector import Detector  # noqa: E402
from deploycc.distillation.average import Average  # noqa: E402
from deploycc.distillation.gate_task import GateTask  # noqa: E402
from deploycc.distillation.gating_settings import GatingSettings  # noqa: E402
from deploycc.distillation.loop import TrainingSettings  # noqa: E402
from deploycc.distillation.picture_worth import PictureWorth  # noqa: E402
from deploycc.errors import DeployError, InputError  # noqa: E402
from deploycc.graph.cost import measure_cost, node_macs  # noqa: E402
from deploycc.graph.export import to_onnx  # noqa: E402
from deploycc.graph.gates.search import search_gates  # noqa: E402
from deploycc.trainable.gated import GateShape  # noqa: E402
from deploycc.trainable.sparsity import Ramp  # noqa: E402
from deploycc.workflows.train_gates import GateTraining, layers_to_gate, train_gates  # noqa: E402

PICTURES = "generated:5:30"
SETTINGS = TrainingSettings(steps=8, batch=3, check_every=2)


LAYERS = ("backend.[12]*",)
HURRIED = GatingSettings((), GateShape(hidden=8), keep=0.7, gain=20.0, press=Ramp(1.0, 1.0), spread=0.1, retire=0.05)
"""Press hard from the first step."""


def worth_of(detector: Detector, layers: Sequence[str], worths: Mapping[str, Any] | None = None) -> PictureWorth:
    """Six pictures that differ; kernels are worth their norms where nothing else is said."""
    rng, nodes = np.random.default_rng(3), {node.name: node for node in detector.graph.nodes}
    kernels, means = {}, {}
    for layer in layers:
        weights = nodes[layer].inputs[1].values
        mean = np.linalg.norm(weights.reshape(len(weights), -1), axis=1) if worths is None else worths[layer]
        kernels[layer] = mean * rng.uniform(0.5, 2.0, (6, 1))
        means[layer] = rng.random((6, weights.shape[1]))
    return PictureWorth(kernels, means)


@pytest.fixture(scope="module", autouse=True)
def ranked_by_norm() -> Iterator[None]:
    """Take the norms of kernels as their worth: to find it takes a minute, and is tested by itself."""

    def norms(detector: Detector, pictures: object, layers: Sequence[str], **_: object) -> PictureWorth:
        return worth_of(detector, layers)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("deploycc.workflows.fisher.fisher_by_picture", norms)
        yield


@pytest.fixture(scope="module")
def teacher() -> Detector:
    return deploycc.load("street_ssd")


@pytest.fixture(scope="module")
def trained(teacher: Detector) -> GateTraining:
    return train_gates(teacher, PICTURES, SETTINGS, layers=LAYERS, gates=HURRIED)


def test_the_compiler_finds_the_gates(trained: GateTraining, teacher: Detector, tmp_path: Path) -> None:
    path = tmp_path / "gated.onnx"
    deploycc.save(trained.detector, path)
    detector = deploycc.load(path)
    gates, notes = search_gates(detector.graph, detector.gates)
    assert not notes
    assert tuple(gate.layer for gate in gates) == trained.training.layers == layers_to_gate(folded(teacher), LAYERS)
    assert {gate.source for gate in gates} == {"metadata"}
    profile = deploycc.profile(detector, "generated:7:12")
    used = [layer.gate for layer in profile.layers if layer.gate is not None]
    assert len(used) == len(gates)
    assert [note.code for note in detector.notes if note.code == "gates-trained"]
    pruned = deploycc.prune(detector, deploycc.PruneSettings(below=0.05, multiple=1), profile=profile)
    assert pruned.record.part("total") is not None


def test_kernels_go_off_and_differently_for_each_picture(trained: GateTraining, teacher: Detector) -> None:
    shares = torch.tensor(trained.training.engaged)
    assert 0 < shares.mean() < 1
    assert shares.std() > 0
    graph = folded(teacher).graph
    layers = {node.name: node_macs(node) for node in graph.nodes if node.name in trained.training.layers}
    assert trained.training.gated_share == pytest.approx(
        sum(layers.values()) / measure_cost(graph).macs, rel=1e-9, abs=0
    )
    history = trained.training.history
    assert [record["step"] for record in history] == [2, 4, 6, 8]
    assert history[-1]["engaged"] < 1
    assert trained.training.agreement.map50 == max(record["agreement"] for record in history if record["step"] >= 6)


def test_a_training_that_was_cut_goes_on_to_the_same_end(
    trained: GateTraining, teacher: Detector, tmp_path: Path
) -> None:
    file, seen = tmp_path / "checkpoint.pt", []

    def stop(record: dict[str, float]) -> None:
        seen.append(record["step"])
        if len(seen) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_gates(teacher, PICTURES, SETTINGS, layers=LAYERS, gates=HURRIED, checkpoint=file, report=stop)
    again = train_gates(teacher, PICTURES, SETTINGS, layers=LAYERS, gates=HURRIED, checkpoint=file)
    assert bytes_of(again.detector) == bytes_of(trained.detector)


def bytes_of(detector: Detector) -> bytes:
    return bytes(to_onnx(detector.graph).SerializeToString())


def test_weights_are_averaged_once_gates_no_longer_change(teacher: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    averages: list[Watched] = []

    class Watched(Average):
        def __init__(self, weights: Mapping[str, Any], known: Mapping[str, Any] | None = None) -> None:
            super().__init__(weights, known)
            self.names, self.added = set(weights), 0
            averages.append(self)

        def add(self) -> None:
            super().add()
            self.added += 1

    monkeypatch.setattr("deploycc.distillation.gating.Average", Watched)
    train_gates(teacher, PICTURES, SETTINGS, layers=LAYERS, gates=replace(HURRIED, freeze=0.5))
    [made] = averages
    assert made.added == SETTINGS.steps / 2
    assert made.names
    assert made.names <= set(folded(teacher).graph.tensors())


def test_a_record_tells_of_the_weights_that_are_judged(teacher: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    inside, asked, facts = [False], [], GateTask.facts

    class Watched(Average):
        @contextmanager
        def instead(self) -> Iterator[None]:
            with super().instead():
                inside[0] = True
                yield
            inside[0] = False

    def watched(task: GateTask) -> dict[str, float]:
        asked.append(inside[0])
        return facts(task)

    monkeypatch.setattr("deploycc.distillation.gating.Average", Watched)
    monkeypatch.setattr(GateTask, "facts", watched)
    train_gates(teacher, PICTURES, replace(SETTINGS, steps=4), layers=LAYERS, gates=HURRIED)
    assert asked == [True, True]


def test_gates_are_recalibrated_for_the_weights_that_are_judged_and_for_those_to_train_on(
    teacher: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[float] = []
    monkeypatch.setattr(
        "deploycc.distillation.gating.recalibrate",
        lambda network, *_: seen.append(float(sum(weight.detach().double().sum() for weight in network.weights))),
    )
    train_gates(teacher, PICTURES, replace(SETTINGS, steps=4), layers=LAYERS[:1], gates=replace(HURRIED, retire=0.0))
    _, average, own, later_average, later_own = seen  # the first are those to begin with
    assert len({average, own, later_average, later_own}) == 4


def test_layers_are_chosen_by_name(teacher: Detector) -> None:
    assert layers_to_gate(teacher, ["backend.2.1*"])
    assert set(layers_to_gate(teacher, LAYERS)) <= set(layers_to_gate(teacher))
    with pytest.raises(InputError) as error:
        layers_to_gate(teacher, ["backend.9*"])
    assert error.value.code == "gate-pattern"


@pytest.mark.parametrize(("hidden", "fitted"), [(8, True), (0, False)])
def test_gates_that_cannot_be_fitted_are_held_by_views(
    hidden: int, fitted: bool, teacher: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[bool, bool]] = []

    class Watched(GateTask):
        def __init__(self, *args: Any, learns: bool, recalibrate: Any) -> None:
            super().__init__(*args, learns=learns, recalibrate=recalibrate)
            made.append((learns, recalibrate is not None))

    monkeypatch.setattr("deploycc.distillation.gating.GateTask", Watched)
    gates = replace(HURRIED, shape=GateShape(hidden=hidden), retire=0.0)
    train_gates(teacher, PICTURES, replace(SETTINGS, steps=1), layers=LAYERS[:1], gates=gates)
    assert made == [(False, fitted)]


def test_a_network_without_heads_is_refused(teacher: Detector) -> None:
    from dataclasses import replace

    with pytest.raises(DeployError) as error:
        layers_to_gate(replace(teacher, heads=None))
    assert error.value.code == "distillation-no-heads"


def test_by_default_layers_with_kernels_to_spare_get_gates(
    teacher: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    candidates = layers_to_gate(folded(teacher))
    wanted = candidates[1::2]
    sizes = {node.name: int(node.inputs[1].shape[0]) for node in teacher.graph.nodes if node.op == "Conv"}
    worths = {name: np.where((np.arange(sizes[name]) % 5 == 0) & (name in wanted), 1.0, 1e9) for name in candidates}
    file, asked, reports = tmp_path / "checkpoint.pt", [], []

    def ranked(detector: Detector, pictures: object, layers: Sequence[str], **_: object) -> PictureWorth:
        asked.append(1)
        return worth_of(detector, layers, worths)

    def stop(record: object) -> None:
        reports.append(record)
        if len(reports) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr("deploycc.workflows.fisher.fisher_by_picture", ranked)
    how: dict[str, Any] = {"gates": replace(HURRIED, keep=0.9), "checkpoint": file}
    with pytest.raises(KeyboardInterrupt):
        train_gates(teacher, PICTURES, SETTINGS, report=stop, **how)
    done = train_gates(teacher, PICTURES, SETTINGS, **how)
    assert len(asked) == 1  # the checkpoint knows the layers
    assert done.training.layers == wanted
    assert tuple(gate.layer for gate in search_gates(done.detector.graph, done.detector.gates)[0]) == wanted
    [note] = (note for note in done.detector.notes if note.code == "gates-trained")
    assert note.reason.startswith(f"{len(wanted)} of {len(candidates)} layers, those with kernels to spare, have gates")


def test_a_training_starts_with_as_many_kernels_as_it_may_keep(teacher: Detector) -> None:
    calm = replace(HURRIED, gain=0.0, spread=0.0, retire=0.0)
    done = train_gates(teacher, PICTURES, replace(SETTINGS, steps=3, check_every=1), layers=LAYERS, gates=calm)
    assert done.training.history[0]["engaged"] == pytest.approx(0.7, abs=0.1)


@pytest.mark.parametrize(
    ("shape", "keep", "same"),
    [
        (GateShape(hidden=8), 0.7, True),
        (GateShape(hidden=8), None, False),
        (GateShape("nested", 32, hidden=8), 0.7, False),
    ],
)
def test_gates_that_begin_with_their_share_do_not_learn(
    shape: GateShape, keep: float | None, same: bool, teacher: Detector
) -> None:
    def decisions(steps: int) -> dict[str, Any]:
        settings = replace(SETTINGS, steps=steps, check_every=steps)
        done = train_gates(
            teacher,
            PICTURES,
            settings,
            layers=LAYERS[:1],
            gates=replace(HURRIED, shape=shape, keep=keep, retire=0.0, freeze=0.5),
        )
        tensors = done.training.detector.graph.tensors()
        weights = {name: tensor.values for name, tensor in tensors.items() if name.endswith("decide/weight")}
        return {name: values / np.abs(values).max() for name, values in weights.items()}  # all may be strengthened

    few, more = decisions(2), decisions(4)
    assert few.keys() == more.keys() != set()
    assert all(np.allclose(few[name], more[name], rtol=1e-5, atol=0) for name in few) == same


def test_gates_are_calibrated_to_what_they_read_once_the_network_is_refitted(
    teacher: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    noted = {
        "deploycc.distillation.gating.start_by_worth": "start",
        "deploycc.distillation.gating.recalibrate": "recalibrate",
        "deploycc.trainable.network.TrainableNetwork.take": "refit",
    }
    for name, what in noted.items():
        monkeypatch.setattr(name, lambda *_, what=what: order.append(what))
    gates = replace(HURRIED, retire=0.0)
    train_gates(teacher, PICTURES, replace(SETTINGS, steps=1), layers=LAYERS[:1], gates=gates)
    assert order == ["start", "refit", "recalibrate", "recalibrate", "recalibrate"]  # the last two at the check


@pytest.mark.parametrize(
    ("shape", "ranked"),
    [
        (GateShape(hidden=8), True),
        (GateShape("nested", 32, hidden=8), False),
        (GateShape("block", shared=4, hidden=8), False),
    ],
)
def test_kernels_are_ranked_only_for_gates_that_begin_in_order(
    shape: GateShape, ranked: bool, teacher: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def looked(*_: object, **__: object) -> PictureWorth:
        asked.append(1)
        return PictureWorth({}, {})

    monkeypatch.setattr("deploycc.workflows.fisher.fisher_by_picture", looked)
    train_gates(teacher, PICTURES, replace(SETTINGS, steps=4), layers=LAYERS, gates=replace(HURRIED, shape=shape))
    assert asked == [1] * ranked
