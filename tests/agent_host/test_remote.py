"""A board as a place to build and measure, over a real OpenSSH server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import ssh_server
from simulated_board import board as simulated
from small_networks import conv_model, plan_folder

from deploycc import target
from deploycc.agent import build_job, environment, files, jobs, plan_file, seal
from deploycc.agent_host import local
from deploycc.agent_host.board import Board, StoredFile
from deploycc.agent_host.devices import Device
from deploycc.agent_host.remote import Step, on_device
from deploycc.agent_host.session import Scenario
from deploycc.cli import main
from deploycc.documents.build import read_build_result
from deploycc.errors import BuildError, DeviceError
from deploycc.files import sha256_of
from deploycc.workflows import attach
from deploycc.workflows.report import read_report

BOTH = (Step("build"), Step("bench"))


def planned(folder: Path) -> Path:
    folder.mkdir()
    cpu = target.load("x86-cpu").model_copy(update={"architecture": environment.hardware()["architecture"]})
    plan_folder(folder, cpu, {"fp32": conv_model()})
    return folder


def jobs_on(device: Device) -> list[Path]:
    return list(Path(device.store, "jobs").iterdir())


def test_one_job_builds_and_measures_and_is_forgotten(tmp_path: Path, device: Device) -> None:
    folder = planned(tmp_path / "out of 'here'")
    said: list[str] = []
    with on_device(device, folder, BOTH) as session:
        result = local.build(folder, said.append, session)
        report = local.bench(folder, said.append, session=session)
    [engine], [run] = result.engines, report.runs
    assert engine.sha256 == sha256_of(folder / engine.file)
    assert result == read_build_result(folder)
    assert result.plan_sha256 == sha256_of(folder / "plan.json")
    assert (run.status, run.engine and run.engine.sha256) == ("measured", engine.sha256)
    assert len(run.samples_ms) >= 10
    assert any(engine.file in line for line in said)
    assert jobs_on(device) == []
    assert not (tmp_path / "no").exists()
    with Board(device) as board:  # the engine is there already
        assert board.push([StoredFile.of(folder / engine.file)]) == 0


def test_one_job_measures_two_folders_in_turns(tmp_path: Path, device: Device) -> None:
    """Their files have the same names; each result comes back to its own plan."""
    folders = [planned(tmp_path / name) for name in ("a", "b")]
    for folder in folders:
        path = str(folder / "plan.json")
        made = {**jobs._header(plan_file.read_plan(path), path), "engines": [build_job.build(path, "engine-fp32.onnx")]}
        files.write_json(seal.sealed(made), str(folder / "build.json"))
    stream = Scenario("single-stream", seconds=0.2)
    with on_device(device, folders, [Step("bench", scenario=stream)]) as session:
        first, second = local.bench_in_turns(folders, scenario=stream, session=session)
        with Board(device) as board:
            [job] = board.jobs()
        assert job["folders"] == [str(folder.resolve()) for folder in folders]
        assert attach._folders(job, None) == folders
        assert attach._planned(job) == [sha256_of(folder / "plan.json") for folder in folders]
    assert [report.plan_sha256 for report in (first, second)] == [sha256_of(folder / "plan.json") for folder in folders]
    assert first.runs[0].turns == second.runs[0].turns is not None
    assert len(first.runs[0].blocks) == len(second.runs[0].blocks) >= 8
    assert first.runs[0].constraints.min_samples == 6636
    assert jobs_on(device) == []


def test_a_failed_build_comes_back_and_stops_the_job(tmp_path: Path, device: Device) -> None:
    folder = planned(tmp_path / "out")
    (folder / "network-fp32.onnx").write_bytes(b"another network")
    with (
        pytest.raises(BuildError, match="not the file the plan was made for"),
        on_device(device, folder, BOTH) as session,
    ):
        local.build(folder, session=session)
    assert [engine.status for engine in read_build_result(folder).engines] == ["failed"]
    assert jobs_on(device) == []


def test_a_device_without_python_is_said(tmp_path: Path, device: Device) -> None:
    with pytest.raises(DeviceError) as caught:
        Board(device.model_copy(update={"python": "no such python"}))
    assert caught.value.code == "device-no-python"


def test_an_unknown_host_key_is_not_accepted(
    tmp_path: Path, device: Device, server: ssh_server.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = server.folder / "known_hosts"
    text = known.read_text()
    other = (server.folder / "user.pub").read_text().split()[1]
    for content, code in (
        ("", "device-host-key-unknown"),
        (text.replace(text.split()[2], other), "device-host-key-changed"),
    ):
        known.write_text(content)
        try:
            with pytest.raises(DeviceError) as caught:
                Board(device)
            assert caught.value.code == code
            assert known.read_text() == content
        finally:
            known.write_text(text)


def test_other_refusals(tmp_path: Path, device: Device) -> None:
    url = device.url.replace("ssh://", "ssh://nobody_").replace("nobody_root@", "nobody@")
    with pytest.raises(DeviceError) as caught:
        Board(device.model_copy(update={"url": url}))
    assert caught.value.code == "device-login-refused"
    with pytest.raises(DeviceError) as caught:
        Board(device.model_copy(update={"url": "ssh://127.0.0.1:1"}))
    assert caught.value.code == "device-unreachable"
    (tmp_path / "file").write_text("")
    with pytest.raises(DeviceError) as caught:
        Board(device.model_copy(update={"store": str(tmp_path / "file")}))
    assert caught.value.code == "device-unwritable"


def test_a_full_disk_is_said_before_anything_is_sent(tmp_path: Path, device: Device) -> None:
    board = Board(device)
    try:
        with pytest.raises(DeviceError) as caught:
            board.push([], more=1 << 60)
        assert caught.value.code == "device-full"
        assert board.push([]) == 0
    finally:
        board.close()


def test_the_device_is_described(device: Device) -> None:
    with Board(device) as board:
        answer = board.ask({"ask": "probe"})
        assert board.holder is None
        assert board.jobs() == []
    assert answer["environment"]["architecture"] == environment.hardware()["architecture"]
    assert answer["free_bytes"] > 0


def test_compile_over_ssh(
    tmp_path: Path, device: Device, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A simulated TX2 with half a second of measuring, in which every picture takes 9 ms."""
    monkeypatch.chdir(tmp_path)
    board = simulated.make(tmp_path / "a 'board'", "jetson-tx2-jp461", times=9.0)
    fields = {"url": device.url, "python": board.python, "store": str(tmp_path / "store"), "lock": device.lock}
    Path("devices.toml").write_text(
        "\n".join(
            [
                "[tx2]",
                f'target = "{board.stack.target}"',
                *(f"{key} = {json.dumps(text)}" for key, text in fields.items()),
            ]
        )
    )
    tiny = str(Path(__file__).parents[1] / "models" / "tiny_ssd.prototxt")
    options = ["--random-weights", "1", "--device", "tx2", "-o", "out", "--quick", "--precision", "fp16"]
    assert main(["compile", tiny, *options, "--max-performance"]) == 0
    assert capsys.readouterr().out == "out\n"
    report = read_report("out")
    assert [(engine.status, engine.builder_version) for engine in report.compiled.engines] == [("built", "8.2.1")]
    assert report.median_ms("fp16") == 9.0
    assert report.latency is not None
    seen = report.latency.environment
    assert (seen["l4t"], seen["jetson_clocks"], seen["nvpmodel_before"]) == ("32.7.1", True, seen["nvpmodel_restored"])
    assert "fp16 has a median latency of" in Path("out/report.md").read_text()
    assert list((tmp_path / "store" / "jobs").iterdir()) == []
    assert main(["device", "attach", "tx2"]) == 1
    assert "error[device-no-job]" in capsys.readouterr().err


def test_a_step_is_read_from_the_agents_arguments() -> None:
    arguments = ["bench", "--only", "fp16", "--scenario", "constant-stream", "--period-ms", "66.7", "--max-performance"]
    step = Step.of(arguments)
    assert (step.command, step.only, step.max_performance) == ("bench", "fp16", True)
    assert step.scenario is not None
    assert step.scenario.period_ms == 66.7
    assert Step.of(["build"]) == Step("build")
