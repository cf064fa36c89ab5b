"""Every reader follows the digests: a file that was changed, or that comes from another run, is noticed and named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from board_folders import come_back, compiled_folder
from json_edits import edit

from deploycc.cli import main
from deploycc.documents.document import this_tool
from deploycc.documents.folder import FolderJournal, Move
from deploycc.errors import ArtefactError
from deploycc.workflows.chain import check_chain, check_file
from deploycc.workflows.staging import staged_folder


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = compiled_folder(tmp_path_factory.mktemp("original") / "out", "fp32", "fp32 original")
    return come_back(folder, {"fp32": b"engine", "fp32 original": b"other engine"})


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    """A folder that came back from a board with every file."""
    return Path(shutil.copytree(original, tmp_path / "out"))


def append(name: str) -> Callable[[Path], None]:
    """Change a file without any care."""

    def change(folder: Path) -> None:
        with (folder / name).open("ab") as file:
            file.write(b" ")

    return change


def forge(name: str, *keys: str | int, value: object) -> Callable[[Path], None]:
    """Change a value of a document, and the digest of its content."""

    def change(folder: Path) -> None:
        def put(document: dict) -> None:  # type: ignore[type-arg]
            for key in keys[:-1]:
                document = document[key]  # type: ignore[index]
            document[keys[-1]] = value  # type: ignore[index]

        edit(folder, name, put)

    return change


BROKEN = [
    (append("network-fp32.onnx"), "network-fp32.onnx", "network"),
    (append("network-fp32-original.onnx"), "network-fp32-original.onnx", "fp32 original network"),
    (append("engine-fp32.engine"), "engine-fp32.engine", "fp32 engine that build.json names"),
    (append("plan.json"), "plan.json", "manifest"),
    (append("compile.json"), "compile.json", "manifest"),
    (forge("plan.json", "measurement", "seed", value=7), "plan.json", "plan that compile.json names"),
    (forge("build.json", "plan_sha256", value="0" * 64), "build.json", "another plan"),
    (forge("latency.json", "plan_sha256", value="0" * 64), "latency.json", "another plan"),
    (forge("build.json", "engines", 0, "network_sha256", value="0" * 64), "link", "built from another network"),
    (forge("latency.json", "runs", 0, "network_sha256", value="0" * 64), "link", "measured on another network"),
    (forge("latency.json", "runs", 1, "engine", "sha256", value="0" * 64), "link", "measured on another engine"),
    (forge("latency.json", "target", value="drive-px2-igpu"), "link", "for target drive-px2-igpu"),
]


@pytest.mark.parametrize(("change", "name", "link"), BROKEN)
def test_a_change_is_named_with_the_link_that_it_breaks(
    folder: Path, change: Callable[[Path], None], name: str, link: str
) -> None:
    check_chain(folder)
    change(folder)
    with pytest.raises(ArtefactError) as caught:
        check_chain(folder)
    assert caught.value.code == "chain-broken"
    shown = [line for line in caught.value.render().splitlines() if name in line]
    assert any(link in line for line in shown), caught.value.render()


READERS = [
    ["report", "show", "{}"],
    ["report", "show", "{}/compile.json"],
    ["report", "show", "{}/latency.json", "--json"],
    ["report", "compare", "{}", "{}"],
    ["report", "check", "{}/latency.json", "--budget-ms", "100", "--accept-invalid"],
    ["build", "{}"],
    ["bench", "{}"],
    ["evaluate", "{}", "--data", "generated:1:1"],
    ["inspect", "{}/network-fp32.onnx"],
    ["compile", "{}/network-fp32.onnx", "-t", "x86-cpu", "-o", "{}/../new"],
]


@pytest.mark.parametrize("command", READERS)
def test_every_reader_refuses_a_network_that_was_changed(
    folder: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    append("network-fp32.onnx")(folder)
    assert main([part.format(folder) for part in command]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "error[chain-broken]" in captured.err
    assert "network-fp32.onnx: is not the f" in captured.err
    assert "is not the file that deploycc-manifest.json lists" in captured.err


@pytest.mark.parametrize("command", READERS[:5])
@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("runs", 0, "samples_ms", 3), 1.0),
        (("runs", 0, "device"), "NVIDIA DRIVE PX 2"),
        (("environment", "board_model"), "NVIDIA DRIVE PX 2"),
    ],
)
def test_every_reader_refuses_figures_that_were_edited(
    folder: Path, capsys: pytest.CaptureFixture[str], command: list[str], keys: tuple[str | int, ...], value: object
) -> None:
    file = folder / "latency.json"
    digest = json.loads(file.read_text())["content_sha256"]
    forge("latency.json", *keys, value=value)(folder)
    file.write_text(json.dumps({**json.loads(file.read_text()), "content_sha256": digest}))
    assert main([part.format(folder) for part in command]) == 1
    assert "error[artefact-changed]: latency.json was changed" in capsys.readouterr().err


def test_files_that_are_not_there_break_nothing(folder: Path) -> None:
    for name in ("network-fp32.onnx", "engine-fp32.engine", "agent.pyz"):
        (folder / name).unlink(missing_ok=True)
    (folder / "report.md").write_text("my notes")
    (folder / "mine.txt").write_text("mine")
    check_chain(folder)


def test_a_model_beside_files_of_others_is_read(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").touch()
    for name in ("deploycc-manifest.json", "plan.json", "compile.json"):
        (tmp_path / name).write_text("{}")
    check_file(tmp_path / "model.onnx")


def test_a_change_that_was_cut_short_is_completed_before_reading(folder: Path) -> None:
    work = folder / ".deploycc-dead"
    (work / "new").mkdir(parents=True)
    (work / "new" / "more.txt").write_text("new")
    move = Move(source=".deploycc-dead/new/more.txt", to="more.txt")
    FolderJournal(tool=this_tool(), moves=(move,)).write(work / "journal.json")
    check_chain(folder)
    assert (folder / "more.txt").read_text() == "new"
    assert not work.exists()


def test_files_of_other_commands_are_followed_too(tmp_path: Path) -> None:
    with staged_folder(tmp_path / "out") as staged:
        (staged / "gate-plan.json").write_text("{}")
    append("gate-plan.json")(tmp_path / "out")
    with pytest.raises(ArtefactError, match="gate-plan"):
        check_chain(tmp_path / "out")
