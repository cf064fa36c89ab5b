"""The machine a figure was taken on: read what exists, None otherwise, nothing guessed.

Keys carry their units. Values are strings, numbers or None.
"""

import glob
import importlib.util
import os
import platform
import re
import resource
from typing import Any, Dict, List, Optional

from . import gpu, jetson
from .system import command_output, number, read

# import name -> distributions that provide it
_LIBRARIES = {
    "onnxruntime": ("onnxruntime", "onnxruntime_gpu"),
    "tensorrt": ("tensorrt", "tensorrt_cu11", "tensorrt_cu12", "tensorrt_cu13"),
    "tensorrt_rtx": ("tensorrt_rtx", "tensorrt_rtx_cu12", "tensorrt_rtx_cu13"),
    "numpy": ("numpy",),
    "pycuda": ("pycuda",),
}
_TENSORRT_OF_PACKAGE = {"4.0.0": "3.0.0", "4.1.2": "4.0.1", "4.1.3": "4.0.2"}  # libnvinfer4 counts on its own


def probe() -> "Dict[str, Any]":
    """Everything: hardware, software, clocks and load now."""
    facts = hardware()
    facts.update(software())
    facts.update(state())
    return facts


def hardware() -> "Dict[str, Any]":
    """What does not change while the machine runs."""
    gpus = gpu.devices()
    model = read("/proc/device-tree/model") or read("/sys/firmware/devicetree/base/model")
    return {
        "architecture": platform.machine(),
        "board_model": model.strip("\0") if model else None,
        "cpu_model": cpu_model(),
        "gpu": ", ".join("{name} (sm {compute_capability})".format(**found) for found in gpus) or None,
        "memory_total_mib": memory_mib("MemTotal"),
    }


def software() -> "Dict[str, Any]":
    """Operating system, Python, libraries, board release."""
    release = read("/etc/os-release") or ""
    name = re.search(r'^PRETTY_NAME="?([^"\n]*)', release, re.MULTILINE)
    facts = {
        "os": name.group(1) if name else None,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "tensorrt_library": tensorrt_library(),
    }  # type: Dict[str, Any]
    facts.update(jetson.software())
    for library in _LIBRARIES:
        facts["version_" + library] = module_version(library)
    return facts


def state() -> "Dict[str, Any]":
    """What may change from one minute to the next: clocks, governors, load, free memory."""
    facts = {
        "cpus_online": len(_online_cpus()) or os.cpu_count(),
        "cpu_governor": _cpu_governors(),
        "cpu_clocks_mhz": _cpu_clocks_mhz(),
        "memory_available_mib": memory_mib("MemAvailable"),
    }  # type: Dict[str, Any]
    load = (read("/proc/loadavg") or "").split()
    facts["load_1min"] = float(load[0]) if load else None
    facts["load_5min"] = float(load[1]) if load else None
    facts.update(jetson.state())
    facts["nvidia_smi"] = command_output(
        [
            "nvidia-smi",
            "--query-gpu=name,driver_version,clocks.sm,clocks.mem,temperature.gpu,power.draw,pstate",
            "--format=csv,noheader",
        ]
    )
    return facts


