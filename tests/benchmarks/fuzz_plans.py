"""Folders from elsewhere: hostile plans and edited results, given to the agent and to deploycc.

Most edits compute every digest anew, so that the readers behind the chain of digests are reached.

    python tests/benchmarks/fuzz_plans.py --count 500

Goals, for every command: no traceback and no exit status 70, no process over 20 s of
processor time, no control character on the terminal, no
file outside the folder made, changed or removed, no process and no temporary file left. Exits 1 where one is missed;
the folder of the case is kept then.
"""

from __future__ import annotations

import argparse
import collections
import concurrent.futures
import json
import multiprocessing
import os
import platform
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "helpers"))
import fake_trtexec
import forked_command
from document_edits import digests, edit_bytes, edit_values, reseal

import deploycc
from deploycc import CompileSettings, target
from deploycc.agent_host import local
from deploycc.documents.plan import Measurement, read_plan
from deploycc.workflows.rebuild import bench_folder, build_folder
from deploycc.workflows.staging import revised_folder

BASES = ("x86-cpu", "jetson-tx2-jp461")
SEAL = "content_sha256"
ONNX_RUNTIME = {".ses"}  # which the library leaves in the temporary folder
DOCUMENTS = ("plan.json", "contract.json", "build.json", "latency.json", "compile.json", "deploycc-manifest.json")
IN_ORDER = (  # each before the documents that name it
    *("network-fp32.onnx", "engine-fp32.onnx", "engine-fp32.engine"),
    *DOCUMENTS,
)
CODE = re.compile(r"error\[([\w-]+)\]")
COMMANDS = {
    "agent build": ("agent.pyz", "build", "{folder}/plan.json"),
    "agent bench": ("agent.pyz", "bench", "{folder}/plan.json"),
    "deploycc build": ("build", "{folder}"),
    "deploycc bench": ("bench", "{folder}"),
    "deploycc report show": ("report", "show", "{folder}"),
    "deploycc report check": (
        *("report", "check", "{folder}", "{folder}"),
        *("--max-regression", "5%", "--max-macs", "1%", "--max-size", "1%", "--accept-invalid"),
    ),
}
ALLOWED = {"agent": {0, 1, 4, 5}, "deploycc": {0, 1, 3, 4}}


def make_bases(folder: Path) -> None:
    """Make two compiled, built and measured folders: for this processor, and for a board whose trtexec is simulated."""
    detector = deploycc.load("street_ssd")
    for name in BASES:
        chosen = target.load(name).model_copy(update={"architecture": platform.machine()})
        base = folder / name
        settings = CompileSettings(precisions=("fp32",), build=False, quick=True, threads=1)
        deploycc.compile(detector, chosen, base, settings)
        short = Measurement(warmup_s=0.01, min_duration_s=0.05, min_samples=10, quick=True)
        with revised_folder(base) as change:
            before = digests(base, IN_ORDER)
            for name in ("contract.json", "compile.json"):
                shutil.copy(base / name, change.new / name)
            read_plan(base).model_copy(update={"measurement": short}).write(change.new / "plan.json")
            reseal(change.new, IN_ORDER, before)
        build_folder(base, lambda *said: None)
        local.check_measured(bench_folder(base, lambda *said: None), every=True)


def edit(folder: Path, chance: random.Random) -> str:
    """Edit values or bytes of a document; most often every digest is then computed anew."""
    name = chance.choice(DOCUMENTS)
    before = digests(folder, IN_ORDER)
    path = folder / name
    if chance.random() < 0.25:
        path.write_bytes(edit_bytes(path.read_bytes(), chance))
        did = f"bytes of {name}"
    else:
        document = json.loads(path.read_text())
        edit_values(document, chance)
        if isinstance(document.get(SEAL), str) and chance.random() < 0.1:
            del document[SEAL]
        path.write_text(json.dumps(document))
        did = f"values of {name}"
    if chance.random() < 0.9:
        reseal(folder, IN_ORDER, before)
        did += ", digests computed anew"
    return did


