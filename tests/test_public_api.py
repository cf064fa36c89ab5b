"""The names that `deploycc` hands out, and that handing them out costs nothing at start-up."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import deploycc

ROOT = Path(deploycc.__file__).parents[1]


def test_the_names_are_these() -> None:
    """A name that is here is a promise: adding one is a decision, and so is taking one away."""
    assert sorted(deploycc.__all__) == [
        "CompileSettings",
        "DeployError",
        "Detector",
        "GatePlanning",
        "Note",
        "PackageSettings",
        "PruneSettings",
        "Pruned",
        "Report",
        "StagedDetector",
        "StagedSession",
        "Target",
        "__version__",
        "compile",
        "detect",
        "evaluate",
        "export",
        "fisher_importance",
        "load",
        "load_target",
        "package",
        "plan_gates",
        "predict",
        "profile",
        "prune",
        "read_report",
        "recover",
        "save",
        "stage",
    ]


@pytest.mark.parametrize("name", sorted(set(deploycc.__all__) - {"__version__"}))
def test_every_name_loads_and_says_what_it_is(name: str) -> None:
    value = getattr(deploycc, name)
    assert inspect.getdoc(value)
    if inspect.isfunction(value):
        hints = inspect.signature(value).parameters.values()
        assert all(parameter.annotation is not inspect.Parameter.empty for parameter in hints)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = deploycc.nothing


def test_types_are_stated_for_checkers_as_for_the_interpreter() -> None:
    """The names under TYPE_CHECKING are those of the table, from the same modules."""
    tree = ast.parse((ROOT / "deploycc" / "__init__.py").read_text(encoding="utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module != "typing"]
    stated = {
        alias.asname or alias.name: f"{node.module}:{alias.name}"
        for node in imports
        if node.module != "__future__"
        for alias in node.names
    }
    assert stated == deploycc._HOME


def test_importing_the_package_loads_no_library() -> None:
    code = "import sys, deploycc; print(sorted({'numpy', 'onnx', 'pydantic', 'typer', 'rich'} & set(sys.modules)))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert shown.stdout.strip() == "[]"


def test_types_travel_with_the_package() -> None:
    assert (ROOT / "deploycc" / "py.typed").exists()


@pytest.mark.long
def test_the_example_runs(tmp_path: Path) -> None:
    text = (ROOT / "deploycc" / "README.md").read_text(encoding="utf-8")
    [script] = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(script.strip().splitlines()) < 15
    quick = script.replace('"generated:3:200"', '"generated:3:4"').replace(
        "CompileSettings()", "CompileSettings(quick=True, verify=False)"
    )
    quick = quick.replace("PruneSettings(below=0.05)", "PruneSettings(below=0.05, multiple=16)")  # needs no timing
    assert quick != script
    done = subprocess.run([sys.executable, "-c", quick], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "x86-cpu" in done.stdout
    assert "report.html" in done.stdout
