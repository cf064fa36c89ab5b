"""What a board built and measured is never lost, whatever is done with the folder afterwards."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import board_folders
import pytest
from board_folders import PC, come_back, compiled_folder
from json_edits import edit

from deploycc.agent_host import local
from deploycc.cli import main
from deploycc.documents.build import read_build_result
from deploycc.documents.latency import PartRun, RowRun, read_latency_report
from deploycc.errors import ArtefactError, BuildError, InputError
from deploycc.report import html
from deploycc.workflows.rebuild import bench_folder, bench_folders, build_folder
from deploycc.workflows.report import read_report
from deploycc.workflows.staging import staged_folder


@pytest.fixture(autouse=True)
def no_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages without pictures, which would take longer than all the rest."""
    monkeypatch.setattr(html, "render_html", lambda report, latency, contract: "page")


@pytest.fixture
def returned(tmp_path: Path) -> Path:
    """A folder that came back from a board with two engines, both measured."""
    return come_back(compiled_folder(tmp_path / "out", "fp32", "fp16"), {"fp32": b"tx2 fp32", "fp16": b"tx2 fp16"})


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Says which engines this machine can build and measure."""

    def can(engines: dict[str, bytes], measures: tuple[str, ...] = (), failed: str | None = None) -> None:
        def build(folder: Path, say: Any, session: Any) -> Any:
            result = board_folders.built(folder, engines, PC)
            result.write(folder / result.FILE_NAME)
            if failed is not None:
                raise BuildError("build-failed", f"the {failed} engine was not built")
            return result

        def bench(folders: Any, say: Any, only: Any, **more: Any) -> Any:
            return [board_folders.measured(folder, read_build_result(folder), PC, *measures) for folder in folders]

        monkeypatch.setattr(local, "build", build)
        monkeypatch.setattr(local, "bench_in_turns", bench)

    return can


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


RESULTS = ("build.json", "latency.json", "engine-fp32.engine", "engine-fp16.engine")


def quiet(*_: object) -> None:
    pass


def test_the_report_of_a_folder_that_came_back_shows_what_the_board_did(
    returned: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    read = read_report(returned)
    assert [engine.status for engine in read.compiled.engines] == ["built", "built"]
    assert read.compiled.next_command is None
    assert main(["report", "show", str(returned)]) == 0
    assert "not-possible" not in capsys.readouterr().out
    assert main(["report", "show", str(returned / "compile.json"), "--json"]) == 0
    engines = json.loads(capsys.readouterr().out)["compile"]["engines"]
    assert [engine["status"] for engine in engines] == ["built", "built"]


def test_what_is_left_to_do_on_the_board_is_said(tmp_path: Path) -> None:
    folder = compiled_folder(tmp_path / "out")
    command = read_report(folder).compiled.next_command
    assert command is not None
    come_back(folder, {"fp32": b"engine"})
    (folder / "latency.json").unlink()
    assert read_report(folder).compiled.next_command == "python3 agent.pyz bench plan.json --out latency.json"


@pytest.mark.parametrize("again", [build_folder, bench_folder])
def test_what_is_not_possible_here_replaces_nothing(
    returned: Path, here: Callable[..., None], again: Callable[..., Any]
) -> None:
    here({})
    before = {name: (returned / name).read_bytes() for name in RESULTS}
    said: list[str] = []
    again(returned, quiet, on_note=said.append)
    assert any("stays" in sentence for sentence in said)
    assert {name: (returned / name).read_bytes() for name in RESULTS} == before
    assert not (returned / "runs").exists()
    page = (returned / "report.md").read_text(encoding="utf-8")
    assert "Nothing was measured" not in page
    assert "not-possible" not in page


def test_engines_that_are_built_anew_leave_those_before_to_runs(returned: Path, here: Callable[..., None]) -> None:
    before = content(returned)
    here({"fp32": b"pc fp32"})
    build_folder(returned, quiet)
    [run] = (returned / "runs").iterdir()
    assert run.name.endswith("-nvidia-jetson-tx2")
    kept = content(run)
    for name in ("build.json", "latency.json", "engine-fp32.engine"):
        assert kept[name] == before[name]
    read = read_report(returned)  # and every digest fits
    assert [engine.environment for engine in read.compiled.engines] == [None, board_folders.TX2]
    assert (returned / "engine-fp32.engine").read_bytes() == b"pc fp32"
    assert (returned / "engine-fp16.engine").read_bytes() == b"tx2 fp16"
    assert read.latency is not None
    assert [run.label for run in read.latency.runs if run.status == "measured"] == ["fp16"]
    assert main(["report", "show", str(run)]) == 0


def test_an_engine_that_comes_out_the_same_keeps_its_figures(returned: Path, here: Callable[..., None]) -> None:
    before = {name: (returned / name).read_bytes() for name in RESULTS}
    here({"fp32": b"tx2 fp32"})
    build_folder(returned, quiet)
    assert {name: (returned / name).read_bytes() for name in RESULTS} == before
    (returned / "engine-fp32.engine").unlink()
    build_folder(returned, quiet)
    assert {name: (returned / name).read_bytes() for name in RESULTS} == before


def test_new_figures_leave_those_before_to_runs(returned: Path, here: Callable[..., None]) -> None:
    before = (returned / "latency.json").read_bytes()
    here({}, ("fp32",))
    latency = bench_folder(returned, quiet)
    [run] = (returned / "runs").iterdir()
    assert (run / "latency.json").read_bytes() == before
    read = read_report(returned)
    assert read.latency is not None
    fp32, fp16 = read.latency.runs
    assert fp32 == latency.runs[0]
    assert (fp16.status, fp16.environment) == ("measured", board_folders.TX2)
    assert main(["report", "compare", str(run), str(returned)]) == 0
    bench_folder(returned, quiet)
    assert len(list((returned / "runs").iterdir())) == 2


def test_times_of_engines_timed_apart_are_kept_too(returned: Path, here: Callable[..., None]) -> None:
    latency = read_latency_report(returned)
    parts = tuple(PartRun(file=f"{number}.engine", samples_ms=(1.0,)) for number in range(3))
    apart = {"status": "composed", "reason": "apart", "row": RowRun(parts=parts)}
    apart |= {"samples_ms": (), "start_offsets_s": (), "blocks": ()}
    latency.model_copy(update={"runs": tuple(run.model_copy(update=apart) for run in latency.runs)}).write(
        returned / latency.FILE_NAME
    )
    before = (returned / latency.FILE_NAME).read_bytes()
    here({}, ("fp32",))
    bench_folder(returned, quiet)
    [run] = (returned / "runs").iterdir()
    assert (run / latency.FILE_NAME).read_bytes() == before


def test_a_build_that_fails_for_one_engine_keeps_the_others(tmp_path: Path, here: Callable[..., None]) -> None:
    folder = compiled_folder(tmp_path / "out", "fp32", "fp16")
    here({"fp32": b"pc fp32"}, failed="fp16")
    with pytest.raises(BuildError):
        build_folder(folder, quiet)
    assert [engine.status for engine in read_report(folder).compiled.engines] == ["built", "not-possible"]
    assert (folder / "engine-fp32.engine").read_bytes() == b"pc fp32"


def test_a_new_compilation_leaves_what_a_board_did_to_runs(returned: Path, tmp_path: Path) -> None:
    before = content(returned)
    other = content(compiled_folder(tmp_path / "other"))
    said: list[str] = []
    with staged_folder(returned, on_kept=said.append) as staged:
        for name in other.keys() - {"deploycc-manifest.json"}:
            (staged / name).write_bytes(other[name])
    [run] = (returned / "runs").iterdir()
    assert content(run) == {name: before[name] for name in (*RESULTS, "plan.json", "compile.json")}
    assert {name: data for name, data in content(returned).items() if not name.startswith("runs/")} == other
    assert len(said) == 6
    assert read_latency_report(run).environment == board_folders.TX2


def test_a_folder_whose_plan_was_edited_is_not_built(returned: Path, here: Callable[..., None]) -> None:
    here({"fp32": b"pc fp32"})
    before = content(returned)
    edit(returned, "plan.json", lambda plan: plan["measurement"].update(seed=7))
    before["plan.json"] = (returned / "plan.json").read_bytes()
    for command in ("build", "bench"):
        assert main([command, str(returned)]) == 1
    assert content(returned) == before


def test_what_is_written_in_a_folder_from_elsewhere_is_written_nowhere_else(
    returned: Path, here: Callable[..., None], tmp_path: Path
) -> None:
    """A link at the name of a file to write is kept, and leads nowhere."""
    here({"fp32": b"pc fp32"}, ("fp32",))
    outside = tmp_path / "outside"
    outside.mkdir()
    for name in ("compile.json", "build.json", "latency.json", "report.md", "report.html", "engine-fp32.engine"):
        (returned / name).rename(outside / name)
        (returned / name).symlink_to(outside / name)
    (returned / "agent.pyz").unlink(missing_ok=True)
    before = content(outside)
    build_folder(returned, quiet)
    bench_folder(returned, quiet)
    assert content(outside) == before
    for name in before:
        assert not (returned / name).is_symlink()


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir, lambda path: path.symlink_to("/dev/zero")])
@pytest.mark.parametrize("name", ["compile.json", "build.json", "latency.json", "plan.json"])
def test_what_is_not_a_document_is_refused_and_stays(
    returned: Path, here: Callable[..., None], make: Callable[[Path], None], name: str
) -> None:
    here({"fp32": b"pc fp32"})
    (returned / name).unlink()
    make(returned / name)
    before = (returned / name).lstat()
    with pytest.raises(ArtefactError):
        build_folder(returned, quiet)
    after = (returned / name).lstat()  # without the time of access, which a look at a link changes
    assert (after.st_ino, after.st_mode, after.st_mtime_ns) == (before.st_ino, before.st_mode, before.st_mtime_ns)


def test_folders_measured_in_turns_keep_their_own_figures(
    returned: Path, tmp_path: Path, here: Callable[..., None]
) -> None:
    other = come_back(compiled_folder(tmp_path / "other", "fp32"), {"fp32": b"another"})
    here({}, ("fp32",))
    bench_folders([returned, other], quiet)
    for folder in (returned, other):
        [run] = (folder / "runs").iterdir()
        assert read_latency_report(run) != read_latency_report(folder)
        assert read_report(folder).latency is not None
    with pytest.raises(InputError) as caught:
        bench_folders([other, tmp_path / "x" / ".." / "other"], quiet)
    assert caught.value.code == "bench-folder-twice"
