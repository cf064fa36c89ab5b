"""Do two boards of a pool finish two jobs at the same time, and does nothing get lost where the command is interrupted?

Goals: `build` and `bench --apart` of two folders run on both boards at once, and each board's results come to their
folder; `compile` for two targets uses a board of each; where a board is away, the other one does all the work; Ctrl-C
detaches from both boards at once, and attaching to each brings its results home.

The boards are simulated (`tests/helpers/simulated_board`), behind one OpenSSH server.

    python tests/benchmarks/check_board_pool.py
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))

import ssh_server
from simulated_board import board as simulated

from deploycc.agent_host import ssh
from deploycc.documents.build import read_build_result
from deploycc.documents.compile import read_compile_report
from deploycc.documents.latency import read_latency_report

MODEL = Path(__file__).parents[1] / "models" / "tiny_ssd.prototxt"
TX2, XAVIER = "jetson-tx2-jp461", "jetson-xavier-jp512"
BUILD_S = 4.0
LIMIT_S = 900


def run(*words: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    """Run a command of deploycc, which must end with a status."""
    command = [sys.executable, "-m", "deploycc", *words]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LIMIT_S)
    assert ended.returncode == status, f"{words[0]} ended with {ended.returncode}: {ended.stderr[-1500:]}"
    return ended


def compiled(*outs: str) -> None:
    for out in outs:
        run("compile", str(MODEL), "--random-weights", "1", "-t", TX2, "-p", "fp32", "--quick", "-o", out, "--no-build")


def place(name: str, target: str, url: str) -> str:
    """Make a board, and return its row of devices.toml."""
    board = simulated.make(Path(f"board {name}").resolve(), target, build_s=BUILD_S)
    fields = {"url": url, "target": target, "python": str(board.python)}
    fields |= {key: str(Path(f"{key} {name}").resolve()) for key in ("store", "lock")}
    return f"[{name}]\n" + "\n".join(f"{key} = {json.dumps(value)}" for key, value in fields.items())


def boards_of(*outs: str) -> set[str]:
    """Return the boards that built and measured the engines of folders."""
    found = set()
    for out in outs:
        assert all(engine.status == "built" for engine in read_build_result(Path(out)).engines), out
        latency = read_latency_report(Path(out))
        assert all(measured.status == "measured" for measured in latency.runs), out
        found.add(json.dumps(latency.environment, default=str, sort_keys=True))
    return found


def boards_said(said: str) -> dict[str, str]:
    """Return the board of each folder, as a command said it."""
    return dict(re.findall(r"note: (\S+): done on (\S+)", said))


def jobs_left() -> list[Path]:
    return [path for store in Path().glob("store *") for path in (store / "jobs").glob("*")]


def at_the_same_time() -> str:
    compiled("one", "two")
    start = time.monotonic()
    run("build", "one", "--device", "tx2a")
    alone_s = time.monotonic() - start
    compiled("one")
    start = time.monotonic()
    said = run("build", "one", "two", "--device", TX2).stderr
    both_s = time.monotonic() - start
    assert both_s < alone_s + BUILD_S * 0.75, f"two folders took {both_s:.1f} s, one {alone_s:.1f} s"
    assert sorted(boards_said(said).values()) == ["tx2a", "tx2b"], said
    run("bench", "one", "two", "--apart", "--device", TX2)
    boards_of("one", "two")
    assert not jobs_left()
    return f"one folder takes {alone_s:.1f} s, two take {both_s:.1f} s, with {BUILD_S:g} s in the builder each"


def two_targets() -> str:
    words = ["compile", str(MODEL), "--random-weights", "1", "-t", TX2, "-t", XAVIER, "-p", "fp32", "--quick"]
    run(*words, "-o", "targets", "--device", "tx2a,tx2b,xavier")
    for target in (TX2, XAVIER):
        assert read_compile_report(Path("targets", target)).target.name == target
        boards_of(f"targets/{target}")
    assert not jobs_left()
    return "each is built and measured on a board of its own"


def one_board_away() -> str:
    compiled("three", "four")
    said = run("build", "three", "four", "--device", "away,tx2b").stderr
    assert boards_said(said) == {"three": "tx2b", "four": "tx2b"}, said
    return "the other one builds both folders"


def interrupted() -> str:
    compiled("five", "six")
    words = [sys.executable, "-m", "deploycc", "build", "five", "six", "--device", TX2]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    last = time.monotonic() + LIMIT_S
    while len(jobs_left()) < 2 and time.monotonic() < last:
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    asked = time.monotonic()
    _, said = process.communicate(timeout=LIMIT_S)
    took_s = time.monotonic() - asked
    assert process.returncode == 130, (process.returncode, said)
    for name in ("tx2a", "tx2b"):
        assert f"goes on on {name}" in said, said
        run("device", "attach", name)
    for out in ("five", "six"):
        assert all(engine.status == "built" for engine in read_build_result(Path(out)).engines)
    assert not jobs_left()
    return f"detached from both within {took_s:.1f} s, and attached to each"


CHECKS: dict[str, Callable[[], str]] = {
    "two boards at the same time": at_the_same_time,
    "two targets on a mixed pool": two_targets,
    "a board that is away": one_board_away,
    "Ctrl-C": interrupted,
}


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter).parse_args()
    failed = 0
    with tempfile.TemporaryDirectory(prefix="deploycc-pool-") as name:
        os.chdir(name)
        keys = Path("sshd")
        keys.mkdir()
        server, process = ssh_server.start(keys.resolve())
        os.environ[ssh.PROGRAM] = str(server.ssh)
        rows = [
            place(name, target, server.url) for name, target in {"tx2a": TX2, "tx2b": TX2, "xavier": XAVIER}.items()
        ]
        rows.append(f'[away]\nurl = "ssh://127.0.0.1:1"\ntarget = "{TX2}"\n')
        Path("devices.toml").write_text("\n".join(rows[:3]))
        try:
            for what, check in CHECKS.items():
                Path("devices.toml").write_text("\n".join(rows if "away" in what else rows[:3]))
                try:
                    print(f"held    {what}: {check()}", flush=True)
                except Exception as error:  # a campaign goes on
                    failed += 1
                    print(f"FAILED  {what}: {type(error).__name__}: {error}", flush=True)
        finally:
            process.terminate()
            process.wait()
            os.chdir("/")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
