"""A device beside a target: every fact that differs, and what to do about it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deploycc.target.target import Target


@dataclass(frozen=True)
class Difference:
    """A fact of a target that a device does not confirm.

    Attributes:
        fact: the target's field.
        target: what the target says.
        device: what the device says; None: nothing.
        todo: what helps.
        matters: engines of this target cannot be built or run there; otherwise figures may differ.
    """

    fact: str
    target: str
    device: str | None
    todo: str
    matters: bool


_LIBRARIES = {"onnxruntime": "version_onnxruntime", "tensorrt-rtx": "version_tensorrt_rtx"}
_OTHER_PYTHON = "name another one with python in devices.toml"
_OTHER_TARGET = "compile for the target that this board is (deploycc target list), or write its own file"


def differences(target: Target, environment: Mapping[str, Any]) -> list[Difference]:
    """Return what differs, the facts that matter first.

    Args:
        target: what the device should be.
        environment: what its agent says (``deploycc/agent/environment.py``).
    """
    capabilities = re.findall(r"\(sm ([\d.]+)\)", environment.get("gpu") or "")
    facts: list[tuple[str, str | None, str | None, str, bool]] = [
        ("architecture", target.architecture, environment.get("architecture"), _OTHER_TARGET, True),
        ("compute_capability", target.compute_capability, ", ".join(capabilities) or None, _OTHER_TARGET, True),
        ("l4t", target.l4t, environment.get("l4t"), _OTHER_TARGET, True),
        ("runtime_version", target.runtime_version, _runtime(target, environment), _OTHER_TARGET, True),
        ("cuda", target.cuda, environment.get("cuda"), _OTHER_TARGET, False),
        (
            "device_python",
            target.device_python,
            environment.get("python"),
            _OTHER_PYTHON,
            False,
        ),
        ("os", target.os, environment.get("os"), "figures are of another system than the target's", False),
    ]
    found = [
        Difference(name, planned, said, todo, matters)
        for name, planned, said, todo, matters in facts
        if planned is not None and not _agrees(name, planned, said)
    ]
    if target.runtime == "onnxruntime" and _runtime(target, environment) is None:
        found.append(
            Difference("runtime", "onnxruntime", None, "in its Python: python3 -m pip install onnxruntime", True)
        )
    mode = environment.get("nvpmodel")
    if target.power_modes and not any(known in str(mode) for known in target.power_modes):
        modes = ", ".join(target.power_modes)
        found.append(Difference("power_modes", modes, mode, "choose one with nvpmodel -m before measuring", False))
    return sorted(found, key=lambda difference: not difference.matters)


def _runtime(target: Target, environment: Mapping[str, Any]) -> str | None:
    if target.runtime in _LIBRARIES:
        version = environment.get(_LIBRARIES[target.runtime])
    else:
        version = environment.get("tensorrt_library") or environment.get("version_tensorrt")
    return None if version is None else str(version)


def _agrees(fact: str, planned: str, said: str | None) -> bool:
    if said is None:
        return False
    if fact == "os":
        return planned in said
    if fact == "compute_capability":
        return planned in said.split(", ")
    numbers = re.match(r"[\d.]*\d|[A-Za-z0-9_]+", said)
    return numbers is not None and (numbers[0] == planned or numbers[0].startswith(f"{planned}."))