def plant(folder: Path, chance: random.Random) -> str:
    """Put links, devices, pipes, folders and modules where files of the folder belong."""
    outside = folder.parent / "victim.json"
    names = [*DOCUMENTS, *(f"{name}.partial" for name in DOCUMENTS), "agent.pyz", "report.md", "report.html"]
    names += [path.name for path in folder.iterdir()] + ["engine-fp32.onnx.partial", "engine-fp32.engine.times.partial"]
    name = chance.choice(names)
    path = folder / name
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    kind = chance.choice(("link", "dangling", "pipe", "device", "folder", "huge", "modules", "loop"))
    if kind == "link":
        path.symlink_to(outside)
    elif kind == "dangling":
        path.symlink_to(folder.parent / "made-by-a-link")
    elif kind == "loop":
        path.symlink_to(path)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    elif kind == "huge":
        with path.open("wb") as file:
            file.truncate(3 << 30)
    else:
        for module in ("onnxruntime", "numpy", "json", "tempfile", "tensorrt"):
            (folder / f"{module}.py").write_text(f"open({str(folder.parent / 'ran')!r}, 'w').close()\n")
    return f"{kind} at {name}"


def plant_commands(folder: Path, chance: random.Random) -> str:
    """Name programs and files outside the folder in a plan, as plans of version 0.1 could."""
    document = json.loads((folder / "plan.json").read_text())
    document.pop(SEAL, None)
    command = ["sh", "-c", f"touch {folder.parent / 'ran'}"]
    for engine in document["engines"]:
        engine["commands"] = {
            "build": command,
            "measure": command,
            "profile": command,
            "times_file": chance.choice(("../victim.json", str(folder.parent / "victim.json"), "plan.json")),
            "profile_file": "../victim.json",
            "environment": {"LD_PRELOAD": str(folder / "evil.so"), "PATH": str(folder)},
        }
    document["target"]["trtexec"] = "/bin/sh"
    if chance.random() < 0.5:
        document["engines"][0]["file"] = chance.choice(
            ("../victim.json", "plan.json", "/tmp/x.engine", "engine-a\n.bin")
        )
    before = digests(folder, IN_ORDER)
    (folder / "plan.json").write_text(json.dumps(document))
    reseal(folder, IN_ORDER, before)
    return "commands"


MUTATIONS = [edit] * 8 + [plant] * 2 + [plant_commands]


def snapshot(top: Path, without: Path) -> dict[str, tuple[Any, ...]]:
    """Return what lies in a folder, but for one folder in it."""
    found: dict[str, tuple[Any, ...]] = {}
    for root, folders, names in os.walk(top):
        folders[:] = [name for name in folders if Path(root, name) != without]
        for name in {*folders, *names} - ONNX_RUNTIME:
            path = Path(root, name)
            facts = path.lstat()
            content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
            found[str(path)] = (facts.st_mode, content)
    return found


