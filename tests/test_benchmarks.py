"""The campaigns and benchmarks run by hand: what they import of the library is there, and a renaming reaches them."""

from __future__ import annotations

import ast
import importlib
import importlib.util
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "benchmarks"
NEEDS_TORCH = ("deploycc.lkam.", "deploycc.trainable.", "deploycc.distillation.")


def missing(source: str) -> list[str]:
    """Names that a source imports from the library, wherever in it, and that are not there."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("deploycc"):
            continue
        assert node.module is not None
        if f"{node.module}.".startswith(NEEDS_TORCH):
            pytest.importorskip("torch", reason="PyTorch, of the extra train, is not installed")
        module = importlib.import_module(node.module)
        for alias in node.names:
            name = f"{node.module}.{alias.name}"
            is_module = hasattr(module, "__path__") and importlib.util.find_spec(name) is not None
            if not is_module and not hasattr(module, alias.name):
                found.append(name)
    return found


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.stem)
def test_what_a_benchmark_imports_is_there(path: Path) -> None:
    assert missing(path.read_text(encoding="utf-8")) == []


def test_a_name_that_is_gone_is_noticed() -> None:
    assert missing("def late():\n    from deploycc.documents.build import read_gone") == [
        "deploycc.documents.build.read_gone"
    ]
