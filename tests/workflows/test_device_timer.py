"""What times of a device depend on, and networks as a device gets them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from deploycc import target
from deploycc.agent_host import network_times
from deploycc.agent_host.devices import Device
from deploycc.documents.costs import Convolution, CostTable, Machine
from deploycc.documents.document import read_document
from deploycc.documents.plan import read_plan
from deploycc.errors import ArtefactError, MeasureError
from deploycc.gate_planning import operations
from deploycc.timing.convolutions import Costs, single_convolution
from deploycc.timing.effort import Effort
from deploycc.timing.profile_layers import TimedLayer
from deploycc.workflows import device_timer
from deploycc.workflows.device_timer import DeviceTimer, device_machine

TX2 = Device(name="bench 1", url="ssh://board", target="jetson-tx2-jp461")
SETTINGS: dict[str, Any] = {
    "gpu": "Tegra X2 (sm 6.2)",
    "tensorrt_library": "8.2.1-1+cuda10.2",
    "nvpmodel": "MAXN (0)",
    "gpu_clock_min_mhz": 114.75,
    "gpu_clock_max_mhz": 1300.5,
    "gpu_clock_cur_mhz": 318.75,
    "cpu_governor": "schedutil",
    "jetson_clocks": False,
}
CONVOLUTION = Convolution(
    inputs=8, kernels=8, groups=1, kernel=(3, 3), stride=(1, 1), dilation=(1, 1), pads=(1, 1, 1, 1), size=(6, 6)
)


def machine(target_name: str = "jetson-tx2-jp461", **others: Any) -> Machine:
    return device_machine(TX2, target.load(target_name), 2, {**SETTINGS, **others})


def timer(folder: Path, target_name: str = "jetson-tx2-jp461") -> DeviceTimer:
    return DeviceTimer(TX2, target.load(target_name), machine(target_name), folder)


def test_a_table_names_the_device_and_how_it_is_set(tmp_path: Path) -> None:
    costs = Costs(machine(), timer=timer(tmp_path))
    costs.table().write(tmp_path / "costs.json")
    table = read_document(tmp_path / "costs.json", CostTable)
    assert table.evidence.source == (
        "bench 1, Tegra X2 (sm 6.2), tensorrt 8.2.1-1+cuda10.2, fp16, power mode MAXN (0), "
        "clocks GPU 114.75 to 1300.5 MHz, CPU governor schedutil"
    )
    Costs(machine(gpu_clock_cur_mhz=1300.5), table)  # the clock of the moment is no setting


@pytest.mark.parametrize(
    ("other", "what"),
    [
        ({"nvpmodel": "MAXQ (1)"}, "power mode"),
        ({"jetson_clocks": True}, "clocks"),
        ({"gpu_clock_max_mhz": 854.25}, "clocks"),
        ({"tensorrt_library": "8.0.1-1+cuda10.2"}, "runtime"),
    ],
)
def test_times_of_a_device_that_was_set_otherwise_are_refused(other: dict[str, Any], what: str) -> None:
    table = Costs(machine()).table()
    with pytest.raises(ArtefactError) as caught:
        Costs(machine(**other), table)
    assert caught.value.code == "costs-other-machine"
    assert caught.value.note == f"the device is set otherwise than it was: {what}"


def test_times_of_another_device_are_refused() -> None:
    table = Costs(machine()).table()
    other = device_machine(TX2.model_copy(update={"name": "bench 2"}), target.load("jetson-tx2-jp461"), 2, SETTINGS)
    with pytest.raises(ArtefactError, match="another machine") as caught:
        Costs(other, table)
    assert "bench 2" in str(caught.value.context["here"])


@pytest.mark.parametrize("name", ["x86-cpu", "jetson-tx2-jp461", "jetson-thor-jp70", "drive-px2-igpu"])
def test_a_convolution_is_written_as_the_builder_of_the_target_reads_it(tmp_path: Path, name: str) -> None:
    folder = timer(tmp_path, name).load(single_convolution(CONVOLUTION), {})
    plan = read_plan(folder)
    assert plan.networks[0].format == target.load(name).model_format
    assert plan.networks[0].input.shape == (1, 16, 6, 6)
    assert plan.engines[0].precision == ("fp32" if name == "x86-cpu" else "fp16")
    assert (folder / plan.networks[0].file).is_file()


@pytest.mark.parametrize("operation", operations.OPERATIONS)
def test_a_network_of_several_inputs_becomes_one_of_one_input(tmp_path: Path, operation: Any) -> None:
    model = operations.network(operation, 8, 6, present=True)
    folder = timer(tmp_path, "x86-cpu").load(model, {})
    joined = onnx.load(folder / "network.onnx")
    assert len(joined.graph.input) == 1
    feed = {
        each.name: np.random.default_rng(1).standard_normal([d.dim_value for d in each.type.tensor_type.shape.dim])
        for each in model.graph.input
    }
    feed = {name: values.astype(np.float32) for name, values in feed.items()}
    expected = ort.InferenceSession(model.SerializeToString()).run(None, feed)
    whole = list(feed.values())
    if len(whole) > 1:
        whole = [np.concatenate([values.reshape(-1) for values in whole]).reshape(1, -1, 1, 1)]
    found = ort.InferenceSession(joined.SerializeToString()).run(None, {joined.graph.input[0].name: whole[0]})
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5, atol=1e-5)


def test_rounds_are_the_blocks_of_each_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks beyond what one job takes go into the next; the picture with the fewest blocks decides."""
    asked: list[tuple[int, int]] = []

    def timed(
        device: object, folders: list[Path], pictures: list[Path], check: Any, **_: object
    ) -> list[list[list[float]]]:
        asked.append((len(folders), len(pictures)))
        check({**SETTINGS, "gpu_clock_cur_mhz": 1.0})
        return [[[float(int(each.name))] * (9 - number) for each in folders] for number, _ in enumerate(pictures)]

    monkeypatch.setattr(network_times, "time_networks", timed)
    clock = timer(tmp_path, "x86-cpu")
    kernels = [CONVOLUTION.narrowed(8, count) for count in range(1, 19)]
    networks = {name: clock.load(single_convolution(each), {}) for name, each in enumerate(kernels)}
    pictures = [np.zeros((1, 16, 6, 6), np.float32)] * 2
    times = clock.time_pictures(networks, pictures, seconds=1, least_rounds=1, most_rounds=99, warm_up=1)
    assert asked == [(16, 2), (2, 2)]
    assert {key: value.shape for key, value in times.items()} == dict.fromkeys(range(18), (8, 2))
    assert all((value == key + 1).all() for key, value in times.items())
    assert read_plan(networks[0]).measurement.threads == clock.machine.threads


