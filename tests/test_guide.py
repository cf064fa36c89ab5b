"""``deploycc/README.md`` describes the package as it is: rooms, functions, files, places for new things."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import pytest
from layers import BASE, FILES, PACKAGES, PARTS, ROOT
from markdown_tables import code, table

from deploycc import passes
from deploycc.documents.document import Document

TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
LAYERS = table(TEXT, "## Layers")
WORKFLOWS = table(TEXT, "## The life of a detector")
COMPILING = table(TEXT, "Compiling is this, function by function:\n")
STAGES = "lowers one plan after the other:\n"
DECIDING = table(TEXT, "The passes are told what they decided in `Options`:\n")
DOCUMENTS = table(TEXT, "## Files that the tool writes")
OTHER_FILES = table(TEXT, "Other files:\n")
PLACES = table(TEXT, "## Where new things go")
WORDS = table(TEXT, "## Glossary")


def module_file(name: str) -> Path | None:
    """The file of a module of the package: ``report.chain``, ``passes``."""
    path = ROOT.joinpath(*name.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


def exists(name: str) -> bool:
    """Return whether a dotted name is a module of the package, or something that a module defines or imports.

    Nothing is imported: PyTorch may not be there.
    """
    if module_file(name):
        return True
    module, _, attribute = name.rpartition(".")
    file = module_file(module) if module else None
    if file is None:
        return False
    names = set[str]()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
    return attribute in names


def document_classes() -> dict[str, str]:
    """File name -> class, of every document."""
    classes = list(Document.__subclasses__())
    for path in ROOT.rglob("*.py"):
        if "(Document)" in path.read_text(encoding="utf-8"):
            importlib.import_module(".".join(("deploycc", *path.relative_to(ROOT).with_suffix("").parts)))
    classes = [kind for kind in Document.__subclasses__() if kind.__module__.startswith("deploycc.")]
    return {kind.FILE_NAME: kind.__name__ for kind in classes}


def drawing() -> dict[str, set[str]]:
    """Layer -> the words beside it in the drawing."""
    block = TEXT[TEXT.index("## Layers") : TEXT.index("| room |")]
    layers: dict[str, set[str]] = {}
    name = ""
    for line in re.findall(r"^    (.+)$", block, re.MULTILINE):
        start, _, rest = line.partition("   ")
        name = start.strip(" |") or name
        layers.setdefault(name, set()).update(re.findall(r"\w+", rest))
    return layers


def test_the_drawing_shows_every_room_in_its_layer() -> None:
    drawn = drawing()
    assert list(drawn) == ["cli", "workflows", "parts", "base", "agent"]
    assert drawn["base"] == BASE
    assert drawn["parts"] == PARTS
    assert set(PACKAGES) <= BASE | PARTS | set(drawn)


def test_every_room_is_described_and_nothing_else() -> None:
    rooms = {path.parent.relative_to(ROOT).as_posix() for path in ROOT.rglob("__init__.py")} - {"."}
    assert sorted(code(row[0])[0] for row in LAYERS) == sorted(rooms | FILES)


@pytest.mark.parametrize("row", [*WORKFLOWS, *COMPILING, *DECIDING], ids=lambda row: code(row[1])[0])
def test_a_step_of_the_life_gives_what_its_function_returns(row: list[str]) -> None:
    [name] = code(row[1])
    module, _, attribute = f"deploycc.{name}".rpartition(".")
    function = getattr(importlib.import_module(module), attribute)
    assert code(row[3])[0] in function.__annotations__["return"]


def test_the_stages_are_those_of_the_pipeline() -> None:
    stages = [code(row[0])[0] for row in table(TEXT, STAGES)]
    assert [step for name in stages for step in getattr(passes, name)] == list(passes.PIPELINE)


def test_every_document_is_in_the_table_of_files() -> None:
    assert {code(row[0])[0]: code(row[1])[0] for row in DOCUMENTS} == document_classes()


def test_writers_and_readers_exist() -> None:
    names = [name for *_, writer, reader in DOCUMENTS for name in (*code(writer), *code(reader))]
    names += [name for *_, writer in OTHER_FILES for name in code(writer)]
    assert len(names) > 20
    assert [name for name in names if not exists(name)] == []


def test_paths_in_it_exist() -> None:
    paths = re.findall(r"`((?:deploycc|tests|targets|plugins)/[^`\s]*)`", TEXT)
    assert len(paths) > 40
    patterns = [re.sub(r"NAME|verb_object", "*", path).rstrip("/") for path in paths]
    assert [path for path in patterns if not any(ROOT.parent.glob(path))] == []


def test_dotted_names_in_its_sentences_exist() -> None:
    rooms = {*PACKAGES, *FILES}
    names = [name for name in re.findall(r"`((?:\w+\.)+\w+)`", TEXT) if name.split(".")[0] in rooms]
    names = [name for name in names if not re.search(r"\.(json|pyz|html|md|py)$", name)]
    assert len(names) > 30
    assert [name for name in names if not exists(name)] == []


def test_words_are_explained_once_in_alphabetical_order() -> None:
    words = [row[0] for row in WORDS]
    assert words == sorted(set(words))
