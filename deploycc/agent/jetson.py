"""What a Jetson tells of itself: release, power mode, clocks, power rails, temperatures, throttling.

Files differ between releases of Linux for Tegra (L4T). Beside each function is where they are; what is absent is None.
Several values of one kind are one text, ``VDD_IN:2057 VDD_SYS_GPU:152``.
"""

import re
from typing import Any, Dict, Optional

from . import sensors, tegrastats
from .system import command_output, first_line, first_output_line, listed, number, read, scaled

_RELEASE = "/etc/nv_tegra_release"
_WHOLE_BOARD = ("VDD_IN", "POM_5V_IN", "VIN")  # the rail that everything hangs on: TX2, NX and Orin NX; Nano; Thor


def software() -> "Dict[str, Any]":
    """Release and power mode."""
    mode = power_mode(command_output(["nvpmodel", "-q"]), read("/var/lib/nvpmodel/status"))
    return {
        "l4t_release": first_line(read(_RELEASE)),
        "l4t": release(),
        "nvpmodel": mode,
        "cuda": _cuda(),
    }


def release(root: str = "/") -> "Optional[str]":
    """Release of Linux for Tegra, ``32.7.1``, of the file system below ``root``."""
    text = first_line(read(root.rstrip("/") + _RELEASE)) or ""
    found = re.search(r"R(\d+) \(release\), REVISION: ([\d.]+)", text)
    return "{}.{}".format(*found.groups()) if found else None


def _cuda() -> "Optional[str]":
    """Version of the CUDA toolkit: a text file up to 10.2, JSON from 11.1 on."""
    found = re.search(r"CUDA Version ([\d.]+)", read("/usr/local/cuda/version.txt") or "")
    if found is None:
        found = re.search(r'"cuda"\s*:\s*\{[^}]*"version"\s*:\s*"([\d.]+)"', read("/usr/local/cuda/version.json") or "")
    return found.group(1) if found else None


def power_mode(said: "Optional[str]", status: "Optional[str]") -> "Optional[str]":
    """Return the power mode as ``MAXN (0)``.

    Args:
        said: by ``nvpmodel -q``, lines joined with semicolons; a warning about the fan may come first.
        status: ``/var/lib/nvpmodel/status``, which holds its number where the program is absent.
    """
    lines = [line.strip() for line in (said or "").split(";")]
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("NV Power Mode:")]
    numbers = [line for line in lines if line.isdigit()]
    if names:
        return "{} ({})".format(names[0], numbers[0]) if numbers else names[0]
    found = re.search(r"pmode:(\d+)", status or "")
    return "({})".format(int(found.group(1))) if found else None


def state() -> "Dict[str, Any]":
    """Clocks, power, temperatures and throttling now."""
    facts = _gpu()
    facts["emc_cap_hz"] = number(read("/sys/kernel/nvpmodel_emc_cap/emc_iso_cap"))
    values = sensors.read_all(sensors.find())
    facts["emc_clock_mhz"] = values.get("emc_clock_mhz")
    facts["jetson_clocks"] = _clocks_are_fixed(facts)
    rails = sensors.of_kind(values, "power_mw")
    facts["power_rails_mw"] = _joined(rails)
    facts["power_mw"] = _total_mw(rails)
    facts["temperatures_c"] = _joined(sensors.of_kind(values, "temperature_c"))
    events = sensors.of_kind(values, "throttle_events")
    facts["throttle_events"] = _joined({name: count for name, count in events.items() if name.startswith("oc")})
    if facts["gpu_clock_cur_mhz"] is None or not rails:
        said = tegrastats.parse(first_output_line(["tegrastats", "--interval", "100"], 3.0) or "")
        rails = rails or said["rails_mw"]
        others = {
            "gpu_clock_cur_mhz": said["gpu_clock_mhz"],
            "emc_clock_mhz": said["emc_clock_mhz"],
            "power_rails_mw": _joined(rails),
            "power_mw": _total_mw(rails),
            "temperatures_c": _joined(said["temperatures_c"]),
        }
        facts.update({name: value for name, value in others.items() if facts[name] is None})
    return facts


def _gpu() -> "Dict[str, Any]":
    """Clock and governor of the GPU."""
    folder = sensors.gpu_clock_folder()
    facts = {"gpu_governor": read(folder + "/governor") if folder else None}  # type: Dict[str, Any]
    for name in ("cur", "min", "max"):
        path = "{}/{}_freq".format(folder, name)
        facts["gpu_clock_{}_mhz".format(name)] = scaled(read(path), 1e-6) if folder else None
    return facts


def _clocks_are_fixed(gpu: "Dict[str, Any]") -> "Optional[bool]":
    """Whether clocks are held as jetson_clocks holds them: lowest and highest of the GPU and of each CPU are equal."""
    if gpu["gpu_clock_min_mhz"] is None or gpu["gpu_clock_max_mhz"] is None:
        return None
    pairs = [(gpu["gpu_clock_min_mhz"], gpu["gpu_clock_max_mhz"])]  # type: Any
    for policy in listed("/sys/devices/system/cpu/cpufreq/policy*"):
        pairs.append((read(policy + "/scaling_min_freq"), read(policy + "/scaling_max_freq")))
    return all(lowest == highest for lowest, highest in pairs)


def _total_mw(rails: "Dict[str, float]") -> "Optional[float]":
    for name in _WHOLE_BOARD:
        if name in rails:
            return rails[name]
    return None


def _joined(values: "Dict[str, float]") -> "Optional[str]":
    return " ".join("{}:{:g}".format(name, values[name]) for name in sorted(values)) or None
