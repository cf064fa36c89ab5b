"""Building one engine, in this process."""

import os
from typing import Any, Dict, Optional

from . import (
    answers,
    build_rtx,
    build_tensorrt,
    environment,
    files,
    plan_file,
    run_onnxruntime,
    run_trtexec,
    smoke,
    steady,
)
from .outcome import Failed, NotPossible, fields_of
from .progress import say
from .scratch import Scratch

_WORKSPACE_MAY_SHRINK = ("trtexec", "tensorrt-python")
_HINT_COPY = "copy this folder to the target and run there: python3 agent.pyz build plan.json"


def empty_row(plan: "Dict[str, Any]", engine: "Dict[str, Any]") -> "Dict[str, Any]":
    """Return an element of ``engines`` in ``build.json`` before anything is built."""
    return {
        "file": engine["file"],
        "precision": engine["precision"],
        "variant": engine["variant"],
        "network_sha256": engine["network_sha256"],
        "status": "built",
        "reason": None,
        "node": None,
        "hint": None,
        "sha256": None,
        "size_bytes": None,
        "second": [],
        "builder": plan["target"]["builder"],
        "builder_version": None,
        "compute_capability": plan["target"]["compute_capability"],
        "build_seconds": None,
        "peak_memory_mib": None,
        "layers": [],
        "smoke": None,
    }


def build(plan_path: str, file: str, program: "Optional[str]" = None) -> "Dict[str, Any]":
    """Build the engine of this file name, in this process.

    Args:
        plan_path: the plan; the networks lie beside it, and the engine is put there.
        file: the engine's.
        program: path of the builder where it is a program; None: look for it.

    Returns:
        one element of ``engines`` in ``build.json``.
    """
    plan = plan_file.read_plan(plan_path)
    folder = os.path.dirname(os.path.abspath(plan_path))
    engine = plan_file.engine_of(plan, file)
    row = empty_row(plan, engine)
    say("build {} with {}".format(engine["file"], row["builder"]))
    start = steady.now()
    try:
        row.update(_built(plan, engine, folder, program))
    except (NotPossible, Failed) as error:
        row.update(fields_of(error))
        say("{}: {}".format(engine["file"], error.reason))
        return row
    row["build_seconds"] = steady.now() - start
    row["peak_memory_mib"] = environment.peak_memory_mib()
    written = [_facts_of(folder, part["file"]) for part in plan_file.engine_parts(engine)]
    row.update(written[0])
    row["second"] = [dict(each, **facts) for each, facts in zip(engine["second"], written[1:])]  # noqa: B905
    size = sum(facts["size_bytes"] for facts in written)
    say("{}: {:.1f} MB in {:.1f} s".format(engine["file"], size / 1e6, row["build_seconds"]))
    return row


def _facts_of(folder: str, name: str) -> "Dict[str, Any]":
    path = os.path.join(folder, name)
    return {"sha256": files.sha256_of(path), "size_bytes": os.path.getsize(path)}


def _built(plan: "Dict[str, Any]", engine: "Dict[str, Any]", folder: str, program: "Optional[str]") -> "Dict[str, Any]":
    network = plan_file.network_of(plan, engine)
    parts = plan_file.parts_of(network)
    read = [_paths(folder, part) for part in parts]
    if plan["target"]["builder"] != "tensorrt-rtx":  # which builds for another machine than this one
        _check_architecture(plan["target"]["architecture"])
    plan, remark = _fitted(plan, max(sum(map(os.path.getsize, paths.values())) for paths in read))
    try:
        with Scratch(folder) as scratch:
            board = None
            if plan["target"]["builder"] in plan_file.PROGRAMS:
                board = run_trtexec.Board(plan, scratch.path, program)
            built = []  # type: Any
            facts = {}  # type: Dict[str, Any]
            for number, (part, paths) in enumerate(zip(parts, read)):  # noqa: B905 - strict came with Python 3.10
                if len(parts) > 1:
                    say("network {} of {} in a row".format(number + 1, len(parts)))
                partial = os.path.join(scratch.path, "engine-{}.out".format(number))
                found = _build_part(plan, engine, part, paths, partial, board)
                facts = dict(found, layers=facts.get("layers", []) + found["layers"])
                built.append(partial)
            facts["smoke"] = smoke.check(plan, network, folder, answers.of(plan, network, built, board))
            for partial, each in zip(built, plan_file.engine_parts(engine)):  # noqa: B905
                os.replace(partial, os.path.join(os.path.realpath(folder), each["file"]))
    except OSError as error:
        raise Failed("cannot write {}: {}".format(engine["file"], error.strerror)) from error
    if remark:
        facts["reason"] = "; ".join(filter(None, (remark, facts.get("reason"))))
    return facts


def _paths(folder: str, part: "Dict[str, Any]") -> "Dict[str, str]":
    paths = {"file": files.checked(folder, part["file"], part["sha256"])}
    if part["weights_file"] is not None:
        paths["weights_file"] = files.checked(folder, part["weights_file"], part["weights_sha256"])
    return paths


def _build_part(
    plan: "Dict[str, Any]",
    engine: "Dict[str, Any]",
    part: "Dict[str, Any]",
    paths: "Dict[str, str]",
    partial: str,
    board: "Any",
) -> "Dict[str, Any]":
    """Build a network, or one of a row, into ``partial``; returns fields of the row in ``build.json``."""
    builder = plan["target"]["builder"]
    if builder == "onnxruntime":
        facts = run_onnxruntime.build(plan, paths["file"], partial)
    elif builder == "tensorrt-rtx":
        facts = build_rtx.build(plan, paths["file"], partial)
    elif builder == "tensorrt-python":
        facts = build_tensorrt.build(plan, engine, part, paths["file"], partial)
    else:
        facts = board.build(part, paths)
        written = facts.pop("path")
        if os.path.isfile(written) and not os.path.islink(written):
            os.replace(written, partial)
    if not os.path.isfile(partial) or os.path.islink(partial):
        raise Failed("the builder ended without an error and without an engine")
    return facts


def _check_architecture(planned: str) -> None:
    here = environment.hardware()["architecture"]
    if here != planned:
        raise NotPossible(
            "the target is {}, and this machine is {}".format(planned, here),
            _HINT_COPY,
        )


def _fitted(plan: "Dict[str, Any]", network_bytes: int) -> "Any":
    """Return the plan with a workspace that fits into the free memory, and what to say of it; None where it fits.

    Parsed weights, the builder's copy and the engine are three copies of the network at least. That is a lower bound;
    small boards kill a build that runs out of memory without a word.

    Raises:
        NotPossible: less than a quarter of the planned workspace is left.
    """
    board = plan["target"]
    available = environment.memory_mib("MemAvailable")
    network_mib, planned = 3 * network_bytes // (1 << 20), board["workspace_mib"] or 0
    if available is None or available >= network_mib + planned:
        return plan, None
    left = available - network_mib
    if board["builder"] in _WORKSPACE_MAY_SHRINK and left >= max(1, planned // 4):
        said = "built with a workspace of {} MiB instead of {} MiB: no more memory is free".format(left, planned)
        return dict(plan, target=dict(board, workspace_mib=left)), said
    raise NotPossible(
        "{} MiB of memory are free, and the build needs at least {} MiB".format(available, network_mib + planned),
        "close the desktop and other programs; swap does not help a GPU",
    )
