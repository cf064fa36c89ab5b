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

import deploycc  # noqa: E402
from deploycc.detector import Detector  # noqa: E402
from deploycc.distillation.average import Average  # noqa: E402
from deploycc.distillation.gate_start import start_in_order  # noqa: E402
from deploycc.distillation.gating import GatingSettings, _batches, _engaged_on, _GateTask, _recalibrate  # noqa: E402
from deploycc.distillation.loop import TrainingSettings  # noqa: E402
from deploycc.distillation.picture_worth import PictureWorth  # noqa: E402
from deploycc.distillation.samples import Samples  # noqa: E402
from deploycc.errors import DeployError, InputError  # noqa: E402
from deploycc.graph.cost import measure_cost, node_macs  # noqa: E402
from deploycc.graph.export import to_onnx  # noqa: E402
from deploycc.graph.gates.search import search_gates  # noqa: E402
from deploycc.trainable.gated import GatedNetwork, GateShape  # noqa: E402
from deploycc.trainable.sparsity import Ramp, engaged_share  # noqa: E402
from deploycc.workflows.pictures import open_pictures  # noqa: E402
from deploycc.workflows.train_gates import GateTraining, layers_to_gate, train_gates  # noqa: E402

PICTURES = "generated:5:30"
SETTINGS = TrainingSettings(steps=8, batch=3, check_every=2)


LAYERS = ("backend.[12]*",)
PAIR = ("backend.2.0/conv/Conv", "backend.2.1/conv/Conv")
"""One reads what the other makes."""


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
    assert (
        tuple(gate.layer for gate in gates)
        == trained.training.layers
        == layers_to_gate(detector_folded(teacher), LAYERS)
    )
    assert {gate.source for gate in gates} == {"metadata"}
    profile = deploycc.profile(detector, "generated:7:12")
    used = [layer.gate for layer in profile.layers if layer.gate is not None]
    assert len(used) == len(gates)
    assert [note.code for note in detector.notes if note.code == "gates-trained"]
    pruned = deploycc.prune(detector, deploycc.PruneSettings(below=0.05, multiple=1), profile=profile)
    assert pruned.record.part("total") is not None


def detector_folded(detector: Detector) -> Detector:
    from deploycc.passes import FOLD, run
    from deploycc.workflows.prune import cpu_options

    return run(detector, cpu_options(), FOLD).detector


def test_kernels_go_off_and_differently_for_each_picture(trained: GateTraining, teacher: Detector) -> None:
    shares = torch.tensor(trained.training.engaged)
    assert 0 < shares.mean() < 1
    assert shares.std() > 0
    graph = detector_folded(teacher).graph
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
    assert made.names <= set(detector_folded(teacher).graph.tensors())


