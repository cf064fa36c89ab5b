"""The agent detects in pictures what this project detects, and the host shows both side by side."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import deploycc
from deploycc.agent import answers, build_file, build_job, detect_job, files, seal
from deploycc.agent.__main__ import EXIT_FAILED, EXIT_NOTHING, main
from deploycc.agent.outcome import Failed
from deploycc.errors import InputError, MeasureError
from deploycc.evaluation.detect import OnnxRuntimeDetector

TINY = Path(__file__).parents[1] / "models" / "tiny_ssd.prototxt"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a built engine, and pictures beside it."""
    place = tmp_path_factory.mktemp("detect")
    out = place / "out"
    detector = deploycc.load(TINY, random_weights=1)
    deploycc.compile(detector, "x86-cpu", out, deploycc.CompileSettings(build=False))
    row = build_job.build(str(out / "plan.json"), "engine-fp32.onnx")
    assert row["status"] == "built"
    plan = out / "plan.json"
    made_by = {"schema": 1, "tool": {"deploycc": "0", "agent": "0"}, "environment": {}, "target": "x86-cpu"}
    result = {**made_by, "plan_sha256": files.sha256_of(str(plan)), "engines": [row]}
    files.write_json(seal.sealed(result), str(out / build_file.FILE_NAME))
    random = np.random.default_rng(0)
    (place / "pictures").mkdir()
    stack = random.integers(0, 256, (2, 50, 70, 3), np.uint8)
    for name, picture in zip(("a.png", "b.png"), stack, strict=True):
        Image.fromarray(picture).save(place / "pictures" / name)
    np.save(place / "stack.npy", stack)
    return place


def test_engines_detect_what_the_network_detects(folder: Path) -> None:
    [row] = detect_job.detect(str(folder / "out" / "plan.json"), str(folder / "stack.npy"))
    assert row["status"] == "detected"
    runner = OnnxRuntimeDetector(deploycc.load(folder / "out"))
    total = 0
    for picture, found in zip(np.load(folder / "stack.npy"), row["pictures"], strict=True):
        expected = runner.detect(picture)
        rows = np.array(found["detections"]).reshape(-1, 6)
        assert np.array_equal(rows[:, 0], expected.classes)
        assert np.allclose(rows[:, 1], expected.scores, rtol=0, atol=1e-5)
        assert np.allclose(rows[:, 2:], expected.boxes, rtol=0, atol=1e-4)
        assert (found["width"], found["height"]) == (70, 50)
        total += len(expected)
    assert total > 0


@pytest.fixture(scope="module")
def written(folder: Path) -> Path:
    out = folder / "answer.json"
    assert (
        main(["detect", str(folder / "out" / "plan.json"), "--pictures", str(folder / "pictures"), "--out", str(out)])
        == 0
    )
    return out


def test_the_host_compares_engine_and_network(folder: Path, written: Path) -> None:
    report = deploycc.detect(folder / "out", folder / "pictures", compare=written, score_threshold=0.1)
    assert report.agreement is not None
    assert report.agreement.pictures_that_differ == 0
    assert report.agreement.matched == sum(len(picture.detections[1]) for picture in report.pictures) > 0
    assert report.networks[1].evidence.source.startswith("fp32 engine on ")


def test_an_engine_on_a_device_is_shown_beside_its_network(folder: Path) -> None:
    """This machine as the device: the agent is packed and runs in a process of its own."""
    options = {"device": "local", "score_threshold": 0.1}
    report = deploycc.detect(folder / "out", folder / "pictures", **options)  # type: ignore[arg-type]
    assert report.agreement is not None
    assert report.agreement.matched == sum(len(picture.detections[0]) for picture in report.pictures) > 0
    assert (report.agreement.only_first, report.agreement.only_second) == (0, 0)
    assert [network.model for network in report.networks] == [str(folder / "out"), "local"]
    with pytest.raises(InputError) as refused:
        deploycc.detect(TINY, folder / "pictures", **options)  # type: ignore[arg-type]
    assert refused.value.code == "device-needs-a-folder"


def test_an_engine_without_numbers_is_said_to_have_failed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would look like one that sees nothing."""

    @contextlib.contextmanager
    def answering() -> Iterator[Any]:
        yield lambda tensor: {"mbox_loc": np.array([np.nan], np.float32)}

    monkeypatch.setattr(answers, "of", lambda *_: answering)
    [row] = detect_job.detect(str(folder / "out" / "plan.json"), str(folder / "stack.npy"))
    assert (row["status"], row["pictures"]) == ("failed", [])
    assert row["reason"] == "the engine answers with NaN or infinity in mbox_loc"


def test_other_pictures_than_the_engines_are_refused(folder: Path, written: Path, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "c.png")
    with pytest.raises(InputError) as refused:
        deploycc.detect(folder / "out", tmp_path, compare=written)
    assert refused.value.code == "pictures-differ"


def test_an_answer_without_a_run_is_refused(folder: Path, written: Path, tmp_path: Path) -> None:
    answer = json.loads(written.read_text())
    del answer[seal.FIELD]
    answer["runs"][0].update(status="not-possible", reason="there is no GPU", pictures=[])
    files.write_json(seal.sealed(answer), str(tmp_path / "answer.json"))
    with pytest.raises(MeasureError) as refused:
        deploycc.detect(folder / "out", folder / "pictures", compare=tmp_path / "answer.json")
    assert (refused.value.code, refused.value.note) == ("engine-not-run", "there is no GPU")


@pytest.mark.parametrize(
    ("values", "said"),
    [(np.zeros((1, 4, 4, 3), np.float32), "holds float32"), (np.zeros((4, 4, 3), np.uint8), r"\(4, 4, 3\)")],
)
def test_other_arrays_are_refused(folder: Path, tmp_path: Path, values: Any, said: str) -> None:
    np.save(tmp_path / "stack.npy", values)
    with pytest.raises(Failed, match=said):
        detect_job.detect(str(folder / "out" / "plan.json"), str(tmp_path / "stack.npy"))


def test_a_folder_without_pictures_or_contract_is_refused(folder: Path, tmp_path: Path) -> None:
    plan = str(folder / "out" / "plan.json")
    assert main(["detect", plan, "--pictures", str(tmp_path)]) == EXIT_FAILED
    (tmp_path / "plan.json").write_bytes(Path(plan).read_bytes())
    assert main(["detect", str(tmp_path / "plan.json"), "--pictures", str(folder / "stack.npy")]) == EXIT_FAILED
    with pytest.raises(Failed, match="no fp16 engine"):
        detect_job.detect(plan, str(folder / "stack.npy"), "fp16")


def test_an_engine_that_is_gone_is_said_to_be(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    for path in (folder / "out").iterdir():
        if not path.name.startswith("engine"):
            (out / path.name).write_bytes(path.read_bytes())
    stack = str(folder / "stack.npy")
    assert main(["detect", str(out / "plan.json"), "--pictures", stack]) == EXIT_NOTHING
    [row] = json.loads((out / "engine-detections.json").read_text())["runs"]
    assert row["status"] == "failed"
    assert "is gone" in row["reason"]
