"""An engine that does not find in the shipped pictures what the FP32 network finds is refused before it is used."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from decoder_cases import contract_folder, head_detector, plan_entry, random_heads
from numpy.typing import NDArray

from deploycc.agent import run_trtexec, smoke
from deploycc.agent.outcome import Failed, NotPossible
from deploycc.evaluation.decode import read_detections
from deploycc.integration.contract_files import Expected

Outputs = dict[str, NDArray[np.float32]]
DETECTOR = head_detector(random_heads(3))
NETWORK = plan_entry(DETECTOR)


def outputs_of(seed: int) -> Outputs:
    random = np.random.default_rng(seed)
    return {
        "loc": random.normal(size=(1, 160)).astype(np.float32),
        "conf": random.uniform(0, 0.9, (1, 40, 4)).astype(np.float32),
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pictures and what a network finds in them."""
    folder = tmp_path_factory.mktemp("smoke")
    detections = []
    for seed in (0, 1):
        found = read_detections(DETECTOR, outputs_of(seed))
        rows = zip(found.classes.tolist(), found.scores.tolist(), found.boxes.tolist(), strict=True)
        detections.append(tuple((label, score, *box) for label, score, box in rows if score >= 0.3))
    stacked = {name: np.stack([outputs_of(seed)[name].reshape(-1) for seed in (0, 1)]) for name in ("loc", "conf")}
    pictures = np.random.default_rng(0).integers(0, 256, (2, 4, 5, 3), np.uint8)
    contract_folder(folder, [DETECTOR], expected=Expected(pictures, 0.3, stacked, tuple(detections)))
    return folder


def check(folder: Path, change: Callable[[Outputs], Outputs], precision: str = "fp32") -> dict[str, Any] | None:
    """Run the smoke test with an engine that answers the right thing, changed."""

    @contextlib.contextmanager
    def answering() -> Iterator[Callable[[Any], Outputs]]:
        seeds = iter((0, 1))
        yield lambda tensor: change(outputs_of(next(seeds)))

    return smoke.check({}, {**NETWORK, "precision": precision}, str(folder), answering)


def test_an_engine_that_finds_the_same_passes(folder: Path) -> None:
    row = check(folder, lambda outputs: outputs)
    assert row is not None
    assert (row["status"], row["pictures"], row["largest_difference"]) == ("passed", 2, 0.0)
    assert row["expected"] == row["detected"] == row["matched"] > 5


def test_rounding_is_no_fault(folder: Path) -> None:
    row = check(folder, lambda outputs: {name: values.astype(np.float16) for name, values in outputs.items()})
    assert row is not None
    assert row["status"] == "passed"
    assert 0 < row["largest_difference"] < 0.01


def scores(factor: float) -> Callable[[Outputs], Outputs]:
    return lambda outputs: {**outputs, "conf": outputs["conf"] * np.float32(factor)}


def nan(outputs: Outputs) -> Outputs:
    outputs["loc"][0, 3] = np.nan
    return outputs


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (scores(0.0), "detects nothing in 2 pictures in which the FP32 network detects"),
        (nan, "NaN or infinity in loc"),
        (scores(1.1), "output conf differs from the FP32 network's by 10%"),
        (lambda outputs: {**outputs, "loc": np.roll(outputs["loc"], 4)}, "output loc differs"),
    ],
)
def test_an_engine_that_is_wrong_is_refused(folder: Path, change: Callable[[Outputs], Outputs], reason: str) -> None:
    with pytest.raises(Failed) as refused:
        check(folder, change)
    assert reason in refused.value.reason
    assert "--keep-fp32" in str(refused.value.hint)


def test_without_a_way_to_run_it_the_row_says_so(folder: Path) -> None:
    @contextlib.contextmanager
    def answering() -> Iterator[None]:
        raise NotPossible("there is no GPU")
        yield

    row = smoke.check({}, NETWORK, str(folder), answering)
    assert row is not None
    assert (row["status"], row["reason"]) == ("not-run", "there is no GPU")


def test_folders_without_a_contract_or_pictures_are_as_before(tmp_path: Path) -> None:
    assert check(tmp_path, lambda outputs: outputs) is None
    contract_folder(tmp_path, [DETECTOR])
    assert check(tmp_path, lambda outputs: outputs) is None


def test_changed_pictures_and_contracts_are_refused(folder: Path, tmp_path: Path) -> None:
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    with (tmp_path / "smoke-pictures.npy").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(Failed, match=r"smoke-pictures\.npy is not the file"):
        check(tmp_path, lambda outputs: outputs)
    contract = json.loads((tmp_path / "contract.json").read_text())
    contract["nms"]["score_threshold"] = 0.9
    (tmp_path / "contract.json").write_text(json.dumps(contract))
    with pytest.raises(Failed, match=r"contract\.json"):
        check(tmp_path, lambda outputs: outputs)


def test_outputs_as_trtexec_writes_them(tmp_path: Path) -> None:
    records = [{"name": "conf", "dimensions": "1x2x2", "values": [0, 0.5, 1, 1e-8]}, {"name": "loc", "values": [-1]}]
    read = run_trtexec.read_outputs(records)
    assert {name: values.tolist() for name, values in read.items()}["loc"] == [-1.0]
    assert read["conf"].shape == (4,)
    with pytest.raises(Failed, match="not as documented"):
        run_trtexec.read_outputs([{"name": "loc", "values": ["x"]}])
    for text, expected in (
        ('{"name": "inf", "values": [1, -nan, 2]}', True),
        ('{"name": "nan", "values": [1, 2]}', False),
    ):
        (tmp_path / "output.json").write_text(f"[{text}]")
        assert run_trtexec.has_no_numbers(str(tmp_path / "output.json")) == expected
