"""Every target's board, simulated (`simulated_board`): its engine is built, refused and timed as its release does it.

The agent runs in this process here, with the board's files, programs and kernel; `tests/agent_host/test_remote.py` goes
through OpenSSH, and `tests/benchmarks/check_boards.py` does all of it for all boards.
"""

from __future__ import annotations

import json
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from simulated_board import board as simulated
from simulated_board.board import Board
from simulated_board.stacks import STACKS
from simulated_board.trtexec import known_flags
from small_networks import SHAPE, conv_model, plan_folder
from staged_plans import staged_plan

import deploycc
from deploycc import target
from deploycc.agent import (
    bench_job,
    build_job,
    detect_job,
    files,
    gpu,
    layer_profiler,
    plan_file,
    system,
    time_engine,
    trtexec_flags,
)
from deploycc.documents.document import this_tool
from deploycc.documents.latency import LatencyReport, Run
from deploycc.evaluation.detect import OnnxRuntimeDetector
from deploycc.report.row import row_tables
from deploycc.scenes import draw_scene

REAL_TIMES = ("jetson-tx2-jp461",)  # on the other Jetsons every picture takes 9 ms
INTERPRETER = Path(simulated.__file__).parent / "interpreter" / "tensorrt_10"


def test_all_targets_but_those_of_this_machine_are_simulated() -> None:
    assert {*target.names()} - {*STACKS} == {"x86-cpu", "x86-rtx"}
    for name, stack in STACKS.items():
        facts = target.load(name)
        assert facts.runtime_version in (None, stack.tensorrt)
        assert (facts.compute_capability or stack.capability, facts.architecture) == (stack.capability, stack.machine)


def test_the_agent_and_the_boards_know_the_same_flags() -> None:
    """Two readings of the sources: the agent's, of what it uses, and the simulation's, of everything."""
    releases = [(6, 0), (7, 0), (7, 1), (7, 2), (8, 0), (8, 2), (8, 4), (8, 5), (8, 6), (9, 3), (10, 0), (10, 3)]
    for release in [*releases, (10, 7), (10, 13), (10, 16), (11, 0), (11, 1)]:
        known = known_flags(release)
        assert {flag for flag in trtexec_flags.RELEASES if trtexec_flags.knows(release, flag)} == known & {
            *trtexec_flags.RELEASES
        }, release


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], str]]:
    """The timing program of DRIVE PX 2, compiled once."""
    made: list[str] = []
    compile_it = time_engine.build_program
    folder = str(tmp_path_factory.mktemp("compiled"))

    def build_program(scratch: str) -> str:
        if not made:
            made.append(compile_it(folder))
        return made[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time_engine, "build_program", build_program)
        yield build_program


