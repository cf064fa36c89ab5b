"""What teacher and student have in common: the priors of both, and scores before their activation."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from deploycc.detector import Detector, SsdHeads
from deploycc.errors import ModelError

Activation = Literal["sigmoid", "softmax", "probabilities"]
_MOVES = ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity")  # the order of the elements stays
_ACTIVATIONS: dict[str, Activation] = {"Sigmoid": "sigmoid", "Softmax": "softmax"}


@dataclass(frozen=True)
class ScoreTensor:
    """Where scores are read for training.

    Attributes:
        name: tensor of P x C elements, in the order of the head.
        activation: what the network does to it; ``probabilities`` where that was not found and the tensor is the head.
    """

    name: str
    activation: Activation


def score_tensor(detector: Detector) -> ScoreTensor:
    """Find the logits of the scores: of an activation's output, small probabilities have hardly a gradient left."""
    heads = known_heads(detector)
    by_name: dict[str, Any] = {tensor.name: tensor for tensor in detector.graph.outputs}
    tensor = by_name[heads.scores]
    while tensor.inputs:
        node: gs.Node = tensor.inputs[0]
        if node.op in _ACTIVATIONS and _over_classes(node, heads.classes):
            return ScoreTensor(node.inputs[0].name, _ACTIVATIONS[node.op])
        if node.op not in _MOVES:
            break
        tensor = node.inputs[0]
    return ScoreTensor(heads.scores, "probabilities")


def _over_classes(node: gs.Node, classes: int) -> bool:
    """Whether the activation treats each prior by itself: a softmax over the last dimension, which has the classes."""
    if node.op == "Sigmoid":
        return True
    shape = list(node.inputs[0].shape)
    return int(node.attrs.get("axis", -1)) % len(shape) == len(shape) - 1 and shape[-1] == classes


def common_rows(student: Detector, teacher: Detector) -> NDArray[np.int64]:
    """Return the teacher's row of each of the student's priors, [P]: pruning drops priors that never detect.

    Raises:
        ModelError: ``distillation-other-heads``: they are not the same heads.
    """
    mine, its = known_heads(student), known_heads(teacher)
    if (mine.classes, mine.background, mine.box_coding) != (its.classes, its.background, its.box_coding):
        raise _other_heads(student, teacher, "their classes or their box coding differ")
    rows: dict[bytes, list[int]] = defaultdict(list)
    for number, row in enumerate(np.hstack([its.priors, its.variances]).astype(np.float32)):
        rows[row.tobytes()].append(number)
    found = []
    for row in np.hstack([mine.priors, mine.variances]).astype(np.float32):
        numbers = rows[row.tobytes()]
        if not numbers:
            raise _other_heads(student, teacher, "the student has priors that the teacher has not")
        found.append(numbers.pop(0))  # equal priors keep their order
    return np.array(found, np.int64)


def known_heads(detector: Detector) -> SsdHeads:
    """Return the heads of a detector.

    Raises:
        ModelError: ``distillation-no-heads``.
    """
    if detector.heads is None:
        raise ModelError(
            "distillation-no-heads",
            "the network has no SSD heads that are known",
            context={"network": detector.name},
            hint="describe them in a file MODEL.detector.toml",
        )
    return detector.heads


def _other_heads(student: Detector, teacher: Detector, why: str) -> ModelError:
    return ModelError(
        "distillation-other-heads",
        f"the two networks cannot be compared: {why}",
        context={"student": student.name, "teacher": teacher.name},
        hint="the teacher is the trained network that the student was pruned from",
    )
