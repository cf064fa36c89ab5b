"""The Dockerfiles name files and commands that exist."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from deploycc.agent_host.zipapp import FILE_NAME
from deploycc.documents.build import BuildResult
from deploycc.documents.latency import LatencyReport
from deploycc.documents.plan import BuildPlan
from deploycc.target import names

ROOT = Path(__file__).parents[1]
DOCKERFILES = sorted(ROOT.glob("Dockerfile.*"))


def entry_point(dockerfile: Path) -> list[str]:
    [line] = re.findall(r"^ENTRYPOINT (\[.*\])$", dockerfile.read_text(encoding="utf-8"), re.MULTILINE)
    words: list[str] = json.loads(line)
    return words


def test_the_board_starts_the_agent_that_compile_writes() -> None:
    script = entry_point(ROOT / "Dockerfile.jetson")[-1]
    steps = [
        f"python3 {FILE_NAME} build {BuildPlan.FILE_NAME} --out {BuildResult.FILE_NAME}",
        f"python3 {FILE_NAME} bench {BuildPlan.FILE_NAME} --out {LatencyReport.FILE_NAME}",
    ]
    assert script == "; ".join(steps)  # what was built is measured also where another engine was not


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_names_in_a_dockerfile_exist(dockerfile: Path) -> None:
    text = dockerfile.read_text(encoding="utf-8")
    assert set(re.findall(r"[\w.-]+\.pyz", text)) <= {FILE_NAME}
    assert set(re.findall(r"(?:--target|-t) ([a-z0-9]+(?:-[a-z0-9]+)+)", text)) <= {*names(), "deploycc-agent"}
    copied = [name for line in re.findall(r"^COPY (.+)$", text, re.MULTILINE) for name in line.split()[:-1]]
    assert [name for name in copied if not name.startswith("-") and not (ROOT / name).exists()] == []
