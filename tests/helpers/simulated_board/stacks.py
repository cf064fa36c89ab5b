"""What each target's board holds: files of its releases, by public logs and sources (`targets/` names most of them)."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Stack:
    """A board with its software.

    Attributes:
        target: name of the target.
        tensorrt: release.
        device, capability: of the GPU that the plan's CUDA device is.
        others: GPUs before it, name and capability, as CUDA counts them.
        model: of the board.
        machine, kernel: as uname says.
        package: name and version of TensorRT's Debian package.
        tegra_release: of Linux for Tegra; empty where there is none.
        gpu: name of the GPU's clock in devfreq; empty where there is none.
        gpu_hz: lowest and highest clock.
        power: ``iio`` (an INA3221 up to L4T 32), ``hwmon`` (from 35 on), ``tegrastats`` only, ``rapl`` or nothing.
        rails: milliwatts of each rail, idle and busy.
        rails_form: of tegrastats, for current and mean power.
        emc: file that tells the memory's clock.
        modes: power modes in the order of their numbers; the board starts in the last one.
        programs: beside the builder.
    """

    target: str
    tensorrt: str
    device: str
    capability: str
    model: str
    kernel: str
    package: tuple[str, str]
    machine: str = "aarch64"
    others: tuple[tuple[str, str], ...] = ()
    tegra_release: str = ""
    gpu: str = ""
    gpu_hz: tuple[int, int] = (114_750_000, 1_300_500_000)
    power: str = ""
    rails: dict[str, tuple[int, int]] = field(default_factory=dict)
    rails_form: str = "{0}mW/{0}mW"
    emc: str = ""
    modes: tuple[str, ...] = ()
    programs: tuple[str, ...] = ("dpkg-query",)


_JETSON = ("dpkg-query", "nvpmodel", "jetson_clocks", "tegrastats")
_TX2_MODES = ("MAXN", "MAXQ", "MAXP_CORE_ALL", "MAXP_CORE_ARM")
_TX2_RAILS = {"VDD_IN": (2057, 9400), "VDD_SYS_CPU": (304, 1200), "VDD_SYS_GPU": (152, 4100), "VDD_SYS_SOC": (456, 900)}
_EMC = "/sys/kernel/debug/bpmp/debug/clk/emc/rate"
_R32 = (
    "# R32 (release), REVISION: {}, GCID: 27863751, BOARD: t186ref, EABI: aarch64, DATE: Mon Jul 26 19:36:31 UTC 2021"
)
_PX2 = {
    "model": "NVIDIA Drive PX2 AutoChauffeur",
    "kernel": "4.9.80-rt61-tegra",
    "package": ("libnvinfer4", "4.1.3-1+cuda9.2"),
    "tensorrt": "4.0.2",
}

STACKS = {
    stack.target: stack
    for stack in (
        Stack(
            "jetson-tx2-jp46", "8.0.1", "NVIDIA Tegra X2", "6.2", "quill", "4.9.253-tegra",
            ("libnvinfer8", "8.0.1-1+cuda10.2"), tegra_release=_R32.format("6.1"), gpu="17000000.gp10b", power="iio",
            rails=_TX2_RAILS, rails_form="{0}/{0}", emc=_EMC, modes=_TX2_MODES, programs=_JETSON,
        ),
        Stack(
            "jetson-tx2-jp461", "8.2.1", "NVIDIA Tegra X2", "6.2", "quill", "4.9.253-tegra",
            ("libnvinfer8", "8.2.1-1+cuda10.2"), tegra_release=_R32.format("7.1"), gpu="17000000.gp10b", power="iio",
            rails=_TX2_RAILS, rails_form="{0}/{0}", emc=_EMC, modes=_TX2_MODES, programs=_JETSON,
        ),
        Stack(
            "jetson-xavier-jp512", "8.5.2", "Xavier", "7.2", "Jetson-AGX", "5.10.120-tegra",
            ("libnvinfer8", "8.5.2-1+cuda11.4"),
            tegra_release="# R35 (release), REVISION: 4.1, GCID: 33958178, BOARD: t186ref, EABI: aarch64, DATE: Tue Aug  1 19:57:35 UTC 2023",
            gpu="17000000.gv11b", gpu_hz=(114_750_000, 1_377_000_000), power="hwmon",
            rails={"GPU": (612, 8100), "CPU": (919, 2400), "SOC": (1225, 2000)}, emc=_EMC,
            modes=("MAXN", "MODE_10W", "MODE_15W"), programs=_JETSON,
        ),
        Stack(
            "jetson-orin-jp62", "10.3.0", "Orin", "8.7", "NVIDIA Jetson Orin NX Engineering Reference Developer Kit",
            "5.15.148-tegra", ("libnvinfer10", "10.3.0.30-1+cuda12.5"),
            tegra_release="# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, DATE: Wed Jan  8 01:49:37 UTC 2025\n# KERNEL_VARIANT: oot",
            gpu="17000000.gpu", gpu_hz=(306_000_000, 918_000_000), power="hwmon",
            rails={"VDD_IN": (4960, 14800), "VDD_CPU_GPU_CV": (980, 8200), "VDD_SOC": (1400, 2600)}, emc=_EMC,
            modes=("MAXN", "10W", "15W", "25W"), programs=_JETSON,
        ),
        Stack(
            "jetson-thor-jp70", "10.13.2", "NVIDIA Thor", "11.0", "NVIDIA Jetson AGX Thor Developer Kit",
            "6.8.12-tegra", ("libnvinfer10", "10.13.2.6-1+cuda13.0"),
            tegra_release="# R38 (release), REVISION: 2.0, GCID: 41844464, BOARD: generic, EABI: aarch64, DATE: Fri Aug 22 00:55:42 UTC 2025",
            gpu="gpu-gpc-0", gpu_hz=(306_000_000, 1_575_000_000), power="tegrastats",
            rails={"VDD_GPU": (6330, 37939), "VDD_CPU_SOC_MSS": (9800, 30059), "VIN": (28906, 124486)},
            rails_form="{0}mW/{0}mW/{0}mW", modes=("MAXN", "120W"), programs=(*_JETSON, "nvidia-smi"),
        ),
        Stack(
            "drive-px2-igpu", device="NVIDIA Tegra X2", capability="6.2", others=(("DRIVE PX 2 AutoChauffeur", "6.1"),),
            gpu="17000000.gp10b", gpu_hz=(114_750_000, 1_275_000_000), **_PX2,
        ),
        Stack("drive-px2-dgpu", device="DRIVE PX 2 AutoChauffeur", capability="6.1", **_PX2),
        Stack(
            "x86-dgpu-trt10", "10.16.1", "NVIDIA RTX A2000", "8.6", "", "6.1.0-28-amd64", ("", ""), machine="x86_64",
            power="rapl", rails={"package-0": (9000, 31000)}, programs=("nvidia-smi",),
        ),
    )
}  # fmt: skip
"""The targets whose boards are simulated: all but those that this machine is, or builds for."""
