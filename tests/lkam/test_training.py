"""Training: it learns, and an interrupted run ends like an uninterrupted one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch, of the extra train, is not installed")

from lkam_run import SIZE, run, small_config, small_gates  # noqa: E402

from deploycc.errors import ArtefactError, DeployError, InputError  # noqa: E402
from deploycc.evaluation.dataset import open_dataset  # noqa: E402
from deploycc.evaluation.truth import Truth  # noqa: E402
from deploycc.lkam.checkpoint import Checkpoint, build_model, load_checkpoint, restore_model  # noqa: E402
from deploycc.lkam.distil import distillation_loss  # noqa: E402
from deploycc.lkam.insert import deciding_gates, gated_convs, impose_units, parameters_before_gates  # noqa: E402
from deploycc.lkam.network import Ssd, SsdConfig  # noqa: E402
from deploycc.lkam.priors import VARIANCES, make_priors  # noqa: E402
from deploycc.lkam.samples import Samples  # noqa: E402
from deploycc.lkam.training import CHECKPOINT, METRICS, learning_rate, train  # noqa: E402
from deploycc.trainable.multibox import multibox_loss  # noqa: E402
from deploycc.trainable.sparsity import Ramp  # noqa: E402


@pytest.mark.parametrize("gated", [False, True])
def test_resuming_changes_nothing(tmp_path: Path, gated: bool) -> None:
    config = small_config(gates=small_gates() if gated else None)
    whole = run(config, tmp_path / "whole")
    run(config, tmp_path / "parts", stop_after=2)
    parts = run(config, tmp_path / "parts")
    assert (whole.step, parts.step) == (4, 4)
    assert whole.model.keys() == parts.model.keys()
    for name, tensor in whole.model.items():
        assert torch.equal(tensor, parts.model[name]), name
    scores = [json.loads((tmp_path / run_ / METRICS).read_text())["result"] for run_ in ("whole", "parts")]
    assert scores[0] == scores[1]


def test_another_seed_gives_other_weights(tmp_path: Path) -> None:
    one, other = run(small_config(steps=1), tmp_path / "a"), run(small_config(steps=1, seed=2), tmp_path / "b")
    assert not torch.equal(one.model["backend.0.0.conv.weight"], other.model["backend.0.0.conv.weight"])


def test_a_few_steps_lower_the_loss_of_one_batch() -> None:
    config = small_config()
    model, samples = build_model(config).train(), Samples(open_dataset(config.data, size=SIZE), SIZE, 1)
    optimiser, priors, batch = (
        torch.optim.AdamW(model.parameters(), 5e-3),
        torch.from_numpy(make_priors(SIZE)),
        samples.batch(0, 6),
    )
    losses = []
    for _ in range(25):
        loss = multibox_loss(*model(batch.pictures), priors, batch.boxes, batch.labels, torch.tensor(VARIANCES))
        total = loss.location + loss.score
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        losses.append(total.item())
    assert losses[-1] < 0.6 * losses[0]


def test_gates_start_from_a_dense_run(tmp_path: Path) -> None:
    dense = run(small_config(), tmp_path / "dense")
    config = small_config(gates=small_gates(), initial=str(tmp_path / "dense" / CHECKPOINT), steps=1, lr=0.0)
    gated = run(config, tmp_path / "gated")
    weight = dense.model["backend.1.0.conv.weight"]
    assert torch.equal(gated.model["backend.1.0.conv.conv.weight"], weight)
    assert torch.equal(gated.model["backend.1.0.conv.norm.weight"], dense.model["backend.1.0.norm.weight"])
    result = json.loads((tmp_path / "gated" / METRICS).read_text())["result"]["gates"]
    assert result["saved_percent"]["mean"] < 25  # nothing has pressed yet
    assert set(result["layers"]) == {"backend.1.0.conv", "backend.1.1.conv"}


def test_gates_that_were_trained_before_go_on_as_they_are(tmp_path: Path) -> None:
    first = run(small_config(gates=small_gates()), tmp_path / "first")
    config = small_config(gates=small_gates(), initial=str(tmp_path / "first" / CHECKPOINT), steps=1, lr=0.0, seed=9)
    second = run(config, tmp_path / "second")
    gates = [name for name in first.model if ".gate." in name]
    assert gates
    for name in gates:
        assert torch.equal(first.model[name], second.model[name]), name


def test_a_teacher_is_learned_from(tmp_path: Path) -> None:
    teacher = restore_model(run(small_config(), tmp_path / "dense"))
    taught = run(
        small_config(steps=40, seed=2, teacher=str(tmp_path / "dense" / CHECKPOINT), distil=20.0), tmp_path / "taught"
    )
    alone = run(small_config(steps=40, seed=2), tmp_path / "alone")
    pictures = Samples(open_dataset("generated:3:8", size=SIZE), SIZE, 1).batch(0, 8).pictures
    with torch.no_grad():
        distance = [
            distillation_loss(restore_model(each)(pictures), teacher(pictures)).item() for each in (taught, alone)
        ]
    assert distance[0] < 0.5 * distance[1]
    assert taught.history[-1]["distilled"] > 0
    assert "distilled" not in alone.history[-1]


def test_a_teacher_of_another_network_is_refused(tmp_path: Path) -> None:
    run(small_config(), tmp_path / "dense")
    other = small_config(network=SsdConfig(7, SIZE, "squeezenet", 0.25), teacher=str(tmp_path / "dense" / CHECKPOINT))
    with pytest.raises(InputError, match="teacher-other-network"):
        run(other, tmp_path / "b")


def test_rare_units_go_off_for_good_when_decisions_freeze(tmp_path: Path) -> None:
    # Every unit counts as rare below a share that all of them reach at most.
    gates = small_gates(freeze=0.5, retire=1.1)
    before = run(small_config(gates=gates), tmp_path / "run", stop_after=2)
    assert not _idle(before)
    after = run(small_config(gates=gates), tmp_path / "run")
    assert _idle(after)
    result = json.loads((tmp_path / "run" / METRICS).read_text())["result"]["gates"]
    assert result["saved_percent"]["mean"] == pytest.approx(100, abs=1e-6)


def test_random_widths_come_first_and_are_the_same_again(tmp_path: Path) -> None:
    gates = small_gates(granularity="nested", shared=4, explore=0.5, freeze=1.0)
    config = small_config(gates=gates, seed=3)
    halfway = run(config, tmp_path / "run", stop_after=2)
    decided = [name for name in halfway.model if ".gate.decide" in name]
    start = build_model(config).state_dict()
    assert decided
    # Nothing has told the gate anything: only the weight decay has touched it.
    for name in decided:
        assert torch.allclose(halfway.model[name], start[name], rtol=1e-3, atol=0), name
    whole, again = run(config, tmp_path / "run"), run(config, tmp_path / "again")
    assert any(not torch.equal(whole.model[name], halfway.model[name]) for name in decided)
    for name, value in whole.model.items():
        assert torch.equal(value, again.model[name]), name
    model = restore_model(whole).train()
    impose_units(model, 64, seed=1)
    model(torch.randn(64, 3, SIZE, SIZE))
    [gate] = deciding_gates(model)
    assert gate.engaged is not None
    assert set(gate.engaged.sum(1).tolist()) == {1.0, 2.0, 3.0, 4.0}
    assert bool((gate.engaged.diff(dim=1) <= 0).all())  # the first units


def test_the_inputs_of_a_frozen_shared_gate_stay_the_same(tmp_path: Path) -> None:
    first = run(small_config(gates=small_gates(granularity="nested", shared=4)), tmp_path / "first")
    gates = small_gates(granularity="nested", shared=4, freeze=0.0)
    after = run(small_config(gates=gates, initial=str(tmp_path / "first" / CHECKPOINT), seed=9), tmp_path / "after")
    names = [name for name, _ in build_model(small_config(gates=gates)).named_parameters()]
    stayed = {name for name in names if torch.equal(first.model[name], after.model[name])}
    before = {name for name in names if name.startswith("backend.0.")}
    assert stayed == before | {name for name in names if ".gate." in name}
    for name, value in first.model.items():
        if name.startswith("backend.0."):  # statistics of BatchNorms too
            assert torch.equal(value, after.model[name]), name
    assert not torch.equal(first.model["backend.2.0.norm.running_mean"], after.model["backend.2.0.norm.running_mean"])
    model = restore_model(after)
    found = parameters_before_gates(model, torch.randn(1, 3, SIZE, SIZE))
    assert {id(p) for p in found} == {id(p) for name, p in model.named_parameters() if name in before}


def test_units_retire_by_the_gates_decisions_after_random_widths(tmp_path: Path) -> None:
    gates = small_gates(granularity="nested", shared=4, explore=0.5, freeze=0.5, retire=1.1)
    model = restore_model(run(small_config(gates=gates), tmp_path / "run"))
    model(torch.randn(8, 3, SIZE, SIZE))
    [gate] = deciding_gates(model)
    assert gate.engaged is not None
    assert gate.engaged.mean(0).tolist() == [1.0, 0.0, 0.0, 0.0]


def test_random_widths_do_not_undo_trained_gates(tmp_path: Path) -> None:
    run(small_config(gates=small_gates(granularity="nested")), tmp_path / "first")
    gates = small_gates(granularity="nested", explore=0.5)
    with pytest.raises(InputError, match="trained gates"):
        run(small_config(gates=gates, initial=str(tmp_path / "first" / CHECKPOINT)), tmp_path / "second")


def _idle(state: Checkpoint) -> bool:
    """Whether no picture engages any unit."""
    model = restore_model(state)
    model(Samples(open_dataset("generated:3:4", size=SIZE), SIZE, 1).batch(0, 4).pictures)
    return all(not bool(module.gate.engaged.any()) for _, module in gated_convs(model))


def test_pressure_switches_kernels_off(tmp_path: Path) -> None:
    # A gain that outweighs the detector's loss.
    gates = small_gates(gain=1e3, target=None, press=Ramp(1.0, 1.0), slope=Ramp(1.0, 1.0), freeze=1.0)
    run(small_config(steps=40, warmup=1, lr=5e-2, gates=gates), tmp_path)
    saved = json.loads((tmp_path / METRICS).read_text())["result"]["gates"]["saved_percent"]["mean"]
    assert saved > 60


def test_a_folder_of_another_run_is_refused(tmp_path: Path) -> None:
    run(small_config(), tmp_path, stop_after=1)
    with pytest.raises(InputError, match="checkpoint-other-run"):
        run(small_config(seed=9), tmp_path)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    run(small_config(), tmp_path / "a", stop_after=1)
    other = small_config(network=SsdConfig(7, SIZE, "squeezenet", 0.25), initial=str(tmp_path / "a" / CHECKPOINT))
    with pytest.raises(InputError, match="checkpoint-other-network"):
        run(other, tmp_path / "b")


def test_other_classes_keep_the_trunk_and_start_new_scores(tmp_path: Path) -> None:
    first = run(small_config(), tmp_path / "a", stop_after=1)
    config = small_config(
        network=SsdConfig(3, SIZE, "mobilenet", 0.25), initial=str(tmp_path / "a" / CHECKPOINT), lr=0.0, seed=5
    )
    data = open_dataset("generated:1:8", size=SIZE)
    two = replace(data, class_names=("one", "two"), sample=lambda n: _fold_classes(*data.sample(n)))
    second = train(config, Samples(two, SIZE, 5), two, tmp_path / "b", stop_after=1)
    for name in ("backend.0.0.conv.weight", "score.0.0.conv.weight", "location.0.1.weight"):
        assert torch.equal(first.model[name], second.model[name]), name
    assert second.model["score.0.1.weight"].shape[0] == 6 * 3


def _fold_classes(pixels: np.ndarray, truth: Truth) -> tuple[np.ndarray, Truth]:
    return pixels, replace(truth, classes=truth.classes % 2)


@pytest.mark.parametrize("content", [b"", b"no checkpoint", None])
def test_a_damaged_checkpoint_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / CHECKPOINT
    if content is None:
        run(small_config(), tmp_path, stop_after=1)
        content = path.read_bytes()[:5000]
    path.write_bytes(content)
    with pytest.raises(ArtefactError):
        load_checkpoint(path)


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    with pytest.raises(DeployError, match="training-diverged"):
        run(small_config(steps=40, lr=1e30, warmup=1), tmp_path)


def test_the_rate_warms_up_and_ends_at_nothing() -> None:
    config = small_config(steps=100, warmup=10, lr=1.0)
    rates = [learning_rate(config, step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1, rel=1e-12, abs=0)
    assert max(rates) == 1.0
    assert rates[9] == 1.0
    assert rates[-1] < 0.001


def test_batches_depend_on_the_step_alone() -> None:
    data = open_dataset("generated:1:6", size=SIZE)
    samples, again = Samples(data, SIZE, 3), Samples(data, SIZE, 3)
    samples.batch(0, 4)
    one, other = samples.batch(5, 4), again.batch(5, 4)
    assert torch.equal(one.pictures, other.pictures)
    assert torch.equal(one.boxes, other.boxes)
    assert not torch.equal(one.pictures, samples.batch(6, 4).pictures)


@pytest.mark.parametrize("architecture", ["mobilenet", "squeezenet"])
@pytest.mark.parametrize("size", [96, 160])
def test_heads_have_one_row_a_prior(architecture: str, size: int) -> None:
    network = Ssd(SsdConfig(4, size, architecture, 0.5)).eval()  # type: ignore[arg-type]
    with torch.no_grad():
        offsets, logits = network(torch.zeros(1, 3, size, size))
    priors = len(make_priors(size))
    assert offsets.shape == (1, priors, 4)
    assert logits.shape == (1, priors, 4)