def cpu_times() -> "Optional[Dict[str, float]]":
    """Return seconds so far: of the clock, of all CPUs together, and of this process with the programs that it ran.

    None where the kernel does not tell.
    """
    fields = (read("/proc/stat") or "").split("\n")[0].split()
    if len(fields) < 9 or fields[0] != "cpu":
        return None
    user, nice, system, _idle, _iowait, irq, softirq, steal = (float(field) for field in fields[1:9])  # proc(5)
    busy = (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
    own = os.times()
    return {"clock": own.elapsed, "busy": busy, "own": sum(own[:4])}


def cpus_busy_with_others(before: "Optional[Dict[str, float]]") -> "Optional[float]":
    """Return how many CPUs other programs kept busy since ``before``, on average; None where nobody can tell."""
    now = cpu_times()
    if before is None or now is None or now["clock"] <= before["clock"]:
        return None
    others = (now["busy"] - before["busy"]) - (now["own"] - before["own"])
    return round(max(0.0, others / (now["clock"] - before["clock"])), 2)


def cpu_model() -> "Optional[str]":
    """The processor in its own words."""
    text = read("/proc/cpuinfo") or ""
    names = sorted(set(re.findall(r"^(?:model name|Hardware)\s*:\s*(.+)$", text, re.MULTILINE)))
    return ", ".join(names) or None


def memory_mib(field: str) -> "Optional[int]":
    """A field of /proc/meminfo in MiB."""
    found = re.search(r"^{}:\s*(\d+) kB".format(field), read("/proc/meminfo") or "", re.MULTILINE)
    return int(found.group(1)) // 1024 if found else None


def peak_memory_mib() -> "Optional[int]":
    """Largest resident size so far of this process or of a program it ran.

    Its own from /proc, because getrusage carries over what a process held before it called exec.
    """
    found = re.search(r"^VmHWM:\s*(\d+) kB", read("/proc/self/status") or "", re.MULTILINE)
    own_kib = int(found.group(1)) if found else 0
    programs_kib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return max(own_kib, programs_kib) // 1024 or None


def module_version(library: str) -> "Optional[str]":
    """Version of an importable library, from the name of its metadata folder: importing it would cost memory."""
    try:
        spec = importlib.util.find_spec(library)
    except (ImportError, ValueError):
        return None
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = os.path.dirname(next(iter(spec.submodule_search_locations)))
    for distribution in _LIBRARIES[library]:
        for path in glob.glob(os.path.join(glob.escape(folder), distribution + "-*-info")):
            found = re.match(r"[^-]+-([^-]+?)(?:-py\d.*)?\.(?:dist|egg)-info$", os.path.basename(path))
            if found:
                return found.group(1)
    return None


def tensorrt_library(root: str = "/") -> "Optional[str]":
    """Version of the installed libnvinfer package, ``8.2.1-1+cuda10.2``; up to TensorRT 4 translated to a release.

    Args:
        root: of the file system that it is installed in.
    """
    data = ["--admindir", os.path.join(root, "var/lib/dpkg")] if root != "/" else []
    query = ["dpkg-query", "-W", "-f", "${db:Status-Abbrev} ${Version}\\n", "libnvinfer[0-9]*"]
    listed = command_output(query[:1] + data + query[1:])
    rows = (listed or "").split("; ")
    installed = [line.split()[-1] for line in rows if line.startswith(("ii", "hi"))]  # hi: held at its version
    if not installed:
        return None
    release = _TENSORRT_OF_PACKAGE.get(installed[0].partition("-")[0])
    return release or installed[0]


def _online_cpus() -> "List[int]":
    """Numbers of the CPUs that run, from a list such as ``0,3-5``."""
    numbers = []  # type: List[int]
    for part in (read("/sys/devices/system/cpu/online") or "").split(","):
        first, _, last = part.partition("-")
        if first.isdigit():
            numbers += range(int(first), int(last or first) + 1)
    return numbers


def _cpufreq(cpu: int, name: str) -> "Optional[str]":
    return read("/sys/devices/system/cpu/cpu{}/cpufreq/{}".format(cpu, name))


def _cpu_governors() -> "Optional[str]":
    found = {_cpufreq(cpu, "scaling_governor") for cpu in _online_cpus()}
    return ", ".join(sorted(name for name in found if name)) or None


def _cpu_clocks_mhz() -> "Optional[str]":
    """Clock of every online CPU: ``0:2035 3:2035``."""
    clocks = []
    for cpu in _online_cpus():
        khz = number(_cpufreq(cpu, "scaling_cur_freq"))
        if khz is not None:
            clocks.append("{}:{:.0f}".format(cpu, khz / 1000.0))
    if not clocks:  # virtual machines have no cpufreq
        mhz = re.findall(r"^cpu MHz\s*:\s*([\d.]+)", read("/proc/cpuinfo") or "", re.MULTILINE)
        clocks = ["{}:{:.0f}".format(cpu, float(value)) for cpu, value in enumerate(mhz)]
    return " ".join(clocks) or None
