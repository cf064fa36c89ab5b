"""A pruned detector learns from its original; nothing is lost where it does not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch, of the extra train, is not installed")

import deploycc  # noqa: E402
from deploycc.detector import Detector  # noqa: E402
from deploycc.detector.picture_list import PictureList  # noqa: E402
from deploycc.distillation import pair  # noqa: E402
from deploycc.distillation.agreement import Agreement, Judge  # noqa: E402
from deploycc.distillation.loop import TrainingSettings  # noqa: E402
from deploycc.distillation.loss import Loss  # noqa: E402
from deploycc.distillation.recovery import Recovered, recover  # noqa: E402
from deploycc.distillation.samples import Samples  # noqa: E402
from deploycc.errors import ArtefactError, DeployError, InputError, PictureError  # noqa: E402
from deploycc.graph.export import to_onnx  # noqa: E402
from deploycc.workflows.pictures import open_pictures  # noqa: E402

PICTURES = "generated:5:120"
SETTINGS = TrainingSettings(steps=30, batch=4, check_every=15, bfloat16=False)


@pytest.fixture(scope="module")
def teacher() -> Detector:
    return deploycc.load("street_ssd")


@pytest.fixture(scope="module")
def pruned(teacher: Detector) -> Detector:
    return deploycc.prune(teacher, deploycc.PruneSettings(by="l1", below=0.3, multiple=1)).detector


@pytest.fixture(scope="module")
def samples(teacher: Detector) -> Samples:
    return Samples(open_pictures(PICTURES, teacher.input), teacher.input, 1)


@pytest.fixture(scope="module")
def recovered(pruned: Detector, teacher: Detector, samples: Samples) -> Recovered:
    return recover(pruned, teacher, samples, SETTINGS)


def bytes_of(detector: Detector) -> bytes:
    return bytes(to_onnx(detector.graph).SerializeToString())


def test_agreement_rises(recovered: Recovered) -> None:
    """30 steps of 4 pictures are far from what is possible, and more than noise."""
    assert recovered.before.map50 < 0.5
    assert recovered.after.map50 > recovered.before.map50 + 0.1
    assert recovered.history[-1]["scores"] < recovered.history[0]["scores"]


def test_the_network_is_the_pruned_one_with_other_weights(recovered: Recovered, pruned: Detector) -> None:
    before, after = pruned.graph.tensors(), recovered.detector.graph.tensors()
    assert list(before) == list(after)
    assert recovered.detector.prunings == pruned.prunings
    assert bytes_of(recovered.detector) != bytes_of(pruned)


def test_a_training_that_was_cut_goes_on_to_the_same_end(
    recovered: Recovered, pruned: Detector, teacher: Detector, samples: Samples, tmp_path: Path
) -> None:
    file = tmp_path / "checkpoint.pt"

    def stop(record: dict[str, float]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        recover(pruned, teacher, samples, replace(SETTINGS, check_every=1), checkpoint=file, report=stop)
    assert not file.exists()  # the record is shown before it is saved

    seen = []

    def stop_later(record: dict[str, float]) -> None:
        seen.append(record["step"])
        if len(seen) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        recover(pruned, teacher, samples, SETTINGS, checkpoint=file, report=stop_later)
    again = recover(pruned, teacher, samples, SETTINGS, checkpoint=file)
    assert bytes_of(again.detector) == bytes_of(recovered.detector)
    with pytest.raises(ArtefactError) as error:
        recover(pruned, teacher, samples, TrainingSettings(batch=8), checkpoint=file)
    assert error.value.code == "checkpoint-other-run"
    file.write_bytes(b"damaged")
    with pytest.raises(ArtefactError) as error:
        recover(pruned, teacher, samples, SETTINGS, checkpoint=file)
    assert error.value.code == "checkpoint-unreadable"


def test_weights_that_get_worse_are_not_kept(teacher: Detector, samples: Samples) -> None:
    wild = TrainingSettings(steps=4, batch=2, check_every=2, rate=30.0, bfloat16=False)
    done = recover(teacher, teacher, samples, wild)
    assert done.after.map50 == done.before.map50 == 1.0
    assert bytes_of(done.detector) == bytes_of(teacher)


@pytest.mark.parametrize(("before", "kept"), [(0.5, 2), (0.8, 0)])
def test_of_weights_that_agree_equally_the_last_are_kept_unless_none_is_better_than_the_first(
    pruned: Detector,
    teacher: Detector,
    samples: Samples,
    monkeypatch: pytest.MonkeyPatch,
    before: float,
    kept: int,
) -> None:
    judged = []

    def agreement(_: Judge, student: Detector) -> Agreement:
        judged.append(bytes_of(student))
        return Agreement(before if len(judged) == 1 else 0.8, {})

    monkeypatch.setattr(Judge, "agreement", agreement)
    done = recover(pruned, teacher, samples, TrainingSettings(steps=2, batch=1, check_every=1))
    assert len({*judged[:3]}) == 3
    assert bytes_of(done.detector) == judged[kept]


def test_a_loss_that_is_no_number_ends_the_training(
    pruned: Detector, teacher: Detector, samples: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    honest = pair.distillation_loss

    def spoiled(*arguments: object) -> Loss:
        calls.append(1)
        loss = honest(*arguments)  # type: ignore[arg-type]
        return Loss(loss.scores * float("nan"), loss.locations, loss.maps) if len(calls) == 3 else loss

    monkeypatch.setattr(pair, "distillation_loss", spoiled)
    done = recover(pruned, teacher, samples, TrainingSettings(steps=9, batch=2, check_every=2, bfloat16=False))
    assert done.steps == 2
    assert done.stopped is not None
    assert "step 2" in done.stopped
    assert all(np.isfinite(weight).all() for weight in _weights(done.detector))


def _weights(detector: Detector) -> list[np.ndarray]:
    return [tensor.values for tensor in detector.graph.tensors().values() if hasattr(tensor, "values")]


def test_a_teacher_that_sees_nothing_teaches_nothing(teacher: Detector) -> None:
    grey = PictureList("grey", ("a",) * 20, "0" * 64, lambda number: np.full((160, 160, 3), 128, np.uint8))
    with pytest.raises(DeployError) as error:
        recover(teacher, teacher, Samples(grey, teacher.input, 1), SETTINGS)
    assert error.value.code == "distillation-nothing-seen"


def test_a_network_agrees_with_itself_and_less_with_a_pruned_one(
    teacher: Detector, pruned: Detector, samples: Samples
) -> None:
    judge = Judge(teacher, samples.held_out, samples.picture)
    assert judge.agreement(teacher).map50 == 1.0
    worse = judge.agreement(pruned)
    counts = [count for _, count in worse.by_class.values()]
    assert judge.objects < sum(counts) < 4 * judge.objects  # doubtful detections count as much as they are likely
    assert worse.map50 == pytest.approx(np.average([ap for ap, _ in worse.by_class.values()], weights=counts))
    assert worse.map50 < 0.9


# ---- pictures -------------------------------------------------------------------------------------------------------


def test_held_out_pictures_are_never_trained_on(samples: Samples) -> None:
    assert len(samples.held_out) == 12
    assert not set(samples.held_out) & set(samples.trained_on)
    assert len(samples.held_out) + len(samples.trained_on) == 120


def test_a_step_has_the_same_batch_whenever_it_is_asked_for(samples: Samples) -> None:
    first = samples.views(7, 4)
    picture = samples.view(first[0])
    samples.view(first[1])
    assert samples.views(7, 4) == first != samples.views(8, 4)
    assert np.array_equal(samples.view(first[0]), picture)


def test_too_few_pictures_are_refused(teacher: Detector) -> None:
    with pytest.raises(InputError) as error:
        Samples(open_pictures("generated:1:5", teacher.input), teacher.input, 1)
    assert error.value.code == "distillation-few-pictures"


def test_a_damaged_picture_is_named_before_training(teacher: Detector, tmp_path: Path) -> None:
    from PIL import Image

    for number in range(20):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{number:02}.png")
    (tmp_path / "11.png").write_bytes(b"not a picture")
    with pytest.raises(PictureError) as error:
        Samples(open_pictures(tmp_path, teacher.input), teacher.input, 1)
    assert "11.png" in str(error.value)
