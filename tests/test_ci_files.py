"""The pipelines in ``.ci/pipelines`` are YAML, and name commands, options and targets that exist."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from deploycc.cli import app
from deploycc.target import names

FOLDER = Path(__file__).parents[1] / ".ci" / "pipelines"
PIPELINES = sorted(FOLDER.glob("*.yml"))


def scripts(value: Any) -> Iterator[str]:
    """Yield the lines of every script in a pipeline."""
    if isinstance(value, dict):
        for key, below in value.items():
            if key in ("run", "script"):
                yield from (
                    line for part in ([below] if isinstance(below, str) else below) for line in part.splitlines()
                )
            else:
                yield from scripts(below)
    elif isinstance(value, list):
        for below in value:
            yield from scripts(below)


def check_command(line: str) -> None:
    """Refuse a command line with a command or an option that does not exist."""
    command: Any = typer.main.get_command(app)
    words = line.split()
    while words and hasattr(command, "commands"):
        word = words.pop(0)
        assert word in command.commands, line
        command = command.commands[word]
    options = {option: each for each in command.params for option in each.opts if option.startswith("-")}
    for word in words:
        if word.startswith("-"):
            assert word in options, f"{word} in: {line}"


@pytest.mark.parametrize("pipeline", PIPELINES, ids=lambda path: path.stem)
def test_commands_of_a_pipeline_exist(pipeline: Path) -> None:
    yaml = pytest.importorskip("yaml")
    text = pipeline.read_text(encoding="utf-8")
    lines = list(scripts(yaml.safe_load(text)))
    commands = [found for line in lines for found in re.findall(r"\bdeploycc ([a-z][^|>&;]*)", line.split("||")[0])]
    assert commands
    for command in commands:
        check_command(command)
    assert set(re.findall(r"(?:--target|-t) ([a-z0-9-]+)", text)) <= set(names())
    assert not any("${{" in line for line in lines)  # a name must not become part of a script


def test_what_does_not_exist_is_found() -> None:
    check_command('report check "out/$NAME" --baseline baselines')
    for wrong in ("report chek a", "compile m --targets t", "nothing"):
        with pytest.raises(AssertionError):
            check_command(wrong)


def test_the_table_names_every_pipeline() -> None:
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^\| `([\w.-]+)`", text, re.MULTILINE)) == [path.name for path in PIPELINES]
