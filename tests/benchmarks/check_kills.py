"""Is an output folder always the old or the new one, whole, wherever `compile` is killed?

Goal: after each of 200 kills (SIGKILL) and the next start, the folder holds the old or the new output, every file as its
manifest lists it, a file of the user's, and nothing else. Half of the kills come at a random moment, half at a random
call that opens, makes, renames or removes a file: most of those are where the old output is replaced.
"""

from __future__ import annotations

import argparse
import collections
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import deploycc
from deploycc.detector import Detector
from deploycc.documents.compile import read_compile_report
from deploycc.documents.document import read_document
from deploycc.documents.folder import FolderManifest
from deploycc.files import sha256_of
from deploycc.workflows.chain import check_chain

MODEL = Path(__file__).parents[1] / "models" / "tiny_ssd.prototxt"
SETTINGS = deploycc.CompileSettings(build=False, verify=False)
OLD, NEW = 1, 2  # seeds of the weights
CALLS = frozenset({"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.chmod", "shutil.rmtree"})


def compile_into(detector: Detector, folder: Path, kill_at: int | None, calls: str | None = None) -> None:
    """Compile in this process, which ends itself at one of its calls."""
    done = 0

    def count(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal done
        if event not in CALLS or not any(str(folder) in str(each) for each in arguments[:2]):
            return
        done += 1
        if done == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    deploycc.compile(detector, "x86-cpu", folder, SETTINGS)
    if calls is not None:
        Path(calls).write_text(str(done), encoding="utf-8")


def faults_of(folder: Path) -> tuple[list[str], int]:
    """Return what is wrong with a folder after the next start, and whose output it holds."""
    check_chain(folder)  # as every reader starts
    listed = read_document(folder, FolderManifest).digests()
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
    faults = [f"{name} is left" for name in names - {*listed, "mine.txt", FolderManifest.FILE_NAME}]
    faults += [f"{name} is missing" for name in {*listed, "mine.txt"} - names]
    faults += [f"{name} is changed" for name in names & listed.keys() if sha256_of(folder / name) != listed[name]]
    seed = read_compile_report(folder).source.random_weights
    return faults, seed if seed is not None else -1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    chance = random.Random(chosen.seed)
    fork = multiprocessing.get_context("fork")
    work = Path(tempfile.mkdtemp(prefix="check-kills-"))
    base, folder = work / "base", work / "out"
    old, new = (deploycc.load(MODEL, random_weights=seed) for seed in (OLD, NEW))
    deploycc.compile(old, "x86-cpu", base, SETTINGS)
    (base / "mine.txt").write_text("mine", encoding="utf-8")
    shutil.copytree(base, folder)
    start = time.monotonic()
    whole = fork.Process(target=compile_into, args=(new, folder, None, str(work / "calls")))
    whole.start()
    whole.join()
    seconds, calls = time.monotonic() - start, int((work / "calls").read_text(encoding="utf-8"))
    print(f"one compilation: {seconds:.2f} s, {calls} calls", flush=True)
    found: collections.Counter[str] = collections.Counter()
    wrong = 0
    for number in range(chosen.count):
        shutil.rmtree(folder)
        shutil.copytree(base, folder)
        at_call = number % 2 == 0
        process = fork.Process(target=compile_into, args=(new, folder, chance.randint(1, calls) if at_call else None))
        process.start()
        process.join(None if at_call else chance.uniform(0, 1.1 * seconds))
        process.kill()
        process.join()
        faults, seed = faults_of(folder)
        held = {OLD: "old", NEW: "new"}.get(seed, "neither")
        found[f"{held} after a kill at a {'call' if at_call else 'moment'}"] += 1
        for fault in (*faults, *(["neither output"] if held == "neither" else [])):
            print(f"kill {number}: {fault}", flush=True)
            wrong += 1
    for name, times in sorted(found.items()):
        print(f"{times} x {name}")
    print(f"{chosen.count} kills, {wrong} faults")
    shutil.rmtree(work)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
