"""A device shows what its engine detects, over a real OpenSSH server."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import deploycc
from deploycc.agent import build_file, build_job, detect_job, files, seal
from deploycc.agent_host import local
from deploycc.agent_host.devices import Device
from deploycc.agent_host.remote import Step, on_device

TINY = Path(__file__).parents[1] / "models" / "tiny_ssd.prototxt"


def test_pictures_go_to_the_device_and_detections_come_back(tmp_path: Path, device: Device) -> None:
    out = tmp_path / "out"
    detector = deploycc.load(TINY, random_weights=1)
    deploycc.compile(detector, "x86-cpu", out, deploycc.CompileSettings(build=False))
    plan = str(out / "plan.json")
    made = {"schema": 1, "tool": {"deploycc": "0", "agent": "0"}, "environment": {}, "target": "x86-cpu"}
    row = build_job.build(plan, "engine-fp32.onnx")
    made |= {"plan_sha256": files.sha256_of(plan), "engines": [row]}
    files.write_json(seal.sealed(made), str(out / build_file.FILE_NAME))
    stack = tmp_path / "stack.npy"
    np.save(stack, np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8))
    with on_device(device, out, [Step("detect", "fp32", stack)]) as session:
        found = local.detect(out, stack, only="fp32", session=session)
    [expected] = detect_job.detect(plan, str(stack))
    [run] = found.runs
    assert run.status == "detected"
    assert run.engine_sha256 == row["sha256"]
    for got, wanted in zip(run.pictures, expected["pictures"], strict=True):
        assert [list(each) for each in got.detections] == wanted["detections"]
    assert sum(len(picture.detections) for picture in run.pictures) > 0
    assert not list(Path(device.store, "jobs").iterdir())
