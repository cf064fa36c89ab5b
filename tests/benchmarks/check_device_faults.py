"""What becomes of a build and a measurement on a device when something breaks, at many moments?

Goals: after each fault the right result, or a failure that says what happened and the right result at the next try;
never a wrong, partial or lost one; no process, job or file left on the device. An unchanged model of 100 MB is pushed
in under 1 s.

The device is this machine, behind an OpenSSH server of its own on loopback.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))

import ssh_server
from device_campaign import BOTH, Campaign, after, processes

from deploycc.agent_host import local, ssh
from deploycc.agent_host.board import Board, StoredFile
from deploycc.agent_host.devices import Device
from deploycc.agent_host.remote import on_device
from deploycc.errors import DeployError, Detached

PUSH_GOAL_S = 1.0


def check_cuts(campaign: Campaign, cuts: int, whole_s: float) -> None:
    """The link is cut once, at moments that are spread over a run."""
    for number in range(cuts):
        delay_s = whole_s * (number + 0.5) / cuts

        def do(delay_s: float = delay_s) -> None:
            timer = after(delay_s, campaign.server.cut)
            campaign.work(campaign.planned())
            timer.join()

        campaign.attempt(f"link cut after {delay_s:.2f} s", do)


def check_host_killed(campaign: Campaign, times: int, whole_s: float) -> None:
    """The host's process is killed; attaching brings the results, and where no job had started a new run does."""
    for number in range(times):
        delay_s = whole_s * (number + 0.5) / times

        def do(delay_s: float = delay_s) -> None:
            folder = campaign.planned()
            script = (
                "import sys; from device_campaign import BOTH, Device, Path, local, on_device; "
                "device = Device.model_validate_json(sys.argv[1]); folder = Path(sys.argv[2]); "
                "session = on_device(device, folder, BOTH).__enter__(); "
                "local.build(folder, session=session); local.bench(folder, session=session)"
            )
            path = os.pathsep.join([str(Path(__file__).parents[1] / "helpers"), os.environ.get("PYTHONPATH", "")])
            process = subprocess.Popen(
                [sys.executable, "-c", script, campaign.device.model_dump_json(), str(folder)],
                env={**os.environ, "PYTHONPATH": path},
            )
            time.sleep(delay_s)
            process.send_signal(signal.SIGKILL)
            process.wait()
            time.sleep(0.5)
            [*jobs] = campaign.jobs()
            campaign.work(folder, jobs[0] if jobs else None)

        campaign.attempt(f"host killed after {delay_s:.2f} s", do)


def check_job_killed(campaign: Campaign, times: int, whole_s: float) -> None:
    """The job's processes are killed, as by a reboot: that is said, and the next run is right."""
    for number in range(times):
        delay_s = whole_s * (number + 0.5) / times

        def kill() -> None:
            for pid, words in processes():
                if "run-job" in words and campaign.device.store in " ".join(words):
                    os.kill(pid, signal.SIGKILL)

        def do(delay_s: float = delay_s) -> None:
            folder = campaign.planned()
            timer = after(delay_s, kill)
            try:
                campaign.work(folder)
            except DeployError as error:
                if error.code != "device-job-lost":
                    raise
                campaign.work(folder)
            timer.join()

        campaign.attempt(f"job killed after {delay_s:.2f} s", do)


