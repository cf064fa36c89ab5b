"""What can be read of a machine again and again while an engine runs: clocks, temperatures, power, throttling.

Each sensor is one or two small files whose values are multiplied. Names carry the unit, and after a colon what is
measured: ``power_mw:VDD_IN``. Counters only grow: ``throttle_events``, ``energy_uj``.
"""

import re
from typing import Any, Dict, List, Optional, Tuple

from .system import listed, number, read

Sensor = Tuple[List[str], float]  # files, and the factor of their product

# devfreq names: TX2 17000000.gp10b, Nano 57000000.gpu, Xavier 17000000.gv11b, Orin 17000000.ga10b up to L4T 35 and
# 17000000.gpu from 36 on, Thor gpu-gpc-0 (gpu-nvd-0 is its video engine)
_GPU = re.compile(r"(?:^|\.)(?:gp10b|gv11b|ga10b|gb10b|gpu)$|^gpu-gpc-\d+$")
# debugfs is for root only, newer releases have a devfreq of the memory's clock
_EMC = ("/sys/kernel/debug/bpmp/debug/clk/emc/rate", "/sys/devices/platform/bwmgr/devfreq/bwmgr/cur_freq")
_SUM_OF_SHUNTS = 7  # channel of an INA3221 that repeats the others


def find() -> "Dict[str, Sensor]":
    """Return the sensors of this machine that say something now."""
    found = {}  # type: Dict[str, Sensor]
    gpu = gpu_clock_folder()
    if gpu is not None:
        found["gpu_clock_mhz"] = ([gpu + "/cur_freq"], 1e-6)
    for path in _EMC:
        if "emc_clock_mhz" not in found and number(read(path)) is not None:
            found["emc_clock_mhz"] = ([path], 1e-6)
    for path in listed("/sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_cur_freq"):
        found["cpu_clock_mhz:" + re.findall(r"cpu(\d+)", path)[0]] = ([path], 1e-3)
    for rail, files, factor in rails():
        found["power_mw:" + rail] = (files, factor)
    for zone in listed("/sys/class/thermal/thermal_zone*"):
        name = read(zone + "/type")
        if name and "PMIC" not in name:  # that one always says 100 degrees
            found["temperature_c:" + name] = ([zone + "/temp"], 1e-3)
    for monitor in listed("/sys/class/hwmon/hwmon*"):
        if read(monitor + "/name") == "soctherm_oc":  # oc1 under-voltage, oc2 mean, oc3 instantaneous over-current
            for path in listed(monitor + "/oc*_event_cnt"):
                found["throttle_events:" + path.rpartition("/")[2].partition("_")[0]] = ([path], 1.0)
    for path in listed("/sys/devices/system/cpu/cpu0/thermal_throttle/package_throttle_count"):
        found["throttle_events:package-0"] = ([path], 1.0)
    for zone in listed("/sys/class/powercap/intel-rapl:*"):
        name = read(zone + "/name") or ""
        if name.startswith("package"):
            found["energy_uj:" + name] = ([zone + "/energy_uj"], 1.0)
    return {name: sensor for name, sensor in found.items() if value_of(sensor) is not None}


def gpu_clock_folder() -> "Optional[str]":
    """Where the GPU's clock is told; None where it is not."""
    named = [path for path in listed("/sys/class/devfreq/*") if _GPU.search(path.rpartition("/")[2])]
    return named[0] if named else None


def rails() -> "List[Tuple[str, List[str], float]]":
    """Return name, files and factor to milliwatts of each rail: through IIO up to L4T 32, through hwmon from 35 on."""
    found = []
    for device in listed("/sys/bus/i2c/drivers/ina3221x/*/iio:device*"):
        for path in listed(device + "/rail_name_*"):
            name = read(path)
            if name and "NC" not in name:
                found.append((name, ["{}/in_power{}_input".format(device, path.rpartition("_")[2])], 1.0))
    for monitor in listed("/sys/class/hwmon/hwmon*"):
        if read(monitor + "/name") != "ina3221":
            continue
        for path in listed(monitor + "/in*_label"):
            channel = re.sub(r"\D", "", path.rpartition("/")[2])
            name = read(path)
            if name and "NC" not in name and int(channel) != _SUM_OF_SHUNTS:
                files = ["{}/in{}_input".format(monitor, channel), "{}/curr{}_input".format(monitor, channel)]
                found.append((name, files, 1e-3))  # millivolts times milliamperes are microwatts
    return found


def value_of(sensor: Sensor) -> "Any":
    """Return what a sensor says now; None where it says nothing."""
    paths, factor = sensor
    value = factor
    for path in paths:
        part = number(read(path))
        if part is None:
            return None
        value *= part
    return value


def read_all(found: "Dict[str, Sensor]") -> "Dict[str, float]":
    """Return what sensors say now, without those that say nothing."""
    values = {name: value_of(sensor) for name, sensor in found.items()}
    return {name: value for name, value in values.items() if value is not None}


def of_kind(values: "Dict[str, float]", kind: str) -> "Dict[str, float]":
    """Return the values of one kind, ``power_mw``, by what is measured."""
    parts = [(name.partition(":"), value) for name, value in values.items()]
    return {of: value for (before, _, of), value in parts if before == kind}
