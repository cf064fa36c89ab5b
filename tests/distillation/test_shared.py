"""What a pruned network still has in common with its original."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch, of the extra train, is not installed")

from folded_detector import folded  # noqa: E402

import deploycc  # noqa: E402
from deploycc.detector import Detector  # noqa: E402
from deploycc.distillation import teacher as teacher_module  # noqa: E402
from deploycc.distillation.pair import Pair  # noqa: E402
from deploycc.distillation.samples import Samples  # noqa: E402
from deploycc.distillation.shared import common_maps, find_divergence  # noqa: E402
from deploycc.workflows.pictures import open_pictures  # noqa: E402


def convolutions(detector: Detector) -> list[str]:
    return [n.name for n in detector.graph.nodes if n.op == "Conv" and n.attrs.get("group", 1) == 1]


@pytest.fixture(scope="module")
def original() -> Detector:
    return deploycc.load("street_ssd")


@pytest.fixture(scope="module")
def teacher(original: Detector) -> Detector:
    return folded(original)


@pytest.fixture(scope="module")
def samples(teacher: Detector) -> Samples:
    return Samples(open_pictures("generated:5:20", teacher.input), teacher.input, 1)


def pruned(detector: Detector, layer: str, kernels: tuple[int, ...]) -> Detector:
    settings = deploycc.PruneSettings(by="mask", multiple=1)
    return deploycc.prune(detector, settings, mask={layer: kernels}).detector


def test_two_prunings_are_traced_to_the_original_channels(original: Detector, teacher: Detector) -> None:
    maps = [name for name, kept in common_maps(teacher, teacher).items() if len(kept) > 8]
    by_output = {tensor.name: node for node in teacher.graph.nodes for tensor in node.outputs}
    name = maps[1]
    node = by_output[name]
    while node.op != "Conv":
        node = by_output[node.inputs[0].name]
    twice = pruned(pruned(original, node.name, (1, 3)), node.name, (0, 2))  # of what is left: 0 and 4
    kept = common_maps(folded(twice), teacher)
    assert [k for k in range(8) if k not in kept[name]] == [0, 1, 3, 4]
    assert kept[maps[0]].tolist() == list(range(len(kept[maps[0]])))
    unknown = tuple(record.model_copy(update={"removed": {}}) for record in twice.prunings)
    assert name not in common_maps(folded(replace(twice, prunings=unknown)), teacher)


def test_training_starts_where_the_networks_differ(
    original: Detector, teacher: Detector, samples: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_divergence(teacher, teacher).starts == (teacher.input.name,)
    late = [name for name in convolutions(teacher) if name.startswith("backend")][-1]
    student = folded(pruned(original, late, (0, 1)))
    starts = find_divergence(student, teacher).starts  # also what the predictors of earlier maps say
    assert late in [n.name for n in teacher.graph.nodes if starts[0] in [t.name for t in n.inputs]]
    # In 32 bits: where a tensor has next to nothing to learn, its gradient is what 16 bits round off.
    monkeypatch.setattr(teacher_module, "_halved", lambda values: values)
    part = Pair(student, teacher, samples, 64, 0.0)
    # The same from the picture on: a first layer that differs by a number hides all that is the same.
    graph = student.graph.copy()
    first = next(node for node in graph.nodes if node.op == "Conv")
    first.inputs[1].values = first.inputs[1].values * np.float32(1 + 1e-7)
    whole = Pair(replace(student, graph=graph), teacher, samples, 0, 0.0)
    assert part.student.inputs == starts
    assert whole.student.inputs == (teacher.input.name,)
    assert len(part.student.weights) < len(whole.student.weights)
    gradients = []
    for pair in (part, whole):
        loss = pair.loss((3, 5), bfloat16=False)
        loss.total.backward()
        assert loss.scores > 0
        gradients.append(dict(zip(pair.student.names, (w.grad for w in pair.student.weights), strict=True)))
    for name, gradient in gradients[0].items():
        assert (gradient - gradients[1][name]).norm() <= 0.001 * gradient.norm(), name


def test_answers_that_are_remembered_stay_the_same(teacher: Detector, samples: Samples) -> None:
    losses = [Pair(teacher, teacher, samples, memory, 1.0).loss((1, 2, 1), bfloat16=False) for memory in (0, 64)]
    assert losses[0].total.item() == losses[1].total.item() == pytest.approx(0, abs=1e-3)
