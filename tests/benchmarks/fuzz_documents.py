"""Edited documents: every JSON and TOML file that the tool reads, given to the commands that read it.

    python tests/benchmarks/fuzz_documents.py --count 1000

Goals: no traceback and no exit status 70, no run over 20 s of processor time, none over 3 GB, no control character on
the terminal, no figure that is not finite in a successful answer, no file outside the case's folder made or changed,
no process left, and the edited file itself left as it was. Exits 1 where one is missed. ``--only NUMBER`` repeats a case.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "helpers"))
import forked_command
from document_edits import digests, edit_bytes, edit_values, reseal, toml_text

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

CODE = re.compile(r"error\[([\w-]+)\]")
NOT_FINITE = re.compile(r"(?<![\w./-])(nan|inf|infinity)(?![\w./-])", re.IGNORECASE)
IN_ORDER = (  # each before the documents that name it
    *("plan.json", "contract.json", "build.json", "latency.json", "compile.json", "gate-plan.json", "gates.json"),
    *("prediction.json", "pruning-curve.json", "deploycc-manifest.json"),
)

GATED, TAIL = "gated.onnx", "tail.onnx"
TARGET_TOML = "target.toml"
GATES = ("--seconds", "0.1", "--max-worst-case", "100", "--max-time", "100")
BELOW = ("--below", "0.6")


@dataclass(frozen=True)
class Artefact:
    """A file of the base folder and the commands that read it.

    Attributes:
        file: path in the base folder.
        commands: arguments; one is taken per case.
        kept: the command must not change the file.
    """

    file: str
    commands: tuple[tuple[str, ...], ...]
    kept: bool = True


def artefacts() -> list[Artefact]:
    """Return every kind of file."""
    shows = ("report", "show", "out", "--html", "page.html", "--markdown", "page.md")
    checks = ("report", "check", "out", "out", "--max-regression", "5%", "--max-macs", "1%", "--accept-invalid")
    folder = (shows, ("report", "show", "out", "--json"), checks, ("report", "compare", "out", "out"))
    runs = (("build", "out"), ("bench", "out"))
    again = ("compile", TAIL, "-t", "x86-cpu", "-o", "out", "--no-build", "--no-verify")
    scored = ("evaluate", "out", "--data", "generated:1:1")
    pruning = ("--profile", "profile.json", "--round-to", "1", *BELOW)
    only_plan = ("--no-build", "--no-verify", "-o", "new")
    return [
        Artefact(
            TARGET_TOML,
            (
                ("target", "check", TARGET_TOML),
                ("target", "show", TARGET_TOML),
                ("predict", TAIL, "-t", TARGET_TOML, "-o", "new"),
                ("compile", TAIL, "-t", TARGET_TOML, *only_plan),
                ("gates", GATED, *pruning[:2], "-t", TARGET_TOML, *GATES, "-o", "new"),
            ),
        ),
        Artefact(
            "tail.detector.toml",
            (
                ("inspect", TAIL),
                ("compile", TAIL, "-t", "x86-cpu", *only_plan),
                ("evaluate", TAIL, "--data", "generated:1:1"),
            ),
        ),
        Artefact("devices.toml", (("device", "list"), ("device", "list", "--json"), ("device", "probe", "tx2"))),
        Artefact("out/plan.json", (*folder, *runs, again, scored), kept=False),
        Artefact("out/contract.json", (*folder, *runs, again, scored), kept=False),
        Artefact("out/build.json", (*folder, *runs, again), kept=False),
        Artefact("out/latency.json", (*folder, *runs, again), kept=False),
        Artefact("out/compile.json", (*folder, *runs, again, scored), kept=False),
        Artefact("out/deploycc-manifest.json", (*folder, *runs, again, scored), kept=False),
        Artefact(
            "gates/gates.json", (("report", "show", "gates", "--html", "p.html"), ("report", "show", "gates", "--json"))
        ),
        Artefact(
            "gates/gate-plan.json",
            (("compile", GATED, "--gate-plan", "gates/gate-plan.json", "-t", "x86-cpu", *only_plan),),
        ),
        Artefact(
            "profile.json",
            (
                ("prune", GATED, *pruning, "-o", "small.onnx"),
                ("prune", GATED, *pruning, "--keep-gates", "-o", "small.onnx"),
                ("compile", GATED, *pruning, "-t", "x86-cpu", *only_plan),
                ("gates", GATED, "--profile", "profile.json", *GATES, "-o", "new"),
                ("predict", GATED, "--profile", "profile.json", "-t", "jetson-tx2-jp461"),
            ),
        ),
        Artefact("mask.json", (("prune", GATED, "--mask", "mask.json", "--round-to", "1", "-o", "small.onnx"),)),
        Artefact(
            "costs.json",
            (("prune", GATED, *pruning[:2], *BELOW, "--costs", "costs.json", "-o", "small.onnx"),),
            kept=False,
        ),
        Artefact(
            "gate-costs.json",
            (("gates", GATED, *pruning[:2], "--costs", "gate-costs.json", *GATES, "-o", "new"),),
            kept=False,
        ),
        Artefact(
            "prediction/prediction.json",
            (("report", "show", "prediction"), ("report", "show", "prediction/prediction.json")),
        ),
        Artefact("voc/Annotations/0.xml", (("evaluate", TAIL, "--data", "voc:voc", "--json"),)),
        Artefact("voc/ImageSets/Main/test.txt", (("evaluate", TAIL, "--data", "voc:voc@test"),)),
        Artefact(
            "metadata of kept.onnx", (("inspect", "kept.onnx"), ("compile", "kept.onnx", "-t", "x86-cpu", *only_plan))
        ),
    ]


def make_base(folder: Path) -> None:
    """Write every artefact, as the tool itself does, into one folder."""
    import numpy as np
    import onnx
    import pytest
    from PIL import Image
    from profiled_gates import pretend_branches_pay, write_profiled
    from ssd_tails import Tail, build, grid_priors

    from deploycc import target

    folder.mkdir(parents=True)
    os.chdir(folder)
    write_profiled(folder)
    priors = grid_priors((3, 4), np.array([[0.25, 0.5], [0.5, 0.25]], dtype=np.float32))
    tail = Tail(grid=(3, 4), centres=priors, variances=np.ones_like(priors))
    network = build(tail)
    offsets = network.graph.node[2].output[0]  # before any arithmetic
    onnx.save(network, TAIL)
    np.save("priors.npy", tail.corners)
    (folder / "tail.detector.toml").write_text(
        'class_names = ["background", "car", "person"]\n[input]\ncolour = "RGB"\nmean = [127.5, 127.5, 127.5]\n'
        f'scale = 0.00784\n[heads]\nlocations = "{offsets}"\nscores = "scores"\npriors = "priors.npy"\ny_first = true\n'
        "background = 0\nvariance = [0.1, 0.1, 0.2, 0.2]\n[nms]\nscore_threshold = 0.01\niou_threshold = 0.45\n"
        "top_k = 100\nkeep_top_k = 50\n"
    )
    shutil.copy(target.folder() / "jetson-tx2-jp461.toml", TARGET_TOML)
    (folder / "devices.toml").write_text(
        'tx2 = { url = "ssh://nvidia@192.0.2.1", target = "jetson-tx2-jp461", python = "python3", store = "~/store" }\n'
    )
    (folder / "mask.json").write_text('{"gated": [0, 1]}')
    for part in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (folder / "voc" / part).mkdir(parents=True)
    Image.new("RGB", (32, 32), (90, 120, 30)).save("voc/JPEGImages/0.png")
    (folder / "voc/Annotations/0.xml").write_text(
        "<annotation><size><width>32</width><height>32</height></size><object><name>car</name><difficult>0</difficult>"
        "<bndbox><xmin>2</xmin><ymin>3</ymin><xmax>20</xmax><ymax>22</ymax></bndbox></object></annotation>\n"
    )
    (folder / "voc/ImageSets/Main/test.txt").write_text("0\n")
    profile = ("--profile", "profile.json")
    commands = [
        ("compile", TAIL, "-t", "x86-cpu", "-o", "out", "--quick", "-p", "fp32"),
        ("prune", GATED, *profile, *BELOW, "--costs", "costs.json", "-o", "small-auto.onnx"),
        ("prune", GATED, *profile, "--round-to", "1", "--keep-gates", *BELOW, "-o", "kept.onnx"),
        ("gates", GATED, *profile, "--costs", "gate-costs.json", *GATES, "-o", "plain"),
        ("predict", TAIL, "-t", "jetson-tx2-jp461", "-o", "prediction"),
        ("gates", GATED, *profile, *GATES, "-o", "gates"),
    ]
    for command in commands:
        if command[-1] == "gates":  # a plan without branches would leave its readers little to read
            pretend_branches_pay(pytest.MonkeyPatch())
        if forked_command.deploycc(command) != 0:
            raise SystemExit(f"the base could not be made: {' '.join(command)}")


def edit(artefact: Artefact, place: Path, chance: random.Random) -> str:
    """Edit the file by values, bytes or kind; a document's digests are then most often computed anew."""
    path = place / artefact.file
    if artefact.file.startswith("metadata"):
        return _edit_metadata(place / "kept.onnx", chance)
    before = digests(path.parent, IN_ORDER)
    seals = path.suffix == ".json" and chance.random() < 0.9
    kind = chance.choice(("values",) * 7 + ("bytes",) * 2 + ("special",))
    if kind == "special":
        return _replace_by_special(path, chance)
    if kind == "bytes" or path.suffix not in (".json", ".toml"):
        path.write_bytes(edit_bytes(path.read_bytes(), chance))
    else:
        document = json.loads(path.read_text()) if path.suffix == ".json" else tomllib.loads(path.read_text())
        edit_values(document, chance)
        path.write_text(json.dumps(document) if path.suffix == ".json" else toml_text(document))
    if seals:
        reseal(path.parent, [name for name in IN_ORDER if (path.parent / name).exists()] or [path.name], before)
        if path.name not in IN_ORDER:
            reseal(path.parent, [path.name], {})
    return f"{kind} of {artefact.file}"


