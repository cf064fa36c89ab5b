"""Plans as data from anywhere: the agent and the host refuse the same ones, each with a reason."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from small_networks import conv_model, plan_folder

from deploycc import target
from deploycc.agent import plan_file, seal
from deploycc.agent.outcome import Failed
from deploycc.documents.document import parse_document
from deploycc.documents.plan import BuildPlan, read_plan
from deploycc.documents.seal import FIELD, content_digest
from deploycc.errors import ArtefactError


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("plan")
    plan_folder(folder, target.load("x86-cpu"), {"fp32": conv_model(), "fp32 original": conv_model()})
    return without_digest((folder / "plan.json").read_text())


@pytest.fixture(scope="module")
def in_a_row(plan: dict[str, Any]) -> dict[str, Any]:
    """The plan of networks in a row."""
    edited = copy.deepcopy({**plan, "networks": plan["networks"][:1], "engines": plan["engines"][:1]})
    second = [{"file": f"second-{number}.onnx", "sha256": f"{number}" * 64, "reads": ["a", "x"]} for number in (1, 2)]
    edited["networks"][0]["row"] = {
        "decision": "which", "handed": [{"name": "a", "shape": [1, 8]}], "second": second, "shares": [0.5, 0.5],
    }  # fmt: skip
    edited["engines"][0]["second"] = [
        {"file": f"engine-second-{each['sha256'][0]}.onnx", "network_sha256": each["sha256"]} for each in second
    ]
    return edited


def without_digest(text: str) -> dict[str, Any]:
    """What every edit of is seen by its digest, as older plans are, which have none."""
    value: dict[str, Any] = json.loads(text)
    del value[FIELD]
    return value


def both(path: Path) -> tuple[str | None, str | None]:
    """What host and agent say of a plan; None: they take it."""
    said: list[str | None] = []
    for reader, refusal in ((read_plan, ArtefactError), (lambda file: plan_file.read_plan(str(file)), Failed)):
        try:
            reader(path)
            said.append(None)
        except refusal as error:
            said.append(str(error))
    return said[0], said[1]


def paths(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where every value of a document is."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for key, each in items for found in [(*at, key), *paths(each, (*at, key))]]


HOSTILE = [
    None,
    True,
    -1,
    2**70,
    1e999,
    "",
    "\x00",
    "\ud800",
    "../victim.json",
    "/etc/passwd",
    [],
    {},
    [[]],
    "x" * 5000,
]
MISSING = object()


def edits(plan: dict[str, Any]) -> Iterator[tuple[tuple[Any, ...], str]]:
    """Every value of a plan replaced by each hostile one, every field left out, and a field too many."""
    for at in paths(plan):
        for value in (*HOSTILE, MISSING):
            edited = holder = json.loads(json.dumps(plan))
            for key in at[:-1]:
                holder = holder[key]
            if value is MISSING:
                del holder[at[-1]]
            else:
                holder[at[-1]] = value
            yield at, json.dumps(edited)
    yield ("more",), json.dumps({**plan, "more": 1})


@pytest.mark.parametrize("kind", ["one", "row"])
def test_both_sides_refuse_the_same(plan: dict[str, Any], in_a_row: dict[str, Any], kind: str) -> None:
    one = {**plan, "networks": plan["networks"][:1], "engines": plan["engines"][:1]}
    refused = 0
    for at, text in edits(one) if kind == "one" else row_edits(in_a_row):
        host = agent = None
        try:
            parse_document(text.encode("utf-8"), BuildPlan, Path("plan.json"))
        except ArtefactError as error:
            host = str(error)
        try:
            plan_file.checked(json.loads(text), "plan.json")
        except Failed as error:
            agent = str(error)
        assert (host is None) == (agent is None), f"{at}: {text[:300]}\nhost: {host}\nagent: {agent}"
        refused += host is not None
    assert refused > (400 if kind == "one" else 200)


def row_edits(plan: dict[str, Any]) -> Iterator[tuple[tuple[Any, ...], str]]:
    return ((at, text) for at, text in edits(plan) if "row" in at or "second" in at)


def test_a_row_is_read_as_its_networks(in_a_row: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text(json.dumps(in_a_row))
    assert both(tmp_path / "plan.json") == (None, None)
    read = plan_file.read_plan(str(tmp_path / "plan.json"))
    first, *second = plan_file.parts_of(read["networks"][0])
    assert (first["outputs"], [tensor["name"] for tensor in first["inputs"]]) == (["which", "a"], ["x"])
    assert [[tensor["name"] for tensor in part["inputs"]] for part in second] == [["a", "x"]] * 2
    assert [part["outputs"] for part in second] == [read["networks"][0]["outputs"]] * 2
    assert read_plan(tmp_path).has_row


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda network, engine: network["row"].update(shares=[1.0]), "share of the pictures"),
        (lambda network, engine: network["row"].update(shares=[0.0, 0.0]), "must sum to 1"),
        (lambda network, engine: network["row"].update(decision="a"), "decision is not handed over"),
        (lambda network, engine: network["row"]["second"][0].update(reads=["b"]), "does not hand over"),
        (lambda network, engine: engine["second"].pop(), "names another network"),
        (lambda network, engine: engine["second"].reverse(), "names another network"),
        (lambda network, engine: engine["second"][0].update(file=engine["file"]), "the same file"),
        (lambda network, engine: network["row"]["second"][0].update(file=engine["file"]), "overwrite a network"),
        (lambda network, engine: network.update(format="caffe", weights_file="w", weights_sha256="1" * 64), "in a row"),
        (lambda network, engine: network.update(row=None), "names another network"),
    ],
)
def test_parts_of_a_row_that_do_not_fit(in_a_row: dict[str, Any], tmp_path: Path, change: Any, said: str) -> None:
    edited = copy.deepcopy(in_a_row)
    change(edited["networks"][0], edited["engines"][0])
    (tmp_path / "plan.json").write_text(json.dumps(edited))
    host, agent = both(tmp_path / "plan.json")
    assert said in str(host)
    assert said in str(agent)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda plan: plan["engines"][0].update(file="plan.json"), "engine"),
        (lambda plan: plan["engines"][0].update(file=plan["engines"][1]["file"]), "two"),
        (lambda plan: plan["engines"][0].update(network_sha256="0" * 64), "names another network"),
        (lambda plan: plan["networks"][0].update(plan["networks"][1]), "two"),
        (lambda plan: plan["networks"][0].update(file="engine-fp32.onnx"), "overwrite"),
        (lambda plan: plan["networks"][0].update(weights_file="w"), "weights"),
        (lambda plan: plan["networks"][0].update(format="caffe"), "weights"),
        (lambda plan: plan["networks"][0]["input"].update(shape=[1, 3, 20000, 20000]), "elements"),
        (lambda plan: plan["networks"].pop(), "precisions and variants"),
        (lambda plan: plan["measurement"].update(quick=False), "quick"),
        (lambda plan: plan["measurement"].update(min_duration_s=1e9), "min_duration_s"),
        (lambda plan: plan["measurement"].update(seed=2**32), "seed"),
        (lambda plan: plan.update(schema=True), "schema"),
    ],
)
def test_parts_that_do_not_fit(plan: dict[str, Any], tmp_path: Path, change: Any, said: str) -> None:
    edited = copy.deepcopy(plan)
    change(edited)
    (tmp_path / "plan.json").write_text(json.dumps(edited))
    host, agent = both(tmp_path / "plan.json")
    assert said in str(host)
    assert said in str(agent)


@pytest.mark.parametrize(
    "content", [b"", b"[" * 100_000, b'{"a":' * 100_000, b"\xff\xfe{}", b"nul", b"1" * 5000, b'{"schema": NaN}']
)
def test_what_is_not_json_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "plan.json").write_bytes(content)
    host, agent = both(tmp_path / "plan.json")
    assert host
    assert agent


@pytest.mark.parametrize("digest", [None, "0" * 64, [], "other content"])
def test_content_with_another_digest_is_refused(plan: dict[str, Any], tmp_path: Path, digest: Any) -> None:
    if digest == "other content":
        digest = content_digest(plan)
        plan = {**plan, "source_sha256": "6" * 64}
    (tmp_path / "plan.json").write_text(json.dumps({**plan, FIELD: digest}))
    host, agent = both(tmp_path / "plan.json")
    assert "was changed after it was written" in str(host)
    assert "was changed after it was written" in str(agent)
    (tmp_path / "plan.json").write_text(json.dumps(seal.sealed(plan)))
    assert both(tmp_path / "plan.json") == (None, None)


def test_what_is_not_a_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "plan.json")
    host, agent = both(tmp_path / "plan.json")
    assert host
    assert "not an ordinary file" in str(agent)


def test_a_file_that_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_file, "MOST_BYTES", 2 << 20)
    with (tmp_path / "plan.json").open("wb") as file:
        file.truncate((2 << 20) + 1)
    with pytest.raises(Failed, match="larger than 2 MiB"):
        plan_file.read_plan(str(tmp_path / "plan.json"))


def test_command_lines_of_older_plans_are_not_used(
    plan: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edited = copy.deepcopy(plan)
    edited["engines"][0]["commands"] = {"build": ["sh", "-c", "touch victim"], "times_file": "../victim.json"}
    edited["target"]["trtexec"] = "/bin/sh"
    (tmp_path / "plan.json").write_text(json.dumps(edited))
    assert plan_file.read_plan(str(tmp_path / "plan.json")) == plan_with_lists(read_plan(tmp_path))
    assert "command lines of plan.json are not used" in capsys.readouterr().err


def plan_with_lists(document: Any) -> dict[str, Any]:
    return without_digest(document.to_json())
