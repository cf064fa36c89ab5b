"""Targets as tables and as plain values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from deploycc.report.table import Table
from deploycc.target import Capabilities, Target

UNCONFIRMED = "unconfirmed"

EVIDENCE = {
    "measured": "this project's own tests build and time engines for it",
    "built": "this project's own tests build engines for it, but nothing has run them",
    "planned": "facts from sources only; nothing was built or run",
}

CONDITIONALS = {
    "none": "no If",
    "constant": "If only with a constant condition; the branch is inlined",
    "select": "If runs both branches and selects, so nothing is saved",
    "unconnected": "If connects no tensor to its branches, so none is used",
    "plain": "If is a real conditional; both branches must give the same shape; one output, none inside a branch",
    "equal-shapes": "If is a real conditional; both branches must give the same shape",
    "equal-ranks": "If is a real conditional; both branches must give the same rank",
    "any": "If runs the branch that is taken, of any shape",
}

_RUNTIMES = {"onnxruntime": "ONNX Runtime", "tensorrt": "TensorRT", "tensorrt-rtx": "TensorRT-RTX"}
_NOT_FACTS = {"name", "title", "tier", "refused_precisions", "unconfirmed", "notes"}


def targets_table(targets: Sequence[Target]) -> Table:
    """One row per target."""
    columns = ("target", "tier", "runtime", "precisions", "board and software")
    rows = tuple((t.name, t.tier, _runtime(t), ", ".join(t.precisions), t.title) for t in targets)
    return Table("", columns, rows)


def targets_json(targets: Sequence[Target]) -> list[dict[str, Any]]:
    """What the table shows, as plain values."""
    fields = {"name", "title", "tier", "runtime", "runtime_version", "precisions", "unconfirmed"}
    return [target.model_dump(mode="json", include=fields) for target in targets]


def target_tables(target: Target, able: Capabilities) -> list[Table]:
    """The facts of a target, what follows from them, and its notes."""
    tier = ("tier", f"{target.tier}: {EVIDENCE[target.tier]}", "")
    facts = (tier, *_fact_rows(target))
    tables = [
        Table(f"{target.name}: {target.title}", ("fact", "value", "status"), facts),
        Table("", ("derived", "value"), tuple(_capability_rows(target, able))),
    ]
    notes = [*able.remarks, *target.notes]
    if target.unconfirmed:
        notes.append("unconfirmed facts are not stated by any source: check them on a device")
    return [*tables, Table("", ("notes",), tuple((note,) for note in notes))] if notes else tables


def target_json(target: Target, able: Capabilities) -> dict[str, Any]:
    """The facts of a target and what follows from them, as plain values."""
    return {
        "target": target.model_dump(mode="json"),
        "evidence": EVIDENCE[target.tier],
        "capabilities": asdict(able),
    }


def _runtime(target: Target) -> str:
    if target.runtime == "tensorrt" and target.runtime_version is None:
        return "TensorRT (read on the device)"
    return f"{_RUNTIMES[target.runtime]} {target.runtime_version or ''}".rstrip()


def _fact_rows(target: Target) -> list[tuple[str, str, str]]:
    rows = []
    for field, value in target.model_dump(mode="json").items():
        unconfirmed = field in target.unconfirmed
        if field in _NOT_FACTS or (not value and value != 0 and not unconfirmed):
            continue
        text = ", ".join(value) if isinstance(value, list) else "read on the device" if value is None else str(value)
        rows.append((field, text, UNCONFIRMED if unconfirmed else ""))
    return rows


def _capability_rows(target: Target, able: Capabilities) -> list[tuple[str, str]]:
    integers = "INT64 stays INT64" if able.int64 else "INT64 is cast to INT32"
    network = f"ONNX, opset up to {able.max_opset}, IR up to {able.max_ir}, {integers}"
    preferred, *others = able.detections
    return [
        ("conditional", CONDITIONALS[able.conditional]),
        ("detections", f"{preferred}; also {', '.join(others)}" if others else preferred),
        ("network", "Caffe layers" if target.model_format == "caffe" else network),
        ("fp16", _fp16(target, able)),
    ]


def _fp16(target: Target, able: Capabilities) -> str:
    if "fp16" not in target.precisions:
        return f"refused: {target.refused_precisions.get('fp16', 'not among the precisions')}"
    if able.fp16 == "typed":
        return "the network itself is FP16 (typed): weights and activations are converted before the build"
    return "a flag of the builder: the network stays FP32 and the builder picks FP16 kernels"