def test_a_device_whose_settings_change_meanwhile_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def timed(device: object, folders: object, pictures: object, check: Any, **_: object) -> None:
        check({**SETTINGS, "nvpmodel": "MAXQ (1)"})

    monkeypatch.setattr(network_times, "time_networks", timed)
    clock = timer(tmp_path)
    with pytest.raises(MeasureError) as caught:
        clock.time_calls([clock.load(single_convolution(CONVOLUTION), {})], 3)
    assert caught.value.code == "device-settings-changed"


def test_a_network_that_the_parser_refuses_is_not_sent(tmp_path: Path) -> None:
    with pytest.raises(MeasureError) as caught:
        timer(tmp_path, "drive-px2-igpu").load(
            operations.network("branch", 8, 6, present=True), {"operation": "branch"}
        )
    assert caught.value.code == "device-network-refused"
    assert caught.value.context["operation"] == "branch"


def test_networks_that_are_the_same_have_one_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three operations are added to the same network; a plan that lowers nothing is the network that multiplies."""
    asked: list[Any] = []

    def timed(device: object, folders: list[Path], pictures: list[Path], check: Any, **how: Any) -> Any:
        asked.append((len(folders), how))
        return [[[float(each.name)] for each in folders]]

    monkeypatch.setattr(network_times, "time_networks", timed)
    clock = timer(tmp_path)
    models = [operations.network(name, 64, 8, present) for name in operations.OPERATIONS for present in (False, True)]
    networks = [clock.load(model, {}) for model in models]
    assert len(set(networks)) == len(list(tmp_path.iterdir())) == 8
    times = clock.time_calls(networks, 3)
    assert asked == [(8, {"rounds": 1, "keep": True})]
    assert times == [(float(folder.name),) for folder in networks]


def test_small_networks_share_an_engine_and_those_that_its_profile_does_not_name_have_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []

    def profiled(device: object, folder: Path, profiles: int, check: object) -> list[list[TimedLayer]]:
        names = [node.name for node in onnx.load(folder / "network.onnx").graph.node]
        assert {name.partition("_")[0] for name in names if name.startswith("timed")} == {"timed0", "timed1", "timed2"}
        rows = [("timed0_0 + timed0_2", 1.0), ("Reformatting CopyNode for timed2_1", 0.25), ("slice_1", 9.0)]
        return [[TimedLayer(*row) for row in rows]] * profiles

    def timed(device: object, folders: list[Path], *_: object, **__: object) -> list[list[list[float]]]:
        asked.append([folder.name for folder in folders])
        return [[[5.0, 6.0]] * len(folders)]

    monkeypatch.setattr(network_times, "profile_network", profiled)
    monkeypatch.setattr(network_times, "time_networks", timed)
    clock = timer(tmp_path)
    models = [(single_convolution(CONVOLUTION.narrowed(8, count)), {"kernels": count}) for count in (8, 16, 24)]
    assert clock.time_small(models, 3) == [(1.0, 1.0), (5.0, 6.0), (0.25, 0.25)]
    assert asked == [["2"]]


def test_the_first_engine_tells_how_long_the_others_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """60 s to build, 4 s for a start, 2 s for the way there and back."""
    now, built = [0.0], list[Path]()

    def timed(device: object, folders: list[Path], *_: object, rounds: int, keep: bool) -> list[list[list[float]]]:
        now[0] += 2.0 + 4.0 * rounds + (60.0 if folders != built else 0.0)
        built[:] = folders
        return [[[1.0]]]

    monkeypatch.setattr(network_times, "time_networks", timed)
    monkeypatch.setattr(device_timer.time, "monotonic", lambda: now[0])
    clock = timer(tmp_path)
    effort = clock.effort(clock.load(single_convolution(CONVOLUTION), {}))
    assert effort == Effort(build_s=60.0, job_s=2.0, start_s=4.0, starts=16)
    assert effort.seconds(2, 3, 99.0) == 2 * 66 + 3 * 16 * 4
