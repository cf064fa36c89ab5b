"""The whole way on real builders: networks, engines, timings, reports, and nothing after a failure."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from json_edits import edit
from PIL import Image

import deploycc
from deploycc import importers, models
from deploycc.cli import main
from deploycc.documents.build import read_build_result
from deploycc.documents.compile import read_compile_report
from deploycc.documents.latency import read_latency_report
from deploycc.documents.utilisation import read_profile
from deploycc.errors import DeployError, TargetError
from deploycc.pruning import reconstruct
from deploycc.terminal import console

TINY = str(Path(__file__).parents[1] / "models" / "tiny_ssd.prototxt")
SEEDED = [TINY, "--random-weights", "1"]
EVERYWHERE = {"agent.pyz", "compile.json", "deploycc-manifest.json", "plan.json", "report.html", "report.md"}
EVERYWHERE |= {"contract.json", "decoder.py", "decoder.hpp", "smoke-pictures.npy"}
RAW = {"priors.npy", "variances.npy", "priors.h", "smoke-output0.npy", "smoke-output1.npy"}


def compile_(*arguments: str) -> int:
    return main(["compile", *SEEDED, *arguments])


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder compiled for this machine, built and measured, which stays as it is; and what was printed."""
    out = tmp_path_factory.mktemp("measured") / "out"
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert compile_("-t", "x86-cpu", "-o", str(out), "--quick", "--threads", "1") == 0
    return out, printed.getvalue()


def test_x86_cpu_from_definition_to_report(measured: tuple[Path, str]) -> None:
    out, printed = measured
    assert printed == f"{out}\n"
    made = {path.name for path in out.iterdir()}
    assert made == EVERYWHERE | RAW | {"build.json", "latency.json", "network-fp32.onnx", "engine-fp32.onnx"}
    report, latency = read_compile_report(out), read_latency_report(out)
    assert report.source.random_weights == 1
    [network], [engine], [run] = report.networks, report.engines, latency.runs
    assert engine.network_sha256 == run.network_sha256 == network.sha256
    assert engine.smoke is not None
    assert (engine.smoke.status, engine.smoke.pictures) == ("passed", 2)
    assert run.engine is not None
    assert run.engine.sha256 == engine.sha256
    assert run.status == "measured"
    assert len(run.samples_ms) >= 10
    assert latency.quick
    assert report.next_command is None
    assert "random (seed 1)" in (out / "report.md").read_text(encoding="utf-8")
    reread = importers.load(out / "network-fp32.onnx")
    assert reread.heads is not None
    assert len(reread.heads.priors) == 320


def test_x86_rtx_builds_real_engines_without_a_gpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tensorrt_rtx", reason="the extra `rtx` is not installed")
    out = tmp_path / "out"
    assert compile_("-t", "x86-rtx", "-o", str(out), "--no-measure") == 0
    report = read_compile_report(out)
    assert [(engine.precision, engine.status) for engine in report.engines] == [("fp32", "built"), ("fp16", "built")]
    layers = json.loads((out / "build.json").read_text(encoding="utf-8"))["engines"][1]["layers"]
    kinds = {layer["precision"] for layer in layers if layer["type"] == "CONVOLUTION"}
    assert kinds == {"HALF"}
    assert all((out / str(engine.file)).stat().st_size == engine.size_bytes for engine in report.engines)


