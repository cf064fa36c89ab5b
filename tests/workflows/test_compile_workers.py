"""Networks that workers make are those that one process makes, and every way of failing is said."""

from __future__ import annotations

import errno
import json
import multiprocessing
import pickle
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pytest
from graph_text import network

from deploycc import target as targets
from deploycc.detector.picture_list import folder_pictures
from deploycc.errors import DeployError
from deploycc.workflows.compile import compile_targets
from deploycc.workflows.compile_networks import Compilation
from deploycc.workflows.compile_outputs import Refused
from deploycc.workflows.compile_settings import CompileSettings
from deploycc.workflows.pictures import open_pictures
from deploycc.workflows.processes import local_processes

TINY = """<ir_version: 8, opset_import: ["": 13]>
tiny (float[1, 3, 8, 8] x, float[4, 3, 3, 3] w) => (float[1, 4, 6, 6] y) { h = Conv (x, w)  y = Relu (h) }"""
NAMES = ("drive-px2-dgpu", "jetson-tx2-jp461")


class Elsewhere(Executor):
    """Workers that share nothing with this process; some are killed. Its scheduler looks into what it is given."""

    def __init__(self, killed: str = "") -> None:
        self.killed = killed

    def submit(self, work: Callable[..., Any], /, *arguments: Any, **_: Any) -> Future[Any]:
        future: Future[Any] = Future()
        for argument in arguments:
            look_into(argument)
        if pickle.loads(arguments[0]).target.name == self.killed:
            future.set_exception(BrokenProcessPool("terminated abruptly"))
            return future
        there, given = pickle.loads(pickle.dumps((work, arguments)))
        future.set_result(pickle.loads(pickle.dumps(there(*given))))
        return future


def look_into(value: Any, depth: int = 4) -> None:
    """Ask for an attribute as Dask does, whose scheduler names work after what it is given."""
    getattr(value, "__dask_tokenize__", None)
    for part in vars(value).values() if depth and hasattr(value, "__dict__") else ():
        look_into(part, depth - 1)


def compiled(out: Path, executor: Executor | None, **more: Any) -> list[Any]:
    detector = network(TINY)
    for number, node in enumerate(detector.graph.nodes):
        node.name = f"node{number}"
    settings = CompileSettings(build=False, dump_to=out / "dumps", threads=1, **more)
    return list(compile_targets(detector, [targets.load(name) for name in NAMES], out, settings, executor=executor))


def without_times(path: Path) -> object:
    """Content of a file; of a document, without what a clock or a random number says."""
    if path.suffix != ".json":
        return None if path.name.startswith("report.") else path.read_bytes()

    def cleared(value: Any, name: str = "") -> Any:
        if isinstance(value, dict):
            return {key: cleared(each, key) for key, each in value.items()}
        if isinstance(value, list):
            return [cleared(each, name) for each in value]
        return None if name in ("seconds", "sha256", "size_bytes", "content_sha256") else value

    return cleared(json.loads(path.read_text(encoding="utf-8")))


def folder(root: Path) -> dict[str, object]:
    return {path.relative_to(root).as_posix(): without_times(path) for path in root.rglob("*") if path.is_file()}


def test_folders_are_those_of_one_process(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    reports = [compiled(one, None), compiled(other, Elsewhere())]
    assert [[report.target for report in row] for row in reports] == [list(NAMES)] * 2
    assert folder(other) == folder(one)
    assert capfd.readouterr() == ("", "")
    assert {"dumps", *NAMES} == {path.name for path in other.iterdir()}


def test_a_refused_target_is_one_in_its_place_and_its_dumps_stay(tmp_path: Path) -> None:
    outcomes = {}
    for name, executor in (("one", None), ("other", Elsewhere())):
        row = outcomes[name] = compiled(tmp_path / name, executor, precisions=("fp32", "fp16"), verify=False)
        assert [type(outcome) is Refused for outcome in row] == [True, False]
    assert outcomes["one"][0].error.render() == outcomes["other"][0].error.render()
    assert folder(tmp_path / "other") == folder(tmp_path / "one")


def test_a_worker_that_is_killed_costs_its_target_only(tmp_path: Path) -> None:
    lost, done = compiled(tmp_path, Elsewhere(killed=NAMES[0]), verify=False)
    assert (lost.target, lost.error.code, lost.error.note) == (NAMES[0], "compile-worker-lost", "terminated abruptly")
    assert done.target == NAMES[1]
    assert not (tmp_path / NAMES[0]).exists()


@pytest.mark.parametrize(
    ("raised", "kind", "words"),
    [(OSError(errno.ENOSPC, "full"), DeployError, "no space"), (KeyError("eye"), RuntimeError, "KeyError: 'eye'")],
    ids=["disk full", "bug"],
)
def test_what_is_not_about_one_target_ends_the_command(
    raised: Exception, kind: type[Exception], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(*_: object) -> None:
        raise raised

    monkeypatch.setattr(Compilation, "write", write)
    with pytest.raises(kind, match=words):
        compiled(tmp_path, Elsewhere(), verify=False)
    assert not list(tmp_path.iterdir())


def test_pictures_travel(tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (4, 4), (1, 2, 3)).save(tmp_path / "a.png")
    spec = network(TINY).input
    for pictures in (folder_pictures(tmp_path), open_pictures("generated:3:2", spec)):
        assert (pickle.loads(pickle.dumps(pictures)).read(0) == pictures.read(0)).all()


def interrupted() -> None:
    with local_processes(2) as executor:
        assert executor is not None
        executor.submit(time.sleep, 60)
        raise KeyboardInterrupt


def test_processes_end_with_an_interrupted_block() -> None:
    before = set(multiprocessing.active_children())
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert set(multiprocessing.active_children()) <= before
    assert time.monotonic() - start < 50
