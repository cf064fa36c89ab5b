"""`prune` from files to files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from gated_files import COUNT, pictures, write
from gated_networks import KERNELS, LAYOUTS, Spelling, gated
from graph_text import picture, run
from numpy.typing import NDArray

from deploycc import models
from deploycc.cli import main
from deploycc.detector import Detector, InputSpec
from deploycc.detector.file import save
from deploycc.detector.pictures import prepare
from deploycc.documents.costs import CostTable
from deploycc.documents.document import read_document
from deploycc.documents.utilisation import (
    read_profile,
)
from deploycc.graph.gates.search import find_gates
from deploycc.importers import load
from deploycc.pruning import kept_counts
from deploycc.pruning.gate_constants import least_squares_coefficients
from deploycc.utilisation.measure import measure_utilisation

RTOL, ATOL = 1e-4, 1e-4
BELOW = 0.4


def with_gate(found: Detector, factor: NDArray[np.float64] | None, kept: NDArray[np.bool_]) -> gs.Graph:
    """A copy in which the gate's vector is ``factor``, or itself, and 0 for kernels that are not kept."""
    graph = found.graph.copy()
    (gate,) = find_gates(graph)
    multiply = next(node for node in graph.nodes if node.name == gate.multiply)
    response = next(tensor for tensor in multiply.inputs if tensor.name == gate.response)
    mask = kept.astype(np.float32).reshape(1, -1, 1, 1)
    if factor is not None:
        values: gs.Tensor = gs.Constant("forced_values", mask * factor.astype(np.float32).reshape(1, -1, 1, 1))
    else:
        values = gs.Variable("forced", np.float32, [1, KERNELS, 1, 1])
        vector = next(tensor for tensor in multiply.inputs if tensor is not response)
        graph.nodes.append(gs.Node("Mul", "forced", {}, [vector, gs.Constant("forced_mask", mask)], [values]))
    result = multiply.outputs[0]
    multiply.inputs.clear()
    multiply.outputs.clear()
    graph.nodes.append(gs.Node("Mul", "forced_product", {}, [response, values], [result]))
    return graph.cleanup().toposort()


def prune(*arguments: str) -> None:
    assert main(["prune", *arguments]) == 0


def part(facts: dict[str, Any], name: str) -> dict[str, Any]:
    """Sizes of a part of the network in what `prune --json` prints."""
    return next(entry for entry in facts["parts"] if entry["name"] == name)


def kernels(path: Path, name: str = "gated") -> int:
    return next(int(n.inputs[1].shape[0]) for n in gs.import_onnx(onnx.load(path)).nodes if n.name == name)


