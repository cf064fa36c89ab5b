"""A contract from elsewhere is data: whatever it says, the agent takes it or says what is wrong."""

from __future__ import annotations

import contextlib
import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from decoder_cases import contract_folder, head_detector, plan_entry, random_heads

from deploycc.agent import contract_file, smoke
from deploycc.agent.outcome import Failed
from deploycc.documents.seal import FIELD, content_digest
from deploycc.files import sha256_of
from deploycc.integration.contract_files import Expected

DETECTOR = head_detector(random_heads(3))
NETWORK = plan_entry(DETECTOR)
OUTPUTS = {"loc": np.zeros((1, 160), np.float32), "conf": np.zeros((1, 40, 4), np.float32)}
Edit = Callable[[dict[str, Any]], Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("contract")
    stacked = {name: values.reshape(1, -1) for name, values in OUTPUTS.items()}
    contract_folder(folder, [DETECTOR], expected=Expected(np.zeros((1, 4, 5, 3), np.uint8), 0.3, stacked, ((),)))
    return folder


@pytest.fixture(scope="module")
def contract(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "contract.json").read_text()))


def run(folder: Path, content: object) -> dict[str, Any] | None:
    if isinstance(content, dict):
        content[FIELD] = content_digest(content)
    (folder / "contract.json").write_text(json.dumps(content))

    @contextlib.contextmanager
    def answering() -> Iterator[Callable[[Any], dict[str, Any]]]:
        yield lambda tensor: OUTPUTS

    return smoke.check({}, NETWORK, str(folder), answering)


def put(*path: str | int, value: object) -> Edit:
    def edit(content: dict[str, Any]) -> None:
        holder: Any = content
        for key in path[:-1]:
            holder = holder[key]
        holder[path[-1]] = value

    return edit


HEADS, SMOKE = ("networks", 0, "heads"), ("networks", 0, "smoke")
EDITS = {
    "input is text": (put("input", value="x"), r"input: must be an object"),
    "two pictures": (put("input", "shape", value=[2, 3, 300, 300]), r"input\.shape: must be one picture"),
    "another input": (put("input", "shape", value=[1, 3, 7, 7]), "describes another input"),
    "means": (put("input", "mean", value=[1, 2]), r"input\.mean: must have one value"),
    "heads are a list": (put(*HEADS, value=[]), r"networks\.0\.heads: must be an object"),
    "no heads": (put(*HEADS, value=None), r"networks\.0: does not describe its decoding"),
    "outside": (put(*HEADS, "priors", value="../victim.npy"), r"priors: must be the name of a file"),
    "not listed": (put(*HEADS, "priors", value="other.npy"), r"does not list other\.npy"),
    "another array": (put(*HEADS, "priors", value="smoke-pictures.npy"), "is not the array that"),
    "other count": (put(*HEADS, "prior_count", value=39), r"priors\.npy is not the array that"),
    "other classes": (put(*HEADS, "classes", value=5), "the output conf has 160 elements, and .* asks for 200"),
    "unknown output": (put(*HEADS, "scores", value="x"), "names an output that the network does not have: x"),
    "unknown reference": (put(*SMOKE, "outputs", value={"x": "priors.npy"}), "does not have: x"),
    "short detection": (put(*SMOKE, "detections", value=[[[1, 0.5]]]), r"detections\.0\.0: must be a list of 6"),
    "text threshold": (put("nms", "iou_threshold", value="0.5"), r"nms\.iou_threshold: must be a number"),
    "networks": (put("networks", value={"0": 1}), r"networks: must be a list"),
    "files": (put("files", value=[7]), r"files\.0: must be an object"),
}


@pytest.mark.parametrize(("edit", "message"), EDITS.values(), ids=EDITS.keys())
def test_what_is_wrong_is_said(edit: Edit, message: str, folder: Path, contract: dict[str, Any]) -> None:
    content = copy.deepcopy(contract)
    edit(content)
    with pytest.raises(Failed, match=message):
        run(folder, content)


@pytest.mark.parametrize("content", [None, [], "x", {}, {"networks": []}])
def test_other_json_is_not_a_contract(content: object, folder: Path) -> None:
    with pytest.raises(Failed, match=r"contract\.json is not valid"):
        run(folder, content)


def test_an_array_that_numpy_cannot_read(folder: Path, contract: dict[str, Any], tmp_path: Path) -> None:
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    priors = tmp_path / contract["networks"][0]["heads"]["priors"]
    priors.write_bytes(b"not numpy")
    content = copy.deepcopy(contract)
    for file in content["files"]:
        if file["name"] == priors.name:
            file["sha256"] = sha256_of(priors)
    with pytest.raises(Failed, match="is not an array"):
        run(tmp_path, content)


def test_what_was_written_is_taken(folder: Path, contract: dict[str, Any]) -> None:
    row = run(folder, copy.deepcopy(contract))
    assert row is not None
    assert row["status"] == "passed"
    assert contract_file.read_contract(str(folder)) is not None
