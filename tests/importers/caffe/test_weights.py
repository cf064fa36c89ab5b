from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from caffe_files import Array, Style, Weights, caffemodel, import_text, one_layer

from deploycc.errors import ModelError
from deploycc.importers.caffe import load

TEXT = """input: "data" input_shape { dim: [1, 3, 4, 4] }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1" convolution_param { num_output: 2 kernel_size: 3 } }
"""


def arrays(*shapes: tuple[int, ...]) -> list[Array]:
    return [np.ones(shape, np.float32) for shape in shapes]


def refused(weights: Weights, text: str = TEXT) -> ModelError:
    with pytest.raises(ModelError) as caught:
        import_text(text, weights)
    return caught.value


@pytest.mark.parametrize(
    "style", [Style(), Style(old=True, legacy_shape=True), Style(packed=False), Style(doubles=True)]
)
def test_every_kind_of_file_gives_the_same_network(style: Style) -> None:
    case = one_layer("InnerProduct", "inner_product_param { num_output: 3 }", blobs=[(3, 120), (3,)])
    plain = import_text(case.text, case.weights).graph
    other = import_text(case.text, case.weights, style=style).graph
    for one, two in zip(plain.nodes, other.nodes, strict=True):
        assert one.op == two.op
        if one.op in ("Conv", "Gemm"):
            for a, b in zip(one.inputs[1:], two.inputs[1:], strict=True):
                assert a.shape == b.shape
                np.testing.assert_array_equal(a.values, b.values)


def test_shape_mismatch_names_layer_and_both_shapes() -> None:
    error = refused({"conv1": arrays((2, 3, 5, 5), (2,))})
    lines = error.render().splitlines()
    assert lines[0] == (
        "error[caffe-weights-mismatch]: layer conv1 needs a weight of shape [2, 3, 3, 3], "
        "but the weight file has [2, 3, 5, 5]"
    )
    assert lines[2:5] == ["  layer: conv1", "   type: Convolution", "   line: 2"]
    assert lines[5].startswith("  note: weight file: ")


def test_transposed_weights_do_not_pass() -> None:
    assert refused({"conv1": arrays((3, 2, 3, 3), (2,))}).code == "caffe-weights-mismatch"


def test_number_of_blobs_must_fit() -> None:
    error = refused({"conv1": arrays((2, 3, 3, 3))})
    assert error.message == "layer conv1 needs 2 blobs, but the weight file has 1"
    assert error.note is not None
    assert error.note.startswith("the definition needs weight [2, 3, 3, 3], bias [2]; ")


def test_missing_layer_is_named_with_its_neighbour() -> None:
    error = refused({"conv1_1": arrays((2, 3, 3, 3), (2,))})
    assert error.code == "caffe-weights-missing"
    assert error.message.startswith("layer conv1 has no weights in ")
    assert error.hint == "the file has a layer conv1_1"
    assert refused({"zzz": arrays((1,))}).hint == "the file may belong to another network"


@pytest.mark.parametrize(("value", "kind"), [(np.nan, "NaN"), (np.inf, "infinite"), (-np.inf, "infinite")])
def test_weights_that_are_not_finite(value: float, kind: str) -> None:
    weights = {"conv1": arrays((2, 3, 3, 3), (2,))}
    weights["conv1"][0][1, 2, 0, 1] = value
    error = refused(weights)
    assert (error.code, error.message) == (
        "caffe-weights-not-finite", f"the weight of layer conv1 has {kind} values"
    )  # fmt: skip
    assert error.note is not None
    assert error.note.startswith("1 of 54 values in ")
    assert error.note.endswith("the first at [1, 2, 0, 1]")


def test_layers_of_one_name_take_their_weights_in_turn(tmp_path: Path) -> None:
    text = TEXT + TEXT.splitlines()[1].replace('"data"', '"conv1"').replace('top: "conv1"', 'top: "b"')
    text = text.replace("kernel_size: 3", "kernel_size: 1")
    first, second = arrays((2, 3, 1, 1), (2,)), arrays((2, 2, 1, 1), (2,))
    second[0][:] = 5
    path = tmp_path / "net.prototxt"
    path.write_text(text)
    path.with_suffix(".caffemodel").write_bytes(caffemodel([("conv1", first), ("conv1", second)]))
    nodes = load(path).graph.nodes
    assert [node.name for node in nodes] == ["conv1", "conv1_1"]
    assert [float(node.inputs[1].values.flat[0]) for node in nodes] == [1, 5]


def test_weights_that_the_definition_does_not_use_are_named() -> None:
    names = [f"bn{index}" for index in range(10)]
    weights = {"conv1": arrays((2, 3, 3, 3), (2,))} | {name: arrays((2,)) for name in names}
    (note,) = [note for note in import_text(TEXT, weights).notes if note.code == "caffe-unused-weights"]
    assert note.reason == (
        "the weight file has weights that the definition does not use, of bn0, bn1, bn2, bn3, bn4, bn5, bn6, bn7 and 2 more"
    )
    text = TEXT + "layer { name: 'bn0' type: 'BNLL' bottom: 'conv1' top: 'x' }"
    used = {"conv1": weights["conv1"], "bn0": weights["bn0"]}
    assert "caffe-unused-weights" in {note.code for note in import_text(text, used).notes}
    assert "caffe-unused-weights" not in {note.code for note in import_text(TEXT, {"conv1": weights["conv1"]}).notes}


def test_doubles_that_overflow_are_not_finite(recwarn: pytest.WarningsRecorder) -> None:
    doubles = [np.full((2, 3, 3, 3), 1e300), np.zeros(2)]
    with pytest.raises(ModelError) as caught:
        import_text(TEXT, {"conv1": doubles}, style=Style(doubles=True))
    assert caught.value.code == "caffe-weights-not-finite"
    assert not recwarn.list
