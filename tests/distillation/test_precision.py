"""Sixteen bits are for devices that have units for them; elsewhere asking for them changes nothing."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="PyTorch, of the extra train, is not installed")

import deploycc  # noqa: E402
from deploycc.distillation import precision  # noqa: E402
from deploycc.distillation.muon import orthogonal  # noqa: E402
from deploycc.distillation.pair import Pair  # noqa: E402
from deploycc.distillation.precision import fast_type  # noqa: E402
from deploycc.distillation.samples import Samples  # noqa: E402
from deploycc.workflows.pictures import open_pictures  # noqa: E402

CAPABLE = [({}, False), ({"avx2": True, "avx512_bf16": False}, False), ({"avx512_bf16": True}, True)]


@pytest.fixture(params=CAPABLE, ids=["unknown", "avx2", "avx512_bf16"])
def has_units(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    able, units = request.param
    monkeypatch.setattr(precision.torch.cpu, "get_capabilities", lambda: able, raising=False)
    return bool(units)


def test_a_processor_is_asked_for_its_units(has_units: bool) -> None:
    assert fast_type(torch.device("cpu")) == (torch.bfloat16 if has_units else torch.float32)


def test_a_step_of_muon_keeps_its_type(has_units: bool) -> None:
    matrix = torch.randn(12, 9, generator=torch.Generator().manual_seed(1))
    step = orthogonal(matrix)
    assert step.dtype == torch.float32
    rounded = step.to(torch.bfloat16).to(torch.float32)
    assert torch.equal(step, rounded) == has_units


def test_a_loss_is_in_sixteen_bits_only_where_that_is_fast(has_units: bool) -> None:
    teacher = deploycc.load("street_ssd")
    student = deploycc.prune(teacher, deploycc.PruneSettings(by="l1", below=0.1, multiple=1)).detector
    samples = Samples(open_pictures("generated:5:20", teacher.input), teacher.input, 1)
    pair = Pair(student, teacher, samples, 8, 1.0)
    asked, plain = (pair.loss((1, 2), bfloat16=wanted).total.item() for wanted in (True, False))
    assert asked == pytest.approx(plain, rel=0.1)
    assert (asked != plain) == has_units
