"""Does every target go through: compile, push, build, measure, pull, report?

Goals: each target's engine is built and measured at the other end of an OpenSSH connection, by the programs, flags and
file formats of that target's release, and the report shows the median; every way in which a build fails is diagnosed,
and leaves no job and no lock on the board. An FP16 engine that answers with zeros is refused by the smoke test, and
gets through where the smoke test is taken out.

The boards are simulated (`tests/helpers/simulated_board`): no figure here is a board's. `x86-cpu` is this machine, and
`x86-rtx` is built where its builder is installed, and has no GPU to run on.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.resources
import importlib.util
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

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
from deploycc.agent_host.zipapp import agent_bytes
from deploycc.detector import Detector
from deploycc.documents.build import read_build_result
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
SMOKE_CHECK = "smoke.check(plan, network, folder, answers.of(plan, network, built, board))"


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

    def board(self, name: str, word: str = "board") -> Board:
        """Return a new board, in a folder that its target and a word name."""
        return simulated.make(self.folder / f"{word} {name}", name, build_s=0.3)

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

    def compile(self, name: str, out: str, detector: Detector | None = None) -> None:
        """Compile a detector, or the small network, for the device."""
        shutil.rmtree(out, ignore_errors=True)
        settings = deploycc.CompileSettings(device="board", threads=1, quick=self.quick)
        for _ in deploycc.compile(detector or self.detector, [name], out, settings):
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
        self.check_smoke(name, out)
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

    def check_smoke(self, name: str, out: str) -> None:
        """Every engine that can be asked on its board saw the pictures of the smoke test."""
        rows = [row.smoke for row in read_build_result(Path(out)).engines if row.smoke is not None]
        expected = "not-run" if name == "x86-rtx" else "passed"
        assert rows, "no pictures came with the folder"
        assert {row.status for row in rows} == {expected}, [row.reason for row in rows]

    def check_zeros(self, name: str) -> None:
        """Let the builder of a board write FP16 engines that answer with zeros, without a word of it."""
        board, trained = self.board(name, "zeros"), deploycc.load("street_ssd")
        self.device(name, board.python)
        self.compile(name, "whole", trained)
        before = Path("whole/engine-fp16.engine").read_bytes()
        board.change(behaviour="fp16_zeros")

        def refused(do: Callable[[], None]) -> str:
            said = DeployError("", "an engine that detects nothing was built")
            try:
                do()
            except DeployError as error:
                said = error
            assert "detects nothing" in str(said.note), said
            assert "FP32" in str(said.hint), said.hint
            self.check_clean(name)
            return str(said.note)

        def build() -> None:
            folder = Path("whole")
            with on_device(self.board_device(), folder, (Step("build"),)) as session:
                build_folder(folder, lambda *_: None, session)

        self.attempt(f"{name}, FP16 zeros, compile", lambda: refused(lambda: self.compile(name, "zeros", trained)))
        self.attempt(f"{name}, FP16 zeros, build", lambda: refused(build))
        engine = Path("whole/engine-fp16.engine")
        assert not engine.exists() or engine.read_bytes() == before, "a broken engine lies in the folder"

        def without() -> str:
            with self.agent_without_smoke():
                self.compile(name, "unseen", trained)
            rows = read_build_result(Path("unseen")).engines
            assert [row.status for row in rows] == ["built", "built"]
            return "built, so the smoke test is what refuses it"

        self.attempt(f"{name}, FP16 zeros, agent without its smoke test", without)

    @contextlib.contextmanager
    def agent_without_smoke(self) -> Iterator[None]:
        """Pack agents that believe every engine."""
        files = importlib.resources.files
        copy = Path(shutil.copytree(str(files("deploycc.agent")), self.folder / "believing"))
        build_job = copy / "build_job.py"
        assert build_job.read_text().count(SMOKE_CHECK) == 1
        build_job.write_text(build_job.read_text().replace(SMOKE_CHECK, "None"))
        with mock.patch.object(importlib.resources, "files", lambda of: copy if of == "deploycc.agent" else files(of)):
            agent_bytes.cache_clear()  # a process packs the agent once
            yield
        agent_bytes.cache_clear()

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
            if arguments.only is None or "jetson-tx2-jp461" in arguments.only:
                campaign.check_zeros("jetson-tx2-jp461")
        finally:
            os.chdir(here)
            process.terminate()
            process.wait()
    print(f"{len(campaign.failures)} failed" + (": " + ", ".join(campaign.failures) if campaign.failures else ""))
    return 1 if campaign.failures else 0


if __name__ == "__main__":
    raise SystemExit(main())