def check_clock_set_back(campaign: Campaign) -> None:
    """The board's clock goes back three days while a job works: its result is right, and so is that of the next one.

    The link is cut, and whatever starts on the board from then on lives in the past.
    """
    site = campaign.folder / "past"
    site.mkdir()
    (site / "sitecustomize.py").write_text("import time\n_now = time.time\ntime.time = lambda: _now() - 3 * 86400\n")
    python = site / "python"
    python.write_text(
        f'#!/bin/sh\nexport PYTHONPATH={shlex.quote(str(site))}\nexec {shlex.quote(sys.executable)} "$@"\n'
    )
    python.chmod(0o755)
    past = campaign.device.model_copy(update={"python": str(python)})
    folder = campaign.planned()
    with contextlib.suppress(DeployError), on_device(campaign.device, folder, BOTH) as session:
        begun: list[str] = []

        def cut(line: str) -> None:
            if not begun:
                begun.extend(campaign.jobs())
                raise KeyboardInterrupt

        with contextlib.suppress(Detached):
            local.build(folder, cut, session)
    [job] = begun
    campaign.work(folder, job, past)
    campaign.work(campaign.planned(), device=past)
    campaign.work(campaign.planned())


def check_clock_jumps_back(campaign: Campaign) -> None:
    """The monotonic clock of each process on the board goes back three days while it works: that is said, if it matters.

    Nothing waits for the time to come again, and the next result is right.
    """
    site = campaign.folder / "jump"
    site.mkdir()
    (site / "sitecustomize.py").write_text(
        "import os, time\n"
        "_real, _at = time.monotonic, time.monotonic() + float(os.environ['JUMP_AFTER_S'])\n"
        "time.monotonic = time.perf_counter = lambda: _real() - (3 * 86400 if _real() > _at else 0)\n"
    )
    for after_s in (0.2, 0.5, 1.0, 2.0):
        python = site / f"python {after_s}"
        variables = f"PYTHONPATH={shlex.quote(str(site))} JUMP_AFTER_S={after_s}"
        python.write_text(f'#!/bin/sh\nexport {variables}\nexec {shlex.quote(sys.executable)} "$@"\n')
        python.chmod(0o755)
        device = campaign.device.model_copy(update={"python": str(python)})

        def do(device: Device = device) -> None:
            start = time.monotonic()
            folder = campaign.planned()
            with on_device(device, folder, BOTH) as session:
                built = local.build(folder, session=session)
                report = local.bench(folder, session=session)
            assert time.monotonic() - start < 60
            assert (built.engines[0].build_seconds or 0) >= 0
            [run] = report.runs
            assert run.status == "measured" or "went backwards" in str(run.reason), run.reason
            assert all(0 < ms < 60_000 for ms in run.samples_ms)
            campaign.work(campaign.planned())

        campaign.attempt(f"monotonic clock goes back after {after_s} s of each process", do)


def check_faked_clocks(campaign: Campaign) -> None:
    """Whatever starts on the board has clocks three days back or ahead, or fast or slow ones.

    Once the wall clock alone is like that, once the monotonic clock too.
    """
    libraries = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    if not libraries:
        print("left out: libfaketime is not installed")
        return
    for shift in ("-3d", "+3d", "+0 x3", "+0 x0.3"):
        for kept in (1, 0):
            name = f"clock {shift}, monotonic {'as it is' if kept else 'too'}"
            python = campaign.folder / f"python {shift} {kept}"
            faked = f"LD_PRELOAD={libraries[0]} FAKETIME={shlex.quote(shift)} FAKETIME_DONT_FAKE_MONOTONIC={kept}"
            python.write_text(f'#!/bin/sh\nexport {faked}\nexec {shlex.quote(sys.executable)} "$@"\n')
            python.chmod(0o755)
            device = campaign.device.model_copy(update={"python": str(python)})

            def do(device: Device = device) -> None:
                campaign.work(campaign.planned(), device=device)
                campaign.work(campaign.planned())

            campaign.attempt(name, do)


def check_reboot(campaign: Campaign) -> None:
    """Everything of a job is gone at once, with its whole group and the agent that served: said, and the next is right."""
    folder = campaign.planned()

    def kill() -> None:
        for pid, words in processes():
            if campaign.device.store in " ".join(words) and {"run-job", "serve"} & set(words):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(os.getpgid(pid), signal.SIGKILL)

    timer = after(1.0, kill)
    try:
        campaign.work(folder)
    except DeployError as error:
        if error.code != "device-job-lost":
            raise
        campaign.work(folder)
    timer.join()


