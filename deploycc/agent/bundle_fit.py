"""Whether the engines of a bundle are for the board that they come to, before any TensorRT reads one."""

import os
from typing import Any, Dict, List

from . import environment, gpu, jetson, stack
from .outcome import Failed, NotPossible


def board_facts(root: str, runtime: str) -> "Dict[str, Any]":
    """Return what is known of the board that a root file system belongs to; what nobody can tell is None.

    Args:
        root: ``/``, or the folder of a root file system that is to be flashed.
        runtime: of the bundle.

    Returns:
        ``architecture``, ``board_model``, ``runtime_version``, ``gpus`` (as `gpu.devices` lists them), and ``l4t``.
    """
    root = os.path.realpath(root)
    is_here = root == "/"
    hardware = environment.hardware() if is_here else {}
    version = environment.tensorrt_library(root) if runtime == "tensorrt" else None
    if version is None and is_here:
        module = "tensorrt_rtx" if runtime == "tensorrt-rtx" else runtime
        version = environment.module_version(module)
    return {
        "architecture": hardware.get("architecture"),
        "board_model": hardware.get("board_model"),
        "runtime_version": version,
        "gpus": gpu.devices() if is_here else [],
        "l4t": jetson.release(root),
    }


def check(manifest: "Dict[str, Any]", facts: "Dict[str, Any]") -> "List[str]":
    """Refuse a bundle with nothing in it that this board can run.

    Args:
        manifest: of the bundle.
        facts: as `board_facts` returns them.

    Returns:
        a sentence per engine that does not fit here, but that the board may build itself.

    Raises:
        Failed: an engine is for another TensorRT, GPU, release or architecture, or the network is; both are named.
    """
    try:
        _check_target(manifest, facts)
        if not manifest["build_on_device"] and not manifest["engines"]:
            raise Failed("the bundle holds no engine, and does not permit this board to build one")
    except NotPossible as error:
        raise Failed(error.reason, hint=error.hint) from error
    remarks = []
    for engine in manifest["engines"]:
        reason = misfit(manifest, engine, facts)
        if reason is None:
            continue
        if not manifest["build_on_device"]:
            raise reason
        remarks.append("{}: {}".format(engine["file"], reason.reason))
    return remarks


def misfit(manifest: "Dict[str, Any]", engine: "Dict[str, Any]", facts: "Dict[str, Any]") -> "Any":
    """Return why an engine does not run on a board, as a `Failed`; None where nothing speaks against it."""
    if manifest["runtime"] == "onnxruntime":
        return None  # its engines are networks, which every version of it reads
    found = facts["gpus"]
    capability = found[0]["compute_capability"] if len(found) == 1 else None
    try:
        stack.check_built_here(engine, facts["runtime_version"], capability)
        stack.check_release(engine["l4t"], facts["l4t"])
    except Failed as error:
        return error
    return None


def _check_target(manifest: "Dict[str, Any]", facts: "Dict[str, Any]") -> None:
    """Refuse a board of another architecture, or one that could not even build the network.

    Raises:
        NotPossible: it is.
    """
    if facts["architecture"] not in (None, manifest["architecture"]):
        raise NotPossible(
            "the bundle is for {}, and this machine is {}".format(manifest["architecture"], facts["architecture"]),
            "take the bundle that was made for this board",
        )
    if manifest["runtime"] == "onnxruntime":
        return
    stack.check_version(manifest["runtime_version"], facts["runtime_version"])
    capability = manifest["compute_capability"]
    found = [device["compute_capability"] for device in facts["gpus"]]
    if None not in (capability, *found) and found and capability not in found:
        raise NotPossible(
            "the bundle is for a GPU of compute capability {}, and this board has {}".format(
                capability, ", ".join(found)
            ),
            "take the bundle that was made for this board",
        )