@pytest.mark.parametrize("keep_gates", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_pruned_is_the_network_whose_gates_are_forced(layout: str, keep_gates: bool, tmp_path: Path) -> None:
    """Without coefficients: 0 for removed kernels; for the others the gate's decision where it stays, else 1."""
    model, profile, found, measured = write(tmp_path, Spelling(layout=layout))
    kept = measured.mean_utilisation(measured.layers[0]) >= BELOW
    assert 0 < kept.sum() < KERNELS
    out = tmp_path / "out.onnx"
    options = ["--keep-gates"] if keep_gates else []
    prune(
        model,
        "--profile",
        profile,
        "--below",
        str(BELOW),
        "--coefficient",
        "none",
        "--round-to",
        "1",
        "-o",
        str(out),
        *options,
    )
    small = load(out)
    assert kernels(out) == kept.sum()
    assert len(find_gates(small.graph)) == keep_gates
    reference = with_gate(found, None if keep_gates else np.ones(KERNELS), kept)
    decisions = set()
    for number in range(COUNT):
        x = prepare(pictures().read(number), found.input)
        want = run(reference, x)[0]
        np.testing.assert_allclose(run(small.graph, x)[0], want, rtol=RTOL, atol=ATOL)
        decisions.add(want.tobytes())
    assert len(decisions) > 1


@pytest.mark.parametrize("coefficient", ["mean", "least-squares"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_survivors_are_multiplied_with_their_coefficient(layout: str, coefficient: str, tmp_path: Path) -> None:
    model, profile, found, measured = write(tmp_path, Spelling(layout=layout))
    (layer,) = measured.layers
    mean = measured.mean_utilisation(layer)
    factor = mean if coefficient == "mean" else least_squares_coefficients(layer)
    assert np.abs(mean - least_squares_coefficients(layer)).max() > 0.01
    out = tmp_path / "out.onnx"
    prune(
        model,
        "--profile",
        profile,
        "--below",
        str(BELOW),
        "--coefficient",
        coefficient,
        "--round-to",
        "1",
        "-o",
        str(out),
    )
    small, x = load(out).graph, picture(found.graph)
    np.testing.assert_allclose(
        run(small, x)[0], run(with_gate(found, factor, mean >= BELOW), x)[0], rtol=RTOL, atol=ATOL
    )
    assert not {"Mul", "BatchNormalization", "GlobalAveragePool"} & {node.op for node in small.nodes}


@pytest.mark.parametrize(("always_from", "gates"), [("1", 1), ("0.1", 0)])
def test_a_kept_gate_that_hardly_switches_becomes_constants(always_from: str, gates: int, tmp_path: Path) -> None:
    model, profile, found, measured = write(tmp_path, Spelling())
    used = measured.mean_utilisation(measured.layers[0])
    assert BELOW <= used[used >= BELOW].min() < 1
    out = tmp_path / "out.onnx"
    options = ["--keep-gates", "--always-from", always_from, "--below", str(BELOW), "--round-to", "1"]
    prune(model, "--profile", profile, "-o", str(out), *options)
    small, x = load(out).graph, picture(found.graph)
    assert len(find_gates(small)) == gates
    reference = with_gate(found, None if gates else used, used >= BELOW)
    np.testing.assert_allclose(run(small, x)[0], run(reference, x)[0], rtol=RTOL, atol=ATOL)


def test_kept_gates_of_groups_shrink_with_their_kernels(tmp_path: Path) -> None:
    model, profile, found, measured = write(tmp_path, Spelling(group="gather", layout="after-activation"))
    used = measured.mean_utilisation(measured.layers[0])
    kept = used > used.min()
    out = tmp_path / "out.onnx"
    prune(
        model,
        "--profile",
        profile,
        "--below",
        f"{used.min() + 0.001}",
        "--keep-gates",
        "--always-from",
        "1",
        "--round-to",
        "1",
        "-o",
        str(out),
    )
    small = load(out)
    (gate,) = find_gates(small.graph)
    assert gate.kernels == kept.sum() < KERNELS
    x = picture(found.graph)
    np.testing.assert_allclose(run(small.graph, x)[0], run(with_gate(found, None, kept), x)[0], rtol=RTOL, atol=ATOL)


def test_what_it_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, profile, _, measured = write(tmp_path, Spelling(layout="after-bias"))
    left = int((measured.mean_utilisation(measured.layers[0]) >= BELOW).sum())
    out = tmp_path / "out.onnx"
    command = [model, "--profile", profile, "--below", str(BELOW), "-o", str(out), "--coefficient", "least-squares"]
    prune(*command, "--round-to", "1", "--json")
    facts = json.loads(capsys.readouterr().out)
    layer = next(layer for layer in facts["layers"] if layer["name"] == "gated")
    assert layer["kernels"] == [KERNELS, left]
    assert layer["macs"] == [KERNELS * 36 * 36, left * 36 * 36]
    total = part(facts, "total")
    assert total["macs"][1] == 36 * (4 * 27 + left * 36 + 2 * left)
    assert total["params"][1] == 4 * 27 + left * 36 + left + 2 * left
    (gate,) = facts["gates"]
    assert 0 < gate["response_error"]["least-squares"] <= gate["response_error"]["mean"]
    prune(*command, "--round-to", "1")
    shown = capsys.readouterr().out
    assert f"{KERNELS - left} useless" in shown
    assert "least-squares" in shown
    prune(*command, "--round-to", "8")
    assert "kept for a multiple of 8" in capsys.readouterr().out
    assert kernels(out) == KERNELS


def test_one_more_kernel_is_dropped_where_the_clock_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """36 kernels of which three are useless: 33 need three blocks of 16, 32 need two."""
    model, out = tmp_path / "wide.onnx", tmp_path / "out.onnx"
    found = gated(Spelling(), seed=3)
    x, y = gs.Variable("x", np.float32, [1, 3, 6, 6]), gs.Variable("y", np.float32, [1, 2, 6, 6])
    wide = gs.Variable("wide", np.float32, [1, 36, 6, 6])
    weights = np.random.default_rng(0).uniform(1, 2, (36, 3, 1, 1)).astype(np.float32)
    weights[[3, 8, 30]], weights[20] = 0.01, 0.5
    first = gs.Node("Conv", "first", {"kernel_shape": [1, 1]}, [x, gs.Constant("w1", weights)], [wide])
    ones = gs.Constant("w2", np.ones((2, 36, 1, 1), np.float32))
    second = gs.Node("Conv", "second", {"kernel_shape": [1, 1]}, [wide, ones], [y])
    graph = gs.Graph([first, second], [x], [y], name="wide", opset=13, ir_version=8)
    save(replace(found, graph=graph, input=InputSpec("x", 6, 6), gates=()), model)

    def pretended(
        graph: object, groups: object, candidates: dict[str, object], reference: str, timer: object, say: object
    ) -> dict[str, NDArray[np.float64]]:
        return {name: np.full(6, 0.9 if name == "down" else 1.0) for name in candidates}

    monkeypatch.setattr(kept_counts, "relative_times", pretended)
    prune(str(model), "--by", "l1", "--below", "0.1", "-o", str(out))
    shown = capsys.readouterr()
    assert "1 more dropped for a multiple of 16" in " ".join(shown.out.split())
    assert "down where few are over 0.90" in " ".join(shown.err.split())
    left = next(node for node in gs.import_onnx(onnx.load(out)).nodes if node.name == "first").inputs[1].values
    np.testing.assert_array_equal(left, np.delete(weights, [3, 8, 20, 30], axis=0))


def test_channels_that_stay_are_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The gate multiplies in front of a shift, and what reads the layer pads: zero is not what it would have to see."""
    model, profile, found, _ = write(tmp_path, Spelling(layout="before-batchnorm"))
    graph = found.graph
    last = graph.nodes[-1]
    last.inputs[1] = gs.Constant("w_wide", np.ones((2, KERNELS, 3, 3), np.float32))
    last.attrs["pads"] = [1, 1, 1, 1]
    save(found, Path(model))
    measured, _ = measure_utilisation(load(model), pictures())
    measured.write(Path(profile))
    command = [model, "--profile", profile, "--below", str(BELOW), "--round-to", "1", "-o", str(tmp_path / "o.onnx")]
    prune(*command)
    assert "had to stay" in capsys.readouterr().err
    prune(*command, "--explain")
    shown = capsys.readouterr().out
    assert "channel-constant" in shown
    assert f"{last.name}: it pads with zeros" in shown


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ([], "prune-no-profile"),
        (["--by", "l1"], "prune-no-profile"),
        (["--by", "mask"], "prune-no-mask"),
        (["--mask", "nowhere.json"], "mask-unreadable"),
        (["--mask", "MASK", "--coefficient", "none"], "prune-unknown-layer"),
        (["--by", "magic"], "prune-option"),
        (["--threads", "99999"], "too-many-threads"),
        (["--round-to", "7"], "prune-option"),
        (["--profile", "nowhere.json"], "artefact-missing"),
        (["--profile", "OTHER"], "profile-other-model"),
        (["--profile", "MISSING"], "profile-missing-layer"),
        (["--profile", "UNGATED"], "profile-other-layers"),
        (["--profile", "NAN"], "artefact-invalid"),
        (["--profile", "PROFILE", "--scope", "front-end"], "prune-scope"),
        (["--profile", "PROFILE", "-o", "nowhere/out.onnx"], "file-unwritable"),
        (["--profile", "PROFILE", "--costs", "OTHER_COSTS"], "costs-other-machine"),
    ],
)
def test_what_does_not_fit_is_refused(
    arguments: list[str], code: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, profile, _, measured = write(tmp_path, Spelling())
    (layer,) = measured.layers
    facts = json.loads(measured.to_json())
    facts["layers"][0]["squares"][0] = float("nan")
    (tmp_path / "nan.json").write_text(json.dumps(facts), encoding="utf-8")
    measured.model_copy(update={"source_sha256": "b" * 64}).write(tmp_path / "other.json")
    first = layer.model_copy(
        update={"name": "Conv_0", "used": layer.used[:4], "squares": layer.squares[:4], "gate": None}
    )
    plain = {"kind": "activations", "reduction": None}
    measured.model_copy(update={**plain, "layers": (first,)}).write(tmp_path / "missing.json")
    without = (first, layer.model_copy(update={"gate": None}))
    measured.model_copy(update={**plain, "layers": without}).write(tmp_path / "ungated.json")
    (tmp_path / "mask.json").write_text('{"gate": [0]}', encoding="utf-8")
    table = {"processor": "abacus", "onnxruntime": "0", "threads": 1}
    costs = {
        "schema": 1,
        "tool": {"deploycc": "0"},
        "evidence": {"kind": "measured", "source": "abacus"},
        "machine": table,
        "timings": [],
    }
    (tmp_path / "costs.json").write_text(json.dumps(costs), encoding="utf-8")
    files = {"PROFILE": profile, "OTHER": "other.json", "MISSING": "missing.json", "UNGATED": "ungated.json"}
    files |= {"NAN": "nan.json", "MASK": "mask.json", "OTHER_COSTS": "costs.json"}
    given = [str(tmp_path / files[each]) if each in files else each for each in arguments]
    out = tmp_path / "out.onnx"
    assert main(["prune", model, "-o", str(out), "--below", str(BELOW), *given]) == 1
    assert f"error[{code}]" in capsys.readouterr().err
    assert not out.exists()


def implied_macs(layers: dict[str, dict[str, Any]]) -> int:
    """MACs of street_ssd when its layers keep what a report says: in proportion to the kernels made and channels read."""
    total = 0
    for node in load(models.resolve("street_ssd")).graph.nodes:
        if node.op == "Conv":
            made, read = layers[node.name]["kernels"], (1, 1)
            if node.inputs[0].inputs and node.attrs["group"] == 1:  # else the picture, or one channel a kernel
                read = layers[node.i().i().name]["kernels"]  # a Relu stands between
            total += layers[node.name]["macs"][0] * made[1] * read[1] // (made[0] * read[0])
    return total


def test_the_shipped_detector(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Profile, prune by activations with measured counts, compile, and prune what was pruned: no profile fits twice."""
    profile, out, costs = tmp_path / "p.json", tmp_path / "small.onnx", tmp_path / "costs.json"
    assert main(["profile", "street_ssd", "--data", "generated:5:20", "-o", str(profile)]) == 0
    capsys.readouterr()
    command = ["street_ssd", "--profile", str(profile), "--below", "0.25", "-o", str(out)]
    used = {layer.name: layer.used for layer in read_profile(profile).layers}
    useless = {name: {kernel for kernel, use in enumerate(uses) if use < 0.25 * 20} for name, uses in used.items()}
    macs = {}
    for round_to in ("auto", "16", "1"):
        prune(*command, "--round-to", round_to, "--costs", str(costs), "--json")
        facts = json.loads(capsys.readouterr().out)
        shown = {layer["name"]: layer for layer in facts["layers"]}
        assert facts["stays"] == []
        assert {name: shown[name]["useless"] for name in useless} == {name: len(each) for name, each in useless.items()}
        for name, layer in shown.items():
            together = [other for other in shown if shown[other]["decided_with"] == (layer["decided_with"] or name)]
            going = set().union(*(useless.get(other, ()) for other in (layer["decided_with"] or name, *together)))
            (before, after), multiple = layer["kernels"], layer["multiple"] or 1
            dropped = layer["dropped_for_multiple"]
            assert before - after == len(going) - layer["kept_for_multiple"] + dropped
            assert after == before or after % multiple == 0
            assert dropped <= (min(multiple // 4, before // 16) if round_to == "auto" else 0)
        macs[round_to] = {each: part(facts, each)["macs"] for each in ("back-end", "front-end", "total")}
        assert macs[round_to]["total"] == [sum(layer["macs"][0] for layer in shown.values()), implied_macs(shown)]
        assert macs[round_to]["total"][1] == sum(macs[round_to][part][1] for part in ("back-end", "front-end"))
    assert read_document(costs, CostTable).timings
    assert macs["1"]["back-end"][1] < macs["1"]["back-end"][0]
    assert macs["1"]["total"][1] < macs["16"]["total"][1] < macs["16"]["total"][0]
    small = load(out)
    assert small.heads is not None
    assert small.class_names
    assert main(["compile", str(out), "--target", "x86-cpu", "-o", str(tmp_path / "compiled"), "--no-build"]) == 0
    assert main(["prune", str(out), "--profile", str(profile), "-o", str(tmp_path / "again.onnx")]) == 1
    assert "profile-other-model" in capsys.readouterr().err


def test_norms_and_masks_need_no_profile_without_gates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "small.onnx"
    prune(
        "street_ssd",
        "--by",
        "l1",
        "--below",
        "0.25",
        "--scope",
        "back-end",
        "--round-to",
        "8",
        "-o",
        str(out),
        "--json",
    )
    facts = json.loads(capsys.readouterr().out)
    assert part(facts, "back-end")["macs"][1] < 0.75 * part(facts, "back-end")["macs"][0]
    first = facts["layers"][0]["name"]
    shrunk = [layer for layer in facts["layers"] if layer["kernels"][0] != layer["kernels"][1]]
    assert all(layer["kernels"][1] % 8 == 0 for layer in shrunk)
    (tmp_path / "m.json").write_text(json.dumps({first: [0, 2]}), encoding="utf-8")
    prune("street_ssd", "--mask", str(tmp_path / "m.json"), "--round-to", "1", "-o", str(out), "--json")
    facts = json.loads(capsys.readouterr().out)
    before, after = facts["layers"][0]["kernels"]
    assert after == before - 2
