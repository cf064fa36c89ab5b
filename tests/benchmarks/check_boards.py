"""Does every target go through: compile, push, build, measure, pull, report?

Goals: each target's engine is built and measured at the other end of an OpenSSH connection, by the programs, flags and
file formats of that target's release, and the report shows the median; every way in which a build fails is diagnosed,
and leaves no job and no lock on the board.

The boards are simulated (`tests/helpers/simulated_board`): no figure here is a board's. `x86-cpu` is this machine, and
`x86-rtx` is built where its builder is installed, and has no GPU to run on.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))

import ssh_server
from simulated_board import board as simulated
from simulated_board.board import Board
from simulated_board.stacks import STACKS

import deploycc
from deploycc import target as targets
from deploycc.agent import device_lock
from deploycc.agent_host import ssh
from deploycc.agent_host.devices import Device, find
from deploycc.agent_host.remote import Step, on_device
from deploycc.errors import DeployError
from deploycc.workflows.rebuild import build_folder

MODEL = Path(__file__).parents[1] / "models" / "tiny_ssd.prototxt"
REFUSALS = {
    "memory": "out of memory",
    "parse": "Plugin not found",
    "refuse": "could not find any implementation",
    "crash": "was killed by signal 11",
    "empty": "without an engine",
}


class Campaign:
    """Boards behind one server."""

    def __init__(self, folder: Path, server: ssh_server.Server, quick: bool) -> None:
        self.folder, self.server, self.quick, self.failures = folder, server, quick, list[str]()
        self.detector = deploycc.load(MODEL, random_weights=1)

    def attempt(self, what: str, do: Callable[[], str]) -> None:
        """Do something, and report it."""
        start = time.perf_counter()
        try:
            said = do()
        except Exception as error:  # a campaign goes on
            self.failures.append(what)
            print(f"FAILED  {what}: {type(error).__name__}: {error}", flush=True)
        else:
            print(f"held    {what}: {said} ({time.perf_counter() - start:.1f} s)", flush=True)

    def board(self, name: str) -> Board:
        """Return a new board."""
        return simulated.make(self.folder / f"board {name}", name, build_s=0.3)

    def device(self, name: str, python: str) -> None:
        """Make a board the one in ``devices.toml``."""
        fields = {"url": self.server.url, "target": name, "python": python, "store": str(self.folder / f"store {name}")}
        fields["lock"] = str(self.folder / f"lock {name}")
        rows = [f"{key} = {json.dumps(value)}" for key, value in fields.items()]
        Path("devices.toml").write_text("\n".join(["[board]", *rows]) + "\n")

    def board_device(self) -> Device:
        """Return the device that ``devices.toml`` names."""
        [device] = find("board")
        return device

    def compile(self, name: str, out: str) -> None:
        """Compile for the device."""
        shutil.rmtree(out, ignore_errors=True)
        settings = deploycc.CompileSettings(device="board", threads=1, quick=self.quick)
        for _ in deploycc.compile(self.detector, [name], out, settings):
            pass

    def check_clean(self, name: str) -> None:
        """No job is left on the board, and nobody holds its lock."""
        left = [path.name for path in (self.folder / f"store {name}" / "jobs").iterdir()]
        assert left == [], left
        holder = device_lock.holder_of(str(self.folder / f"lock {name}"))
        assert holder is None, holder

    def check_target(self, name: str) -> str:
        """Compile for a target, on its board."""
        self.device(name, sys.executable if name not in STACKS else self.board(name).python)
        out = f"out {name}"
        try:
            self.compile(name, out)
        except DeployError as error:
            if name != "x86-rtx" or error.code != "not-measured":
                raise
        report = deploycc.read_report(out)
        self.check_clean(name)
        facts = targets.load(name)
        assert [engine.precision for engine in report.compiled.engines] == list(facts.precisions)
        for engine in report.compiled.engines:
            assert engine.status == "built", engine.reason
        if name == "x86-rtx":
            return f"built with {report.compiled.engines[0].builder_version}, not run: no GPU"
        assert report.latency is not None
        for run in report.latency.runs:
            assert run.status == "measured", run.reason
            assert run.engine is not None
            if name in STACKS:
                assert run.engine.runtime_version == STACKS[name].tensorrt
        median = report.median_ms(facts.precisions[0])
        assert median is not None
        assert f"{median:.3g}"[:3] in Path(out, "report.md").read_text()
        return f"median {median:.3f} ms of {len(report.latency.runs[0].samples_ms)} samples"

    def check_refusals(self, name: str) -> None:
        """Let the builder of a board fail in every way."""
        board = Board(STACKS[name], self.folder / f"board {name}")
        self.device(name, board.python)
        for behaviour, expected in REFUSALS.items():

            def do(behaviour: str = behaviour, expected: str = expected) -> str:
                board.change(behaviour=behaviour)
                shutil.copytree(f"out {name}", f"out {behaviour}")
                said = ""
                try:
                    with on_device(self.board_device(), Path(f"out {behaviour}"), (Step("build"),)) as session:
                        build_folder(Path(f"out {behaviour}"), lambda *_: None, session)
                except DeployError as error:
                    said = str(error.note)
                assert expected in said, said
                self.check_clean(name)
                return expected

            self.attempt(f"{name}, a build that fails: {behaviour}", do)
        board.change(behaviour="garbage")
        self.attempt(f"{name}, garbage on the output", lambda: self.check_target_again(name))

    def check_target_again(self, name: str) -> str:
        """Compile for a board that is there already."""
        self.compile(name, "out again")
        self.check_clean(name)
        return "built and measured"


def main() -> int:
    """Check every target, and every failure on one board."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", metavar="TARGET", action="append", help="this target (default: all)")
    parser.add_argument("--whole", action="store_true", help="measure for 10 s each instead of half a second")
    arguments = parser.parse_args()
    if ssh_server.MISSING:
        print(f"needs OpenSSH: {ssh_server.MISSING}")
        return 1
    names = arguments.only or targets.names()
    if importlib.util.find_spec("tensorrt_rtx") is None and not arguments.only:
        names.remove("x86-rtx")
        print("skipped x86-rtx: its builder is not installed")
    with tempfile.TemporaryDirectory(prefix="boards-") as temporary:
        folder = Path(temporary)
        (folder / "sshd").mkdir()
        server, process = ssh_server.start(folder / "sshd")
        os.environ[ssh.PROGRAM] = str(server.ssh)
        here = Path.cwd()
        os.chdir(folder)
        try:
            campaign = Campaign(folder, server, quick=not arguments.whole)
            for name in names:
                campaign.attempt(name, lambda name=name: campaign.check_target(name))  # type: ignore[misc]
            if arguments.only is None or "jetson-orin-jp62" in arguments.only:
                campaign.check_refusals("jetson-orin-jp62")
        finally:
            os.chdir(here)
            process.terminate()
            process.wait()
    print(f"{len(campaign.failures)} failed" + (": " + ", ".join(campaign.failures) if campaign.failures else ""))
    return 1 if campaign.failures else 0


if __name__ == "__main__":
    raise SystemExit(main())