def test_a_record_tells_of_the_weights_that_are_judged(teacher: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    inside, asked, facts = [False], [], _GateTask.facts

    class Watched(Average):
        @contextmanager
        def instead(self) -> Iterator[None]:
            with super().instead():
                inside[0] = True
                yield
            inside[0] = False

    def watched(task: _GateTask) -> dict[str, float]:
        asked.append(inside[0])
        return facts(task)

    monkeypatch.setattr("deploycc.distillation.gating.Average", Watched)
    monkeypatch.setattr(_GateTask, "facts", watched)
    train_gates(teacher, PICTURES, replace(SETTINGS, steps=4), layers=LAYERS, gates=HURRIED)
    assert asked == [True, True]


LAYER = "backend.2.0/conv/Conv"


def gated_layer(teacher: Detector) -> GatedNetwork:
    return GatedNetwork(detector_folded(teacher), [teacher.heads.locations], [], (LAYER,), GateShape(hidden=8))


@pytest.mark.parametrize(("keep", "expected"), [(0.6, 0.6), (None, 0.85)])
def test_frozen_gates_keep_their_share(teacher: Detector, keep: float | None, expected: float) -> None:
    """What they read still changes."""
    torch.manual_seed(0)
    network = gated_layer(teacher)
    start_in_order(network, {LAYER: np.arange(128.0)}, 0.15)
    pictures = torch.from_numpy(np.random.default_rng(0).standard_normal((4, *teacher.input.shape[1:]), np.float32))
    shares: list[float] = []
    task = _GateTask(network, replace(HURRIED, keep=keep, freeze=0.5, retire=0.0), lambda: shares)
    task.begin_step(0.5)
    for _ in range(60):
        network(pictures)
        assert task.price(0.5) is None
        shares[:] = engaged_share(network.by_layer, network.macs).tolist()
    assert np.mean(shares) == pytest.approx(expected, rel=0, abs=0.02)


def test_pictures_engage_the_share_that_was_asked_for_whatever_views_do(teacher: Detector) -> None:
    network = gated_layer(teacher)
    [(_, gate)] = network.deciding
    task = _GateTask(network, replace(HURRIED, keep=0.5, freeze=0.5, retire=0.0), lambda: [0.6, 0.7])
    before = gate.decide.bias.detach().clone()

    def step(engaged: int) -> float:
        """Logits by which the gate moves after a view that engages so many of 128."""
        gate.decided = (torch.arange(128) < engaged).float().reshape(1, 128, 1, 1)
        start = gate.decide.bias.detach().clone()
        task.begin_step(0.5)
        task.price(0.5)
        return float((gate.decide.bias - start).mean())

    assert step(64) == 0
    assert torch.equal(gate.decide.bias, before)
    facts = task.facts()
    assert facts == pytest.approx({"engaged": 0.65, "engaged_std": 0.05, "engaged_in_views": 0.5}, rel=1e-6, abs=0)
    assert step(64) < 0  # pictures engage 15 points more than views: views must engage fewer
    assert step(48) < 0
    assert step(32) > 0


def test_gates_that_do_not_learn_are_recalibrated_and_not_shifted(teacher: Detector) -> None:
    network, asked = gated_layer(teacher), []
    [(_, gate)] = network.deciding
    gate.decided = torch.ones(1, 128, 1, 1)
    before = gate.decide.bias.detach().clone()
    task = _GateTask(network, replace(HURRIED, keep=0.5), lambda: [0.5, 0.6], lambda: asked.append(1))
    assert not any(parameter.requires_grad for parameter in network.gates.parameters())
    for _ in range(3):  # everything is engaged, where half should be
        task.begin_step(0.0)
        task.price(0.0)
        task.facts()
    assert not asked
    assert torch.equal(gate.decide.bias, before)
    task.adapt()
    assert len(asked) == 1


def test_gates_are_recalibrated_whatever_the_gates_before_them_do(teacher: Detector) -> None:
    torch.manual_seed(2)
    samples = Samples(open_pictures(PICTURES, teacher.input), teacher.input, 1)
    network = GatedNetwork(detector_folded(teacher), [], [], PAIR, GateShape(hidden=4))
    numbers = samples.trained_on[:24]

    def deviations() -> list[tuple[float, float]]:
        """Mean and deviation of what each gate follows."""
        values: list[list[torch.Tensor]] = [[], []]
        for _ in _batches(network, numbers, samples, teacher):
            for (_, gate), found in zip(network.deciding, values, strict=True):
                found.append(gate.squeeze(gate.pooled).detach()[:, 0].flatten())
        return [(float(torch.cat(each).mean()), float(torch.cat(each).std())) for each in values]

    for _, gate in network.deciding:
        gate.start_in_order(torch.linspace(0, 1, 129)[:-1], 0.5)
        gate.follow(torch.randn(gate.squeeze.weight.shape[1]), 0.0, 0.5)
    _recalibrate(network, numbers, samples, teacher, 0.5)
    for mean, deviation in deviations():
        assert mean == pytest.approx(4.0, rel=0, abs=0.1)
        assert deviation == pytest.approx(1.0, rel=0.1, abs=0)


@pytest.mark.parametrize("begun", [0.03, 0.07])
def test_gates_that_do_not_learn_spread_as_was_asked_again(teacher: Detector, begun: float) -> None:
    torch.manual_seed(2)
    samples = Samples(open_pictures(PICTURES, teacher.input), teacher.input, 1)
    network = GatedNetwork(detector_folded(teacher), [], [], PAIR, GateShape(hidden=4))
    numbers = samples.trained_on[:24]
    for _, gate in network.deciding:
        gate.start_in_order(torch.linspace(0, 1, 129)[:-1], 0.5)
        gate.follow(torch.randn(gate.squeeze.weight.shape[1]), 0.0, begun)
    seen = []
    for _ in range(6):
        _recalibrate(network, numbers, samples, teacher, 0.05)
        shares = _engaged_on(network, numbers, samples, teacher)
        seen.append(float(np.std(shares)))
        assert np.mean(shares) == pytest.approx(0.5, rel=0, abs=0.02)
    assert seen[-1] == pytest.approx(0.05, rel=0.1, abs=0)
    steps = np.array(seen[1:]) / seen[:-1]
    assert steps.max() < 1.4  # a little at a time
    assert steps.min() > 0.7


def test_gates_are_recalibrated_for_the_weights_that_are_judged_and_for_those_to_train_on(
    teacher: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[float] = []
    monkeypatch.setattr(
        "deploycc.distillation.gating._recalibrate",
        lambda network, *_: seen.append(float(sum(weight.detach().double().sum() for weight in network.weights))),
    )
    train_gates(teacher, PICTURES, replace(SETTINGS, steps=4), layers=LAYERS[:1], gates=replace(HURRIED, retire=0.0))
    _, average, own, later_average, later_own = seen  # the first are those to begin with
    assert len({average, own, later_average, later_own}) == 4


def test_a_record_tells_of_all_views_since_the_last_one(teacher: Detector) -> None:
    network = gated_layer(teacher)
    [(_, gate)] = network.deciding
    task = _GateTask(network, HURRIED, lambda: [0.5])
    seen = []
    for engaged in (128, 64, 32):
        gate.decided = (torch.arange(128) < engaged).float().reshape(1, 128, 1, 1)
        task.price(0.0)
        if engaged != 64:
            seen.append(task.facts()["engaged_in_views"])
    assert seen == [1.0, 0.375]


def test_layers_are_chosen_by_name(teacher: Detector) -> None:
    assert layers_to_gate(teacher, ["backend.2.1*"])
    assert set(layers_to_gate(teacher, LAYERS)) <= set(layers_to_gate(teacher))
    with pytest.raises(InputError) as error:
        layers_to_gate(teacher, ["backend.9*"])
    assert error.value.code == "gate-pattern"


def test_a_network_without_heads_is_refused(teacher: Detector) -> None:
    from dataclasses import replace

    with pytest.raises(DeployError) as error:
        layers_to_gate(replace(teacher, heads=None))
    assert error.value.code == "distillation-no-heads"


def test_by_default_layers_with_kernels_to_spare_get_gates(
    teacher: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    candidates = layers_to_gate(detector_folded(teacher))
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
        "deploycc.distillation.gating._recalibrate": "recalibrate",
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
