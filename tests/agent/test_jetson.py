"""What Jetsons tell of themselves: the files of each release, with names as on real boards."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploycc.agent import jetson, system, tegrastats


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(system, "ROOT", str(tmp_path))
    monkeypatch.setattr(system.shutil, "which", lambda name: None)
    return tmp_path


def write_files(root: Path, files: dict[str, object]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")


@pytest.mark.parametrize(
    "name", ["17000000.gp10b", "57000000.gpu", "17000000.gv11b", "17000000.ga10b", "17000000.gpu", "gpu-gpc-0"]
)
def test_the_gpu_of_every_board_is_found(board: Path, name: str) -> None:
    """TX2, Nano, Xavier, Orin with L4T 35 and with 36, Thor; none of the other devices beside it."""
    others = ("15340000.vic", "cactmon", "gpu-nvd-0", "bwmgr", "host1x.gpu-load")
    for other in others:
        write_files(board, {f"sys/class/devfreq/{other}/cur_freq": 1})
    clocks = {"cur_freq": 1_300_500_000, "min_freq": 114_750_000, "max_freq": 1_300_500_000}
    write_files(board, {f"sys/class/devfreq/{name}/{key}": value for key, value in clocks.items()})
    state = jetson.state()
    assert [state[f"gpu_clock_{key}_mhz"] for key in ("cur", "min", "max")] == [1300.5, 114.75, 1300.5]
    assert state["jetson_clocks"] is False


def test_clocks_that_are_held(board: Path) -> None:
    gpu = "sys/class/devfreq/17000000.gpu"
    write_files(board, {f"{gpu}/min_freq": 918_000_000, f"{gpu}/max_freq": 918_000_000})
    policy = "sys/devices/system/cpu/cpufreq/policy0"
    write_files(board, {f"{policy}/scaling_min_freq": 1_984_000, f"{policy}/scaling_max_freq": 1_984_000})
    assert jetson.state()["jetson_clocks"] is True
    write_files(board, {f"{policy}/scaling_min_freq": 729_600})
    assert jetson.state()["jetson_clocks"] is False


def test_power_through_iio(board: Path) -> None:
    """TX2, L4T 32."""
    device = "sys/bus/i2c/drivers/ina3221x/0-0041/iio:device1"
    write_files(board, {f"{device}/rail_name_0": "VDD_IN", f"{device}/in_power0_input": 2057})
    write_files(board, {f"{device}/rail_name_1": "VDD_SYS_CPU", f"{device}/in_power1_input": 304})
    device = "sys/bus/i2c/drivers/ina3221x/0-0040/iio:device0"
    write_files(board, {f"{device}/rail_name_0": "VDD_SYS_GPU", f"{device}/in_power0_input": 152})
    state = jetson.state()
    assert state["power_rails_mw"] == "VDD_IN:2057 VDD_SYS_CPU:304 VDD_SYS_GPU:152"
    assert state["power_mw"] == 2057


def test_power_through_hwmon(board: Path) -> None:
    """Orin and Xavier, L4T 35 and later; channel 7 repeats the others, NC is not connected."""
    monitor = "sys/class/hwmon/hwmon4"
    rows = ((1, "VDD_IN", 4960, 1240), (2, "VDD_CPU_GPU_CV", 4968, 208), (3, "NC", 5000, 0), (7, "sum", 12, 1500))
    write_files(board, {f"{monitor}/name": "ina3221"})
    for channel, label, millivolts, milliamperes in rows:
        write_files(
            board,
            {
                f"{monitor}/in{channel}_label": label,
                f"{monitor}/in{channel}_input": millivolts,
                f"{monitor}/curr{channel}_input": milliamperes,
            },
        )
    state = jetson.state()
    assert state["power_mw"] == pytest.approx(6150.4, rel=1e-9, abs=0)
    assert state["power_rails_mw"] == "VDD_CPU_GPU_CV:1033.34 VDD_IN:6150.4"


def test_temperatures_throttling_and_memory_clock(board: Path) -> None:
    zone = "sys/class/thermal/thermal_zone"
    write_files(board, {f"{zone}0/type": "GPU-therm", f"{zone}0/temp": 41750})
    write_files(board, {f"{zone}1/type": "PMIC-Die", f"{zone}1/temp": 100000, f"{zone}2/type": "CV0-therm"})
    monitor = "sys/class/hwmon/hwmon1"
    write_files(board, {f"{monitor}/name": "soctherm_oc", f"{monitor}/oc1_event_cnt": 0, f"{monitor}/oc3_event_cnt": 7})
    write_files(board, {"sys/devices/platform/bwmgr/devfreq/bwmgr/cur_freq": 3_199_000_000})
    state = jetson.state()
    assert state["temperatures_c"] == "GPU-therm:41.75"
    assert state["throttle_events"] == "oc1:0 oc3:7"
    assert state["emc_clock_mhz"] == pytest.approx(3199.0, rel=1e-12, abs=0)


@pytest.mark.parametrize(
    ("text", "release"),
    [
        ("# R32 (release), REVISION: 6.1, GCID: 27863751, BOARD: t186ref, EABI: aarch64, DATE: Mon Jul 26", "32.6.1"),
        ("# R32 (release), REVISION: 7.6, GCID: 38171779, BOARD: t210ref, EABI: aarch64, DATE: Tue Nov  5", "32.7.6"),
        ("# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64\n# KERNEL_VARIANT: oot", "36.4.3"),
    ],
)  # fmt: skip
def test_releases(board: Path, text: str, release: str) -> None:
    write_files(board, {"etc/nv_tegra_release": text})
    assert jetson.software()["l4t"] == release


def test_cuda(board: Path) -> None:
    write_files(board, {"usr/local/cuda/version.txt": "CUDA Version 10.2.300"})
    assert jetson.software()["cuda"] == "10.2.300"
    (board / "usr/local/cuda/version.txt").unlink()
    write_files(
        board, {"usr/local/cuda/version.json": '{\n "cuda" : {\n "name" : "CUDA SDK",\n "version" : "12.6.68"\n }}'}
    )
    assert jetson.software()["cuda"] == "12.6.68"


@pytest.mark.parametrize(
    ("said", "status", "mode"),
    [
        ("NVPM WARN: fan mode is not set!; NV Power Mode: MAXN; 0", None, "MAXN (0)"),
        ("NV Power Mode: MAXN; 0", None, "MAXN (0)"),
        ("NV Power Mode: 15W", None, "15W"),
        (None, "pmode:0003 fmode:fanNull", "(3)"),
        ("NVPM ERROR: failed", None, None),
        (None, None, None),
    ],
)
def test_power_modes(said: str | None, status: str | None, mode: str | None) -> None:
    assert jetson.power_mode(said, status) == mode


TX2 = (
    "RAM 1436/7852MB (lfb 1403x4MB) SWAP 0/3926MB (cached 0MB) CPU [11%@345,off,off,5%@345] EMC_FREQ 4%@665 "
    "GR3D_FREQ 0%@216 APE 150 PLL@38.5C MCPU@38.5C PMIC@100C GPU@36C VDD_SYS_GPU 152/153 VDD_IN 2057/2300"
)
WITHOUT_ROOT = "EMC_FREQ 15%@1600 GR3D_FREQ 0% PLL@42.906C GPU@41.75C VDD_SYS_GPU 47mW/0mW VDD_SYS_SOC 813mW/207mW"
THOR = (
    "08-08-2026 21:00:39 RAM 8353/125749MB (lfb 31x4MB) CPU [90%@2601,75%@2601,off] EMC_FREQ 34%@4266 "
    "GR3D_FREQ 87%@[1574,1574,1574] NVENC0_FREQ @1691 VIC off cpu@58.25C/61.75C tj@66.625C/66.625C "
    "VDD_GPU 37939mW/8660mW/37939mW VIN 28906mW/14453mW/28906mW"
)
IDLE_THOR = (
    "CPU [0%,5%,off]@2601 EMC_FREQ @4266 GR3D_FREQ @[1574,1574,1574] cpu@49.75C/49.75C VDD_GPU 6330mW/6330mW/6330mW"
)


@pytest.mark.parametrize(
    ("line", "gpu", "emc", "rails", "gpu_c"),
    [
        (TX2, 216, 665, {"VDD_SYS_GPU": 152, "VDD_IN": 2057}, ("GPU", 36)),
        (WITHOUT_ROOT, None, 1600, {"VDD_SYS_GPU": 47, "VDD_SYS_SOC": 813}, ("GPU", 41.75)),
        (THOR, 1574, 4266, {"VDD_GPU": 37939, "VIN": 28906}, ("tj", 66.625)),
        (IDLE_THOR, 1574, 4266, {"VDD_GPU": 6330}, ("cpu", 49.75)),
        ("", None, None, {}, None),
    ],
)
def test_tegrastats(
    line: str, gpu: float | None, emc: float | None, rails: dict[str, float], gpu_c: tuple[str, float] | None
) -> None:
    said = tegrastats.parse(line)
    assert (said["gpu_clock_mhz"], said["emc_clock_mhz"], said["rails_mw"]) == (gpu, emc, rails)
    assert "PMIC" not in said["temperatures_c"]
    if gpu_c:
        assert said["temperatures_c"][gpu_c[0]] == gpu_c[1]


def test_tegrastats_tells_what_files_do_not(board: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jetson, "first_output_line", lambda arguments, wait_s: TX2)
    write_files(board, {"sys/class/devfreq/17000000.gp10b/cur_freq": 318_750_000})
    state = jetson.state()
    assert state["gpu_clock_cur_mhz"] == 318.75
    assert (state["power_mw"], state["emc_clock_mhz"]) == (2057, 665)


def test_a_program_that_goes_on_talking_is_ended(tmp_path: Path) -> None:
    assert system.first_output_line(["yes", "a line"], 5.0) == "a line"
    assert system.first_output_line(["sleep", "60"], 0.05) is None
    assert system.first_output_line(["no-such-program"], 5.0) is None
