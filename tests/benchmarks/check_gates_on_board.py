"""Does planning gates on a device follow a board's own times, with as few engines as it says, and within a budget?

On a simulated Jetson TX2 behind OpenSSH, whose trtexec starts anew for each engine and picture. Wanted: the engines that
were announced, or fewer, none of them built twice; a plan that names the board; with the same cost file only engines of
the whole network; a budget that is too short is said, and what was measured until then is not measured again. Where one
gate decides for two layers, two networks in a row are timed as well, each by itself. Nothing is left on the board. Takes
about five minutes on one core.

The board is simulated (`tests/helpers/simulated_board`): no figure here is a board's.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "helpers"))

import ssh_server
from profiled_gates import write_profiled
from shared_gates import write_shared
from simulated_board import board as simulated
from simulated_board.board import Board

import deploycc
from deploycc import target
from deploycc.agent import device_lock
from deploycc.agent_host import ssh
from deploycc.documents.costs import GateCostTable
from deploycc.documents.document import read_document
from deploycc.documents.gate_plan import GatePlan
from deploycc.documents.gates import GateReport
from deploycc.documents.utilisation import read_profile
from deploycc.errors import BudgetMissed
from deploycc.progress import quiet
from deploycc.workflows.cost_files import kept_gate_costs
from deploycc.workflows.device_timer import timer_on
from deploycc.workflows.gates import plan_gates
from deploycc.workflows.pictures import open_pictures

TARGET = "jetson-tx2-jp461"
COSTS = Path("costs.json")


class Runs:
    """Plans made on one board."""

    def __init__(self, board: Board, model: str, profile: str) -> None:
        self.board, self.problems = board, 0
        self.take(model, profile)

    def take(self, model: str, profile: str) -> None:
        """Plan for this network from now on."""
        self.model, self.profile = Path(model), read_profile(Path(profile))

    def gates(self, out: str, budget_s: float | None = None) -> tuple[str, str, int]:
        """Return the code of the error, what was announced, and how many engines were built."""
        log, said, code = self.board.bin / "calls.jsonl", list[str](), ""
        log.unlink(missing_ok=True)
        start = time.perf_counter()
        detector, chosen = deploycc.load(self.model), target.load(TARGET)
        try:
            with timer_on("board", chosen, 0, quiet) as timer, kept_gate_costs(COSTS, timer) as costs:
                planning = plan_gates(
                    detector,
                    self.profile,
                    target=chosen,
                    pictures=open_pictures(Path("few"), detector.input),
                    costs=costs,
                    max_worst_case=50.0,
                    max_time=50.0,
                    max_growth=10.0,
                    seconds=1.0,
                    budget_s=budget_s,
                    tell=said.append,
                )
            planning.write(Path(out))
        except BudgetMissed as missed:
            code = missed.code
        calls = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
        built = sum(any(word.startswith("--saveEngine") for word in call) for call in calls)
        took_s = time.perf_counter() - start
        print(f"{out}: {code or 'planned'}, {built} engines built, {len(calls)} starts, {took_s:.0f} s", flush=True)
        print(*said, sep="\n", flush=True)
        return code, " ".join(said), built

    def hold(self, what: str, *, holds: bool) -> None:
        """Count what does not hold."""
        self.problems += not holds
        print(f"{'held   ' if holds else 'FAILED '} {what}", flush=True)


def announced(text: str) -> tuple[int, int]:
    """Return the engines for costs and of whole networks that were announced."""
    match = re.search(r"builds (\d+) engines for costs and at most (\d+) of the whole network", text)
    return (int(match[1]), int(match[2])) if match else (-9, -9)


def check(runs: Runs) -> None:
    code, _, built = runs.gates("short", 1.0)
    runs.hold("a budget that is over is said", holds=code == "gates-budget")
    runs.hold("one engine was built by then", holds=built == 1)
    code, said, built = runs.gates("whole")
    costs, whole = announced(said)
    runs.hold("the gates are planned", holds=code == "")
    runs.hold("no more engines than announced, and the first", holds=costs < built <= costs + whole + 1)
    plan, report = read_document(Path("whole"), GatePlan), read_document(Path("whole"), GateReport)
    runs.hold("the plan is measured on the board", holds=plan.evidence.kind == "measured")
    named = plan.evidence.source.startswith("board, ") and "tensorrt 8.2.1" in plan.evidence.source
    runs.hold("and names it", holds=named)
    runs.hold("the report holds times of pictures", holds=report.timings is not None)
    table = read_document(COSTS, GateCostTable)
    runs.hold("every cost is in the table", holds=len(table.operations) == 15 and len(table.convolutions) > 0)
    code, said, built = runs.gates("again")
    costs, whole = announced(said)
    runs.hold("known costs need no engine", holds=code == "" and costs == 0 and built <= whole + 1)
    runs.hold("and stay as they were", holds=read_document(COSTS, GateCostTable) == table)


def check_in_a_row(runs: Runs) -> None:
    code, said, built = runs.gates("shared")
    costs, whole = announced(said)
    runs.hold("the shared gate is planned", holds=code == "")
    runs.hold("its networks are among the engines announced", holds=built <= costs + whole + 1)
    record = read_document(Path("shared"), GateReport).staged
    runs.hold("two networks in a row are timed", holds=record is not None and record.evidence.kind == "measured")
    runs.hold("each by itself, and the report says so", holds=record is not None and record.composed)


def main() -> int:
    """Check on one board."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    if ssh_server.MISSING:
        print(f"needs OpenSSH: {ssh_server.MISSING}")
        return 1
    here = Path.cwd()
    with tempfile.TemporaryDirectory(prefix="gates-") as folder:
        os.chdir(folder)
        Path("sshd").mkdir()
        server, process = ssh_server.start(Path("sshd").resolve())
        os.environ[ssh.PROGRAM] = str(server.ssh)
        try:
            board = simulated.make(Path("board").resolve(), TARGET, build_s=0.0, longest_s=0.05)
            store, lock = Path("store").resolve(), Path("lock").resolve()
            fields = {
                "url": server.url,
                "target": TARGET,
                "python": board.python,
                "store": str(store),
                "lock": str(lock),
            }
            rows = [f"{key} = {json.dumps(value)}" for key, value in fields.items()]
            Path("devices.toml").write_text("\n".join(["[board]", *rows]) + "\n")
            model, profile, _ = write_profiled(Path())
            Path("few").mkdir()
            for name in ("0.png", "5.png"):
                Path("few", name).symlink_to(Path("pictures", name).resolve())
            runs = Runs(board, model, profile)
            check(runs)
            Path("two").mkdir()
            runs.take(*write_shared(Path("two"))[:2])
            for name in ("0.png", "5.png"):
                Path("few", name).unlink()
                Path("few", f"0{name}").symlink_to(Path("two", "pictures", f"0{name}").resolve())
            check_in_a_row(runs)
            runs.hold("no job is left on the board", holds=list((store / "jobs").iterdir()) == [])
            runs.hold("and nobody holds it", holds=device_lock.holder_of(str(lock)) is None)
        finally:
            os.chdir(here)
            process.terminate()
            process.wait()
    print(f"{runs.problems} failed")
    return 1 if runs.problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
