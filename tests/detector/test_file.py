from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from examples import examples
from gated_networks import Spelling, gated
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deploycc.detector import DetectionOutputs, Detector, InputSpec, Nms, Source, SsdHeads
from deploycc.detector import file as detector_file
from deploycc.detector.file import describe, read_detector, save
from deploycc.errors import ArtefactError, ModelError, Note
from deploycc.graph.cost import measure_cost
from deploycc.graph.gates.metadata import DescribedGate
from deploycc.graph.gates.search import find_gates
from deploycc.importers import load


def make(priors: int = 6, **changes: object) -> Detector:
    """A small detector with everything filled in."""
    rng = np.random.default_rng(priors)
    data = gs.Variable("data", np.float32, [1, 3, 2, 2])
    heads = [gs.Variable(name, np.float32, [1, priors * width]) for name, width in (("loc", 4), ("conf", 2))]
    flat = gs.Variable("flat", np.float32, [1, 12])
    nodes = [gs.Node("Flatten", "flatten", {}, [data], [flat])]
    for head in heads:
        weight = rng.normal(size=(12, head.shape[1])).astype(np.float32)
        nodes.append(gs.Node("MatMul", head.name, {}, [flat, gs.Constant(f"{head.name}.w", weight)], [head]))
    detector = Detector(
        graph=gs.Graph(nodes, [data], heads, name="tiny", opset=13, ir_version=7),
        input=InputSpec("data", 2, 2, "RGB", (1.0, 2.0, 3.0), (0.1, 0.2, 1 / 3), assumed=True),
        source=Source(("a.prototxt", "a.caffemodel"), "ab" * 32, "caffe", 7),
        heads=SsdHeads(
            "loc",
            "conf",
            rng.random((priors, 4), dtype=np.float32),
            rng.random((priors, 4), dtype=np.float32),
            2,
            None,
            "corner",
            variance_encoded=True,
            y_first=True,
            clip=True,
        ),
        nms=Nms(0.3, 0.4, -1, 7),
        class_names=("nothing", "ø"),
        notes=(Note("conv1", "a-code", "a reason"),),
    )
    return replace(detector, **changes)  # type: ignore[arg-type]


def assert_equal(left: Detector, right: Detector) -> None:
    for field in fields(Detector):
        if field.name not in ("graph", "heads", "source"):
            assert getattr(left, field.name) == getattr(right, field.name), field.name
    assert (left.heads is None) == (right.heads is None)
    if left.heads is not None and right.heads is not None:
        for field in fields(SsdHeads):
            np.testing.assert_array_equal(getattr(left.heads, field.name), getattr(right.heads, field.name))
        assert right.heads.priors.dtype == np.float32
    assert (left.graph.opset, left.graph.ir_version, left.name) == (
        right.graph.opset,
        right.graph.ir_version,
        right.name,
    )
    assert [(n.op, n.name) for n in left.graph.nodes] == [(n.op, n.name) for n in right.graph.nodes]
    ours, theirs = left.graph.tensors(), right.graph.tensors()
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert list(tensor.shape) == list(theirs[name].shape)
        if isinstance(tensor, gs.Constant):
            np.testing.assert_array_equal(tensor.values, theirs[name].values)


@given(
    priors=st.integers(1, 400),  # weights both below and above the size that bypasses the graph export
    background=st.sampled_from([None, 0, 1]),
    opaque=st.booleans(),
    names=st.lists(st.text(max_size=5), max_size=3).map(tuple),
)
@settings(max_examples=examples(20), suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_saved_comes_back(
    priors: int, background: int | None, opaque: bool, names: tuple[str, ...], tmp_path: Path
) -> None:
    detector = make(priors, class_names=names)
    assert detector.heads is not None
    detector = replace(detector, heads=None if opaque else replace(detector.heads, background=background))
    path = tmp_path / "tiny.onnx"
    digest = save(detector, path)
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
    onnx.checker.check_model(str(path), full_check=True)
    restored = load(path)
    assert_equal(detector, restored)
    assert (restored.source.files, restored.source.sha256) == ((str(path),), digest)  # the file is the source now
    assert restored.source.random_weights == detector.source.random_weights
    assert [file.name for file in tmp_path.iterdir()] == ["tiny.onnx"]


def test_detections_in_the_graph_come_back(tmp_path: Path) -> None:
    detector = make(detections=DetectionOutputs("loc", "conf", "conf", "loc"))
    save(detector, tmp_path / "tiny.onnx")
    assert_equal(detector, load(tmp_path / "tiny.onnx"))


def test_shapes_that_the_file_omits_are_inferred(tmp_path: Path) -> None:
    detector = make()
    save(detector, tmp_path / "tiny.onnx")
    model = onnx.load(tmp_path / "tiny.onnx")
    del model.graph.value_info[:]
    onnx.save(model, tmp_path / "tiny.onnx")
    assert measure_cost(load(tmp_path / "tiny.onnx").graph) == measure_cost(detector.graph)


def test_the_same_detector_gives_the_same_bytes(tmp_path: Path) -> None:
    assert save(make(), tmp_path / "a.onnx") == save(make(), tmp_path / "b.onnx")


def test_a_description_file_overrides_a_saved_detector(tmp_path: Path) -> None:
    save(make(), tmp_path / "tiny.onnx")
    (tmp_path / "tiny.detector.toml").write_text('class_names = ["a", "b"]\n[input]\nmean = [9.0]\n[nms]\ntop_k = 5\n')
    detector = load(tmp_path / "tiny.onnx")
    assert (detector.class_names, detector.input.mean, detector.nms.top_k) == (("a", "b"), (9.0,) * 3, 5)
    assert detector.nms.iou_threshold == 0.4


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "tiny.onnx"
    path.write_bytes(b"old")

    def full(graph: gs.Graph, metadata: dict[str, str], file: BinaryIO) -> str:
        file.write(b"0123456789")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(detector_file, "write_onnx", full)
    with pytest.raises(ArtefactError) as caught:
        save(make(), path)
    assert caught.value.render() == (
        f"error[file-unwritable]: tiny.onnx cannot be written\n  file: {path}\n  note: No space left on device"
    )
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["tiny.onnx"]


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError) as caught:
        save(make(), tmp_path / "none" / "tiny.onnx")
    assert caught.value.note == "No such file or directory"


