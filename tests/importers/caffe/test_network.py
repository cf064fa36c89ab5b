"""Names, outputs and wiring; networks that hang together wrongly."""

from __future__ import annotations

import re

import numpy as np
import pytest
from caffe_files import SMALL_DETECTOR, check_shapes, import_text, run
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from deploycc.errors import ModelError

HEAD = "input: 'data' input_shape { dim: [1, 3, 8, 8] }\n"


def conv(name: str, bottom: str, top: str) -> str:
    return (
        f"layer {{ name: '{name}' type: 'Convolution' bottom: '{bottom}' top: '{top}' "
        "convolution_param { num_output: 3 kernel_size: 1 } }\n"
    )


def simple(kind: str, name: str, bottom: str, top: str, extra: str = "") -> str:
    return f"layer {{ name: '{name}' type: '{kind}' bottom: '{bottom}' top: '{top}' {extra} }}\n"


def refused(text: str) -> ModelError:
    with pytest.raises(ModelError) as caught:
        import_text(text)
    return caught.value


def test_in_place_layers_take_their_own_names_and_outputs_keep_the_blobs() -> None:
    text = HEAD + conv("c1", "data", "x") + simple("ReLU", "r1", "x", "x") + conv("c2", "x", "y")
    text += simple("BatchNorm", "b", "y", "y") + simple("Scale", "s", "y", "y", "scale_param { bias_term: true }")
    graph = import_text(text).graph
    assert [(node.name, node.outputs[0].name) for node in graph.nodes] == [
        ("c1", "x"),
        ("r1", "r1"),
        ("c2", "y/c2"),  # its own name went to the output
        ("b", "b"),
        ("s/mul", "s/mul"),
        ("s/add", "y"),
    ]
    assert [output.name for output in graph.outputs] == ["y"]
    assert graph.nodes[0].inputs[1].name == "c1/weight"


def test_layers_named_like_blobs_of_others_stay_apart() -> None:
    text = HEAD + conv("x", "data", "a") + conv("a", "a", "x") + simple("ReLU", "a", "x", "x")
    graph = import_text(text).graph
    assert [node.name for node in graph.nodes] == ["x", "a", "a_1"]
    assert [node.outputs[0].name for node in graph.nodes] == ["a", "x/a", "x"]
    run(import_text(text), np.zeros((1, 3, 8, 8), np.float32))


def test_every_unread_blob_is_an_output() -> None:
    text = HEAD + conv("c", "data", "x") + simple("ReLU", "r", "x", "a") + simple("TanH", "t", "x", "b")
    text += simple("Dropout", "d", "a", "a2") + simple("Split", "s", "b", "b2")
    assert [output.name for output in import_text(text).graph.outputs] == ["a2", "b2"]


def test_the_picture_itself_and_one_blob_twice_are_copied_into_outputs() -> None:
    text = HEAD + conv("c", "data", "x") + simple("Dropout", "d", "data", "same")
    text += "layer { name: 's' type: 'Split' bottom: 'x' top: 'p' top: 'q' }"
    detector = import_text(text)
    picture = np.random.default_rng(0).standard_normal((1, 3, 8, 8)).astype(np.float32)
    outputs = run(detector, picture)
    assert list(outputs) == ["same", "p", "q"]
    np.testing.assert_array_equal(outputs["same"], picture)
    np.testing.assert_array_equal(outputs["p"], outputs["q"])


def test_the_bottoms_of_loss_layers_become_outputs() -> None:
    text = HEAD + "layer { name: 'label' type: 'DummyData' top: 'label' }" + conv("c", "data", "x")
    text += "layer { name: 'loss' type: 'SoftmaxWithLoss' bottom: 'x' bottom: 'label' top: 'loss' }"
    detector = import_text(text)
    assert [output.name for output in detector.graph.outputs] == ["x"]
    assert "caffe-training-layers" in {note.code for note in detector.notes}


def test_unknown_type_is_named_with_line_and_neighbour() -> None:
    error = refused(HEAD + conv("c", "data", "x") + simple("Convolutoin", "y", "x", "y") + simple("Foo", "z", "y", "z"))
    assert error.code == "caffe-unknown-layer"
    assert error.message == "layer y has the type Convolutoin, which is not supported"
    assert (error.context["layer"], error.context["type"], error.context["line"]) == ("y", "Convolutoin", "3")
    assert error.note == "nor are z (Foo, line 4)"
    assert error.hint == "did you mean Convolution?"


def test_wrong_wiring_is_diagnosed() -> None:
    error = refused(HEAD + conv("c", "data", "conv1") + simple("ReLU", "r", "conv", "y"))
    assert (error.code, error.message, error.hint) == (
        "caffe-unknown-blob", "layer r reads blob conv, which no earlier layer produces", "did you mean conv1?"
    )  # fmt: skip
    error = refused(HEAD + simple("ReLU", "r", "late", "y") + conv("c", "data", "late"))
    assert error.code == "caffe-unknown-blob"
    assert error.note == "layer c in line 3 produces it, but Caffe runs layers in file order"
    two = "layer { name: 'sum' type: 'Eltwise' bottom: 'data' bottom: 'back' top: 'a' }\n"
    error = refused(HEAD + two + conv("mid", "a", "b") + conv("end", "b", "back"))
    assert (error.code, error.message) == ("caffe-cycle", "the layers form a cycle: sum -> mid -> end -> sum")
    error = refused(HEAD + conv("c", "data", "x") + conv("d", "data", "x"))
    assert (error.code, error.message) == (
        "caffe-duplicate-blob", "layer d writes blob x, which an earlier layer already writes"
    )  # fmt: skip
    error = refused(HEAD + conv("c", "data", "x") + "layer { name: 'q' type: 'Silence' bottom: 'x' }")
    assert (error.code, error.message) == ("caffe-no-output", "the network has no output")


