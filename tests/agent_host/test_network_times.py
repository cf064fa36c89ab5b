"""Networks timed on a device, over a real OpenSSH server."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sample_reports import run
from small_networks import SHAPE, SHORT, conv_model, plan_folder, unknown_operator_model

from deploycc import target
from deploycc.agent import environment
from deploycc.agent_host import network_times
from deploycc.agent_host.board import Board
from deploycc.agent_host.devices import Device
from deploycc.agent_host.network_times import profile_network, time_networks
from deploycc.agent_host.remote import Step
from deploycc.documents.latency import LayerTime, Run
from deploycc.errors import MeasureError


def test_networks_take_turns_on_each_picture_and_nothing_stays(tmp_path: Path, device: Device) -> None:
    cpu = target.load("x86-cpu").model_copy(update={"architecture": environment.hardware()["architecture"]})
    folders, pictures = [tmp_path / name for name in ("a", "b")], [tmp_path / f"{n}.npy" for n in range(2)]
    for folder in folders:
        folder.mkdir()
        plan_folder(folder, cpu, {"fp32": conv_model()}, SHORT)
    for number, picture in enumerate(pictures):
        np.save(picture, np.full(SHAPE, number, np.float32))
    told: list[object] = []
    times = time_networks(device, folders, pictures, lambda facts: told.append(facts["architecture"]))
    assert [[len(blocks) for blocks in row] for row in times] == [[8, 8], [8, 8]]
    assert all(median > 0 for row in times for blocks in row for median in blocks)
    assert told == [cpu.architecture] * 4
    plan_folder(folders[0], cpu, {"fp32": unknown_operator_model()}, SHORT)
    with pytest.raises(MeasureError) as caught:
        profile_network(device, folders[0], 2, lambda facts: None)
    assert caught.value.code == "device-network-refused"
    assert "ONNX Runtime refuses the network" in (caught.value.note or "")
    with Board(device) as board:
        assert board.jobs() == []
    assert sorted(path.name for path in folders[1].iterdir()) == ["network-fp32.onnx", "plan.json"]


def test_engines_that_are_kept_are_not_built_again(tmp_path: Path, device: Device) -> None:
    cpu = target.load("x86-cpu").model_copy(update={"architecture": environment.hardware()["architecture"]})
    folders = [tmp_path / name for name in ("a", "b", "c")]
    for folder in folders:
        folder.mkdir()
        plan_folder(folder, cpu, {"fp32": conv_model()}, SHORT)
    for few in (folders[:2], folders[1:]):
        [times] = time_networks(device, few, [], lambda facts: None, keep=True)
        assert all(median > 0 for blocks in times for median in blocks)
    assert [(folder / "engine-fp32.onnx").is_file() for folder in folders] == [True] * 3
    stamps = [(folder / "build.json").stat().st_mtime_ns for folder in folders]
    assert stamps[1] < stamps[2]
    assert stamps[1] - stamps[0] < stamps[2] - stamps[1]


def test_a_network_is_built_once_and_profiled_several_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    board, asked = Device(name="tx2", url="ssh://board"), list[object]()

    def benched(device: Device, folders: list[Path], benches: list[Step], check: object) -> list[list[Run]]:
        asked.append((device, folders, benches))
        return [[run((1.0,) * 9, layers=_layers(2.0 + number))] for number, _ in enumerate(benches)]

    monkeypatch.setattr(network_times, "_build_and_bench", benched)
    profiles = profile_network(board, tmp_path, 3, lambda facts: None)
    assert asked == [(board, [tmp_path], [Step("bench")] * 3)]
    assert profiles == [[("conv1 + relu1", ms, ("conv1", "relu1")), ("pool", 0.5, ())] for ms in (2.0, 3.0, 4.0)]


def _layers(median_ms: float) -> tuple[LayerTime, ...]:
    return (
        LayerTime(name="conv1 + relu1", op="", nodes=("conv1", "relu1"), median_ms=median_ms, share=0.8),
        LayerTime(name="pool", op="", median_ms=0.5, share=0.2),
    )
