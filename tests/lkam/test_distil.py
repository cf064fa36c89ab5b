"""Learning from a dense detector's outputs."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="PyTorch, of the extra train, is not installed")

from deploycc.lkam.distil import distillation_loss  # noqa: E402


def outputs(seed: int, foreground: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 5, 3, generator=generator)
    logits[..., 1:] += foreground
    return torch.randn(2, 5, 4, generator=generator), logits


def test_nothing_is_left_to_learn_from_an_equal() -> None:
    assert distillation_loss(outputs(1), outputs(1)).item() == pytest.approx(0, abs=1e-6)


def test_shifted_logits_cost_nothing() -> None:
    offsets, logits = outputs(1)
    assert distillation_loss((offsets, logits + 3), (offsets, logits)).item() == pytest.approx(0, abs=1e-5)


def test_offsets_count_only_where_the_teacher_sees_something() -> None:
    offsets, logits = outputs(1)
    other = offsets + 1
    seen = torch.full_like(logits, -20.0)
    seen[..., 1] = 20.0
    unseen = torch.full_like(logits, -20.0)
    unseen[..., 0] = 20.0
    # Smooth L1 of 1 is 1/2, for four numbers of each prior; the number of priors divides.
    assert distillation_loss((other, seen), (offsets, seen)).item() == pytest.approx(2.0, abs=1e-4)
    assert distillation_loss((other, unseen), (offsets, unseen)).item() == pytest.approx(0.0, abs=1e-4)


def test_descending_leads_to_the_teacher() -> None:
    teacher = outputs(2)
    offsets, logits = (tensor.requires_grad_() for tensor in outputs(3))
    optimiser = torch.optim.Adam([offsets, logits], 0.1)
    first = distillation_loss((offsets, logits), teacher).item()
    for _ in range(200):
        optimiser.zero_grad()
        loss = distillation_loss((offsets, logits), teacher)
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.01 * first
    assert torch.allclose(logits.softmax(2), teacher[1].softmax(2), rtol=0, atol=0.02)
