"""``.github/CONTRIBUTING.md`` names the checks that decide, and documents that exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / ".github" / "CONTRIBUTING.md").read_text(encoding="utf-8")


def commands(text: str) -> list[str]:
    """The commands of all console blocks."""
    blocks = re.findall(r"```console\n(.*?)```", text, re.DOTALL)
    return [line[2:] for block in blocks for line in block.splitlines()]


def test_set_up_and_checks_are_those_of_ci_in_order() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    [set_up] = [command for command in commands(readme) if command.endswith(" && pytest")]
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    more = re.findall(r"^\.venv/bin/(.+)$", ci, re.MULTILINE)
    assert commands(TEXT) == [*set_up.rsplit(" && ", 1), *more]


def test_paths_in_it_exist() -> None:
    paths = re.findall(r"(?:tests|deploycc|targets)/[\w/.]*\w|\.ci/run|LICENSE", TEXT)
    assert len(paths) > 8
    assert [path for path in paths if not (ROOT / path).exists()] == []
