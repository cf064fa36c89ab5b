"""Networks in a row from a gate plan to engines, times and detections, on this machine with real pictures."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from bundles import keys
from staged_plans import staged_plan

import deploycc
from deploycc import target
from deploycc.agent import answers, bench_job, detect_job, ed25519, first_boot, plan_file, telemetry
from deploycc.agent.outcome import Failed
from deploycc.agent.releases import Releases
from deploycc.agent_host.remote import _needed
from deploycc.detector.pictures import prepare, resize
from deploycc.documents.contract import read_contract
from deploycc.documents.plan import read_plan
from deploycc.errors import ArtefactError, InputError
from deploycc.report.chain import breaks
from deploycc.report.row import typical_ms
from deploycc.scenes import draw_scene
from deploycc.workflows.chain import check_chain
from deploycc.workflows.package import package
from deploycc.workflows.package_contents import PackageSettings
from deploycc.workflows.report import Report

CPU = target.load("x86-cpu")
SHARES = (0.75, 0.25, 0.0)
PICTURES = 10


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Report:
    detector = deploycc.load("street_ssd_blocks")
    settings = deploycc.CompileSettings(quick=True, threads=1, original=False)
    plan = staged_plan(detector, CPU, SHARES)
    [report] = deploycc.compile(detector, CPU, tmp_path_factory.mktemp("row") / "out", settings, gate_plan=plan)
    return report


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray[Any, np.dtype[np.uint8]]]:
    return [draw_scene(7, number, 160).pixels for number in range(PICTURES)]


def test_the_plan_says_how_the_networks_belong_together(compiled: Report) -> None:
    [network], [engine] = read_plan(compiled.folder).networks, read_plan(compiled.folder).engines
    row = network.row
    assert row is not None
    assert network.file == "network-fp32-first.onnx"
    assert [second.file for second in row.second] == [f"network-fp32-second-{number}.onnx" for number in range(3)]
    assert engine.files == ("engine-fp32-first.onnx", *(f"engine-fp32-second-{number}.onnx" for number in range(3)))
    assert row.shares == SHARES
    assert {name for second in row.second for name in second.reads} == {tensor.name for tensor in row.handed}
    assert all((compiled.folder / name).exists() for name in (*network.files, *engine.files, "network-fp32.onnx"))
    [verified] = compiled.compiled.verified
    assert verified.against == "file"
    assert verified.largest_difference < 1e-5


def test_outputs_of_the_row_are_those_of_the_gated_network(compiled: Report, pictures: list[Any]) -> None:
    detector = deploycc.load("street_ssd_blocks")
    plan = plan_file.read_plan(str(compiled.folder / "plan.json"))
    [network], [engine] = plan["networks"], plan["engines"]
    paths = [str(compiled.folder / part["file"]) for part in plan_file.engine_parts(engine)]
    gated = ort.InferenceSession("deploycc/models/street_ssd_blocks.onnx")
    names = [output.name for output in gated.get_outputs()]
    chosen: Counter[int] = Counter()
    decide = ort.InferenceSession(paths[0])
    with answers.of(plan, network, paths, None)() as answer:
        for picture in pictures:
            tensor = prepare(picture, detector.input)
            found = answer(tensor)
            expected = dict(zip(names, gated.run(None, {detector.input.name: tensor}), strict=True))
            assert sorted(found) == sorted(expected)
            for name, values in expected.items():
                np.testing.assert_allclose(found[name], values, rtol=1e-4, atol=1e-5)
            chosen[int(decide.run([network["row"]["decision"]], {detector.input.name: tensor})[0][0])] += 1
    assert len(chosen) > 1


def test_the_latency_says_which_network_ran_and_how_often(compiled: Report) -> None:
    assert compiled.latency is not None
    [run] = compiled.latency.runs
    assert run.row is not None
    assert (run.status, run.row.shares, run.row.parts) == ("measured", SHARES, ())
    assert len(run.row.second) == len(run.samples_ms)
    counted = Counter(run.row.second)
    share = counted[0] / len(run.samples_ms)
    assert share == pytest.approx(0.75, abs=2 / len(run.samples_ms))  # as often as pictures need it
    assert run.engine is not None
    assert len(run.engine.second_sha256) == 3
    assert {layer.name.partition(": ")[0] for layer in run.layers} == {"first", "second 0"}
    assert sum(layer.share for layer in run.layers) == pytest.approx(1)
    assert compiled.median_ms() == typical_ms(run)
    shown = (compiled.folder / "report.md").read_text()
    assert "by how often each ran" in shown
    assert "Networks in a row, fp32" in shown
    assert "first &gt; second 0 | measured" in shown
    assert "Networks in a row, fp32" in compiled.html.read_text()


def test_what_the_engines_detect_is_what_the_detector_detects(
    compiled: Report, pictures: list[Any], tmp_path: Path
) -> None:
    np.save(tmp_path / "pictures.npy", np.stack(pictures))
    [row] = detect_job.detect(str(compiled.folder / "plan.json"), str(tmp_path / "pictures.npy"))
    assert row["status"] == "detected", row["reason"]
    from deploycc.evaluation.detect import OnnxRuntimeDetector

    runner = OnnxRuntimeDetector(deploycc.load(compiled.folder))  # the network in one
    for seen, picture in zip(row["pictures"], pictures, strict=True):
        expected = runner.detect(picture)
        rows = np.array(seen["detections"]).reshape(-1, 6)
        assert rows[:, 0].astype(int).tolist() == expected.classes.tolist()
        np.testing.assert_allclose(rows[:, 2:], expected.boxes, atol=1e-4)


def test_the_contract_and_the_decoder_run_the_row(compiled: Report, pictures: list[Any]) -> None:
    contract = read_contract(compiled.folder)
    [network] = contract.networks
    assert network.row is not None
    assert network.row.decision == read_plan(compiled.folder).networks[0].row.decision  # type: ignore[union-attr]
    assert [output.name for output in network.outputs] == ["locations", "scores"]
    spec = importlib.util.spec_from_file_location("decoder_of_row", compiled.folder / "decoder.py")
    assert spec is not None
    assert spec.loader is not None
    decoder = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(decoder)

    def engine(name: str) -> Any:
        session = ort.InferenceSession(compiled.folder / name)
        outputs = [output.name for output in session.get_outputs()]
        return lambda given: dict(zip(outputs, session.run(None, given), strict=True))

    engines = {name: engine(name) for name in (network.engine, *(each.engine for each in network.row.second))}
    boxes, _, _ = decoder.decode(decoder.run_in_a_row(engines, decoder.tensor_of(resize(pictures[0], 160, 160))))
    assert len(boxes)
    assert '"engine-fp32-second-2.onnx"' in (compiled.folder / "decoder.hpp").read_text()


def test_a_second_network_or_engine_that_was_changed_is_found(compiled: Report) -> None:
    folder = compiled.folder
    plan = plan_file.read_plan(str(folder / "plan.json"))
    for name in ("network-fp32-second-1.onnx", "engine-fp32-second-1.onnx"):
        before = (folder / name).read_bytes()
        (folder / name).write_bytes(before + b"\0")
        try:
            with pytest.raises(ArtefactError) as caught:
                check_chain(folder)
            assert name in caught.value.context
            if name.startswith("engine"):
                with pytest.raises(Failed, match="engine-fp32-second-1"):
                    bench_job.check_engine(plan["engines"][0], str(folder))
        finally:
            (folder / name).write_bytes(before)
    check_chain(folder)


def test_an_engine_of_another_second_network_is_found(compiled: Report) -> None:
    [engine] = compiled.compiled.engines
    assert breaks(compiled.compiled, compiled.latency) == ()
    other = engine.second[0].model_copy(update={"network_sha256": "0" * 64})
    edited = engine.model_copy(update={"second": (other, *engine.second[1:])})
    report = compiled.compiled.model_copy(update={"engines": (edited,)})
    assert breaks(report, None) == ("the fp32 engine was built from another network",)


def test_the_smoke_test_sees_a_second_engine_that_is_wrong(compiled: Report, tmp_path: Path) -> None:
    """Its pictures need every second network that any of many pictures does."""
    contract = json.loads((compiled.folder / "contract.json").read_text())
    stack = np.load(compiled.folder / contract["networks"][0]["smoke"]["pictures"])
    detector = deploycc.load("street_ssd_blocks")
    network = read_plan(compiled.folder).networks[0]
    assert network.row is not None
    session = ort.InferenceSession(compiled.folder / network.file)
    needed = [
        int(session.run([network.row.decision], {"image": prepare(each, detector.input)})[0][0]) for each in stack
    ]
    assert sorted(set(needed)) == [0, 1]


def test_a_board_gets_every_file_of_a_row(compiled: Report) -> None:
    plan = read_plan(compiled.folder)
    smoke = read_contract(compiled.folder).networks[0].smoke
    assert smoke is not None
    assert {*plan.networks[0].files, smoke.pictures} <= set(_needed(compiled.folder / "plan.json", {"build"}))
    assert {*plan.engines[0].files, smoke.pictures} <= set(_needed(compiled.folder / "plan.json", {"bench"}))


@pytest.mark.parametrize("missing", [slice(0), slice(1, 2), slice(None)], ids=["none", "one", "all"])
def test_a_bundle_brings_every_engine_or_builds_them_all(
    compiled: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: slice
) -> None:
    folder = Path(shutil.copytree(compiled.folder, tmp_path / "out"))
    names = read_plan(folder).engines[0].files
    built = not names[missing]
    for name in names[missing]:
        (folder / name).unlink()
    private, public = keys(tmp_path)
    packaged = package(folder, private, tmp_path / "row.tar", PackageSettings(build_on_device=not built))
    listed = [f"model/{name}" for name in names]
    assert [engine.file for engine in packaged.manifest.engines] == (listed if built else [])
    assert {file.name for file in packaged.manifest.files} & set(listed) == set(listed if built else [])
    root = tmp_path / "root"
    root.mkdir()
    installed = Releases(str(root))
    try:
        installed.install(str(packaged.files[0]), ed25519.read_public_key(str(public)), lambda found: None)
    finally:
        installed.close()
    monkeypatch.setattr(telemetry, "starter", lambda: [sys.executable, "-m", "deploycc.agent"])
    place = Path(first_boot.prepare(str(root)))
    assert all((place / name).is_file() for name in names)
    assert first_boot.prepare(str(root)) == str(place)
    if not built:
        (place / names[2]).write_bytes(b"another")
        assert not first_boot._are_whole(str(place))


def test_layers_of_a_row_are_not_kept_in_fp32(tmp_path: Path) -> None:
    board = target.load("jetson-tx2-jp461")
    detector = deploycc.load("street_ssd_blocks")
    layer = detector.gates[0].layer if detector.gates else "any"
    settings = deploycc.CompileSettings(precisions=("fp16",), keep_fp32=(layer,), build=False)
    with pytest.raises(InputError) as caught:
        deploycc.compile(detector, board, tmp_path / "out", settings, gate_plan=staged_plan(detector, board))
    assert caught.value.code == "row-keep-fp32"


def test_tensorrt_rtx_builds_every_network_in_fp16(tmp_path: Path) -> None:
    """A real parser: tensors that are handed over stay FP32 at the borders of typed networks, the decision INT32."""
    pytest.importorskip("tensorrt_rtx", reason="needs the extra 'rtx'")
    board, detector = target.load("x86-rtx"), deploycc.load("street_ssd_blocks")
    settings = deploycc.CompileSettings(precisions=("fp16",), original=False, verify=False, measure=False)
    [report] = deploycc.compile(detector, board, tmp_path / "out", settings, gate_plan=staged_plan(detector, board))
    [engine] = report.compiled.engines
    assert engine.status == "built", engine.reason
    assert len(engine.second) == 3
    assert all((tmp_path / "out" / name).stat().st_size > 10_000 for name in engine.files)