@pytest.mark.parametrize("board", ["jetson-tx2-jp461", "drive-px2-igpu"])
def test_a_board_that_is_not_there_gets_everything_but_the_engine(
    board: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert compile_("-t", board, "-o", str(out)) == 0
    made = {path.name for path in out.iterdir()}
    caffe = {"network-fp32.prototxt", "network-fp32.caffemodel"} if board.startswith("drive") else set()
    assert EVERYWHERE | caffe <= made
    assert not any(name.startswith("engine") for name in made)
    report = read_compile_report(out)
    assert {engine.status for engine in report.engines} == {"not-possible"}
    assert report.next_command is not None
    assert "agent.pyz build plan.json" in report.next_command
    assert report.next_command in capsys.readouterr().err
    assert report.next_command in (out / "report.md").read_text(encoding="utf-8")
    capsys.readouterr()
    assert main(["build", str(out)]) == 0
    assert capsys.readouterr().out == ""  # no engine, so no path of one


def test_several_targets_make_a_folder_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert compile_("-t", "x86-cpu", "-t", "jetson-orin-jp62", "-o", str(out), "--no-build") == 0
    assert capsys.readouterr().out.split() == [str(out / "x86-cpu"), str(out / "jetson-orin-jp62")]
    assert (out / "x86-cpu" / "plan.json").exists()
    assert (out / "jetson-orin-jp62" / "plan.json").exists()


def test_compile_is_the_steps_in_a_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert compile_("-t", "x86-cpu", "-o", str(out), "--quick", "--no-build", "--threads", "1") == 0
    assert not (out / "build.json").exists()
    assert main(["build", str(out)]) == 0
    assert read_compile_report(out).engines == read_build_result(out).engines
    assert main(["bench", str(out)]) == 0
    assert main(["report", "show", str(out)]) == 0
    assert capsys.readouterr().out.splitlines()[:3] == [
        str(out),
        str(out / "engine-fp32.onnx"),
        str(out / "latency.json"),
    ]


def test_building_again_drops_the_figures_of_the_engines_before(measured: tuple[Path, str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(measured[0], out)
    edit(out, "build.json", lambda build: build["engines"][0].update(sha256="0" * 64))  # so that the new one differs
    edit(out, "latency.json", lambda latency: latency["runs"][0]["engine"].update(sha256="0" * 64))
    figures = (out / "latency.json").read_bytes()
    assert main(["build", str(out)]) == 0
    assert not (out / "latency.json").exists()
    assert "Nothing was measured" in (out / "report.md").read_text(encoding="utf-8")
    [run] = (out / "runs").iterdir()
    assert (run / "latency.json").read_bytes() == figures


def test_fp16_is_compared_on_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    Image.effect_noise((90, 70), 80).convert("RGB").save(pictures / "a.png")
    out = tmp_path / "out"
    keep = ["--keep-fp32", "conv1"]
    assert compile_("-t", "x86-rtx", "-o", str(out), "--no-build", "--images", str(pictures), *keep) == 0
    comparison = read_compile_report(out).comparison
    assert comparison is not None
    assert comparison.pictures == 1
    assert {output.tensor for output in comparison.outputs} == {"mbox_loc", "mbox_conf_flatten"}
    assert all(0 < output.relative_rms_error < 0.05 for output in comparison.outputs)
    assert comparison.detections is not None
    weights = {t.name: t.dtype for t in importers.load(out / "network-fp16.onnx").graph.tensors().values()}
    assert {str(dtype) for name, dtype in weights.items() if name.startswith("conv1")} >= {"float32"}
    assert (read_compile_report(out).networks[1].options["keep_fp32"]) == ["conv1"]


def test_dumps_show_every_pass(tmp_path: Path) -> None:
    dumps = tmp_path / "dumps"
    assert compile_("-t", "x86-cpu", "-o", str(tmp_path / "out"), "--no-build", "--dump-each", str(dumps)) == 0
    names = sorted(path.name for path in (dumps / "fp32").iterdir())
    assert names[0] == "00_fold_constants.txt"
    assert "BatchNormalization" in (dumps / "fp32" / names[0]).read_text(encoding="utf-8")
    assert "BatchNormalization" not in (dumps / "fp32" / names[-1]).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-t", "x86-cpy"], "x86-cpu"),
        (["-t", "x86-cpu", "--precision", "fp16"], "does not build fp16"),
        (["-t", "x86-cpu", "--precision", "int3"], "does not build int3"),
        (["-t", "x86-rtx", "--detection", "onnx-nms"], "cannot run the detection lowering"),
        (["-t", "x86-rtx", "--keep-fp32", "conv9"], "conv9"),
        (["-t", "x86-cpu", "--colour", "mauve"], "BGR, RGB, GRAY"),
        (["-t", "x86-cpu", "--mean", "1,a"], "--mean 1,a"),
        (["-t", "x86-cpu", "--mean", "nan"], "--mean nan"),
        (["-t", "x86-cpu", "--scale", "1,0,1"], "--scale 1,0,1 holds a 0"),
        (["-t", "x86-cpu", "--threads", "99999"], "more than the"),
        (["-t", "x86-cpu", "--no-build", "--dump-each", f"{TINY}/dumps"], "00_fold_constants.txt cannot be written"),
    ],
)
def test_a_wrong_choice_is_one_error_and_leaves_nothing(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compile_(*arguments, "-o", str(tmp_path / "out")) == 1
    captured = capsys.readouterr()
    assert captured.err.count("error[") == 1
    assert message in captured.err
    assert "Traceback" not in captured.err
    assert captured.out == ""
    assert list(tmp_path.iterdir()) == []


def test_options_that_change_nothing_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compile_("-t", "x86-cpu", "-o", str(tmp_path / "out"), "--no-build", "--keep-fp32", "conv1") == 0
    err = capsys.readouterr().err
    assert "warning: x86-cpu: --images and --keep-fp32 concern FP16" in err
    for note in read_compile_report(tmp_path / "out").detector.notes:
        assert console.spelled(f"{note.node}: {note.reason}") in err


def test_a_target_that_is_refused_does_not_hold_up_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    targets = ["-t", "jetson-tx2-jp461", "-t", "x86-cpu"]
    assert compile_(*targets, "--detection", "onnx-nms", "--no-build", "-o", str(out), "--json") == 1
    captured = capsys.readouterr()
    refused, done = json.loads(captured.out)
    assert (refused["target"], refused["error"]["code"]) == ("jetson-tx2-jp461", "target-refuses-detection")
    assert done["folder"] == str(out / "x86-cpu")
    assert [path.name for path in out.iterdir()] == ["x86-cpu"]
    assert captured.err.count("error[target-refuses-detection]") == 1
    summary = captured.err.partition("error[targets-refused]: ")[2]
    assert summary.startswith("1 of 2 targets")
    assert "jetson-tx2-jp461: target-refuses-detection" in summary


def test_the_library_raises_after_the_last_target(tmp_path: Path) -> None:
    detector = importers.load(TINY, random_weights=1)
    settings = deploycc.CompileSettings(detection="onnx-nms", build=False)
    with pytest.raises(DeployError) as caught:
        deploycc.compile(detector, ["jetson-tx2-jp461", "x86-cpu"], tmp_path, settings)
    assert caught.value.code == "targets-refused"
    assert (tmp_path / "x86-cpu" / "compile.json").exists()
    with pytest.raises(TargetError):
        deploycc.compile(detector, "jetson-tx2-jp461", tmp_path / "one", settings)


def test_compiling_into_the_folder_of_the_model_keeps_the_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    into = ["-t", "x86-cpu", "--no-build", "-o", str(out)]
    assert compile_(*into) == 0
    shutil.copy(out / "network-fp32.onnx", out / "my.onnx")
    assert main(["compile", str(out / "my.onnx"), *into]) == 0
    assert (out / "my.onnx").exists()
    (out / "notes.txt").write_text("mine", encoding="utf-8")
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert main(["compile", str(out), *into]) == 1
    assert "error[output-is-the-input]" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_an_output_that_cannot_be_written_is_refused_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--data", "generated:3:4", "-t", "x86-cpu", "-o", "/dev/null/out"]
    assert main(["compile", str(tmp_path / "missing.onnx"), *arguments]) == 1  # and the model is not even read
    assert "error[output-unwritable]" in capsys.readouterr().err


@pytest.mark.parametrize("asked", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_a_timeout_leave_nothing(asked: signal.Signals, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "deploycc", "compile", *SEEDED, "-t", "x86-cpu", "--no-verify"]
    command += ["-o", str(tmp_path / "out")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, start_new_session=True)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("out/.deploycc-*/new/engine-fp32.onnx")):  # the measurement is next, ten seconds of it
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, asked)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert b"Traceback" not in err
    assert list(tmp_path.iterdir()) == []


PRUNED = ["--data", "generated:3:8", "--below", "0.05", "--round-to", "8"]


def test_pruning_on_the_way_keeps_the_original_beside_it(tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = [*PRUNED, "--score", "generated:4:6", "-t", "x86-cpu", "-o", str(out), "--quick", "--threads", "1"]
    assert main(["compile", "street_ssd_lkam", *arguments]) == 0
    report, latency = read_compile_report(out), read_latency_report(out)
    [record] = report.prunings
    total = record.part("total")
    assert total is not None
    assert record.source == report.source
    assert report.source.file_sha256 == (report.source.sha256,)
    networks = {network.variant: network for network in report.networks}
    sizes = {variant: network.steps[-1].after for variant, network in networks.items()}
    assert (sizes["original"].macs, sizes["compiled"].macs) == total.macs
    assert (sizes["original"].params, sizes["compiled"].params) == total.params
    assert sizes["compiled"].macs < sizes["original"].macs
    [changed] = [step for step in networks["compiled"].steps if step.name == "prune_channels"]
    assert changed.changed
    assert not any(step.changed for step in networks["original"].steps if step.name == "prune_channels")
    assert {engine.variant: engine.status for engine in report.engines} == {"compiled": "built", "original": "built"}
    assert {run.variant for run in latency.runs if run.status == "measured"} == {"compiled", "original"}
    assert {score.variant: score.pictures for score in report.accuracy} == {"compiled": 6, "original": 6}
    assert read_profile(out / "utilisation.json").pictures.count == 8


def test_a_pruned_file_is_the_network_that_pruning_on_the_way_makes(tmp_path: Path) -> None:
    """And its report starts at the trained file, which is compared with while it is there and the same."""
    trained = tmp_path / "trained.onnx"
    shutil.copy(models.resolve("street_ssd_lkam"), trained)
    on_the_way, small, out = tmp_path / "direct", tmp_path / "small.onnx", tmp_path / "out"
    only = ["-t", "x86-cpu", "--no-build"]
    assert main(["compile", str(trained), *PRUNED, *only, "-o", str(on_the_way)]) == 0
    profile = str(on_the_way / "utilisation.json")
    assert main(["prune", str(trained), "--profile", profile, "--round-to", "8", "-o", str(small)]) == 0
    assert main(["compile", str(small), *only, "-o", str(out)]) == 0
    direct, later = read_compile_report(on_the_way), read_compile_report(out)
    assert later.prunings == direct.prunings
    assert later.prunings[0].source.files == (str(trained),)
    assert [network.variant for network in later.networks] == ["compiled", "original"]
    picture = np.random.default_rng(0).uniform(-1, 1, later.detector.input.shape).astype(np.float32)
    for name in ("network-fp32.onnx", "network-fp32-original.onnx"):
        want, got = (run_file(folder / name, picture) for folder in (on_the_way, out))
        for one, other in zip(want, got, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)
    trained.write_bytes(trained.read_bytes() + b"\0")
    assert main(["compile", str(small), *only, "-o", str(out)]) == 0
    later = read_compile_report(out)
    assert [network.variant for network in later.networks] == ["compiled"]
    assert later.prunings == direct.prunings


def run_file(path: Path, picture: np.ndarray) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    found: list[np.ndarray] = session.run(None, {session.get_inputs()[0].name: picture})
    return found


def test_refitted_weights_are_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From memory and from the file that was written, where only the latter can be compared with a file."""
    monkeypatch.setattr(reconstruct, "_POSITIONS", 8)  # a rough fit is enough here
    monkeypatch.setattr(reconstruct, "RIDGES", (0.1,))
    small, out, direct = tmp_path / "small.onnx", tmp_path / "out", tmp_path / "direct"
    detector = deploycc.load("street_ssd")
    settings = deploycc.PruneSettings(by="l1", below=0.1, multiple=8)
    pruned = deploycc.prune(detector, settings, pictures="generated:7:5")
    deploycc.save(pruned.detector, small)
    assert main(["compile", str(small), "-t", "x86-cpu", "-o", str(out), "--no-build"]) == 0
    deploycc.compile(detector, ["x86-cpu"], direct, deploycc.CompileSettings(build=False), pruned=pruned)
    found = [read_compile_report(folder) for folder in (out, direct)]
    for report, against in zip(found, ("file", "pruned"), strict=True):
        [record] = report.prunings
        assert record.reconstruction is not None
        assert record.reconstruction.source == "generated:7:5"
        (compiled,) = (verified for verified in report.verified if verified.variant == "compiled")
        assert compiled.against == against
    picture = np.random.default_rng(0).uniform(-1, 1, detector.input.shape).astype(np.float32)
    for one, other in zip(*(run_file(folder / "network-fp32.onnx", picture) for folder in (out, direct)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--data", "generated:3:4", "--profile", "p.json"], "prune-option"),
        (["--by", "utilisation", "--mask", "nowhere.json"], "mask-unreadable"),
        (["--below", "0.05"], "prune-no-profile"),
        (["--keep-gates"], "prune-no-profile"),
        (["--profile", "nowhere.json"], "artefact-missing"),
        (["--data", "generated:3:4", "--scope", "all"], "prune-option"),
        (["--by", "fisher"], "prune-no-pictures"),
        (["--recover", "generated:3:40"], "prune-option"),
    ],
)
def test_pruning_options_that_do_not_fit_are_refused(
    arguments: list[str], code: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["compile", "street_ssd", *arguments, "-t", "x86-cpu", "-o", str(out)]) == 1
    assert f"error[{code}]" in capsys.readouterr().err
    assert not out.exists()


def test_json_is_the_whole_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert compile_("-t", "x86-cpu", "-o", str(out), "--no-build", "--json") == 0
    [facts] = json.loads(capsys.readouterr().out)
    assert facts["folder"] == str(out)
    assert facts["compile"]["target"]["name"] == "x86-cpu"
    assert facts["latency"] is None
