"""Whether this machine's TensorRT and GPU are those that a plan or an engine is for."""

from typing import Any, Dict, List, Optional

from .outcome import Failed, NotPossible


def numbers(version: "Optional[str]") -> "Any":
    """Return (8, 2, 1) for ``8.2.1`` and for a package's ``8.2.1-1+cuda10.2``; None of None."""
    if version is None:
        return None
    parts = [part for part in version.split("-")[0].split("+")[0].split(".") if part.isdigit()]
    return tuple(int(part) for part in parts) or None


def check_version(planned: "Optional[str]", installed: "Optional[str]") -> None:
    """Refuse another TensorRT than the plan was made for (major and minor number).

    Raises:
        NotPossible: they differ.
    """
    if planned is None or installed is None:
        return
    if planned.split(".")[:2] != installed.split("-")[0].split(".")[:2]:
        raise NotPossible(
            "the plan is for TensorRT {}, and this board has {}".format(planned, installed),
            "compile again for the target of this board's release (deploycc target list)",
        )


def check_gpu(board: "Dict[str, Any]", found: "List[Dict[str, Any]]", logged: bool = False) -> None:
    """Refuse another GPU than the plan's.

    Args:
        board: the plan's target.
        found: GPUs as `gpu.devices` lists them; empty: nothing is known.
        logged: they are the one that the program selected.

    Raises:
        NotPossible: they differ.
    """
    ordinal = 0 if logged else board["cuda_device"] or 0
    planned = board["compute_capability"]
    if planned is None or ordinal >= len(found):
        return
    device = found[ordinal]
    if device.get("compute_capability", planned) != planned:
        raise NotPossible(
            "the plan is for a GPU of compute capability {}, and {} has {}".format(
                planned, device["name"], device["compute_capability"]
            ),
            "compile again for the target of this board (deploycc target list)",
        )


def check_release(built_under: "Optional[str]", here: "Optional[str]") -> None:
    """Refuse an engine that was built under another release of Linux for Tegra; None: unknown.

    Raises:
        Failed: they differ.
    """
    if None not in (built_under, here) and built_under != here:
        raise Failed(
            "the engine was built under L4T {}, and this board has {}".format(built_under, here),
            hint="an engine holds choices made for its drivers; build it again here",
        )


def check_built_here(built: "Dict[str, Any]", version: "Optional[str]", capability: "Optional[str]") -> None:
    """Refuse an engine that was built with another TensorRT, or for another GPU, than what is to run it.

    Args:
        built: its row in ``build.json``.
        version: of the TensorRT that is to run it; None: unknown.
        capability: compute capability of the GPU that is to run it; None: unknown.

    Raises:
        Failed: they differ.
    """
    hint = "an engine runs only on the TensorRT and the GPU that it was built with; build it again here"
    if version is not None and built["builder_version"] is not None and numbers(built["builder_version"]) is not None:
        shared = min(len(numbers(version) or ()), len(numbers(built["builder_version"])))
        if (numbers(version) or ())[:shared] != numbers(built["builder_version"])[:shared]:
            raise Failed(
                "the engine was built with TensorRT {}, and this machine has {}".format(
                    built["builder_version"], version
                ),
                hint=hint,
            )
    if None not in (capability, built["compute_capability"]) and capability != built["compute_capability"]:
        raise Failed(
            "the engine was built for compute capability {}, and this GPU has {}".format(
                built["compute_capability"], capability
            ),
            hint=hint,
        )