def _replace_by_special(path: Path, chance: random.Random) -> str:
    """Put a folder, a pipe, a device or a huge file where the file is expected."""
    path.unlink()
    kind = chance.choice(("folder", "pipe", "device", "huge", "loop", "missing", "empty"))
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "huge":
        with path.open("wb") as file:
            file.truncate(4 << 30)
    elif kind == "loop":
        path.symlink_to(path)
    elif kind == "empty":
        path.touch()
    return f"{kind} as {path.name}"


def _edit_metadata(model: Path, chance: random.Random) -> str:
    """Edit what deploycc's own ONNX files say about their detector."""
    import onnx

    network = onnx.load(model)
    entry = chance.choice(network.metadata_props)
    try:
        document = {"": json.loads(entry.value)}
        edit_values(document, chance)
        entry.value = json.dumps(document.get(""))
    except (ValueError, UnicodeError):
        entry.value = edit_bytes(entry.value.encode(), chance).decode("latin-1")
    onnx.save(network, model)
    return f"metadata {entry.key}"


def check(number: int, seed: int, base: Path, work: Path, show: bool) -> tuple[list[str], str, list[str]]:
    """Make one case and run it; return what went wrong, its outcome, and the codes of its errors."""
    chance = random.Random(f"{seed}/{number}")
    kinds = artefacts()
    artefact = kinds[number % len(kinds)]
    place = Path(tempfile.mkdtemp(prefix=f"case-{number}-", dir=work)) / "folder"
    shutil.copytree(base, place, symlinks=True)
    (place / "tmp").mkdir()
    outside = place.parent / "victim"
    outside.write_text("{}")
    did = edit(artefact, place, chance)
    command = chance.choice(artefact.commands)
    file = place / artefact.file
    edited = file.read_bytes() if artefact.kept and file.is_file() and file.stat().st_size < 1 << 24 else None
    start = time.monotonic()
    mark = f"{os.getpid()}-{number}"
    variables = {forked_command.MARK: mark, **_environment(place / "tmp")}
    status, said = forked_command.run(command, place, place.parent / "said.txt", variables)
    faults = _faults(status, said)
    if left := forked_command.strays(mark):
        faults.append(f"processes left: {left}")
    if (
        sorted(path.name for path in place.parent.iterdir()) != ["folder", "said.txt", "victim"]
        or outside.read_text() != "{}"
    ):
        faults.append("files outside the folder changed")
    if edited is not None and (not file.is_file() or file.read_bytes() != edited):
        faults.append("the edited file was changed")
    outcome = f"status {status}"
    if show:
        print(
            f"{number} {did}: deploycc {' '.join(command)}: {outcome}, {time.monotonic() - start:.1f} s\n{said[-3000:]}"
        )
    wrong = [f"{number} {did}, {' '.join(command)}: {fault}\n    {said[-400:]!r}" for fault in faults]
    if not wrong:
        shutil.rmtree(place.parent, ignore_errors=True)
    return wrong, outcome, CODE.findall(said)[:1]


