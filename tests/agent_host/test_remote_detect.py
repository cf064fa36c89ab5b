"""What an engine detects on a device is scored here, over a real OpenSSH server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import deploycc
from deploycc.agent import build_file, build_job, files, seal
from deploycc.agent_host.devices import Device
from deploycc.cli import main

TINY = Path(__file__).parents[1] / "models" / "tiny_ssd.prototxt"
NAMES = "background,car,truck,bus"


def test_the_engine_on_a_device_is_as_accurate_as_its_network(
    tmp_path: Path, device: Device, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    detector = deploycc.load(TINY, random_weights=1)
    deploycc.compile(detector, "x86-cpu", "out", deploycc.CompileSettings(build=False))
    row = build_job.build("out/plan.json", "engine-fp32.onnx")
    made = {"schema": 1, "tool": {"deploycc": "0", "agent": "0"}, "environment": {}, "target": "x86-cpu"}
    made |= {"plan_sha256": files.sha256_of("out/plan.json"), "engines": [row]}
    files.write_json(seal.sealed(made), str(Path("out", build_file.FILE_NAME)))
    fields = device.model_dump(include={"url", "python", "store", "lock"})
    rows = [f"{key} = {json.dumps(value)}" for key, value in fields.items()]
    Path("devices.toml").write_text("\n".join(["[bench]", *rows]))
    command = ["evaluate", "out", "--data", "generated:3:2", "--names", NAMES, "--detections", "rows.json", "--json"]
    assert main([*command, "--device", "bench", "--precision", "fp32"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["model"], summary["device"], summary["engine_sha256"]) == ("out", "bench", row["sha256"])
    assert summary["evidence"]["kind"] == "measured"
    assert summary["evidence"]["source"].startswith("fp32 engine on ")
    found = json.loads(Path("rows.json").read_text())
    expected = deploycc.evaluate("out", "generated:3:2", names=tuple(NAMES.split(",")))
    assert [each["class"] for each in found] == [each["class"] for each in expected.detections()]
    for got, wanted in zip(found, expected.detections(), strict=True):
        assert got["score"] == pytest.approx(wanted["score"], rel=0, abs=1e-5)
        assert got["box"] == pytest.approx(wanted["box"], rel=0, abs=1e-2)
    assert found
    assert (expected.engine_sha256, summary["pictures"]) == (None, 2)
    assert not list(Path(device.store, "jobs").iterdir())


def test_only_an_output_folder_is_scored_on_a_device(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "street_ssd", "--data", "generated:3:1", "--device", "local"]) == 1
    assert "error[device-needs-a-folder]" in capsys.readouterr().err
