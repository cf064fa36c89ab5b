"""The agent runs on the boards' old Python, needs nothing but its standard library to start, and knows nothing of us."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import deploycc.agent

FOLDER = Path(deploycc.agent.__file__).parent
SOURCES = sorted(FOLDER.glob("*.py"))
LATE = {"onnxruntime", "numpy", "tensorrt", "tensorrt_rtx", "pycuda", "PIL", "cv2"}  # imported where they are used


def imports(tree: ast.AST) -> list[tuple[str, int]]:
    """Top-level name of every import and its relative level."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name.partition(".")[0], 0) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append(((node.module or "").partition(".")[0], node.level))
    return found


def test_there_is_an_agent() -> None:
    assert {"__main__.py", "jobs.py", "environment.py"} <= {path.name for path in SOURCES}


def vermin(folder: Path) -> subprocess.CompletedProcess[str]:
    start = "from vermin import main; main()"
    arguments = [sys.executable, "-c", start, "-t=3.5-", "--violations", "--eval-annotations", "--no-tips", str(folder)]
    return subprocess.run(arguments, capture_output=True, text=True, check=False)


def test_python_3_5_runs_it() -> None:
    checked = vermin(FOLDER)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "Minimum required versions: 3.5" in checked.stdout


def test_the_checker_sees_newer_python(tmp_path: Path) -> None:
    (tmp_path / "new.py").write_text("print(f'{1}')\n")
    checked = vermin(tmp_path)
    assert checked.returncode != 0
    assert "Minimum required versions: 3.6" in checked.stdout


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_imports(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    siblings = {source.stem for source in SOURCES} | {""}
    for name, level in imports(tree):
        assert level <= 1
        if level == 1:
            assert name in siblings
        else:
            assert name in sys.stdlib_module_names | LATE
    heads = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    at_start = {name for node in heads for name, level in imports(node) if level == 0}
    assert at_start <= sys.stdlib_module_names
