"""Matching and box coding."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch, of the extra train, is not installed")

from deploycc.detector import BoxCoding, SsdHeads  # noqa: E402
from deploycc.evaluation.decode import decode_boxes  # noqa: E402
from deploycc.lkam.priors import ASPECTS, STRIDES, make_priors  # noqa: E402
from deploycc.trainable.matching import IGNORED, encode_boxes, match_priors  # noqa: E402
from deploycc.trainable.multibox import multibox_loss, sigmoid_entropy  # noqa: E402

PRIORS = torch.tensor([[0.0, 0.0, 0.5, 0.5], [0.5, 0.0, 1.0, 0.5], [0.0, 0.5, 0.5, 1.0], [0.5, 0.5, 1.0, 1.0]])


def test_every_object_gets_a_prior_even_with_little_overlap() -> None:
    boxes = torch.tensor([[[0.1, 0.1, 0.2, 0.2], [0.5, 0.0, 1.0, 0.45]]])
    labels, owner = match_priors(PRIORS, boxes, torch.tensor([[3, 5]]))
    assert labels.tolist() == [[3, 5, 0, 0]]
    assert owner[0, :2].tolist() == [0, 1]


def test_padding_matches_nothing() -> None:
    labels, _ = match_priors(PRIORS, torch.zeros(2, 3, 4), torch.zeros(2, 3, dtype=torch.long))
    assert labels.abs().sum() == 0
    labels, _ = match_priors(PRIORS, torch.zeros(2, 0, 4), torch.zeros(2, 0, dtype=torch.long))
    assert labels.shape == (2, 4)


def test_priors_on_difficult_objects_are_ignored_unless_another_object_needs_them() -> None:
    boxes = torch.tensor([[[0.0, 0.0, 0.5, 0.5], [0.5, 0.0, 1.0, 0.5], [0.5, 0.0, 1.0, 0.5]]])
    labels, _ = match_priors(PRIORS, boxes, torch.tensor([[IGNORED, IGNORED, 2]]))
    assert labels.tolist() == [[IGNORED, 2, 0, 0]]


@pytest.mark.parametrize("coding", ["center_size", "corner", "corner_size"])
def test_decoding_undoes_encoding(coding: BoxCoding) -> None:
    rng = np.random.default_rng(0)
    low = rng.uniform(0, 0.6, (len(make_priors(96)), 2)).astype(np.float32)
    boxes = np.concatenate([low, low + rng.uniform(0.05, 0.4, low.shape).astype(np.float32)], 1)
    priors = make_priors(96)
    variances = rng.uniform(0.1, 0.5, priors.shape).astype(np.float32)
    offsets = encode_boxes(*map(torch.from_numpy, (priors, boxes, variances)), coding).numpy()
    heads = SsdHeads("l", "s", priors, variances, 2, box_coding=coding)
    assert np.allclose(decode_boxes(offsets, heads), boxes, rtol=0, atol=1e-5)


def test_priors_cover_every_cell_of_every_map() -> None:
    priors = make_priors(160)
    assert len(priors) == sum((-(-160 // stride)) ** 2 for stride in STRIDES) * len(ASPECTS)
    centres = (priors[:, :2] + priors[:, 2:]) / 2
    assert np.allclose(centres[: len(ASPECTS)], 4 / 160, rtol=0, atol=1e-6)
    width = priors[:, 2] - priors[:, 0]
    height = priors[:, 3] - priors[:, 1]
    assert np.allclose((width / height)[: len(ASPECTS)], ASPECTS, rtol=1e-4, atol=0)


def test_the_loss_is_zero_for_a_perfect_answer_and_counts_the_hardest_negatives() -> None:
    boxes, labels = torch.tensor([[[0.0, 0.0, 0.5, 0.5]]]), torch.tensor([[1]])
    logits = torch.full((1, 4, 2), -20.0)
    logits[0, 0, 1] = logits[0, 1, 0] = logits[0, 2, 0] = logits[0, 3, 0] = 20.0
    offsets = torch.zeros(1, 4, 4)
    perfect = multibox_loss(offsets, logits, PRIORS, boxes, labels, torch.ones(4))
    assert float(perfect.location) == 0.0
    assert float(perfect.score) < 1e-6
    # Fifty priors far from the object: only the sixteen that a picture gets at least are counted.
    many = torch.cat([PRIORS[:1], PRIORS[3:].repeat(50, 1)])
    wrong = torch.zeros(1, 51, 2)
    loss = multibox_loss(torch.zeros(1, 51, 4), wrong, many, boxes, labels, torch.ones(51, 4))
    assert float(loss.score) == pytest.approx((1 + 16) * float(torch.log(torch.tensor(2.0))), rel=1e-5, abs=0)


@pytest.mark.parametrize("background", [True, False])
def test_classes_that_are_scored_apart_want_one_of_them_or_none(background: bool) -> None:
    target = torch.tensor([[0, 2]])
    wanted = [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]] if background else [[0.0, 0.0], [0.0, 1.0]]
    logits = 40 * torch.tensor([wanted]) - 20
    assert float(sigmoid_entropy(logits, target, background).max()) < 1e-6
    right, wrong = sigmoid_entropy(logits, target, background), sigmoid_entropy(-logits, target, background)
    assert float((wrong - right).min()) == pytest.approx(20 * len(wanted[0]), abs=1e-3)
