"""Read an ONNX file and check it; every file error is diagnosed here."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import onnx
import onnx.inliner
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx.external_data_helper import load_external_data_for_model, uses_external_data

from deploycc.errors import ModelError, Note
from deploycc.files import MODEL_BYTES, read_bytes
from deploycc.importers.onnx_sparse import expand_sparse
from deploycc.importers.onnx_tensors import check_numbers, check_types

_ADVISED_OPSET = 13  # which every target accepts
_OLDEST_IR, _NEWEST_IR = 3, min(13, onnx.IR_VERSION)


def read_model(path: Path) -> tuple[onnx.ModelProto, tuple[Path, ...], str, tuple[Note, ...]]:
    """Read and check an ONNX file with its external data.

    Returns:
        The model, the files it was read from (the model first), the SHA-256 over their bytes in that order, and notes
        on changes made while reading.

    Raises:
        ModelError: the file is missing, unreadable, empty, not ONNX, inconsistent or cyclic, or holds
            numbers that are not finite.
    """
    data = _read_bytes(path)
    model = _parse(data, path)
    digest = hashlib.sha256(data)
    del data
    notes = _accept_versions(model, path)
    if not model.graph.node:
        raise ModelError("onnx-no-nodes", "the network has no operators", context={"file": path})
    if not model.graph.output:
        raise ModelError("onnx-no-outputs", "the network has no outputs", context={"file": path})
    check_types(model, path)
    model = _inline_functions(model, path)
    _drop_initializer_inputs(model)
    _check_cycles(model, path)
    files = (path, *_load_external(model, path))
    _check(model, path)
    for extra in files[1:]:
        digest.update(_read_bytes(extra, sys.maxsize))
    expand_sparse(model, path)
    check_numbers(model, path)
    return model, files, digest.hexdigest(), notes


def _read_bytes(path: Path, most_bytes: int = MODEL_BYTES) -> bytes:
    try:
        data = read_bytes(path, most_bytes)
    except FileNotFoundError:
        raise ModelError("file-missing", f"{path.name} does not exist", context={"file": path}) from None
    except OSError as reason:
        note = reason.strerror or str(reason)
        raise ModelError("file-unreadable", f"{path.name} cannot be read", context={"file": path}, note=note) from None
    if not data:
        raise ModelError("file-empty", f"{path.name} is empty", context={"file": path})
    return data


def _parse(data: bytes, path: Path) -> onnx.ModelProto:
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError:
        known = b"onnx" in data[:256] or data[:1] == b"\x08"
        raise ModelError(
            "onnx-unreadable",
            f"{path.name} is {'a damaged or truncated' if known else 'not an'} ONNX file",
            context={"file": path, "bytes": len(data)},
            hint="copy or export it again",
        ) from None
    if not model.ir_version or not model.HasField("graph"):
        raise ModelError(
            "onnx-unreadable",
            f"{path.name} is not an ONNX model, or its end is missing",
            context={"file": path, "bytes": len(data)},
            note="it states no IR version" if not model.ir_version else "it contains no graph",
        )
    return model


def _accept_versions(model: onnx.ModelProto, path: Path) -> tuple[Note, ...]:
    """Refuse an unknown opset or a too old IR; lower a newer IR version to the newest known one.

    Operators are defined by the operator set. A newer IR only adds types and containers, which the checker refuses if
    they are used, and exporters state the newest IR they know, whatever the network needs.
    """
    for entry in model.opset_import:
        if entry.domain in ("", "ai.onnx") and entry.version > onnx.defs.onnx_opset_version():
            raise ModelError(
                "onnx-opset-unknown",
                f"opset {entry.version} is unknown",
                context={"file": path, "opset": entry.version},
                note=f"the newest opset that the installed onnx knows is {onnx.defs.onnx_opset_version()}",
                hint=f"export it with opset {_ADVISED_OPSET}, which every target accepts, or install a newer onnx",
            )
    if model.ir_version < _OLDEST_IR:
        raise ModelError(
            "onnx-ir-version",
            f"IR version {model.ir_version} is not supported",
            context={"file": path},
            note=f"IR {_OLDEST_IR} and newer are supported",
            hint="export it with a current exporter",
        )
    if model.ir_version <= _NEWEST_IR:
        return ()
    note = Note("", "onnx-ir-newer", f"the file states IR {model.ir_version}; it is read as IR {_NEWEST_IR}")
    model.ir_version = _NEWEST_IR
    return (note,)


def _inline_functions(model: onnx.ModelProto, path: Path) -> onnx.ModelProto:
    """Replace calls of functions that the file itself defines by their nodes: no pass looks into a function."""
    if not model.functions:
        return model
    try:
        return onnx.inliner.inline_local_functions(model, convert_version=True)
    except Exception as reason:  # the inliner raises RuntimeError and its own C++ types
        raise ModelError(
            "onnx-functions",
            "the functions that the file defines cannot be inlined",
            context={"file": path, "functions": ", ".join(function.name for function in model.functions)},
            note=first_line(reason),
        ) from None


def _drop_initializer_inputs(model: onnx.ModelProto) -> None:
    """Remove weights from the graph inputs: IR 3 lists them there; since IR 4 that means "may be overridden"."""
    weights = {tensor.name for tensor in model.graph.initializer}
    kept = [value for value in model.graph.input if value.name not in weights]
    if len(kept) < len(model.graph.input):
        del model.graph.input[:]
        model.graph.input.extend(kept)
    model.ir_version = max(model.ir_version, 4)


def _check_cycles(model: onnx.ModelProto, path: Path) -> None:
    """Sort the nodes if needed; refuse a cycle."""
    nodes = list(model.graph.node)
    producer = {name: index for index, node in enumerate(nodes) for name in node.output if name}
    sources_of = [{producer[name] for name in node.input if name in producer} for node in nodes]
    readers: dict[int, list[int]] = {}
    for index, sources in enumerate(sources_of):
        for source in sources:
            readers.setdefault(source, []).append(index)
    missing = [len(sources) for sources in sources_of]
    ready = [index for index, count in enumerate(missing) if count == 0]
    for index in ready:  # grows while it is walked
        for reader in readers.get(index, ()):
            missing[reader] -= 1
            if missing[reader] == 0:
                ready.append(reader)
    if len(ready) < len(nodes):
        cycle = _walk_cycle(sources_of, set(range(len(nodes))) - set(ready))
        names = [nodes[index].name or f"{nodes[index].op_type} making {nodes[index].output[0]}" for index in cycle]
        raise ModelError(
            "onnx-cycle",
            "the network feeds its own output back into itself",
            context={"file": path, "nodes": " -> ".join([*names, names[0]])},
        )
    if any(source >= index for index, sources in enumerate(sources_of) for source in sources):
        ordered = [nodes[index] for index in ready]
        copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in ordered]
        del model.graph.node[:]
        model.graph.node.extend(copies)


def _walk_cycle(sources_of: list[set[int]], blocked: set[int]) -> list[int]:
    """Follow producers among the blocked nodes until one repeats; return the cycle in data order."""
    visited: list[int] = []
    index = min(blocked)
    while index not in visited:
        visited.append(index)
        index = min(sources_of[index] & blocked)
    return visited[visited.index(index) :][::-1]


def _check(model: onnx.ModelProto, path: Path) -> None:
    try:
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, ValueError) as reason:
        raise ModelError(
            "onnx-invalid",
            "the file violates the ONNX standard",
            context={"file": path},
            note=first_line(reason),
            hint="export it again, or ask the exporter's maintainers",
        ) from None


def _load_external(model: onnx.ModelProto, path: Path) -> tuple[Path, ...]:
    """Load weights stored in separate files; return those files."""
    outside = [tensor for tensor in model.graph.initializer if uses_external_data(tensor)]
    names = {entry.value for tensor in outside for entry in tensor.external_data if entry.key == "location"}
    if not names:
        return ()
    try:
        load_external_data_for_model(model, str(path.parent))
    except (OSError, ValueError, onnx.checker.ValidationError) as reason:
        raise ModelError(
            "onnx-external-data",
            "the external weights of the file cannot be read",
            context={"file": path, "weights": ", ".join(sorted(names))},
            note=first_line(reason),
            hint="keep the weight files beside the model, under the names it refers to",
        ) from None
    return tuple(path.parent / name for name in sorted(names))


def first_line(reason: object) -> str:
    """Return the first non-empty line of a library's message, joined with the next if it ends in a colon."""
    lines = [line.strip() for line in str(reason).splitlines() if line.strip()]
    if not lines:
        return type(reason).__name__
    return " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