def run(name: str, folder: Path, mark: str) -> tuple[int, str, float]:
    """Run a command on a folder; return its exit status, negative for a signal, what it said, and its seconds."""
    place = folder.parent
    variables = {"TMPDIR": str(place / "tmp"), forked_command.MARK: mark, "COLUMNS": "200"}
    variables["XDG_CACHE_HOME"] = str(place.parent / f"cache-{os.getpid()}")
    start = time.monotonic()
    command = [word.format(folder=folder) for word in COMMANDS[name]]
    if name.startswith("deploycc"):
        status, said = forked_command.run(command, place, place.parent / f"said-{mark}.txt", variables)
        return status, said, time.monotonic() - start
    with subprocess.Popen(
        [sys.executable, *command],
        cwd=place,
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=forked_command.limit,
    ) as process:
        try:
            output, _ = process.communicate(timeout=forked_command.LIMIT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            output, _ = process.communicate()
    return process.returncode, output.decode("utf-8", "surrogateescape"), time.monotonic() - start


def chosen_commands(number: int, every: bool) -> list[str]:
    """Return the commands of a case: both of the agent's, and one of deploycc's or all."""
    agent, host = list(COMMANDS)[:2], list(COMMANDS)[2:]
    return [*agent, *(host if every else [host[number // 2 % len(host)]])]


def check(number: int, seed: int, base: Path, work: Path, every: bool) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Give one case to every command; return what went wrong, and each command's status, seconds and error code."""
    chance = random.Random(f"{seed}/{number}")
    place = Path(tempfile.mkdtemp(prefix=f"case-{number}-", dir=work))
    folder = place / "folder"
    shutil.copytree(base, folder, symlinks=True)
    (place / "tmp").mkdir()
    (place / "victim.json").write_text("{}")
    shutil.copy(base / "agent.pyz", place / "agent.pyz")
    did = chance.choice(MUTATIONS)(folder, chance)
    mark = f"{os.getpid()}-{number}"
    wrong, runs = [], []
    for name in chosen_commands(number, every):
        before = snapshot(place, folder)
        status, said, seconds = run(name, folder, mark)
        runs.append((name, status, seconds, *CODE.findall(said)[:1]))
        faults = []
        if status in (-signal.SIGXCPU, -signal.SIGKILL):
            limits = f"{forked_command.LIMIT_CPU_S} s of processor time, or {forked_command.LIMIT_S:g} s"
            faults.append(f"took over {limits}")
        elif status not in ALLOWED[name.split()[0]]:
            faults.append(f"exit status {status}")
        if "Traceback" in said:
            faults.append("traceback")
        if not said.replace("\n", "").isprintable():
            faults.append("control characters on the terminal")
        if snapshot(place, folder) != before:
            faults.append("files outside the folder changed")
        left = forked_command.strays(mark)
        if left:
            faults.append(f"processes left: {left}")
        wrong += [f"case {number}, {did}, {name}: {fault}\n    {said[-600:]!r}" for fault in faults]
    if not wrong:
        shutil.rmtree(place, ignore_errors=True)
    return wrong, runs


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--every", action="store_true", help="give each folder to every command")
    chosen = parser.parse_args()
    if chosen.make:
        make_bases(chosen.make)
        return 0
    work = Path(tempfile.mkdtemp(prefix="fuzz-plans-"))
    fake_trtexec.write(work / "bin" / "trtexec")
    os.environ["PATH"] = f"{work / 'bin'}{os.pathsep}{os.environ['PATH']}"
    subprocess.run([sys.executable, __file__, "--make", str(work)], check=True, stdout=subprocess.DEVNULL)
    bases = [work / name for name in BASES]
    forked_command.import_all()
    wrong: list[str] = []
    statuses: dict[str, collections.Counter[int]] = collections.defaultdict(collections.Counter)
    refusals: collections.Counter[str] = collections.Counter()
    slowest = ("", 0.0)
    processes = multiprocessing.get_context("fork")  # without threads, because each of them forks again
    with concurrent.futures.ProcessPoolExecutor(chosen.workers, processes) as pool:
        numbers = range(chosen.first, chosen.first + chosen.count)
        cases = [pool.submit(check, number, chosen.seed, bases[number % 2], work, chosen.every) for number in numbers]
        for case in concurrent.futures.as_completed(cases):
            faults, runs = case.result()
            for fault in faults:
                print(fault, flush=True)
            wrong += faults
            for name, status, seconds, *codes in runs:
                statuses[name][status] += 1
                refusals.update(codes)
                slowest = max(slowest, (name, seconds), key=lambda each: each[1])
    for name, counts in statuses.items():
        print(f"{name}: exit statuses " + ", ".join(f"{status}: {count}" for status, count in counts.most_common()))
    print("refusals: " + ", ".join(f"{code}: {count}" for code, count in refusals.most_common()))
    runs_made = sum(sum(counts.values()) for counts in statuses.values())
    print(f"{chosen.count} folders, {runs_made} runs, slowest {slowest[0]} {slowest[1]:.1f} s")
    print(f"{len(wrong)} faults" + (f"; their folders are in {work}" if wrong else ""))
    if not wrong:
        shutil.rmtree(work)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
