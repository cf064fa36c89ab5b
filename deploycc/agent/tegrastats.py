"""A line of ``tegrastats``, in the forms of L4T 28 to 39."""

import re
from typing import Any, Dict

_GPU = re.compile(r"\bGR3D_FREQ (?:\d+%)?@\[?(\d+)")
_EMC = re.compile(r"\bEMC_FREQ (?:\d+%)?@(\d+)")
_RAIL = re.compile(r"\b((?:VDD|VIN|POM|CPU|GPU|SOC)[A-Z0-9_]*) (\d+)(?:mW)?/\d+(?:mW)?")
_TEMPERATURE = re.compile(r"\b([A-Za-z][A-Za-z0-9_]*)@([\d.]+)C\b")


def parse(line: str) -> "Dict[str, Any]":
    """Return what a line says.

    Returns:
        ``gpu_clock_mhz`` (the first cluster's) and ``emc_clock_mhz``, None where they are not said, as without root;
        ``rails_mw`` and ``temperatures_c`` by name, now.
    """
    gpu, emc = _GPU.search(line), _EMC.search(line)
    return {
        "gpu_clock_mhz": float(gpu.group(1)) if gpu else None,
        "emc_clock_mhz": float(emc.group(1)) if emc else None,
        "rails_mw": {name: float(value) for name, value in _RAIL.findall(line)},
        "temperatures_c": {name: float(value) for name, value in _TEMPERATURE.findall(line) if name != "PMIC"},
    }
