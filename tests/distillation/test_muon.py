"""Muon in a precision that is fast here: equal singular values, and the steps of PyTorch's own."""

from __future__ import annotations

from types import ModuleType

import pytest

torch = pytest.importorskip("torch", reason="PyTorch, of the extra train, is not installed")

from mutation import mutant  # noqa: E402

from deploycc.distillation import muon  # noqa: E402
from deploycc.distillation.muon import Muon, orthogonal  # noqa: E402

has_its_own = pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this PyTorch has no Muon of its own")


def random(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(30, 30), (20, 70), (70, 20), (5, 1)])
def test_singular_values_become_one_and_vectors_stay(shape: tuple[int, int]) -> None:
    matrix = random(*shape)
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    turned = left.T @ orthogonal(matrix) @ right.T
    got = turned.diagonal()
    large = values > 0.05 * values.max()
    assert ((got > 0.6) & (got < 1.3))[large].all()
    assert (turned - torch.diag(got)).abs().max() < 0.02


def test_nothing_to_follow_is_no_step() -> None:
    assert torch.equal(orthogonal(torch.zeros(4, 6)), torch.zeros(4, 6))
    matrix = torch.nn.Parameter(random(4, 6))
    before = matrix.detach().clone()
    Muon([{"params": [matrix], "lr": 0.1}]).step()
    assert torch.equal(matrix, before)


def moves_as_pytorch(module: ModuleType) -> bool:
    mine, its = (torch.nn.Parameter(random(40, 70)) for _ in range(2))
    ours = module.Muon([{"params": [mine], "lr": 0.1}])
    theirs = torch.optim.Muon([{"params": [its], "lr": 0.1}], weight_decay=0.0, adjust_lr_fn="match_rms_adamw")
    start = mine.detach().clone()
    for step in range(5):
        mine.grad, its.grad = random(40, 70, seed=step), random(40, 70, seed=step)
        ours.step()
        theirs.step()
    return bool((mine - its).norm() < 0.01 * (its - start).norm())


@has_its_own
def test_steps_are_those_of_pytorch() -> None:
    assert moves_as_pytorch(muon)


@has_its_own
@pytest.mark.parametrize(
    ("line", "bug"),
    [
        (" * max(matrix.shape) ** 0.5", ""),
        ("gradient.lerp(past, momentum)", "past"),
        (".lerp_(gradient, 1 - momentum)", ".add_(gradient)"),
        ("_ITERATIONS = 5", "_ITERATIONS = 3"),
    ],
)
def test_planted_bugs_are_noticed(line: str, bug: str) -> None:
    assert not moves_as_pytorch(mutant(muon, line, bug))
