"""Makes simulated boards; `Board.python` is what a host starts there."""

from __future__ import annotations

import atexit
import functools
import json
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simulated_board.programs import change_settings, write_program, write_trtexec
from simulated_board.stacks import STACKS, Stack

_HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Board:
    """A board.

    Attributes:
        stack: what it is.
        folder: everything of it; ``root`` in there is its file system.
    """

    stack: Stack
    folder: Path

    @property
    def root(self) -> Path:
        """Its file system."""
        return self.folder / "root"

    @property
    def bin(self) -> Path:
        """Where its programs are."""
        return self.root / "usr" / "bin"

    @property
    def python(self) -> str:
        """Its Python, with its files, its kernel and its programs."""
        return str(self.bin / "python3")

    def change(self, **settings: Any) -> None:
        """Change how the builder behaves; see `simulated_board.trtexec`."""
        change_settings(self.builder, **settings)

    @property
    def builder(self) -> Path:
        """The program that builds engines."""
        return self.bin / ("tensorRT_optimization" if self.stack.target.startswith("drive-px2") else "trtexec")

    def gpus(self) -> list[dict[str, Any]]:
        """GPUs as CUDA's driver lists them."""
        listed = [*self.stack.others, (self.stack.device, self.stack.capability)]
        return [
            {"ordinal": ordinal, "name": name, "compute_capability": capability}
            for ordinal, (name, capability) in enumerate(listed)
        ]


def make(folder: Path, target: str, **settings: Any) -> Board:
    """Make a board in a folder that does not exist.

    Args:
        folder: for it.
        target: one of `STACKS`.
        settings: of the builder; see `simulated_board.trtexec`. Times are ONNX Runtime's where nothing else is said.
    """
    stack = STACKS[target]
    board = Board(stack, folder)
    board.bin.mkdir(parents=True)
    files = _files(stack)
    for path, text in files.items():
        place = board.root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(f"{text}\n")
    for name in ("stat", "loadavg", "self"):  # the load is this machine's
        (board.root / "proc" / name).symlink_to(f"/proc/{name}")
    for name in stack.programs:
        write_program(board.bin / name, name.replace("-", "_"))
    sudo = board.bin / "sudo"
    sudo.write_text('#!/bin/sh\n[ "$1" = -n ] && shift\nexec "$@"\n')
    sudo.chmod(0o755)
    facts = {
        "machine": stack.machine,
        "kernel": stack.kernel,
        "gpus": board.gpus(),
        "package": stack.package[1],
        "rails": stack.rails,
        "rails_form": stack.rails_form,
        "modes": stack.modes,
        "gpu": stack.gpu,
        "gpu_hz": stack.gpu_hz,
    }
    (board.folder / "board.json").write_text(json.dumps(facts))
    busy = {str(board.root / path.lstrip("/")): text for path, text in _busy(stack).items()}
    throttled = {str(board.root / path.lstrip("/")): text for path, text in _throttled(stack).items()}
    load = {"busy": busy, "throttled": throttled}
    common = {"release": stack.tensorrt, "device": stack.device, "capability": stack.capability, "load": load}
    if board.builder.name == "trtexec" and stack.machine == "aarch64":
        write_trtexec(board.builder, **{"times": "onnxruntime", **common, **settings})
    elif board.builder.name != "trtexec":
        _equip_px2(board, {**common, "behaviour": "work", "build_s": 0.0, **settings})
    _write_python(board)
    return board


def _equip_px2(board: Board, settings: dict[str, Any]) -> None:
    """Give a DRIVE PX 2 DriveWorks' builder, a compiler and the headers and libraries of TensorRT 4 and CUDA."""
    write_program(board.builder, "tensorrt_optimization")
    write_program(board.folder / "engine_server", "engine_server")
    compiler = board.bin / "g++"
    headers, libraries = _HERE / "tensorrt_4", _px2_libraries()
    compiler.write_text(  # what this machine has in /usr/local/cuda is not the board's
        "#!/bin/sh\nPATH=/usr/bin:/bin\n"
        'for word do shift; case "$word" in *"/usr/local/cuda"*) ;; *) set -- "$@" "$word";; esac; done\n'
        f'exec {shutil.which("g++")} "$@" -I{headers} -L{libraries} -Wl,-rpath,{libraries}\n'
    )
    compiler.chmod(0o755)
    board.builder.with_name("tensorRT_optimization.json").write_text(
        json.dumps({"packages": sysconfig.get_path("purelib"), **settings})
    )


