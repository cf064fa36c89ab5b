"""Gates: hard decisions, straight-through gradients, three granularities."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="PyTorch, of the extra train, is not installed")

from deploycc.documents.document import Granularity  # noqa: E402
from deploycc.trainable.gate import FollowingGate, KernelGate, engaged_kernels, hard_threshold  # noqa: E402


def test_the_threshold_is_hard_and_its_gradient_passes() -> None:
    probability = torch.tensor([0.1, 0.5, 0.50001, 0.9], requires_grad=True)
    mask = hard_threshold(probability, 0.5)
    assert mask.tolist() == [0.0, 0.0, 1.0, 1.0]
    (mask * torch.tensor([1.0, 2.0, 3.0, 4.0])).sum().backward()
    assert probability.grad is not None
    assert probability.grad.tolist() == [1.0, 2.0, 3.0, 4.0]


@pytest.mark.parametrize("granularity", ["kernel", "block", "nested"])
@pytest.mark.parametrize("hidden", [0, 8])
def test_everything_is_engaged_at_first_and_every_parameter_learns(granularity: Granularity, hidden: int) -> None:
    torch.manual_seed(0)
    gate = KernelGate(6, 12, granularity, blocks=4, hidden=hidden)
    x = torch.rand(5, 6, 7, 9)
    mask = gate(x)
    assert mask.shape == (5, 12, 1, 1)
    assert mask.min() == 1.0
    (mask.sum(1) * torch.arange(5.0).view(5, 1, 1)).sum().backward()
    for name, parameter in gate.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("granularity", ["block", "nested"])
def test_kernels_of_a_block_agree(granularity: Granularity) -> None:
    gate = _with_random_weights(KernelGate(6, 12, granularity, blocks=4))
    mask = gate(torch.randn(64, 6, 4, 4)).view(64, 4, 3)
    assert 0 < mask[:, 1:].mean() < 1
    assert (mask[:, 0] == 1).all()
    assert (mask == mask[:, :, :1]).all()
    assert gate.engaged is not None
    assert torch.equal(gate.engaged, mask[:, :, 0])


def test_nested_blocks_go_off_from_the_last_to_the_first() -> None:
    gate = _with_random_weights(KernelGate(6, 12, "nested", blocks=4))
    gate(torch.randn(256, 6, 4, 4))
    engaged = gate.engaged
    assert engaged is not None
    assert (engaged[:, 1:] <= engaged[:, :-1]).all()
    assert (engaged[:, 0] == 1).all()
    assert len(engaged.sum(1).unique()) > 2


def test_the_decision_looks_at_the_average_of_the_map_only() -> None:
    gate = _with_random_weights(KernelGate(6, 12))
    x = torch.randn(3, 6, 4, 4)
    shuffled = x.flatten(2)[:, :, torch.randperm(16)].view_as(x)
    assert torch.equal(gate(x), gate(shuffled))


def test_it_decides_in_16_bits_as_in_32() -> None:
    gate = KernelGate(64, 256, hidden=16)
    torch.nn.init.zeros_(gate.decide.bias)  # half of the decisions are near the threshold
    maps = torch.randn(8, 64, 5, 5).bfloat16()
    wanted = gate(maps.float())
    with torch.autocast("cpu", torch.bfloat16):
        decided = gate(maps)
    assert decided.dtype == torch.float32
    assert torch.equal(decided, wanted)


def test_a_higher_threshold_engages_fewer() -> None:
    gate = _with_random_weights(KernelGate(6, 64))
    x = torch.randn(32, 6, 4, 4)
    shares = []
    for gate.threshold in (0.2, 0.5, 0.8):
        shares.append(gate(x).mean().item())
    assert shares[0] > shares[1] > shares[2]


def test_settling_makes_the_hidden_channels_hear_the_pictures() -> None:
    torch.manual_seed(2)
    gate = KernelGate(6, 12, hidden=5)
    maps = torch.rand(64, 6, 1, 1) + torch.rand(64, 6, 4, 4) * 0.01
    gate.calibrate(maps)
    assert gate.squeeze is not None
    hidden = gate.squeeze(maps.mean((2, 3), keepdim=True))
    assert torch.allclose(hidden.mean((0, 2, 3)), torch.zeros(5), rtol=0, atol=1e-3)
    assert torch.allclose(hidden.std((0, 2, 3)), torch.ones(5), rtol=0, atol=1e-3)


@pytest.mark.parametrize("hidden", [0, 5])
@pytest.mark.parametrize("granularity", ["kernel", "block"])
def test_units_follow_a_linear_function_of_the_input(granularity: Granularity, hidden: int) -> None:
    torch.manual_seed(3)
    gate = KernelGate(6, 40, granularity, blocks=20, hidden=hidden)
    order = torch.linspace(0, 1, gate.units + 1)[:-1]
    gate.start_in_order(order, 0.5)
    weights = torch.randn(6)
    gate.follow(weights, 0.25, 0.1)
    maps = torch.rand(32, 6, 4, 4)
    value = maps.mean((2, 3)) @ weights + 0.25
    expected = order[None] > 0.5 - 0.1 * value[:, None]
    if granularity == "block":
        expected[:, 0] = True  # always engaged
    gate(maps)
    assert gate.engaged is not None
    assert torch.equal(gate.engaged.bool(), expected)
    assert expected.float().mean(1).std() > 0


def test_a_gate_that_sees_less_of_what_pictures_differ_in_hears_it_again() -> None:
    torch.manual_seed(3)
    gate = KernelGate(6, 400, hidden=5)
    gate.start_in_order(torch.linspace(0, 1, 401)[:-1], 0.5)
    weights, maps = torch.randn(6), torch.rand(64, 6, 1, 1)
    value = maps.mean((2, 3)) @ weights
    gate.follow(weights / value.std(), -float(value.mean() / value.std()), 0.1)
    gate.retire(torch.arange(400) < 20)
    before = gate(maps).detach().mean((1, 2, 3))
    dull = 0.4 * maps + 0.3  # less variation, around another mean
    assert gate(dull).detach().mean((1, 2, 3)).std() < 0.5 * before.std()
    gate.recalibrate(dull)
    after = gate(dull).detach().mean((1, 2, 3))
    assert float(after.mean()) == pytest.approx(float(before.mean()), rel=0, abs=0.005)
    assert float(after.std()) == pytest.approx(float(before.std()), rel=0.05, abs=0)
    assert not gate(dull)[:, :20].any()
    gate.strengthen(1.5)
    stronger = gate(dull).detach().mean((1, 2, 3))
    assert float(stronger.mean()) == pytest.approx(float(after.mean()), rel=0, abs=0.005)
    assert float(stronger.std()) == pytest.approx(1.5 * float(after.std()), rel=0.1, abs=0)
    gate.strengthen(1 / 1.5)
    gate.recalibrate(maps[:1].expand(8, -1, -1, -1))  # pictures that are all the same say nothing
    assert torch.equal(gate(dull).detach().mean((1, 2, 3)), after)


def test_gates_without_hidden_channels_are_not_recalibrated() -> None:
    gate = KernelGate(6, 12, hidden=0)
    before = gate.decide.weight.detach().clone()
    gate.recalibrate(torch.rand(8, 6, 1, 1))
    assert torch.equal(gate.decide.weight, before)


def test_blocks_must_divide_the_kernels() -> None:
    with pytest.raises(ValueError, match="cannot be split"):
        KernelGate(6, 12, "block", blocks=5)
    with pytest.raises(ValueError, match="do not sum to 12 kernels"):
        KernelGate(6, 12, "block", blocks=(4, 4))
    with pytest.raises(ValueError, match="2 blocks for a gate of 3 units"):
        FollowingGate(KernelGate(6, 12, "nested", blocks=(6, 4, 2)), 8, (4, 4))


@pytest.mark.parametrize("units", [2, 4, 16, 64])
def test_many_nested_blocks_are_all_engaged_at_first_too(units: int) -> None:
    assert KernelGate(6, 64, "nested", blocks=units)(torch.zeros(1, 6, 2, 2)).all()


def test_blocks_may_differ_in_size() -> None:
    gate = _with_random_weights(KernelGate(6, 12, "nested", blocks=(6, 4, 2)))
    mask = gate(torch.randn(256, 6, 4, 4)).flatten(1)
    assert {tuple(row) for row in mask.int().tolist()} == {
        (1,) * 6 + (0,) * 6, (1,) * 10 + (0,) * 2, (1,) * 12,
    }  # fmt: skip
    assert torch.equal(engaged_kernels(gate), mask)


def _with_random_weights(gate: KernelGate) -> KernelGate:
    """Give a gate random weights, so that its decisions differ between pictures."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in gate.parameters():
            parameter.copy_(torch.randn_like(parameter))
        assert gate.decide.bias is not None
        gate.decide.bias.copy_(torch.randn_like(gate.decide.bias) * 0.1 + (1.0 if gate.steps is not None else 0.0))
    return gate


@pytest.mark.parametrize("granularity", ["kernel", "block", "nested"])
def test_a_shift_engages_more_units_and_none_that_was_retired(granularity: Granularity) -> None:
    torch.manual_seed(0)
    gate = KernelGate(8, 16, granularity, 4)
    maps = 5 * torch.rand(6, 8, 3, 3)
    gate.shift(-3.0)
    few = gate(maps).sum()
    retired = torch.arange(gate.units) == gate.units - 1
    gate.retire(retired)
    gate.shift(30.0)
    assert gate(maps)[:, -1].sum() == 0
    assert gate(maps)[:, : -16 // gate.units].all()
    assert few < 6 * 16


@pytest.mark.parametrize("granularity", ["kernel", "block", "nested"])
def test_a_retired_unit_stays_off(granularity: Granularity) -> None:
    torch.manual_seed(0)
    gate = KernelGate(8, 16, granularity, 4)
    maps = 5 * torch.rand(6, 8, 3, 3)
    assert gate(maps).all()  # everything is engaged at first
    units = torch.zeros(gate.units, dtype=torch.bool)
    units[-2:] = True
    gate.retire(units)
    assert gate(maps)[:, -2:].sum() == 0
    assert gate(maps)[:, 0].all()
