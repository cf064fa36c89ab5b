"""Does `compile --jobs 2` make the folders of one process, and do its processes end with it?

Goals: the same folders but for times, in the same order, with the same exit status, also where a target is refused; a
process that is killed is a diagnosed failure of its targets; Ctrl-C, SIGTERM and SIGKILL leave no process behind.

    python tests/benchmarks/check_compile_jobs.py
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

MODEL = ["street_ssd_lkam"]
TARGETS = ("x86-cpu", "jetson-tx2-jp461", "jetson-orin-jp62", "drive-px2-igpu", "drive-px2-dgpu")
OF_TIMES = {"seconds", "sha256", "size_bytes", "content_sha256", "command", "report_sha256"}
LIMIT_S = 600


def command(out: Path, jobs: int, *more: str) -> list[str]:
    wanted = [word for target in TARGETS for word in ("-t", target)]
    words = ["compile", *MODEL, *wanted, "--no-build", "--jobs", str(jobs), "-o", str(out), *more]
    return [sys.executable, "-m", "deploycc", *words]


def content(path: Path) -> Any:
    def cleared(value: Any, name: str = "") -> Any:
        if isinstance(value, dict):
            return {key: cleared(each, key) for key, each in value.items()}
        if isinstance(value, list):
            return [cleared(each, name) for each in value]
        return None if name in OF_TIMES else value

    if path.suffix == ".json":
        return cleared(json.loads(path.read_text(encoding="utf-8")))
    return None if path.name.startswith("report.") else path.read_bytes()


def folder(root: Path) -> dict[str, Any]:
    return {path.relative_to(root).as_posix(): content(path) for path in root.rglob("*") if path.is_file()}


def children(pid: int) -> list[int]:
    """Return the workers of a process."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            words = (path / "cmdline").read_bytes()
        except (OSError, ValueError, IndexError):
            continue
        if parent == pid and b"spawn_main" in words:
            found.append(int(path.name))
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for_workers(process: subprocess.Popen[str], count: int) -> list[int]:
    last = time.monotonic() + LIMIT_S
    while time.monotonic() < last and process.poll() is None:
        if len(workers := children(process.pid)) >= count:
            time.sleep(2.0)  # so that they are at work
            return workers
        time.sleep(0.1)
    raise SystemExit("no workers came up")


def check_same(scratch: Path, *more: str) -> list[str]:
    one, many = scratch / "one", scratch / "many"
    runs = [
        subprocess.run(command(out, jobs, *more), capture_output=True, text=True, check=False, timeout=LIMIT_S)
        for out, jobs in ((one, 1), (many, 2))
    ]
    problems = []
    if runs[0].returncode != runs[1].returncode:
        problems.append(f"exit status {runs[0].returncode} and {runs[1].returncode}: {runs[1].stderr[-500:]}")
    if runs[0].stdout.replace(str(one), "") != runs[1].stdout.replace(str(many), ""):
        problems.append("folders are named in another order")
    first, second = folder(one), folder(many)
    problems += [f"{name} differs" for name in sorted({*first, *second}) if first.get(name) != second.get(name)]
    return problems


def check_killed_worker(scratch: Path) -> list[str]:
    process = subprocess.Popen(
        command(scratch / "killed", 2), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    workers = wait_for_workers(process, 2)
    os.kill(workers[0], signal.SIGKILL)
    _, said = process.communicate(timeout=LIMIT_S)
    problems = [] if process.returncode == 1 and "compile-worker-lost" in said else [f"ended with {said[-500:]}"]
    return problems + [f"worker {pid} is still there" for pid in workers if alive(pid)]


def check_end(scratch: Path, number: signal.Signals) -> list[str]:
    out = scratch / number.name
    process = subprocess.Popen(command(out, 2), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    workers = wait_for_workers(process, 2)
    process.send_signal(number)  # to the parent alone, as `timeout` and CI do
    start = time.monotonic()
    process.communicate(timeout=LIMIT_S)
    while any(map(alive, workers)) and time.monotonic() < start + 60:
        time.sleep(0.1)
    problems = [f"worker {pid} is still there" for pid in workers if alive(pid)]
    left = [path.name for path in out.rglob("*")] if out.exists() else []
    if number is not signal.SIGKILL and left:
        problems.append(f"it left {left}")
    return problems


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    failed = 0
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        checks = {
            "the same folders": lambda: check_same(scratch),
            "the same where a target is refused": lambda: check_same(scratch / "refused", "--precision", "fp16"),
            "a killed worker": lambda: check_killed_worker(scratch),
            **{
                f"{number.name} to the parent": lambda number=number: check_end(scratch, number)  # type: ignore[misc]
                for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
            },
        }
        for what, check in checks.items():
            problems = check()
            failed += bool(problems)
            print(f"{what}: {'; '.join(problems) or 'ok'}", flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