def _environment(temporary: Path) -> dict[str, str]:
    folders = ("TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME")
    return {"COLUMNS": "200", **dict.fromkeys(folders, str(temporary))}


def _faults(status: int, said: str) -> list[str]:
    faults = []
    if status in (-signal.SIGXCPU, -signal.SIGKILL):
        faults.append("hang")
    elif status not in (0, 1, 2, 3, 4):
        faults.append(f"exit status {status}")
    if "MemoryError" in said or "error[out-of-memory]" in said:
        faults.append("memory")
    elif "Traceback" in said:
        faults.append("traceback")
    if not said.replace("\n", "").isprintable():
        faults.append("control characters on the terminal")
    if status == 0 and NOT_FINITE.search(said):
        faults.append("a figure that is not finite")
    return faults


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, nargs="*", help="numbers of cases to repeat, with what they say")
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.make:
        make_base(chosen.make)
        return 0
    work = Path(tempfile.mkdtemp(prefix="fuzz-documents-"))
    base = work / "base"
    subprocess.run(
        [sys.executable, __file__, "--make", str(base)],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    forked_command.import_all()
    outcomes: collections.Counter[str] = collections.Counter()
    refusals: collections.Counter[str] = collections.Counter()
    wrong: list[str] = []
    start = time.monotonic()
    numbers = chosen.only or range(chosen.first, chosen.first + chosen.count)
    for number in numbers:
        faults, outcome, codes = check(number, chosen.seed, base, work, bool(chosen.only))
        for fault in faults:
            print(fault, flush=True)
        wrong += faults
        outcomes[outcome] += 1
        refusals.update(codes)
    print(", ".join(f"{outcome}: {count}" for outcome, count in outcomes.most_common()))
    print("refusals: " + ", ".join(f"{code}: {count}" for code, count in refusals.most_common()))
    print(f"{len(numbers)} documents, {time.monotonic() - start:.0f} s")
    print(f"{len(wrong)} faults" + (f"; their folders are in {work}" if wrong else ""))
    if not wrong:
        shutil.rmtree(work)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