@functools.cache
def _px2_libraries() -> Path:
    """Compile libnvinfer and libcudart, once for all boards of this process."""
    folder = Path(tempfile.mkdtemp(prefix="simulated-tensorrt-4-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    source, library = _HERE / "tensorrt_4" / "runtime.cpp", folder / "libnvinfer.so"
    flags = ["-std=c++11", "-O0", "-shared", "-fPIC", f"-I{source.parent}"]
    subprocess.run(["g++", *flags, str(source), "-o", str(library)], check=True)
    (folder / "libcudart.so").symlink_to(library)
    return folder


def _write_python(board: Board) -> None:
    variables = {
        "PATH": f"{board.bin}:{board.root}/bin",
        "PYTHONPATH": str(_HERE / "interpreter"),
        "SIMULATED_BOARD": str(board.folder),
        "HOME": str(board.root / "home" / "nvidia"),
        "XDG_CACHE_HOME": str(board.root / "home" / "nvidia" / ".cache"),
    }
    if board.stack.machine == "x86_64":
        variables["PYTHONPATH"] += f":{_HERE / 'interpreter' / 'tensorrt_10'}"
    (board.root / "home" / "nvidia").mkdir(parents=True)
    words = [f"{name}={shlex.quote(value)}" for name, value in variables.items()]
    path = board.bin / "python3"
    env, python = shutil.which("env"), shlex.quote(sys.executable)
    path.write_text(f'#!/bin/sh\nexec {env} {" ".join(words)} {python} "$@"\n')
    path.chmod(0o755)


def _files(stack: Stack) -> dict[str, object]:
    """Files and what they say while nothing runs."""
    files: dict[str, object] = {
        "/etc/os-release": 'PRETTY_NAME="Ubuntu"',
        "/proc/meminfo": "MemTotal: 8038400 kB\nMemAvailable: 6291456 kB",
        "/proc/cpuinfo": "model name\t: ARMv8 Processor rev 3 (v8l)",
        "/sys/devices/system/cpu/online": "0-3",
    }
    for cpu in range(4):
        frequency = f"/sys/devices/system/cpu/cpu{cpu}/cpufreq"
        files |= {f"{frequency}/scaling_cur_freq": 345_600, f"{frequency}/scaling_governor": "schedutil"}
        policy = f"/sys/devices/system/cpu/cpufreq/policy{cpu}"
        files |= {f"{policy}/scaling_min_freq": 345_600, f"{policy}/scaling_max_freq": 2_035_200}
    if stack.model:
        files["/proc/device-tree/model"] = stack.model + "\0"
    if stack.tegra_release:
        files["/etc/nv_tegra_release"] = stack.tegra_release
    if stack.gpu:
        clock = f"/sys/class/devfreq/{stack.gpu}"
        low, high = stack.gpu_hz
        files |= {f"{clock}/cur_freq": low, f"{clock}/min_freq": low, f"{clock}/max_freq": high}
        files[f"{clock}/governor"] = "nvhost_podgov"
    if stack.emc:
        files[stack.emc] = 665_600_000
    if stack.modes:
        rows = [f"< POWER_MODEL ID={number} NAME={name} >" for number, name in enumerate(stack.modes)]
        files["/etc/nvpmodel.conf"] = "\n".join([*rows, f"< PM_CONFIG DEFAULT={len(rows) - 1} >"])
        files["/var/lib/nvpmodel/status"] = f"pmode:{len(rows) - 1:04} fmode:quiet"
    if stack.tegra_release:
        zone = "/sys/class/thermal/thermal_zone"
        files |= {f"{zone}0/type": "GPU-therm", f"{zone}0/temp": 36_000}
        files |= {f"{zone}1/type": "PMIC-Die", f"{zone}1/temp": 100_000}
    if stack.power == "hwmon":
        files |= {"/sys/class/hwmon/hwmon3/name": "soctherm_oc", "/sys/class/hwmon/hwmon3/oc3_event_cnt": 4}
    return files | _power(stack, 0)


def _power(stack: Stack, column: int) -> dict[str, object]:
    """Files that tell the power of the rails: column 0 idle, 1 busy."""
    files: dict[str, object] = {}
    for number, (name, milliwatts) in enumerate(stack.rails.items()):
        if stack.power == "iio":
            device = "/sys/bus/i2c/drivers/ina3221x/0-0041/iio:device1"
            files |= {f"{device}/rail_name_{number}": name, f"{device}/in_power{number}_input": milliwatts[column]}
        elif stack.power == "hwmon":
            monitor, channel = "/sys/class/hwmon/hwmon4", number + 1
            files |= {f"{monitor}/name": "ina3221", f"{monitor}/in{channel}_label": name}
            files |= {f"{monitor}/in{channel}_input": 5000, f"{monitor}/curr{channel}_input": milliwatts[column] // 5}
        elif stack.power == "rapl":
            zone = f"/sys/class/powercap/intel-rapl:{number}"
            files |= {
                f"{zone}/name": name,
                f"{zone}/energy_uj": 5_000_000,
                f"{zone}/max_energy_range_uj": 262_143_328_850,
            }
    return files


def _busy(stack: Stack) -> dict[str, str]:
    """Files that change while an engine runs."""
    files: dict[str, object] = dict(_power(stack, 1)) if stack.power in ("iio", "hwmon") else {}
    if stack.gpu:
        files[f"/sys/class/devfreq/{stack.gpu}/cur_freq"] = stack.gpu_hz[1]
    if stack.tegra_release:
        files["/sys/class/thermal/thermal_zone0/temp"] = 51_500
    if stack.emc:
        files[stack.emc] = 1_866_000_000
    return {path: f"{text}\n" for path, text in files.items()}


def _throttled(stack: Stack) -> dict[str, str]:
    files: dict[str, object] = {}
    if stack.gpu:
        files[f"/sys/class/devfreq/{stack.gpu}/cur_freq"] = stack.gpu_hz[0]
    if stack.power == "hwmon":
        files["/sys/class/hwmon/hwmon3/oc3_event_cnt"] = 9
    if stack.tegra_release:
        files["/sys/class/thermal/thermal_zone0/temp"] = 86_000
    return {path: f"{text}\n" for path, text in files.items()}
