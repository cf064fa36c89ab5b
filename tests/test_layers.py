"""One direction of imports: cli, then the parts of the compiler, then what they all stand on."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import deploycc

ROOT = Path(deploycc.__file__).parent

BASE = {"graph", "scenes", "models"} | {path.stem for path in ROOT.glob("*.py") if path.stem != "__main__"}
PARTS = {"importers", "exporters", "passes", "profile", "prune", "dynamic", "engine", "device", "report", "evaluate",
         "lkam"}  # fmt: skip
MORE = {
    "device": {"engine", "report"},  # reads their types
    "lkam": {"evaluate"},            # the optional training part stands on evaluation
}  # fmt: skip
PACKAGES = sorted(path.name for path in ROOT.iterdir() if (path / "__init__.py").exists())


def allowed(part: str) -> set[str]:
    """Which parts of the package a part may import, besides itself."""
    if part == "agent":
        return set()  # it travels to the board alone
    if part in ("cli", "__main__"):
        return BASE | PARTS | {"cli"}
    return BASE | MORE.get(part, set())


def imported(source: str) -> set[str]:
    """Parts of the package that a module imports, wherever in the module."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            modules = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        names = [module.split(".") for module in modules]
        found |= {name[1] for name in names if name[0] == "deploycc" and len(name) > 1}
    return found


def violations(part: str, source: str) -> set[str]:
    return imported(source) - allowed(part) - {part, "__version__"}


def test_every_package_has_its_place() -> None:
    assert set(PACKAGES) <= BASE | PARTS | {"agent", "cli"}


@pytest.mark.parametrize("part", [*PACKAGES, "__main__"])
def test_imports_go_one_way(part: str) -> None:
    paths = sorted((ROOT / part).rglob("*.py")) if (ROOT / part).is_dir() else [ROOT / f"{part}.py"]
    assert paths
    found = {path.relative_to(ROOT).as_posix(): violations(part, path.read_text(encoding="utf-8")) for path in paths}
    assert {path: names for path, names in found.items() if names} == {}


@pytest.mark.parametrize("path", sorted(ROOT.glob("*.py")), ids=lambda path: path.stem)
def test_what_all_stand_on_imports_no_part(path: Path) -> None:
    if path.stem != "__main__":
        assert imported(path.read_text(encoding="utf-8")) & (PARTS | {"cli", "agent"}) == set()


@pytest.mark.parametrize(
    ("part", "source", "expected"),
    [
        ("engine", "from deploycc.report.stats import p99", {"report"}),
        ("engine", "def f():\n    import deploycc.passes.runner", {"passes"}),
        ("graph", "from deploycc import cli", {"cli"}),
        ("agent", "from deploycc.errors import DeployError", {"errors"}),
        ("device", "from deploycc.report.schema import Run\nfrom deploycc.engine import plan", set()),
        ("report", "from deploycc import __version__\nfrom deploycc.target import load", set()),
        ("cli", "from deploycc.agent import jobs", {"agent"}),
    ],
)
def test_the_test_sees_wrong_directions(part: str, source: str, expected: set[str]) -> None:
    assert violations(part, source) == expected
