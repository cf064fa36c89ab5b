"""``tests/README.md`` names every helper and every benchmark, and examples that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from markdown_tables import code, table

FOLDER = Path(__file__).parent
TEXT = (FOLDER / "README.md").read_text(encoding="utf-8")


def files(folder: Path) -> set[str]:
    """Python files, and folders that hold some, by the names that the tables use."""
    packages = {f"{path.parent.name}/" for path in folder.glob("*/__init__.py")}
    return {path.name for path in folder.glob("*.py")} | packages


def test_every_helper_is_in_the_table() -> None:
    names = [code(row[0])[0] for row in table(TEXT, "## Helpers")]
    assert sorted(names) == sorted(files(FOLDER / "helpers"))


def test_every_benchmark_is_in_the_table() -> None:
    names = [code(row[0])[0] for row in table(TEXT, "## Benchmarks")]
    assert sorted(names) == sorted(files(FOLDER / "benchmarks"))


def test_functions_that_the_helpers_table_names_exist() -> None:
    for file, gives in table(TEXT, "## Helpers"):
        path = FOLDER / "helpers" / code(file)[0]
        tree = ast.parse(path.read_text(encoding="utf-8")) if path.is_file() else ast.Module([], [])
        assert set(code(gives)) <= {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_paths_in_it_exist() -> None:
    paths = re.findall(r"(?:tests|deploycc)/[\w/.]*\w", TEXT)
    assert len(paths) > 15
    assert [path for path in paths if not (FOLDER.parent / path).exists()] == []
