"""The distance from a teacher: 0 for an equal, and only where there is something to learn."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="PyTorch, of the extra train, is not installed")

from deploycc.distillation.loss import distillation_loss, foreground, probabilities_of  # noqa: E402

ACTIVATIONS = ("sigmoid", "softmax", "probabilities")


def heads(activation: str, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(2, 6, 3, generator=generator)
    return (scores.sigmoid() if activation == "probabilities" else scores), torch.randn(2, 6, 4, generator=generator)


@pytest.mark.parametrize("sure", [1, 30])  # times as sure: softened scores end where probabilities are hardly above 0
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_nothing_is_left_to_learn_from_an_equal(activation: str, sure: int) -> None:
    scores, locations = heads(activation)
    if activation != "probabilities":
        scores = scores * sure
    loss = distillation_loss(scores, locations, probabilities_of(scores, activation), locations, activation, 0)
    assert loss.total.item() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_step_down_the_gradient_comes_closer(activation: str) -> None:
    scores, locations = heads(activation)
    target, offsets = heads(activation, 2)
    target = probabilities_of(target, activation)
    scores.requires_grad_()
    before = distillation_loss(scores, locations, target, offsets, activation, 0)
    before.total.backward()
    with torch.no_grad():
        nearer = (scores - 1e-3 * scores.grad).clamp(1e-6, 1 - 1e-6 if activation == "probabilities" else 1e6)
        if activation != "probabilities":
            nearer = scores - 1e-3 * scores.grad
        after = distillation_loss(nearer, locations, target, offsets, activation, 0)
    assert after.scores < before.scores


def test_offsets_count_where_the_teacher_sees_an_object() -> None:
    scores = torch.full((1, 2, 2), -9.0)
    target = torch.tensor([[[0.99, 0.01], [0.1, 0.9]]])
    locations = torch.zeros(1, 2, 4)
    for row, counts in ((0, False), (1, True)):
        offsets = torch.zeros(1, 2, 4)
        offsets[0, row] = 2.0
        loss = distillation_loss(scores, locations, target, offsets, "softmax", 0).locations.item()
        assert loss == pytest.approx(0.9 * 4 * 1.5 if counts else 0.0)  # smooth L1 of 2 is 1.5


def test_the_background_is_no_object() -> None:
    probabilities = torch.tensor([[[0.8, 0.1, 0.1], [0.2, 0.3, 0.5]]])
    assert foreground(probabilities, 0).tolist() == [[pytest.approx(0.1), pytest.approx(0.5)]]
    assert foreground(probabilities, None).tolist() == [[pytest.approx(0.8), pytest.approx(0.5)]]