@pytest.fixture
def on_board(tmp_path: Path, compiled: object, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Become a board."""

    def become(name: str, **settings: Any) -> Board:
        if name.startswith("drive-px2") and shutil.which("g++") is None:
            pytest.skip("needs g++")
        board = simulated.make(tmp_path / "board", name, **settings)
        monkeypatch.setattr(system, "ROOT", str(board.root))
        monkeypatch.setattr(gpu, "devices", board.gpus)
        monkeypatch.setattr(platform, "machine", lambda: board.stack.machine)
        monkeypatch.setattr(sys, "path", [str(INTERPRETER), *sys.path])
        monkeypatch.setenv("PATH", str(board.bin))
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        monkeypatch.setenv("SIMULATED_BOARD", str(board.folder))
        return board

    yield become
    for module in [name for name in sys.modules if name.partition(".")[0] in ("tensorrt", "pycuda")]:
        del sys.modules[module]


def build(folder: Path, name: str) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    plan = plan_folder(folder, target.load(name), {"fp32": conv_model()})
    row = build_job.build(str(folder / "plan.json"), plan.engines[0].file)
    files.write_json({"engines": [row]}, str(folder / "build.json"))
    return row


def bench(folder: Path) -> dict[str, Any]:
    [engine] = plan_file.read_plan(str(folder / "plan.json"))["engines"]
    [row] = bench_job.bench([(str(folder / "plan.json"), engine["file"])], None)
    return row


@pytest.mark.parametrize("name", STACKS)
def test_an_engine_is_built_and_timed(tmp_path: Path, on_board: Any, name: str) -> None:
    real = name in REAL_TIMES or not name.startswith("jetson")
    board = on_board(name, longest_s=0.05, **({} if real else {"times": 9.0}))
    stack = board.stack
    built = build(tmp_path / "out", name)
    assert (built["status"], built["reason"], built["compute_capability"]) == ("built", None, stack.capability)
    assert built["builder_version"] == stack.tensorrt
    run = bench(tmp_path / "out")
    assert run["status"] == "measured", run["reason"]
    assert (run["engine"]["runtime_version"], run["device"]) == (stack.tensorrt, stack.device)
    assert len(run["samples_ms"]) >= 10
    assert all(0 < sample < 1000 for sample in run["samples_ms"])
    assert (set(run["samples_ms"]) == {9.0}) is not real
    assert run["layers"]
    if stack.target == "x86-dgpu-trt10":
        assert [layer["nodes"] for layer in run["layers"]] == [[node.name] for node in conv_model().graph.node]
        assert {layer["median_ms"] for layer in run["layers"]} == {0.25}
    if not real:
        release = tuple(map(int, stack.tensorrt.split(".")))
        assert [layer["name"].startswith("__myl_") for layer in run["layers"]] == [release >= (10, 0)] * 2
        nodes = [["conv1", "relu1"], ["conv2"]] if release >= (8, 6) else [None, None]
        assert [layer.get("nodes") for layer in run["layers"]] == nodes
    assert (tmp_path / "cache" / "deploycc").exists() is not name.startswith("drive-px2")  # the timing cache
    if (board.bin / "input").exists():
        assert (board.bin / "input").stat().st_size == 4 * SHAPE[1] * SHAPE[2] * SHAPE[3]


def test_samples_count_without_layer_times_and_the_reason_is_told(
    tmp_path: Path, on_board: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_board("x86-dgpu-trt10", longest_s=0.05)
    build(tmp_path / "out", "x86-dgpu-trt10")

    def fail(*_: Any) -> None:
        raise RuntimeError("cuptiSubscribe failed")

    monkeypatch.setattr(layer_profiler, "layer_times", fail)
    run = bench(tmp_path / "out")
    assert (run["status"], run["layers"]) == ("measured", [])
    assert run["reason"] == "no layer times: cuptiSubscribe failed"
    assert len(run["samples_ms"]) >= 10


def test_the_gpu_of_a_drive_px2_is_chosen(tmp_path: Path, on_board: Any) -> None:
    """An engine that was built for one of its GPUs does not load on the other; the program quotes TensorRT."""
    on_board("drive-px2-igpu")
    build(tmp_path / "out", "drive-px2-igpu")
    engine = tmp_path / "out" / "engine-fp32.bin"
    data = engine.read_bytes()
    assert b'"gpu": "1"' in data
    engine.write_bytes(data.replace(b'"gpu": "1"', b'"gpu": "0"'))
    row = files.read_json(str(tmp_path / "out" / "build.json"))["engines"][0]
    files.write_json({"engines": [{**row, "sha256": files.sha256_of(str(engine))}]}, str(tmp_path / "out/build.json"))
    run = bench(tmp_path / "out")
    assert run["status"] == "failed"
    assert "is not compatible with this version of TensorRT" in run["reason"]
    assert "the engine does not load" in run["reason"]


def test_a_build_that_fails_says_why(tmp_path: Path, on_board: Any) -> None:
    board = on_board("jetson-orin-jp62", times=9.0)
    for behaviour, said, node in (
        ("memory", "out of memory", None),
        ("parse", "Plugin not found", "frob (Frobnicate)"),
        ("crash", "was killed by signal 11", None),
        ("empty", "without an engine", None),
        ("refuse", "could not find any implementation", "conv1"),
    ):
        board.change(behaviour=behaviour)
        row = build(tmp_path / "out", "jetson-orin-jp62")
        assert (row["status"], row["node"]) == ("failed", node)
        assert said in row["reason"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "build.json",
        "network-fp32.onnx",
        "plan.json",
    ]


def test_garbage_on_the_output_changes_nothing(
    tmp_path: Path, on_board: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    on_board("jetson-xavier-jp512", times=9.0, behaviour="garbage")
    assert build(tmp_path / "out", "jetson-xavier-jp512")["status"] == "built"
    assert bench(tmp_path / "out")["samples_ms"] == [9.0] * 10
    shown = capsys.readouterr().err
    assert r"\x1b[2J\xff\xfe\x00" in shown
    assert shown.replace("\n", "").isprintable()


def test_a_flag_that_the_release_does_not_know_is_refused(
    tmp_path: Path, on_board: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the simulation is for: a command line of another release does not get through."""
    on_board("jetson-tx2-jp46", times=9.0)
    monkeypatch.setitem(trtexec_flags.RELEASES, "--profilingVerbosity", ((8, 0), None))  # it came with 8.2
    row = build(tmp_path / "out", "jetson-tx2-jp46")
    assert "Unknown option: --profilingVerbosity" in row["reason"]


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folders with networks in a row, compiled for a target."""

    def compiled(name: str) -> Path:
        detector, board = deploycc.load("street_ssd_blocks"), target.load(name)
        settings = deploycc.CompileSettings(
            precisions=("fp32",), detection="raw", build=False, quick=True, original=False
        )
        out = tmp_path_factory.mktemp("row") / "out"
        deploycc.compile(detector, board, out, settings, gate_plan=staged_plan(detector, board, (0.75, 0.25, 0.0)))
        return out

    return compiled


@pytest.mark.parametrize("name", ["jetson-tx2-jp461", "x86-dgpu-trt10"])
def test_networks_in_a_row_are_built_run_and_timed(
    tmp_path: Path, on_board: Any, rows: Callable[[str], Path], name: str
) -> None:
    """TensorRT's Python API runs them one after the other; trtexec times each by itself, and nothing adds up samples."""
    folder = rows(name)
    board = on_board(name, longest_s=0.05)
    plan, engine = str(folder / "plan.json"), "engine-fp32-first.engine"
    built = build_job.build(plan, engine)
    assert (built["status"], built["reason"]) == ("built", None)
    assert (built["smoke"]["status"], len(built["second"])) == ("passed", 3)
    assert built["smoke"]["matched"] == built["smoke"]["expected"] > 0
    files.write_json({"engines": [built]}, str(folder / "build.json"))
    [run] = bench_job.bench([(plan, engine)], None)
    assert run["row"]["shares"] == [0.75, 0.25, 0.0]
    assert run["engine"]["second_sha256"] == [each["sha256"] for each in built["second"]]
    if name == "x86-dgpu-trt10":
        assert run["status"] == "measured", run["reason"]
        assert {*run["row"]["second"]} == {0, 1}
        assert len(run["row"]["second"]) == len(run["samples_ms"])
    else:
        assert (run["status"], run["samples_ms"]) == ("composed", [])
        assert "times each engine by itself" in run["reason"]
        assert [len(part["samples_ms"]) >= 10 for part in run["row"]["parts"]] == [True] * 4
        called = (board.bin / "calls.jsonl").read_text() if (board.bin / "calls.jsonl").exists() else ""
        assert "Relu_output_0:input.raw" in called  # a second engine reads what the first one hands over
    pixels = draw_scene(7, 0, 160).pixels
    np.save(tmp_path / "pictures.npy", pixels[None])
    [found] = detect_job.detect(plan, str(tmp_path / "pictures.npy"))
    assert found["status"] == "detected", found["reason"]
    expected = OnnxRuntimeDetector(deploycc.load("street_ssd_blocks")).detect(pixels)
    rows_found = np.array(found["pictures"][0]["detections"]).reshape(-1, 6)
    assert sorted(rows_found[:, 0].astype(int)) == sorted(expected.classes.tolist())
    read = Run.model_validate_json(json.dumps(run))
    assert row_tables(LatencyReport(tool=this_tool(), target=name, quick=True, environment={}, runs=(read,)))