def reread(change: Callable[[dict[str, Any]], object]) -> str:
    model = describe(make())
    record = json.loads(model.metadata_props[0].value)
    change(record)
    model.metadata_props[0].value = json.dumps(record)
    with pytest.raises(ModelError) as caught:
        read_detector(model, Path("tiny.onnx"))
    return caught.value.render()


def change_batch(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 8


def drop_axis(model: onnx.ModelProto) -> None:
    del model.graph.input[0].type.tensor_type.shape.dim[0]


def add_input(model: onnx.ModelProto) -> None:
    model.graph.input.add().CopyFrom(model.graph.input[0])
    model.graph.input[1].name = "more"


def fewer_priors(model: onnx.ModelProto) -> None:
    for output in model.graph.output:
        if output.name == "loc":
            output.type.tensor_type.shape.dim[1].dim_value -= 4


@pytest.mark.parametrize(
    ("change", "note"),
    [
        (
            change_batch,
            "the input data is described as float32 [1, 3, 2, 2], and the network's is float32 [8, 3, 2, 2]",
        ),
        (drop_axis, "the input data is described as float32 [1, 3, 2, 2], and the network's is float32 [3, 2, 2]"),
        (add_input, "one input is described, and the network has 2: data, more"),
        (fewer_priors, "priors are described, and loc is "),
    ],
)
def test_a_description_that_does_not_fit_the_network_is_refused(
    change: Callable[[onnx.ModelProto], None], note: str
) -> None:
    model = describe(make())
    change(model)
    with pytest.raises(ModelError) as caught:
        read_detector(model, Path("tiny.onnx"))
    assert caught.value.code == "detector-metadata"
    assert note in str(caught.value.note)


def test_a_damaged_description_is_refused() -> None:
    assert "schema_version" in reread(lambda record: record.update(schema_version=2))
    assert "detector-metadata" in reread(lambda record: record["heads"].update(priors="!!"))
    assert "detector-metadata" in reread(lambda record: record["heads"].update(priors="AAAA"))
    assert "input" in reread(lambda record: record.pop("input"))
    assert reread(lambda record: record["heads"].update(scores="gone")) == (
        "error[detector-metadata]: tiny.onnx describes gone, which its network does not have\n"
        "     file: tiny.onnx\n  network: conf, data, loc\n"
        "  note: the network was changed after deploycc wrote it"
    )


# ---- gates ----------------------------------------------------------------------------------------------------------


def gated_detector() -> Detector:
    detector = gated(Spelling(group="gather"))
    gate = find_gates(detector.graph)[0]
    facts = {
        "layer": "backend.1", "conv": gate.layer, "multiply": gate.multiply, "place": "after-bias",
        "probability": "s", "decision": "o", "mask": gate.vector, "threshold": 0.5, "granularity": "block",
        "kernels": 8, "units": 4, "unit_of": gate.unit_of,
    }  # fmt: skip
    return replace(detector, gates=(DescribedGate.model_validate(facts),))


def test_described_gates_are_saved_with_the_file(tmp_path: Path) -> None:
    detector = gated_detector()
    save(detector, tmp_path / "gated.onnx")
    restored = load(tmp_path / "gated.onnx")
    assert restored.gates == detector.gates
    assert [gate.source for gate in find_gates(restored.graph, restored.gates)] == ["metadata"]


def test_damaged_gate_metadata_become_a_note(tmp_path: Path) -> None:
    model = describe(gated_detector())
    for entry in model.metadata_props:
        entry.value = entry.value.replace('"kernels":8', '"kernels":-8')
    onnx.save(model, str(tmp_path / "gated.onnx"))
    restored = load(tmp_path / "gated.onnx")
    assert restored.gates == ()
    (note,) = restored.notes
    assert note.code == "gate-metadata"
    assert "kernels" in note.reason
    assert [gate.source for gate in find_gates(restored.graph, restored.gates)] == ["structure"]
