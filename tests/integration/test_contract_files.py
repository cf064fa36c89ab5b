"""The contract of a folder is true: tensors, priors as files and in C, dropped priors, digests."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_graphsurgeon as gs
import pytest
from anchor_networks import AnchorNetwork, build
from decoder_cases import contract_folder, head_detector, random_heads, unpacking_detector
from graph_text import network
from small_networks import SHAPE

from deploycc.detector import DetectionOutputs, Detector
from deploycc.documents.contract import IntegrationContract, read_contract
from deploycc.errors import ArtefactError
from deploycc.files import sha256_of
from deploycc.integration.outputs import activation
from deploycc.parsers.support import Contract
from deploycc.passes import DROP_DEAD, FOLD, run
from deploycc.passes.options import Options
from deploycc.report.contract import contract_tables
from deploycc.workflows.chain import check_chain

HEADS = random_heads(7, background=None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("contract")
    contract_folder(folder, [head_detector(HEADS), head_detector(replace(HEADS, clip=True)), head_detector(HEADS)])
    return folder


def test_outputs_are_described(folder: Path) -> None:
    first = read_contract(folder).networks[0]
    assert [(each.name, each.shape, each.type, each.meaning) for each in first.outputs] == [
        ("loc", (1, 160), "float32", "locations"),
        ("conf", (1, 40, 4), "float32", "scores"),
    ]
    assert first.heads is not None
    assert (first.decoding, first.heads.activation, first.heads.background) == ("host", "softmax", None)
    assert "softmax is applied already" in first.outputs[1].text


def test_every_file_is_there_as_listed(folder: Path) -> None:
    contract = read_contract(folder)
    listed = {file.name: (file.sha256, file.size_bytes) for file in contract.files}
    there = {path.name for path in folder.iterdir()} - {"contract.json"}
    assert set(listed) == there
    for name, facts in listed.items():
        assert facts == (sha256_of(folder / name), (folder / name).stat().st_size)


def test_networks_that_are_read_alike_share_their_files(folder: Path) -> None:
    files = [network.python for network in read_contract(folder).networks]
    assert files == ["decoder.py", "decoder_original.py", "decoder.py"]


def test_priors_are_the_detectors(folder: Path) -> None:
    assert np.array_equal(np.load(folder / "priors.npy"), HEADS.priors)
    assert np.array_equal(np.load(folder / "variances.npy"), HEADS.variances)


def test_c_reads_the_very_same_priors(folder: Path, tmp_path: Path) -> None:
    if shutil.which("gcc") is None:
        pytest.skip("there is no gcc here")
    (tmp_path / "main.c").write_text(
        '#include "priors.h"\n#include "priors-original.h"\n#include <stdio.h>\n'
        "int main(void) { fwrite(deploycc_priors, 16, DEPLOYCC_PRIOR_COUNT, stdout);\n"
        "fwrite(deploycc_variances_original, 16, DEPLOYCC_VARIANCE_COUNT_original, stdout); return 0; }\n".replace(
            "COUNT_original", "COUNT_ORIGINAL"
        )
    )
    command = ["gcc", "-std=c99", "-Wall", "-Wpedantic", "-Werror", f"-I{folder}", "main.c", "-o", "main"]
    subprocess.run(command, cwd=tmp_path, check=True)
    written = subprocess.run([tmp_path / "main"], capture_output=True, check=True).stdout
    assert written == HEADS.priors.tobytes() + HEADS.variances.tobytes()


def test_equal_variances_are_one_row_in_c(tmp_path: Path) -> None:
    contract_folder(tmp_path, [head_detector(replace(HEADS, variances=np.full_like(HEADS.variances, 0.1)))])
    assert "DEPLOYCC_VARIANCE_COUNT 1 " in (tmp_path / "priors.h").read_text()


def test_dropped_priors_are_named_by_row(tmp_path: Path) -> None:
    source = build(AnchorNetwork((("dead", "trained", "dead"), ("trained", "trained"))))
    assert source.heads is not None
    options = Options(Contract("onnxruntime"))
    compiled = run(source, options, FOLD + DROP_DEAD)
    contract = contract_folder(tmp_path, [compiled.detector], compiled.notes)
    heads = contract.networks[0].heads
    assert heads is not None
    assert heads.dropped is not None
    rows = np.load(tmp_path / heads.dropped.rows)
    assert (heads.dropped.trained, heads.dropped.kept) == (len(source.heads.priors), len(rows))
    assert 0 < len(rows) < len(source.heads.priors)
    assert np.array_equal(source.heads.priors[rows], np.load(tmp_path / heads.priors))
    assert "below the score threshold" in heads.dropped.reason


@pytest.mark.parametrize(
    ("tail", "expected"),
    [
        ("y = Sigmoid (x)", "sigmoid"),
        ("a = Softmax <axis = 1> (x) y = Transpose <perm = [0, 1, 3, 2]> (a)", "softmax"),
        ("a = Sigmoid (x) b = Sigmoid (x) y = Concat <axis = 2> (a, b)", "sigmoid"),
        ("a = Sigmoid (x) b = Relu (x) y = Concat <axis = 2> (a, b)", None),
        ("y = Relu (x)", None),
    ],
)
def test_what_the_network_applies_to_its_scores(tail: str, expected: str | None) -> None:
    text = f'<ir_version: 8, opset_import: ["" : 13]> g (float[1,3,4,4] x) => (float[a,b,c,d] y) {{ {tail} }}'
    detector = replace(network(text), heads=replace(HEADS, scores="y"))
    assert activation(detector) == expected


def test_an_opaque_network_has_a_contract_without_decoders(tmp_path: Path) -> None:
    x, y = gs.Variable("x", np.float32, SHAPE), gs.Variable("y", np.float32, (1, 7))
    opaque: Detector = replace(head_detector(HEADS), heads=None, graph=gs.Graph([], [x], [y]))
    [described] = contract_folder(tmp_path, [opaque]).networks
    assert (described.decoding, described.python, described.cpp) == ("unknown", None, None)
    assert [output.meaning for output in described.outputs] == ["other"]


def test_a_contract_that_names_a_file_it_does_not_list_is_refused(folder: Path) -> None:
    contract = read_contract(folder)
    with pytest.raises(ValueError, match=r"decoder\.py, which is not listed"):
        IntegrationContract(**dict(contract) | {"files": tuple(f for f in contract.files if f.name != "decoder.py")})


def test_a_changed_contract_is_refused(folder: Path, tmp_path: Path) -> None:
    text = (folder / "contract.json").read_text(encoding="utf-8")
    (tmp_path / "contract.json").write_text(text.replace('"iou_threshold": 0.45', '"iou_threshold": 0.55'))
    with pytest.raises(ArtefactError) as refused:
        read_contract(tmp_path)
    assert refused.value.code == "artefact-changed"


def test_a_folder_whose_contract_or_files_were_changed_is_refused(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    check_chain(copy)
    values = np.load(copy / "priors.npy")
    np.save(copy / "priors.npy", values + np.float32(0.01))
    with pytest.raises(ArtefactError) as refused:
        check_chain(copy)
    assert refused.value.code == "chain-broken"
    assert refused.value.context["priors.npy"] == "is not the file that contract.json lists"


def test_a_network_that_decodes_itself_is_said_to_need_no_priors(tmp_path: Path) -> None:
    found = DetectionOutputs("boxes", "scores", "classes", "count")
    contract = contract_folder(tmp_path, [unpacking_detector(found, 9)])
    [described] = contract.networks
    assert described.detections is not None
    assert "needs no priors" in described.detections.text
    assert not list(tmp_path.glob("priors*"))
    [boxes] = [table for table in contract_tables(contract) if table.title.startswith("Boxes")]
    assert ("priors", "none needed: the network applies its own") in boxes.rows
