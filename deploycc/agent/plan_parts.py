"""Finding the parts of a plan: an engine by its file, the network it is built from."""

from typing import Any, Dict


def key_of(part: "Dict[str, Any]") -> "Any":
    """What tells networks apart, and engines and their rows likewise."""
    return part["precision"], part["variant"]


def network_of(plan: "Dict[str, Any]", engine: "Dict[str, Any]") -> "Dict[str, Any]":
    """Return the network that an engine is built from."""
    return next(network for network in plan["networks"] if key_of(network) == key_of(engine))


def engine_of(plan: "Dict[str, Any]", file: str) -> "Dict[str, Any]":
    """Return the engine of this file name."""
    return next(engine for engine in plan["engines"] if engine["file"] == file)
