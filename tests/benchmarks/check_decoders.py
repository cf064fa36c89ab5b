"""The decoders that come with a contract, against this project's own decoding and against hostile numbers.

    python tests/benchmarks/check_decoders.py

Goals: on every real model with SSD heads, ``decoder.py`` and ``decoder.hpp`` (C++11, AddressSanitizer and
UndefinedBehaviorSanitizer) find what `deploycc.evaluation` finds, scores within 1e-4 and IoU from 0.999 on; and no
sanitizer reports anything in 10,000 random outputs with NaN, infinities and huge numbers. Prints one line per model;
exits 1 where a goal is missed.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "helpers"))
from check_rtx_builds import models
from decoder_cases import (
    compile_decoders,
    contract_folder,
    head_detector,
    python_decoder,
    random_heads,
    random_outputs,
    unpacking_detector,
)
from numerics import assert_same_detections
from real_models import ASSETS, missing

import deploycc
from deploycc import CompileSettings
from deploycc.detector import DetectionOutputs
from deploycc.detector.pictures import prepare, read_picture
from deploycc.documents.contract import read_contract
from deploycc.evaluation.decode import read_detections
from deploycc.evaluation.detect import OnnxRuntimeDetector
from deploycc.evaluation.nms import Detections

PICTURES = ("res10_face_ssd/test_faces.jpg", "test_images/dog.jpg", "test_images/horses.jpg", "test_images/person.jpg")


def check_model(model: Path, given: dict[str, object]) -> str:
    """Compare the decoders on one model; returns what was compared.

    Raises:
        AssertionError: they find something else.
    """
    detector = deploycc.load(model, **given)  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "out"
        deploycc.compile(detector, "x86-cpu", folder, CompileSettings(build=False, verify=False))
        contract = read_contract(folder)
        [network] = contract.networks
        if network.decoding == "unknown":
            return "no detections are recognised"
        compiled = deploycc.load(folder)
        runner = OnnxRuntimeDetector(compiled)
        decoder = python_decoder(folder, network)
        program = compile_decoders(folder, contract, Path(name) / "decode")
        cases, expected = [], []
        for picture in (read_picture(ASSETS / each) for each in PICTURES):
            tensor = prepare(picture, compiled.input)
            assert np.allclose(decoder.tensor_of(picture), tensor, rtol=0, atol=1e-6)
            assert np.allclose(program.prepare(picture), tensor.reshape(-1), rtol=0, atol=1e-6)
            outputs = runner.run(tensor)
            cases.append((0, outputs))
            expected.append(read_detections(compiled, outputs))
        for got, (_, outputs), wanted in zip(program.decode(cases), cases, expected, strict=True):
            assert_same_detections(got, wanted, score_atol=1e-4, min_iou=0.999)
            assert_same_detections(Detections(*decoder.decode(outputs)), wanted, score_atol=1e-4, min_iou=0.999)
        priors = f"{network.heads.prior_count} priors, " if network.heads else ""
        return f"{priors}{sum(map(len, expected))} detections on {len(PICTURES)} pictures"


def check_wild(count: int) -> str:
    """Run the C++ decoders on random outputs; returns what was run.

    Raises:
        AssertionError: a sanitizer reports something.
    """
    codings = (
        {},
        {"box_coding": "corner", "y_first": True, "clip": True, "background": None},
        {"box_coding": "corner_size", "variance_encoded": True},
        {"clip": True},
    )
    heads = [head_detector(random_heads(seed, **fields)) for seed, fields in enumerate(codings)]
    columns = DetectionOutputs("boxes", "scores", "classes")
    unpacked = [
        unpacking_detector(columns, None, np.int64),
        unpacking_detector(DetectionOutputs("boxes", "scores", "classes", "count"), 9),
        unpacking_detector(DetectionOutputs("d", "d", "d", layout="rows"), 7),
    ]
    total = 0
    for detectors in (heads, unpacked):
        with tempfile.TemporaryDirectory() as name:
            contract = contract_folder(Path(name), detectors)
            program = compile_decoders(Path(name), contract, Path(name) / "decode")
            cases = [
                (seed % len(detectors), random_outputs(contract.networks[seed % len(detectors)], seed, wild=True))
                for seed in range(count // 2)
            ]
            total += len(program.decode(cases))
    return f"{total} random outputs"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--random", type=int, default=10_000, metavar="N", help="random outputs")
    parser.add_argument("--only", metavar="WORD", help="models whose path holds this")
    given = parser.parse_args()
    if reason := missing(ASSETS) or (None if shutil.which("g++") else "there is no g++ here"):
        print(reason)
        return 2
    failed = 0
    checks = {
        path.name: (lambda path=path, more=more: check_model(path, more))
        for path, more in models().items()
        if not given.only or given.only in str(path)
    }
    checks[f"{given.random} random outputs"] = lambda: check_wild(given.random)
    for name, check in checks.items():
        try:
            print(f"same    {name:55} {check()}", flush=True)
        except (AssertionError, deploycc.DeployError) as error:
            failed += 1
            print(f"FAILED  {name:55} {error}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
