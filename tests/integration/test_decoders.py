"""The generated decoders find what `deploycc.evaluation` finds, in Python and in C++."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from decoder_cases import (
    LABELS,
    CppDecoders,
    compile_decoders,
    contract_folder,
    head_detector,
    python_decoder,
    random_heads,
    random_outputs,
    unpacking_detector,
)
from numerics import assert_same_detections

from deploycc.detector import DetectionOutputs, Detector, InputSpec
from deploycc.detector.pictures import prepare
from deploycc.documents.contract import IntegrationContract, read_contract
from deploycc.evaluation.decode import read_detections
from deploycc.evaluation.nms import Detections

HOST = {
    "Caffe's coding": head_detector(random_heads(1), InputSpec("data", 4, 5, "BGR", (104.0, 117.0, 123.0), (0.5,) * 3)),
    "corners, y first, clipped, no background": head_detector(
        random_heads(2, box_coding="corner", y_first=True, clip=True, background=None)
    ),
    "sides, variances encoded": head_detector(
        random_heads(3, box_coding="corner_size", variance_encoded=True, background=2)
    ),
    "TensorFlow's order": head_detector(random_heads(4, y_first=True)),
}
IN_NETWORK = {
    "columns": unpacking_detector(DetectionOutputs("boxes", "scores", "classes"), None, np.int64),
    "columns and a count": unpacking_detector(DetectionOutputs("boxes", "scores", "classes", "count"), 9),
    "rows": unpacking_detector(DetectionOutputs("d", "d", "d", layout="rows"), 7),
}
Case = tuple[Path, IntegrationContract, list[Detector]]


@pytest.fixture(scope="module", params=[HOST, IN_NETWORK], ids=["raw heads", "decoded in the network"])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp("contract")
    detectors = list(request.param.values())
    return folder, contract_folder(folder, detectors), detectors


@pytest.fixture(scope="module")
def cpp(tmp_path_factory: pytest.TempPathFactory) -> tuple[CppDecoders, list[Detector]]:
    """A program with three of the decoders: compiling all with sanitizers takes 8 s (`check_decoders.py` does)."""
    if shutil.which("g++") is None:
        pytest.skip("there is no g++ here")
    folder = tmp_path_factory.mktemp("cpp")
    detectors = [*list(HOST.values())[:2], IN_NETWORK["columns and a count"]]
    return compile_decoders(folder, contract_folder(folder, detectors), folder / "decode"), detectors


def same(got: Detections, expected: Detections) -> None:
    assert_same_detections(got, expected, score_atol=1e-6, min_iou=0.9999)
    assert np.array_equal(got.classes, expected.classes)
    assert np.array_equal(got.scores, expected.scores)


def test_python_finds_what_the_project_finds(case: Case) -> None:
    folder, contract, detectors = case
    seen = 0
    for network, detector in zip(contract.networks, detectors, strict=True):
        module = python_decoder(folder, network)
        for seed in range(6):
            outputs = random_outputs(network, seed)
            expected = read_detections(detector, outputs)
            same(Detections(*module.decode(outputs)), expected)
            seen += len(expected)
        module.decode(random_outputs(network, 0, wild=True))
    assert seen > 50


def test_cpp_finds_what_the_project_finds(cpp: tuple[CppDecoders, list[Detector]]) -> None:
    program, detectors = cpp
    cases = [(index, random_outputs(program.networks[index], seed)) for index in range(3) for seed in range(8)]
    seen = 0
    for got, (index, outputs) in zip(program.decode(cases), cases, strict=True):
        expected = read_detections(detectors[index], outputs)
        same(got, expected)
        seen += len(expected)
    assert seen > 50


def test_cpp_survives_whatever_an_engine_answers(cpp: tuple[CppDecoders, list[Detector]]) -> None:
    program, _ = cpp
    wild = [
        (index, random_outputs(program.networks[index], seed, wild=True)) for index in range(3) for seed in range(40)
    ]
    found = program.decode(wild)
    assert len(found) == len(wild)
    assert all(not np.isnan(each.scores).any() for each in found)


PICTURES = [np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8) for size in ((4, 5), (7, 9), (2, 1))]


def test_python_makes_the_tensor_that_the_project_makes(case: Case) -> None:
    folder, contract, detectors = case
    for picture in PICTURES:
        got = python_decoder(folder, contract.networks[0]).tensor_of(picture)
        assert np.array_equal(got, prepare(picture, detectors[0].input))


def test_cpp_makes_the_tensor_that_the_project_makes(cpp: tuple[CppDecoders, list[Detector]]) -> None:
    program, detectors = cpp
    for picture in PICTURES:
        assert np.array_equal(program.prepare(picture), prepare(picture, detectors[0].input).reshape(-1))


def test_grey_pictures_too(tmp_path: Path) -> None:
    spec = InputSpec("data", 4, 5, "GRAY", (1.0,), (0.5,))
    contract = contract_folder(tmp_path, [head_detector(random_heads(5), spec)])
    picture = np.random.default_rng(1).integers(0, 256, (6, 3, 3), np.uint8)
    module = python_decoder(tmp_path, contract.networks[0])
    assert np.allclose(module.tensor_of(picture), prepare(picture, spec), rtol=0, atol=1e-6)


def test_the_python_file_needs_numpy_only(case: Case) -> None:
    folder, contract, _ = case
    for network in contract.networks:
        assert network.python is not None
        text = (folder / network.python).read_text(encoding="utf-8")
        imports = {line.strip() for line in text.splitlines() if line.strip().startswith(("import ", "from "))}
        assert imports == {"import os", "import numpy"}


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with Caffe's coding."""
    folder = tmp_path_factory.mktemp("one")
    contract_folder(folder, [HOST["Caffe's coding"]])
    return folder


def test_the_python_file_runs_on_python_3_5(one: Path) -> None:
    pytest.importorskip("vermin")
    start = "from vermin import main; main()"
    arguments = ["-t=3.5-", "--violations", "--eval-annotations", "--no-tips", str(one / "decoder.py")]
    ran = subprocess.run([sys.executable, "-c", start, *arguments], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("common / joint > overlap", "common / joint > 0.9"),
        ("(low + high) / 2", "low"),
        ("(-column[rows]", "(column[rows]"),
    ],
)
def test_planted_bugs_show(one: Path, old: str, new: str) -> None:
    text = (one / "decoder.py").read_text(encoding="utf-8")
    assert text.count(old) == 1
    namespace = {"__file__": str(one / "decoder.py")}
    exec(text.replace(old, new), namespace)
    detector = HOST["Caffe's coding"]
    outputs = random_outputs(read_contract(one).networks[0], 0)
    with pytest.raises(AssertionError):
        same(Detections(*namespace["decode"](outputs)), read_detections(detector, outputs))  # type: ignore[operator]


def test_every_network_has_decoders_of_its_own_where_it_is_read_in_another_way(case: Case) -> None:
    _, contract, detectors = case
    endings = {("fp32", "compiled"): "", ("fp32", "original"): "-original"}
    endings |= {("fp16", "compiled"): "-fp16", ("fp16", "original"): "-original-fp16"}
    expected = [f"decoder{endings[label]}.hpp" for label in LABELS[: len(detectors)]]
    assert [network.cpp for network in contract.networks] == expected
