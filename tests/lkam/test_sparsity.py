"""The sparsity term, MAC counts and schedules."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch", reason="PyTorch, of the extra train, is not installed")

from torch import nn  # noqa: E402

from deploycc.lkam.insert import gated_convs, gates_by_layer, insert_gates  # noqa: E402
from deploycc.lkam.sparsity import conv_macs  # noqa: E402
from deploycc.trainable.sparsity import Ramp, engaged_share, layer_gains, sparsity_loss, spread_loss  # noqa: E402


@pytest.fixture
def model() -> nn.Sequential:
    torch.manual_seed(0)
    built = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 8, 3, stride=2, padding=1))
    insert_gates(built, ["*"])
    return built


def test_macs_are_output_elements_times_filter(model: nn.Sequential) -> None:
    assert conv_macs(model, torch.zeros(1, 3, 8, 8)) == {"0": 4 * 64 * 27, "2": 8 * 16 * 36}


def test_the_term_is_the_paper_s(model: nn.Sequential) -> None:
    """L = sum over layers of G / (2 m) * sum of the layer's gate values, averaged over the batch."""
    gates = gates_by_layer(model)
    for gate in gates.values():
        nn.init.normal_(gate.decide.weight)
        nn.init.zeros_(gate.decide.bias)  # type: ignore[arg-type]
    model(torch.randn(6, 3, 8, 8))
    loss = sparsity_loss(gates_by_layer(model), {"0": 2.0, "2": 3.0})
    expected = 0.0
    for name, gain in (("0", 2.0), ("2", 3.0)):
        engaged = gates[name].engaged
        assert engaged is not None
        assert 0 < engaged.mean() < 1
        expected += gain / (2 * engaged.shape[1]) * engaged.sum().item() / 6
    assert math.isclose(loss.item(), expected, rel_tol=1e-6)
    loss.backward()
    for gate in gates.values():
        bias = gate.decide.bias
        assert bias is not None
        assert bias.grad is not None
        assert (bias.grad > 0).all(), "a step against the gradient switches kernels off"


def test_the_share_weighs_layers_by_their_macs(model: nn.Sequential) -> None:
    first = dict(gated_convs(model))["0"].gate
    nn.init.constant_(first.decide.bias, -50.0)  # type: ignore[arg-type]
    macs = conv_macs(model, torch.zeros(1, 3, 8, 8))
    model(torch.randn(3, 3, 8, 8))
    expected = macs["2"] / (macs["0"] + macs["2"])
    assert torch.allclose(engaged_share(gates_by_layer(model), macs), torch.full((3,), expected), rtol=0, atol=1e-6)


def test_a_unit_counts_by_its_kernels() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 64, 3, padding=1))
    insert_gates(model, ["*"], granularity="nested", shared=(0.75, 1.0))
    dict(gated_convs(model))["0"].gate.retire(torch.tensor([False, True]))
    macs = conv_macs(model, torch.zeros(1, 3, 8, 8))
    model(torch.randn(3, 3, 8, 8))
    assert torch.allclose(engaged_share(gates_by_layer(model), macs), torch.full((3,), 0.75), rtol=0, atol=1e-6)
    assert math.isclose(
        sparsity_loss(gates_by_layer(model), {"0": 2.0, "2": 3.0}).item(), 0.75 * (2.0 + 3.0) / 2, rel_tol=1e-6
    )


def test_the_spread_is_wanted_until_it_is_there(model: nn.Sequential) -> None:
    macs = conv_macs(model, torch.zeros(1, 3, 8, 8))
    for _, module in gated_convs(model):
        nn.init.normal_(module.gate.decide.weight)
        nn.init.zeros_(module.gate.decide.bias)  # type: ignore[arg-type]
    model(torch.randn(16, 3, 8, 8))
    there = engaged_share(gates_by_layer(model), macs).std(correction=0).item()
    assert there > 0.01
    assert spread_loss(gates_by_layer(model), macs, 0.5 * there).item() == 0.0
    loss = spread_loss(gates_by_layer(model), macs, there + 0.1)
    assert math.isclose(loss.item(), 0.1, rel_tol=1e-5)
    loss.backward()
    gate = dict(gated_convs(model))["2"].gate
    assert gate.decide.weight.grad is not None
    assert gate.decide.weight.grad.abs().sum() > 0


def test_gains_follow_macs_and_keep_their_mean(model: nn.Sequential) -> None:
    assert layer_gains(gates_by_layer(model), 2.0, None) == {"0": 2.0, "2": 2.0}
    assert layer_gains(gates_by_layer(model), 2.0, {"0": 100, "2": 300}) == {"0": 1.0, "2": 3.0}


def test_a_ramp_is_level_outside_and_linear_inside() -> None:
    ramp = Ramp(1.0, 3.0, 0.2, 0.6)
    assert [ramp.at(p) for p in (0.0, 0.2, 0.4, 0.6, 1.0)] == pytest.approx([1, 1, 2, 3, 3], rel=1e-12, abs=0)
