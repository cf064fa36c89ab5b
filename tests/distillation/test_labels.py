"""Labels join the loss: in the detector's own classes and box coding, and never those of other classes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch, of the extra train, is not installed")

import deploycc  # noqa: E402
from deploycc.detector import Detector, SsdHeads  # noqa: E402
from deploycc.distillation.heads import Activation  # noqa: E402
from deploycc.distillation.labels import LabelLoss, read_labels  # noqa: E402
from deploycc.distillation.loop import TrainingSettings, key_of  # noqa: E402
from deploycc.distillation.loss import probabilities_of  # noqa: E402
from deploycc.distillation.optimiser import Optimiser, hidden_matrices  # noqa: E402
from deploycc.distillation.pair import Pair  # noqa: E402
from deploycc.distillation.samples import Samples  # noqa: E402
from deploycc.distillation.views import NO_LABELS, Labels  # noqa: E402
from deploycc.errors import InputError  # noqa: E402
from deploycc.evaluation.dataset import Dataset  # noqa: E402
from deploycc.evaluation.decode import decode_boxes  # noqa: E402
from deploycc.evaluation.truth import Truth  # noqa: E402
from deploycc.trainable.matching import IGNORED  # noqa: E402
from deploycc.workflows.pictures import open_labelled  # noqa: E402

PRIORS = np.array([[x, y, x + 0.4, y + 0.4] for x in (0.05, 0.55) for y in (0.05, 0.55)], np.float32)
VARIANCES = np.tile(np.array([0.1, 0.2, 0.3, 0.4], np.float32), (4, 1))
HEADS = SsdHeads("l", "s", PRIORS, VARIANCES, 4)
OBJECTS = Labels(np.array([[0.1, 0.1, 0.5, 0.4], [0.5, 0.6, 0.9, 0.95]], np.float32), np.array([3, 1]))


@pytest.mark.parametrize(
    ("heads", "activation"),
    [
        (HEADS, "softmax"),
        (replace(HEADS, background=3, y_first=True), "softmax"),
        (replace(HEADS, box_coding="corner"), "sigmoid"),
        (replace(HEADS, classes=3, background=None, variance_encoded=True), "sigmoid"),
        (replace(HEADS, background=1, box_coding="corner_size"), "probabilities"),
    ],
)
def test_outputs_that_follow_the_loss_decode_to_the_labels(heads: SsdHeads, activation: Activation) -> None:
    torch.manual_seed(0)
    scores, offsets = torch.randn(2, 4, heads.classes), torch.randn(2, 4, 4)
    if activation == "probabilities":
        scores = scores.sigmoid()
    outputs = [scores.requires_grad_(), offsets.requires_grad_()]
    loss, optimiser = LabelLoss(heads, activation, {1, 2, 3}), torch.optim.Adam(outputs, 0.2)
    for _ in range(80):
        optimiser.zero_grad()
        loss.of(scores, offsets, [OBJECTS, NO_LABELS], torch.zeros(2, 4, heads.classes)).backward()
        optimiser.step()
        if activation == "probabilities":
            scores.data.clamp_(1e-4, 1 - 1e-4)
    probabilities = probabilities_of(scores.detach(), activation).numpy()
    names = [k for k in range(heads.classes) if k != heads.background]  # classes of the labels, in order
    assert probabilities[0, 0].argmax() == names[2]
    assert probabilities[0, 3].argmax() == names[0]
    boxes = decode_boxes(offsets[0].detach().numpy(), heads)
    np.testing.assert_allclose(boxes[[0, 3]], OBJECTS.boxes, rtol=0, atol=0.02)
    empty = np.concatenate([probabilities[0, 1:3], probabilities[1]])
    assert empty[:, names].max() < 0.2  # nothing is seen where nothing is labelled


def test_what_the_teacher_sees_of_a_class_without_labels_is_not_taught_as_background() -> None:
    scores, offsets = torch.zeros(1, 4, 4, requires_grad=True), torch.zeros(1, 4, 4)
    seen = torch.zeros(1, 4, 4)
    seen[0, 1, 2] = seen[0, 2, 3] = 0.9  # the second and the third class
    LabelLoss(HEADS, "softmax", {1, 3}).of(scores, offsets, [OBJECTS], seen).backward()
    assert scores.grad is not None
    taught = scores.grad[0].abs().sum(1) > 0
    assert taught.tolist() == [True, False, True, True]


# ---- data sets ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def detector() -> Detector:
    return deploycc.load("street_ssd")


def data(*classes: str) -> Dataset:
    truth = Truth(np.array([[4, 2, 8, 6]] * 2, np.float32), np.array([0, len(classes) - 1]), np.array([False, True]))
    return Dataset("voc:here", classes, ("one",), lambda number: (np.zeros((8, 16, 3), np.uint8), truth))


def test_labels_get_the_classes_of_the_detector(detector: Detector) -> None:
    names = detector.class_names
    labels, notes = read_labels(data(names[3].upper(), names[1]), detector)
    assert labels(0).classes.tolist() == [3, IGNORED]
    assert not notes
    np.testing.assert_array_equal(labels(0).boxes[0], np.array([0.25, 0.25, 0.5, 0.75], np.float32))


def test_labels_of_other_classes_are_refused(detector: Detector) -> None:
    with pytest.raises(InputError) as error:
        read_labels(data(detector.class_names[1], "unicorn"), detector)
    assert error.value.code == "labels-of-other-classes"
    assert "unicorn" in str(error.value)
    assert error.value.hint is not None
    assert "a label weight of 0" in error.value.hint
    named = ("background", "unicorn", *detector.class_names[2:])
    labels, _ = read_labels(data(detector.class_names[2], "unicorn"), detector, named)
    assert labels(0).classes.tolist() == [2, IGNORED]


# ---- training -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def samples(detector: Detector) -> Samples:
    pictures, labels, _ = open_labelled("generated:5:20", detector)
    return Samples(pictures, detector.input, 1, labels)


def test_a_view_has_its_labels_before_and_after_it_is_made(detector: Detector, samples: Samples) -> None:
    pictures, labels, _ = open_labelled("generated:5:20", detector)
    again = Samples(pictures, detector.input, 1, labels)
    again.view(7)
    np.testing.assert_array_equal(again.labels(7).boxes, samples.labels(7).boxes)
    assert sum(len(samples.labels(view).boxes) for view in range(8)) > 8


def test_a_network_moves_to_the_labels(detector: Detector, samples: Samples) -> None:
    """Without them nothing moves: the network is its own teacher."""
    settings, views = TrainingSettings(rate=0.01), (2, 3)
    pair = Pair(detector, detector, samples, 16, 0.0, label_weight=2.0)
    optimiser = Optimiser(pair.student, settings.rate, hidden_matrices(detector))
    first = pair.loss(views, False)
    assert pair.labelled
    assert first.total.item() == pytest.approx(first.labels.item(), rel=1e-2)
    first.total.backward()
    assert all(weight.grad is not None and weight.grad.abs().max() > 0 for weight in pair.student.weights)
    optimiser.step()
    assert pair.loss(views, False).labels.item() < first.labels.item()


def test_without_a_weight_or_without_labels_the_loss_is_the_teachers(detector: Detector, samples: Samples) -> None:
    pair = Pair(detector, detector, samples, 0, 0.0)
    assert not pair.labelled
    assert float(pair.loss((2,), False).labels) == 0.0


def test_a_checkpoint_belongs_to_its_labels(detector: Detector, samples: Samples) -> None:
    network = Pair(detector, detector, samples, 0, 0.0).student
    plain = Samples(open_labelled("generated:5:20", detector)[0], detector.input, 1)
    weights = (0.5, 1.0)
    labelled = {key_of(network, samples, TrainingSettings(label_weight=weight)) for weight in weights}
    alone = {key_of(network, plain, TrainingSettings(label_weight=weight)) for weight in weights}
    assert len(labelled) == 2
    assert len(alone) == 1
    assert not labelled & alone
