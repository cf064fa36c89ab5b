"""Networks in a row on a device: every file goes there, and every engine comes back."""

from __future__ import annotations

from pathlib import Path

from shared_gates import write_shared
from staged_plans import staged_plan

import deploycc
from deploycc import target
from deploycc.agent import environment
from deploycc.agent_host import local
from deploycc.agent_host.devices import Device
from deploycc.agent_host.remote import Step, on_device
from deploycc.files import sha256_of


def test_a_row_is_built_and_measured_there(tmp_path: Path, device: Device) -> None:
    _, _, detector = write_shared(tmp_path)
    cpu = target.load("x86-cpu").model_copy(update={"architecture": environment.hardware()["architecture"]})
    settings = deploycc.CompileSettings(build=False, original=False, quick=True, threads=1)
    folder = tmp_path / "out"
    deploycc.compile(detector, cpu, folder, settings, gate_plan=staged_plan(detector, cpu))
    with on_device(device, folder, (Step("build"), Step("bench"))) as session:
        [engine] = local.build(folder, session=session).engines
        [run] = local.bench(folder, session=session).runs
    assert engine.status == "built", engine.reason
    assert len(engine.second) > 1
    assert {name: sha256_of(folder / name) for name in engine.files} == engine.files
    assert run.engine is not None
    assert (run.status, run.engine.digests) == ("measured", engine.digests)
    assert run.row is not None
    assert len(run.row.second) == len(run.samples_ms) > 0
    with on_device(device, folder, (Step("bench"),)) as session:  # of engines that are here
        assert local.bench(folder, session=session).runs[0].status == "measured"
