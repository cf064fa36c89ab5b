"""The agent as one file."""

from __future__ import annotations

import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import fake_trtexec
import pytest
from small_networks import conv_model, plan_folder

import deploycc.agent
from deploycc import target
from deploycc.agent_host import zipapp
from deploycc.agent_host.zipapp import link_agent, write_agent


@pytest.fixture
def agent(tmp_path: Path) -> Path:
    write_agent(tmp_path / "agent.pyz")
    return tmp_path / "agent.pyz"


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run with the standard library alone: no site packages, no environment, no current folder."""
    return subprocess.run(
        [sys.executable, "-I", "-S", *arguments], capture_output=True, text=True, check=False, timeout=60
    )


def test_the_same_sources_give_the_same_bytes(agent: Path, tmp_path: Path) -> None:
    first = agent.read_bytes()
    time.sleep(0.01)
    os.utime(Path(deploycc.agent.__file__))
    zipapp.agent_bytes.cache_clear()
    write_agent(tmp_path / "again.pyz")
    assert (tmp_path / "again.pyz").read_bytes() == first
    assert {info.date_time for info in zipfile.ZipFile(agent).infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_it_holds_the_agent_and_nothing_else(agent: Path) -> None:
    sources = {path.name for path in Path(deploycc.agent.__file__).parent.iterdir() if path.suffix in (".py", ".cpp")}
    names = set(zipfile.ZipFile(agent).namelist())
    assert names == {"__main__.py"} | {f"deploycc_agent/{name}" for name in sources}
    assert os.access(agent, os.X_OK)


def test_it_starts_with_the_standard_library_alone(agent: Path, tmp_path: Path) -> None:
    assert run(agent, "--version").stdout.strip() == deploycc.agent.__version__
    out = tmp_path / "probe.json"
    done = run(agent, "probe", "--out", out)
    assert (done.returncode, done.stderr) == (0, "")
    facts = json.loads(out.read_text())
    assert facts["python"].startswith("3.")
    assert facts["version_onnxruntime"] is None  # no site packages


def test_a_folder_starts_as_the_file_does(agent: Path, tmp_path: Path) -> None:
    link_agent(tmp_path / "agent")
    for arguments in (["--version"], ["build", str(tmp_path / "nothing.json")], ["destroy"]):
        packed, linked = run(agent, *arguments), run(tmp_path / "agent", *arguments)
        assert (linked.returncode, linked.stdout) == (packed.returncode, packed.stdout)
        assert linked.stderr == packed.stderr
    code = (tmp_path / "agent" / "deploycc_agent").resolve()
    assert code == Path(deploycc.agent.__file__).parent  # where Python keeps what it compiled


def test_a_missing_plan_is_said_in_one_line(agent: Path, tmp_path: Path) -> None:
    done = run(agent, "build", tmp_path / "nothing.json")
    assert done.returncode == 1
    assert done.stderr.startswith("error: cannot read")
    assert len(done.stderr.splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["agent.pyz"]


@pytest.mark.usefixtures("hangups_heard")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_a_signal_ends_the_program_too(
    agent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    bin_folder = fake_trtexec.install(tmp_path / "bin", monkeypatch, "hang")
    here = {"architecture": platform.machine()}
    plan_folder(tmp_path, target.load("jetson-tx2-jp461").model_copy(update=here), {"fp32": conv_model()})
    command = [sys.executable, str(agent), "build", str(tmp_path / "plan.json")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert any(line == "building\n" for line in process.stderr)
        assert list(tmp_path.glob(".deploycc-agent-*/engine.out"))
        process.send_signal(number)
        assert process.wait(timeout=30) == 130
        assert process.stderr.read() == ""  # and no process holds the other end any more
    with pytest.raises(ProcessLookupError):
        os.kill(int((bin_folder / "pid").read_text()), 0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["agent.pyz", "bin", "network-fp32.onnx", "plan.json"]


def test_nohup_survives_a_closed_terminal(agent: Path, tmp_path: Path) -> None:
    plan_folder(tmp_path, target.load("x86-cpu").model_copy(update={"architecture": "another"}), {"fp32": conv_model()})
    script = f"trap '' HUP; exec {sys.executable} -uS {agent} build {tmp_path / 'plan.json'}"
    with subprocess.Popen(["sh", "-c", script], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        process.stderr.readline()
        process.send_signal(signal.SIGHUP)
        assert process.wait(timeout=30) == 5


def test_wrong_usage(agent: Path) -> None:
    assert run(agent).returncode == 2
    assert run(agent, "destroy").returncode == 2


def old_python() -> str | None:
    """An interpreter as old as the boards', where there is one."""
    installed = sorted(Path.home().glob(".pyenv/versions/3.[567].*/bin/python"))
    for path in filter(None, (*map(shutil.which, ("python3.5", "python3.6", "python3.7")), *map(str, installed))):
        if subprocess.run([path, "-c", ""], capture_output=True, check=False).returncode == 0:
            return path
    return None


def test_an_old_python_builds_and_says_why_not(agent: Path, tmp_path: Path) -> None:
    """In the locale of a bare login, whose encoding is ASCII."""
    python = old_python()
    if python is None:
        pytest.skip("needs Python 3.5 to 3.7")
    plan_folder(tmp_path, target.load("x86-cpu").model_copy(update={"architecture": "another"}), {"fp32": conv_model()})
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C", "TMPDIR": str(tmp_path)}
    command = [python, "-S", str(agent), "build", str(tmp_path / "plan.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, "Traceback" in done.stderr) == (5, False), done.stderr
    [row] = json.loads((tmp_path / "build.json").read_text())["engines"]
    assert (row["status"], "the target is another" in row["reason"]) == ("not-possible", True)
