"""One direction of imports: base < parts < workflows < cli, and no circle anywhere."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from layers import BASE, FILES, MORE, PACKAGES, PARTS, ROOT


def allowed(room: str) -> set[str]:
    """Which rooms of the package a room may import, besides itself."""
    if room == "agent":
        return set()  # it travels to the board alone
    if room in BASE:
        return BASE
    if room in PARTS:
        return BASE | MORE.get(room, set())
    if room in ("workflows", "__init__"):
        return BASE | PARTS - {"terminal"} | {"workflows"}  # a library prints nothing
    return BASE | PARTS | {"workflows", "cli"}


@cache
def imported_modules(source: str) -> frozenset[str]:
    """Modules of the package that a source imports, wherever in it, dotted and without the package's own name."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            modules = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        found |= {module.removeprefix("deploycc.") for module in modules if module.startswith("deploycc.")}
    return frozenset(found)


def violations(room: str, source: str) -> set[str]:
    rooms = {module.split(".")[0] for module in imported_modules(source)}
    return rooms - allowed(room) - {room, "__version__"}


def circle(imports: Mapping[str, Iterable[str]]) -> list[str]:
    """The first circle of imports; empty where there is none."""
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def imports_of_modules() -> dict[str, set[str]]:
    """For each module of the package, the modules of the package that it imports."""
    sources = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in ROOT.rglob("*.py")
    }
    sources["deploycc"] = sources.pop("__init__")
    found = {}
    for name, path in sources.items():
        wanted = imported_modules(path.read_text(encoding="utf-8"))
        modules = {module if module in sources else module.rpartition(".")[0] for module in wanted}
        found[name] = {module for module in modules if module in sources} - {name}
    return found


def test_every_package_has_its_place() -> None:
    assert set(PACKAGES) <= BASE | PARTS | {"agent", "workflows", "cli"}


@pytest.mark.parametrize("room", [*PACKAGES, *sorted(FILES), "__init__", "__main__"])
def test_imports_go_one_way(room: str) -> None:
    paths = sorted((ROOT / room).rglob("*.py")) if (ROOT / room).is_dir() else [ROOT / f"{room}.py"]
    assert paths
    found = {path.relative_to(ROOT).as_posix(): violations(room, path.read_text(encoding="utf-8")) for path in paths}
    assert {path: names for path, names in found.items() if names} == {}


def test_benchmarks_use_the_library_and_not_the_command_line() -> None:
    paths = sorted((Path(__file__).parent / "benchmarks").glob("*.py"))
    assert paths
    found = {path.name: imported_modules(path.read_text(encoding="utf-8")) for path in paths}
    assert [name for name, modules in found.items() if any(module.split(".")[0] == "cli" for module in modules)] == []


def test_the_command_line_stays_thin() -> None:
    """What grows here is work that a Python caller cannot have."""
    lines = {path.name: path.read_text(encoding="utf-8").count("\n") for path in (ROOT / "cli").glob("*.py")}
    assert sum(lines.values()) < 2500
    assert max(lines.values()) < 300


def test_modules_do_not_import_one_another_in_a_circle() -> None:
    assert circle(imports_of_modules()) == []


def test_rooms_do_not_import_one_another_in_a_circle() -> None:
    rooms: dict[str, set[str]] = {}
    for module, wanted in imports_of_modules().items():
        room = module.split(".")[0]
        rooms.setdefault(room, set()).update({name.split(".")[0] for name in wanted} - {room, "deploycc"})
    assert circle(rooms) == []


@pytest.mark.parametrize(
    ("room", "source", "expected"),
    [
        ("engine", "from deploycc.report.stats import p99", {"report"}),
        ("engine", "def f():\n    import deploycc.passes.runner", {"passes"}),
        ("graph", "from deploycc import cli", {"cli"}),
        ("documents", "from deploycc.workflows import prune", {"workflows"}),
        ("workflows", "from deploycc.cli import bench", {"cli"}),
        ("workflows", "from deploycc.terminal import console", {"terminal"}),
        ("agent", "from deploycc.errors import DeployError", {"errors"}),
        ("agent_host", "from deploycc.documents.latency import Run", set()),
        ("report", "from deploycc import __version__\nfrom deploycc.target import load", set()),
        ("cli", "from deploycc.agent import jobs", {"agent"}),
    ],
)
def test_the_test_sees_wrong_directions(room: str, source: str, expected: set[str]) -> None:
    assert violations(room, source) == expected


def test_the_test_sees_circles() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": set()}) == []
    assert set(circle({"a": {"b"}, "b": {"c"}, "c": {"a"}})) == {"a", "b", "c"}