def test_a_label_is_not_a_picture() -> None:
    text = HEAD + "layer { name: 'l' type: 'DummyData' top: 'label' }" + simple("ReLU", "r", "label", "x")
    text += conv("c", "data", "y")
    assert refused(text).message == "layer r reads the input label in addition to the picture data"


def test_unknown_attributes_of_a_layer_are_refused_and_others_parameters_ignored() -> None:
    error = refused(HEAD + simple("ReLU", "r", "data", "x", "slope: 1"))
    assert (error.code, error.message) == ("caffe-unknown-attribute", "a layer has no attribute slope")
    text = HEAD + simple("ReLU", "r", "data", "x", "loss_param { normalize: true } pooling_param { kernel_size: 2 }")
    assert [node.op for node in import_text(text).graph.nodes] == ["Relu"]


@given(st.data())
@settings(max_examples=examples(100))
def test_a_damaged_definition_is_imported_or_diagnosed(data: st.DataObject) -> None:
    words = re.findall(r'"[^"]*"|[\w.\-]+|[{}:\[\]]', SMALL_DETECTOR)
    values = [index for index, word in enumerate(words) if re.fullmatch(r'-?[\d.]+|".*"', word)]
    strange = [
        "0",
        "-1",
        "3",
        "7",
        "4294967295",
        "1e30",
        "nan",
        "true",
        "TEST",
        '"data"',
        '"conv1"',
        "{",
        "dim: 0",
        "0.5",
    ]
    for _ in range(data.draw(st.integers(1, 2))):
        index = data.draw(st.sampled_from(values))
        words[index] = data.draw(st.sampled_from([*strange, words[data.draw(st.sampled_from(values))], ""]))
    try:
        detector = import_text(" ".join(words), seed=0)
    except ModelError:
        return
    check_shapes(detector)


def test_errors_inside_parameters_name_the_layer() -> None:
    error = refused(HEAD + "layer { name: 'r' type: 'ReLU' bottom: 'data' top: 'x' relu_param { negative_slope: x } }")
    assert error.context["layer"] == "r"
    assert error.context["line"] == "2"


def test_unknown_parameters_of_a_layer_are_refused_with_its_own_names() -> None:
    text = HEAD + simple("Normalize", "n", "data", "x", "l2_norm_param { across_spatial: false }")
    error = refused(text)
    assert (error.code, error.message) == ("caffe-unknown-attribute", "Normalize with l2_norm_param is not supported")
    assert error.note == "Normalize takes norm_param or normalize_bbox_param; others could change what it computes"
    both = simple("Normalize", "n", "data", "x", "norm_param { } normalize_bbox_param { }")
    assert refused(HEAD + both).message == "norm_param and normalize_bbox_param are both given"


def test_unknown_attributes_are_named_before_what_follows_from_them() -> None:
    param = "convolution_param { num_outputs: 3 kernel_size: 1 }"  # as a consequence, num_output is missing
    error = refused(HEAD + simple("Convolution", "c", "data", "x", param))
    assert error.message == "Convolution with the attribute num_outputs is not supported"
    param = "convolution_param { num_outpt: 3 kernel_size: 1 }"
    assert refused(HEAD + simple("Convolution", "c", "data", "x", param)).hint == "did you mean num_output?"


@pytest.mark.parametrize(
    "attribute", ['engine: "MKL2017"', "engine: CAFFE", "forward_type: FLOAT16 backward_math: FLOAT"]
)
def test_attributes_of_forks_that_choose_a_library_or_a_precision_change_nothing(attribute: str) -> None:
    text = "default_forward_type: FLOAT16 " + HEAD + simple("ReLU", "r", "data", "x", attribute)
    assert [node.op for node in import_text(text).graph.nodes] == ["Relu"]


@pytest.mark.parametrize("blob", ["top: ''", "bottom: ''"])
def test_an_empty_blob_name_is_refused_by_line(blob: str) -> None:
    error = refused(HEAD + f"layer {{ name: 'r' type: 'ReLU' bottom: 'data' top: 'x'\n{blob} }}")
    assert (error.code, error.context["line"]) == ("caffe-empty-name", "3")
    assert refused("input: '' input_shape { dim: [1, 3, 8, 8] }" + conv("c", "", "x")).code == "caffe-empty-name"


def test_random_weights_for_too_large_a_network_are_refused_before_they_are_drawn() -> None:
    param = "inner_product_param { num_output: 1000000 bias_term: false }"
    error = refused(HEAD + simple("InnerProduct", "ip", "data", "x", param))
    assert error.code == "caffe-too-large"
    assert error.message == "the network has 192,000,000 parameters up to here, more than 134,217,728"