def check_two_hosts(campaign: Campaign) -> None:
    """Two hosts at once wait for one another."""
    problems = list[BaseException]()

    def one() -> None:
        folder = campaign.planned()
        try:
            with on_device(campaign.device, folder, BOTH) as session:
                local.build(folder, session=session)
                assert local.bench(folder, session=session).runs[0].status == "measured"
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=one) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []


def check_full_disk(campaign: Campaign) -> None:
    """A store on a disk of 1 MiB: said before anything is sent."""
    small = campaign.folder / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(small)], check=False).returncode:
        print("left out: this user cannot mount a small disk")
        return
    try:
        device = campaign.device.model_copy(update={"store": str(small / "store")})
        large = campaign.folder / "large"
        large.write_bytes(os.urandom(2 << 20))
        with Board(device) as board:
            code = None
            try:
                board.push([StoredFile.of(large)])
            except DeployError as error:
                code = error.code
            assert code == "device-full", code
    finally:
        subprocess.run(["umount", str(small)], check=True)


def push_seconds(campaign: Campaign) -> tuple[float, float]:
    """Seconds to push 100 MB, and to push them again: connecting and digests included."""
    large = campaign.folder / "100 MB"
    large.write_bytes(os.urandom(100_000_000))
    taken = []
    for _ in range(2):
        start = time.perf_counter()
        with Board(campaign.device) as board:
            board.push([StoredFile.of(large)])
        taken.append(time.perf_counter() - start)
    return taken[0], taken[1]


def main() -> int:
    """Run the campaign."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cuts", type=int, default=20, help="moments at which the link is cut")
    parser.add_argument("--kills", type=int, default=8, help="moments at which host and job are killed")
    options = parser.parse_args()
    if ssh_server.MISSING:
        print(f"needs OpenSSH: {ssh_server.MISSING}")
        return 1
    with tempfile.TemporaryDirectory(prefix="device-faults-") as name:
        (Path(name) / "sshd").mkdir()
        server, process = ssh_server.start(Path(name) / "sshd")
        os.environ[ssh.PROGRAM] = str(server.ssh)
        try:
            return run(Campaign(Path(name), server, print), options.cuts, options.kills)
        finally:
            process.terminate()
            process.wait()


def run(campaign: Campaign, cuts: int, kills: int) -> int:
    """Go through the faults and return the exit status."""
    start = time.perf_counter()
    campaign.work(campaign.planned())
    whole_s = time.perf_counter() - start
    first_s, again_s = push_seconds(campaign)
    print(f"push of 100 MB: {first_s:.2f} s, again {again_s:.2f} s (goal {PUSH_GOAL_S:g} s)")
    check_cuts(campaign, cuts, whole_s)
    check_host_killed(campaign, kills, whole_s)
    check_job_killed(campaign, kills, whole_s)
    campaign.attempt("clock set back", lambda: check_clock_set_back(campaign))
    check_clock_jumps_back(campaign)
    check_faked_clocks(campaign)
    campaign.attempt("reboot", lambda: check_reboot(campaign))
    campaign.attempt("two hosts at once", lambda: check_two_hosts(campaign))
    campaign.attempt("disk full", lambda: check_full_disk(campaign))
    with Board(campaign.device) as board:
        board.ask({"ask": "clean", "all": False})
    left = [path for path in Path(campaign.device.store).rglob("*") if path.is_file() and path.suffix != ".pyz"]
    campaign.attempt("nothing is left after cleaning", lambda: _assert_empty(left))
    if again_s > PUSH_GOAL_S:
        campaign.failures.append("push")
    print(json.dumps({"failed": campaign.failures}))
    return 1 if campaign.failures else 0


def _assert_empty(left: list[Path]) -> None:
    assert left == [], left


if __name__ == "__main__":
    sys.exit(main())
