"""Views of a training: each is seen twice, its teacher is asked once, and no picture is drawn too often."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch", reason="PyTorch, of the extra train, is not installed")

import deploycc  # noqa: E402
from deploycc.detector.picture_list import PictureList  # noqa: E402
from deploycc.distillation import teacher as teacher_module  # noqa: E402
from deploycc.distillation.heads import score_tensor  # noqa: E402
from deploycc.distillation.samples import Samples  # noqa: E402
from deploycc.distillation.teacher import Teacher  # noqa: E402
from deploycc.distillation.views import Labels  # noqa: E402

BATCH = 8


def noise(count: int = 40) -> PictureList:
    def read(number: int) -> NDArray[np.uint8]:
        return np.random.default_rng(number).integers(0, 256, (16, 16, 3), np.uint8)

    return PictureList("noise", tuple(map(str, range(count))), "0" * 64, read)


def samples_of(seed: int = 1) -> Samples:
    return Samples(noise(), deploycc.load("street_ssd").input, seed)


def test_each_view_is_seen_twice_and_soon_again() -> None:
    samples = samples_of()
    views = [view for step in range(384) for view in samples.views(step, BATCH)]  # six times through blocks of 512
    assert set(Counter(views).values()) == {2}
    assert sorted(set(views)) == list(range(3 * 512))
    places: dict[int, list[int]] = {}
    for place, view in enumerate(views):
        places.setdefault(view, []).append(place)
    assert max(last - first for first, last in places.values()) < 1024
    assert views[:512] != sorted(views[:512])
    assert views[:512] != views[512:1024]


def test_a_place_of_the_training_has_its_view_whatever_the_batch() -> None:
    samples = samples_of()
    by_eight = [view for step in range(100) for view in samples.views(step, 8)]
    by_twenty = [view for step in range(40) for view in samples.views(step, 20)]
    assert by_eight == by_twenty
    assert samples.views(7, 8) == samples_of().views(7, 8)
    assert samples.views(7, 8) != samples_of(2).views(7, 8)


def test_pictures_take_turns() -> None:
    samples = samples_of()
    for number in range(3):
        drawn = Counter(
            samples.first_picture(number * samples.views_per_round + k) for k in range(samples.views_per_round)
        )
        assert drawn == dict.fromkeys(samples.trained_on, 4)
    first, second = (
        [samples.first_picture(n * samples.views_per_round + k) for k in range(samples.views_per_round)]
        for n in range(2)
    )
    assert first != second


def test_new_views_of_a_picture_are_new() -> None:
    samples = samples_of()
    views = [
        view for view in range(10 * samples.views_per_round) if samples.first_picture(view) == samples.trained_on[0]
    ]
    assert len({samples.view(view).tobytes() for view in views}) == len(views) == 40


def test_labels_of_a_view_are_the_same_when_they_were_forgotten() -> None:
    rng = np.random.default_rng(4)
    low = rng.uniform(0, 0.5, (40, 2)).astype(np.float32)
    boxes = np.concatenate([low, low + 0.4], 1)
    spec = deploycc.load("street_ssd").input
    samples = Samples(noise(), spec, 1, lambda number: Labels(boxes[number : number + 1], np.array([1])))
    first = samples.labels(3)
    for view in range(10, 1100):
        samples.labels(view)
    assert samples.labels(3) is not first
    assert np.array_equal(samples.labels(3).boxes, first.boxes)


@pytest.mark.parametrize(("memory", "asked"), [(4, 12), (0, 24)])
def test_the_teacher_is_asked_again_only_for_what_it_forgot(
    memory: int, asked: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector, samples = deploycc.load("street_ssd"), samples_of()
    name = score_tensor(detector).name
    runs = []
    run = teacher_module.run_session
    monkeypatch.setattr(teacher_module, "run_session", lambda *given: runs.append(1) or run(*given))
    teacher = Teacher(detector, [name], samples, memory)
    before = [teacher.answers(range(start, start + 4))[0] for start in (0, 4, 8)]
    after = [teacher.answers(range(start, start + 4))[0] for start in (0, 4, 8)]
    assert len(runs) == asked
    for one, other in zip(before, after, strict=True):
        assert torch.equal(one, other)


def test_a_full_memory_forgets_what_is_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    detector, samples = deploycc.load("street_ssd"), samples_of()
    name = score_tensor(detector).name
    runs: list[int] = []
    run = teacher_module.run_session
    monkeypatch.setattr(teacher_module, "run_session", lambda *given: runs.append(1) or run(*given))
    (scores,) = Teacher(detector, [name], samples, 0).answers((0,))
    answers = int(1024 * 1024 / (2 * scores.numel()))  # of 16 bits in a MiB
    teacher = Teacher(detector, [name], samples, 1)
    runs.clear()
    teacher.answers(range(answers + 1))
    assert len(runs) == answers + 1
    teacher.answers((answers, 1))
    assert len(runs) == answers + 1
    teacher.answers((0,))
    assert len(runs) == answers + 2


def test_half_of_the_views_have_another_picture_blended_in() -> None:
    """Pictures of one colour each: a collage is of several as well, but has no colour between two of them."""

    def read(number: int) -> NDArray[np.uint8]:
        return np.full((16, 16, 3), 255 * (number % 2), np.uint8)

    spec = deploycc.load("street_ssd").input
    samples = Samples(PictureList("two colours", tuple(map(str, range(40))), "0" * 64, read), spec, 1)
    plain = Samples(PictureList("two colours", tuple(map(str, range(40))), "0" * 64, read), spec, 1)
    plain.labelled = True
    plain._seen = {}
    views = [(samples.view(number), plain.view(number)) for number in range(200)]
    changed = [(blended, shown) for blended, shown in views if not np.array_equal(blended, shown)]
    assert 30 < len(changed) < 130  # half of them, less those of two pictures of one colour
    low, high = (min(shown.min() for _, shown in views), max(shown.max() for _, shown in views))
    for blended, shown in changed:
        share = np.abs(blended - shown).max() / (high - low)
        assert 0 < share <= 0.5 + 1e-6
    assert all(np.array_equal(samples.view(number), views[number][0]) for number in (0, 7, 150))
