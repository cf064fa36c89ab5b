"""``deploycc target``: which boards there are, what is known of each, and whether that is consistent."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deploycc.cli import complete

if TYPE_CHECKING:
    from deploycc.target import Capabilities, Target

app = typer.Typer(help="List, show and check targets.", no_args_is_help=True)

UNCONFIRMED = "unconfirmed: check on a device"

EVIDENCE = {
    "measured": "engines are built and timed by this project's own tests",
    "built": "engines are built by this project's own tests, but were never run",
    "planned": "facts from sources only; nothing was built or run",
}

CONDITIONALS = {
    "none": "no If",
    "constant": "If only with a constant condition; the branch is inlined",
    "select": "If runs both branches and selects, so nothing is saved",
    "equal-shapes": "If is a real conditional; both branches must give the same shape",
    "equal-ranks": "If is a real conditional; both branches must give the same rank",
    "any": "If runs the branch that is taken, of any shape",
}


@app.command("list")
def list_(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List the targets."""
    from deploycc.cli import console
    from deploycc.target import load, names

    targets = [load(name) for name in names()]
    if as_json:
        console.print_json([_summary(target) for target in targets])
        return
    columns = ["target", "tier", "runtime", "precisions", "board and software"]
    rows = [[t.name, t.tier, _runtime(t), ", ".join(t.precisions), t.title] for t in targets]
    console.table(columns, rows)


@app.command("show")
def show(
    name: Annotated[
        str, typer.Argument(metavar="TARGET", autocompletion=complete.target, help="Target name or .toml file.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON: the facts and what follows from them.")] = False,
) -> None:
    """Show what is known of a target, what is not confirmed, and what its runtime can do."""
    from deploycc.cli import console
    from deploycc.target import capabilities, load

    target = load(name)
    able = capabilities(target)
    if as_json:
        console.print_json(_record(target, able))
        return
    console.out(f"{target.name}: {target.title}")
    console.out(f"tier {target.tier}: {EVIDENCE[target.tier]}")
    console.out()
    console.table(["fact", "value", "status"], _fact_rows(target))
    console.out()
    console.table(["derived", "value"], _capability_rows(target, able))
    for text in (*able.remarks, *target.notes):
        console.out(f"note: {text}")


@app.command("check")
def check(
    files: Annotated[list[Path] | None, typer.Argument(help="Target files; without any, all that are shipped.")] = None,
) -> None:
    """Check targets against the schema and their facts against one another; exit 1 if anything is wrong."""
    from deploycc.cli import console
    from deploycc.errors import TargetError
    from deploycc.target import folder, load
    from deploycc.target.check import check as inconsistencies

    paths = files or sorted(folder().glob("*.toml"))
    wrong = 0
    for path in paths:
        try:
            if path.suffix != ".toml":
                raise TargetError("target-not-toml", "a target file ends in .toml", context={"file": path})
            problems = inconsistencies(load(str(path)), path)
        except TargetError as error:
            console.fail(error)
            wrong += 1
            continue
        for problem in problems:
            console.out(f"{path}: {problem}")
        wrong += bool(problems)
    if wrong:
        console.note(f"{wrong} of {len(paths)} targets are wrong")
        raise typer.Exit(1)
    console.note(f"{len(paths)} {'target is' if len(paths) == 1 else 'targets are'} consistent")


def _runtime(target: Target) -> str:
    titles = {"onnxruntime": "ONNX Runtime", "tensorrt": "TensorRT", "tensorrt-rtx": "TensorRT-RTX"}
    if target.runtime == "tensorrt" and target.runtime_version is None:
        return "TensorRT (read on the device)"
    return f"{titles[target.runtime]} {target.runtime_version or ''}".rstrip()


def _summary(target: Target) -> dict[str, Any]:
    fields = {"name", "title", "tier", "runtime", "runtime_version", "precisions", "unconfirmed"}
    return target.model_dump(mode="json", include=fields)


def _record(target: Target, able: Capabilities) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "target": target.model_dump(mode="json"),
        "evidence": EVIDENCE[target.tier],
        "capabilities": asdict(able),
    }


def _fact_rows(target: Target) -> list[list[str]]:
    shown_elsewhere = {"name", "title", "tier", "refused_precisions", "unconfirmed", "notes"}
    rows = []
    for field, value in target.model_dump(mode="json").items():
        unconfirmed = field in target.unconfirmed
        if field in shown_elsewhere or (not value and value != 0 and not unconfirmed):
            continue
        status = UNCONFIRMED if unconfirmed else ""
        text = ", ".join(value) if isinstance(value, list) else "read on the device" if value is None else str(value)
        rows.append([field, text, status])
    return rows


def _capability_rows(target: Target, able: Capabilities) -> list[list[str]]:
    integers = "INT64 stays INT64" if able.int64 else "INT64 is cast to INT32"
    network = f"ONNX, opset up to {able.max_opset}, IR up to {able.max_ir}, {integers}"
    preferred, *others = able.detections
    return [
        ["conditional", CONDITIONALS[able.conditional]],
        ["detections", f"{preferred}; also {', '.join(others)}" if others else preferred],
        ["network", "Caffe layers" if target.model_format == "caffe" else network],
        ["fp16", _fp16(target, able)],
    ]


def _fp16(target: Target, able: Capabilities) -> str:
    if "fp16" not in target.precisions:
        return f"refused: {target.refused_precisions.get('fp16', 'not among the precisions')}"
    if able.fp16 == "typed":
        return "the network itself is FP16 (typed): weights and activations are converted before the build"
    return "a flag of the builder: the network stays FP32 and the builder picks FP16 kernels"
