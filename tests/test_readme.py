"""The README's console blocks run as they stand, in this environment and in an empty folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [
    line[2:]
    for block in re.findall(r"```console\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
    if line.startswith("$ ")
]
SETUP = re.compile(
    r"^python3 -m venv \.venv && \. \.venv/bin/activate && (?:pip install -q uv && uv )?pip install -q "
    r"(?:-e )?'\.\[[a-z,]+\]' && "
)


def test_the_first_command_comes_early_and_the_page_is_short() -> None:
    lines = README.splitlines()
    assert len(lines) < 200
    assert next(number for number, line in enumerate(lines, start=1) if line.startswith("$ ")) <= 20


def test_two_commands_stand_on_their_own() -> None:
    alone = [command for command in COMMANDS if SETUP.match(command)]
    assert alone == COMMANDS[:2]
    assert alone[1].endswith(" pytest")  # this test runs inside it, so it is not run again below


def shortened(command: str) -> str:
    """The same command on fewer pictures, timed for a moment, with kernel counts that need no timing, not verified."""
    if "deploycc compile" not in command:
        return command
    fewer = re.sub(r"(generated:\d+):200", r"\1:4", command)
    return f"{fewer} --quick --no-verify" + (" --round-to 16" if "--data" in command else "")


@pytest.mark.long
def test_console_blocks_run(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="the README's first command needs the extra `rtx`")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for command in [SETUP.sub("", command) for command in COMMANDS if not command.endswith(" pytest")]:
        quick = shortened(command)
        done = subprocess.run(
            quick, shell=True, cwd=tmp_path, env={**os.environ, "PATH": path}, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{quick}\n{done.stdout}\n{done.stderr}"
    assert (tmp_path / "out" / "x86-cpu" / "report.html").exists()
    assert (tmp_path / "out" / "x86-rtx" / "engine-fp16.engine").exists()
    assert (tmp_path / "tx2" / "agent.pyz").exists()


def test_the_description_in_the_readme_is_valid(tmp_path: Path) -> None:
    from deploycc.importers.description import read_description

    [toml] = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)
    file = tmp_path / "model.detector.toml"
    file.write_text(toml, encoding="utf-8")
    description = read_description(file)
    assert description.class_names == ("background", "car", "person")
    assert description.heads.has_priors  # described heads without priors are refused


def test_every_target_is_in_the_table() -> None:
    from deploycc.target import names

    table = README[README.index("## Targets") :]
    assert [name for name in names() if f"`{name}`" not in table] == []


def test_paths_in_the_readme_exist() -> None:
    named = re.findall(r"`python (tests/\S+\.py)`|`(deploycc/[\w/.]+)`|`(Dockerfile\.\w+)`", README)
    paths = [path for group in named for path in group if path]
    assert paths
    assert [path for path in paths if not (ROOT / path).exists()] == []
