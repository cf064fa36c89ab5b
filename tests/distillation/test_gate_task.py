"""Gates are pressed, frozen, held to their share, or fitted, while the network is taught."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch, of the extra train, is not installed")

from folded_detector import folded  # noqa: E402

import deploycc  # noqa: E402
from deploycc.detector import Detector  # noqa: E402
from deploycc.distillation.gate_start import start_in_order  # noqa: E402
from deploycc.distillation.gate_task import GateTask  # noqa: E402
from deploycc.distillation.gating_settings import GatingSettings  # noqa: E402
from deploycc.trainable.gated import GatedNetwork, GateShape  # noqa: E402
from deploycc.trainable.sparsity import engaged_share  # noqa: E402

SETTINGS = GatingSettings((), GateShape(hidden=8), keep=0.7, retire=0.05)


@pytest.fixture(scope="module")
def teacher() -> Detector:
    return deploycc.load("street_ssd")


LAYER = "backend.2.0/conv/Conv"


def gated_layer(teacher: Detector) -> GatedNetwork:
    return GatedNetwork(folded(teacher), [teacher.heads.locations], [], (LAYER,), GateShape(hidden=8))


@pytest.mark.parametrize(("keep", "expected"), [(0.6, 0.6), (None, 0.85)])
def test_frozen_gates_keep_their_share(teacher: Detector, keep: float | None, expected: float) -> None:
    """What they read still changes."""
    torch.manual_seed(0)
    network = gated_layer(teacher)
    start_in_order(network, {LAYER: np.arange(128.0)}, 0.15)
    pictures = torch.from_numpy(np.random.default_rng(0).standard_normal((4, *teacher.input.shape[1:]), np.float32))
    shares: list[float] = []
    task = GateTask(network, replace(SETTINGS, keep=keep, freeze=0.5, retire=0.0), lambda: shares)
    task.begin_step(0.5)
    for _ in range(60):
        network(pictures)
        assert task.price(0.5) is None
        shares[:] = engaged_share(network.by_layer, network.macs).tolist()
    assert np.mean(shares) == pytest.approx(expected, rel=0, abs=0.02)


def test_pictures_engage_the_share_that_was_asked_for_whatever_views_do(teacher: Detector) -> None:
    network = gated_layer(teacher)
    [(_, gate)] = network.deciding
    task = GateTask(network, replace(SETTINGS, keep=0.5, freeze=0.5, retire=0.0), lambda: [0.6, 0.7])
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
    task = GateTask(
        network, replace(SETTINGS, keep=0.5), lambda: [0.5, 0.6], learns=False, recalibrate=lambda: asked.append(1)
    )
    assert not any(parameter.requires_grad for parameter in network.gates.parameters())
    for _ in range(3):  # everything is engaged, where half should be
        task.begin_step(0.0)
        task.price(0.0)
        task.facts()
    assert not asked
    assert torch.equal(gate.decide.bias, before)
    task.adapt()
    assert len(asked) == 1


def test_a_record_tells_of_all_views_since_the_last_one(teacher: Detector) -> None:
    network = gated_layer(teacher)
    [(_, gate)] = network.deciding
    task = GateTask(network, SETTINGS, lambda: [0.5])
    seen = []
    for engaged in (128, 64, 32):
        gate.decided = (torch.arange(128) < engaged).float().reshape(1, 128, 1, 1)
        task.price(0.0)
        if engaged != 64:
            seen.append(task.facts()["engaged_in_views"])
    assert seen == [1.0, 0.375]


@pytest.mark.parametrize("hidden", [0, 8])
def test_gates_that_neither_learn_nor_are_fitted_keep_their_share(teacher: Detector, hidden: int) -> None:
    """Gates without hidden channels cannot be fitted (`KernelGate.recalibrate`)."""
    torch.manual_seed(0)
    network = GatedNetwork(folded(teacher), [teacher.heads.locations], [], (LAYER,), GateShape(hidden=hidden))
    start_in_order(network, {LAYER: np.arange(128.0)}, 0.15)
    pictures = torch.from_numpy(np.random.default_rng(0).standard_normal((4, *teacher.input.shape[1:]), np.float32))
    task = GateTask(network, replace(SETTINGS, keep=0.6, retire=0.0), lambda: [0.6], learns=False)
    assert not any(parameter.requires_grad for parameter in network.gates.parameters())
    for _ in range(60):
        task.begin_step(0.0)
        network(pictures)
        assert task.price(0.0) is None
    assert engaged_share(network.by_layer, network.macs).mean() == pytest.approx(0.6, rel=0, abs=0.02)
