"""What a hint tells to install can be installed: a requirement of this project, by its own name.

The project is on no index, so that ``pip install 'deploycc[extra]'`` fails, and a board has no clone of it either.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import deploycc

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PACKAGE = Path(deploycc.__file__).parent


def test_every_hint_installs_a_requirement_of_the_project() -> None:
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    stated = [
        *project["dependencies"],
        *(name for extra in project["optional-dependencies"].values() for name in extra),
    ]
    known = set(stated) | {re.split(r"[<>=;]", requirement)[0] for requirement in stated}
    told = [
        (path.name, requirement)
        for path in PACKAGE.rglob("*.py")
        for requirement in re.findall(r"pip install (?:-\w+ )*'?([^'\"\s`]+)", path.read_text(encoding="utf-8"))
    ]
    assert len(told) >= 5
    assert [hint for hint in told if hint[1] not in known] == []
