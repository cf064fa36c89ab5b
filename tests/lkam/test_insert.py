"""Gates around the convolutions of any PyTorch model."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="PyTorch, of the extra train, is not installed")

from torch import nn  # noqa: E402

from deploycc.errors import InputError  # noqa: E402
from deploycc.lkam.insert import deciding_gates, gated_convs, insert_gates, parameters_before_gates  # noqa: E402
from deploycc.lkam.network import Ssd, SsdConfig  # noqa: E402


def small() -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1, groups=8),
        nn.Conv2d(8, 16, 1),
        nn.ReLU(),
    )
    for norm in (m for m in model if isinstance(m, nn.BatchNorm2d)):
        nn.init.uniform_(norm.weight, 0.5, 2)
        nn.init.normal_(norm.bias)
        nn.init.normal_(norm.running_mean)
    return model.eval()


@pytest.mark.parametrize("place", ["conv", "norm"])
def test_with_all_gates_on_nothing_changes(place: str) -> None:
    model, x = small(), torch.randn(2, 3, 8, 8)
    before = model(x)
    assert insert_gates(model, ["0", "4"], place=place) == ["0", "4"]  # type: ignore[arg-type]
    assert torch.allclose(model(x), before, rtol=0, atol=1e-6)


def test_an_idle_kernel_is_zero_after_norm_and_relu() -> None:
    model, x = small(), torch.randn(2, 3, 8, 8)
    insert_gates(model, ["0"], place="norm")
    _switch_off(model)
    assert model[2](model[1](model[0](x))).abs().max().item() == 0.0


@pytest.mark.parametrize("place", ["conv", "norm"])
def test_a_kernel_that_is_off_learns_from_the_detector(place: str) -> None:
    """Before, the gate multiplied before the ReLU, whose gradient at 0 is 0: a kernel that went off stayed off."""
    model, x = small(), torch.rand(4, 3, 8, 8)
    layer = "0" if place == "norm" else "4"  # the second has a ReLU directly after it, and no norm
    insert_gates(model, [layer], place=place)  # type: ignore[arg-type]
    [(_, module)] = gated_convs(model)
    with torch.no_grad():
        module.gate.decide.bias[::2] = -5.0
        (module.norm or module.conv).bias += 5.0  # every kernel would respond if it were on
    model.train()
    for norm in (m for m in model.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.eval()  # or its statistics would change
    trained = model(x)
    trained.sum().backward()
    gradient = module.gate.decide.bias.grad
    assert gradient is not None
    assert (gradient[::2] != 0).all()
    assert torch.equal(trained.abs(), model.eval()(x).abs())  # -0 is 0


def test_an_activation_that_is_called_twice_stays_where_it_is() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.act = nn.Conv2d(3, 3, 1), nn.ReLU()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = self.act(self.act(self.conv(x)) - 1)
            return result

    model, x = Block().eval(), 3 * torch.randn(2, 3, 4, 4)
    before = model(x)
    insert_gates(model, ["conv"])
    assert torch.allclose(model(x), before, rtol=0, atol=1e-6)


def test_an_idle_kernel_before_the_norm_is_its_constant() -> None:
    model, x = small(), torch.randn(2, 3, 8, 8)
    norm = model[1]
    insert_gates(model, ["0"], place="conv")
    _switch_off(model)
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    constant = norm.bias - norm.weight * norm.running_mean / torch.sqrt(norm.running_var + norm.eps)
    expected = constant.relu().view(1, 8, 1, 1).expand(2, 8, 8, 8)
    assert torch.allclose(model[2](model[1](model[0](x))), expected, rtol=0, atol=1e-6)


def test_patterns_choose_by_name() -> None:
    model = Ssd(SsdConfig(3, 96))
    names = insert_gates(model, ["backend.0.[45].conv", "backend.2.*.conv"])
    assert names == ["backend.0.4.conv", "backend.0.5.conv", "backend.2.0.conv", "backend.2.1.conv"]
    assert [name for name, _ in gated_convs(model)] == names
    assert all(gated.norm is not None for _, gated in gated_convs(model))


@pytest.mark.parametrize(
    ("patterns", "options", "code"),
    [
        (["9"], {}, "gate-pattern"),
        (["3"], {}, "gate-grouped"),
        (["0"], {"granularity": "block", "block": 3}, "gate-block"),
    ],
)
def test_other_modules_are_refused(patterns: list[str], options: dict[str, object], code: str) -> None:
    model = small()
    with pytest.raises(InputError) as caught:
        insert_gates(model, patterns, **options)  # type: ignore[arg-type]
    assert caught.value.code == code
    assert not list(gated_convs(model))


def test_a_gated_convolution_is_not_gated_again() -> None:
    model = small()
    insert_gates(model, ["0"])
    with pytest.raises(InputError, match="gate-pattern"):
        insert_gates(model, ["0*"])


def _switch_off(model: nn.Module) -> None:
    for _, module in gated_convs(model):
        assert module.gate.decide.bias is not None
        nn.init.constant_(module.gate.decide.bias, -1e3)


@pytest.mark.parametrize("granularity", ["block", "nested"])
def test_one_gate_decides_for_several_convolutions(granularity: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 12, 3))
    insert_gates(model, ["*"], granularity=granularity, shared=4)  # type: ignore[arg-type]
    [leader] = deciding_gates(model)
    x = torch.randn(64, 3, 8, 8)
    leader.calibrate(x)
    nn.init.normal_(leader.decide.weight, std=3.0)
    y = model(x)
    assert leader.engaged is not None
    assert {float(units.sum()) for units in leader.engaged.detach()} != {4.0}  # it does decide
    assert torch.equal(y.detach().abs().amax((2, 3)) > 0, leader.engaged.repeat_interleave(3, 1) > 0)
    first = model[0](x).detach().abs().amax((2, 3)) > 0
    assert torch.equal(first, leader.engaged.repeat_interleave(2, 1) > 0)
    y.sum().backward()
    assert leader.decide.weight.grad is not None
    assert len(list(gated_convs(model))) == 2


def test_no_parameters_are_before_a_gate_that_reads_the_picture() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3))
    insert_gates(model, ["*"], granularity="nested", shared=2)
    assert parameters_before_gates(model, torch.randn(1, 3, 8, 8)) == []


def test_a_shared_gate_needs_blocks() -> None:
    with pytest.raises(InputError, match="blocks of kernels") as caught:
        insert_gates(small(), ["0", "4"], shared=4)
    assert caught.value.code == "gate-shared"
    with pytest.raises(InputError, match="3 equal blocks"):
        insert_gates(small(), ["0", "4"], granularity="nested", shared=3)


def test_units_of_a_shared_gate_end_at_multiples_of_eight() -> None:
    model = nn.Sequential(nn.Conv2d(3, 64, 3), nn.ReLU(), nn.Conv2d(64, 96, 3))
    insert_gates(model, ["*"], granularity="nested", shared=(0.4, 0.83, 1.0))
    sizes = [module.gate.get_buffer("unit_of").bincount().tolist() for _, module in gated_convs(model)]
    assert sizes == [[24, 32, 8], [40, 40, 16]]
    with pytest.raises(
        InputError, match=r"64 kernels cannot be split into blocks that end at 98 %, 100 %, in steps of 8"
    ):
        insert_gates(nn.Sequential(nn.Conv2d(3, 64, 3)), ["*"], granularity="nested", shared=(0.98, 1.0))
