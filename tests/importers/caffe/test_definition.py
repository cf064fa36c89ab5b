from __future__ import annotations

import pytest

from deploycc.errors import ModelError
from deploycc.importers.caffe.definition import Definition, define
from deploycc.importers.caffe.prototxt import parse


def read(text: str) -> Definition:
    return define(parse(text, "net.prototxt"))


def test_old_layers_get_todays_names() -> None:
    names = {
        "CONVOLUTION": "Convolution", "INNER_PRODUCT": "InnerProduct", "RELU": "ReLU", "LRN": "LRN", "TANH": "TanH",
        "ABSVAL": "AbsVal", "SOFTMAX": "Softmax", "4": "Convolution", "18": "ReLU",
    }  # fmt: skip
    definition = read("".join(f"layers {{ name: 'x{old}' type: {old} bottom: 'a' top: 'b' }}" for old in names))
    assert [layer.type for layer in definition.layers] == list(names.values())


@pytest.mark.parametrize(
    ("rules", "runs"),
    [
        ("", True),
        ("include { phase: TEST }", True),
        ("include: { phase: TRAIN }", False),
        ("include { phase: TRAIN } include { phase: TEST }", True),
        ("exclude { phase: TEST }", False),
        ("exclude { phase: TRAIN }", True),
        ("include { stage: 'deploy' }", False),
        ("include { not_stage: 'deploy' }", True),
        ("include { min_level: 1 }", False),
        ("include { phase: 1 max_level: 0 }", True),
    ],
)
def test_include_and_exclude_rules(rules: str, runs: bool) -> None:
    definition = read(f"layer {{ name: 'always' type: 'ReLU' }} layer {{ name: 'maybe' type: 'ReLU' {rules} }}")
    assert ("maybe" in [layer.name for layer in definition.layers]) == runs


def test_the_files_own_state_counts() -> None:
    layer = "layer { name: 'x' type: 'ReLU' include { stage: 'deploy' min_level: 2 } }"
    assert len(read(f"state {{ stage: 'deploy' level: 2 }} {layer}").layers) == 1


def test_training_layers_leave() -> None:
    definition = read(
        "layer { name: 'a' type: 'ReLU' } layer { name: 'loss' type: 'SoftmaxWithLoss' }"
        "layer { name: 'mbox_loss' type: 'MultiBoxLoss' } layer { name: 'acc' type: 'Accuracy' }"
    )
    assert definition.dropped == ("loss", "mbox_loss", "acc")
    assert [layer.name for layer in definition.layers] == ["a"]


def test_repeated_names_are_numbered() -> None:
    layers = read("layer { name: 's' type: 'Slice' }" * 3).layers
    assert [(layer.name, layer.given_name, layer.occurrence) for layer in layers] == [
        ("s", "s", 0), ("s_1", "s", 1), ("s_2", "s", 2)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "shapes"),
    [
        ("input: 'a' input_shape { dim: 1 dim: 3 dim: 5 dim: 6 }", {"a": (1, 3, 5, 6)}),
        ("input: 'a' input_dim: 2 input_dim: 3 input_dim: 5 input_dim: 6", {"a": (2, 3, 5, 6)}),
        ("input: 'a' input: 'b' input_shape { dim: 1 dim: 3 dim: 5 dim: 6 } input_shape { dim: 1 }",
         {"a": (1, 3, 5, 6), "b": (1,)}),
        ("input: 'a'", {"a": ()}),
        ("layer { type: 'Input' top: 'a' input_param { shape { dim: [1, 3, 5, 6] } } }", {"a": (1, 3, 5, 6)}),
        ("layer { type: 'Data' top: 'a' top: 'label' transform_param { crop_size: 5 } }", {"a": (1, 3, 5, 5), "label": ()}),
        ("layer { type: 'Data' top: 'a' data_param { crop_size: 5 } }", {"a": (1, 3, 5, 5)}),
        ("layer { type: 'Data' top: 'a' }", {"a": ()}),
        ("layer { type: 'AnnotatedData' top: 'a' transform_param { resize_param { height: 5 width: 6 } force_gray: true } }",
         {"a": (1, 1, 5, 6)}),
        ("layer { type: 'ImageData' top: 'a' image_data_param { new_height: 5 new_width: 6 is_color: false } }",
         {"a": (1, 1, 5, 6)}),
        ("layer { type: 'MemoryData' top: 'a' memory_data_param { batch_size: 1 channels: 3 height: 5 width: 6 } }",
         {"a": (1, 3, 5, 6)}),
        ("layer { type: 'DummyData' top: 'a' top: 'b' dummy_data_param { num: 1 channels: 3 height: 5 width: 6 } }",
         {"a": (1, 3, 5, 6), "b": (1, 3, 5, 6)}),
    ],
)  # fmt: skip
def test_inputs_in_every_form(text: str, shapes: dict[str, tuple[int, ...]]) -> None:
    definition = read(text + " layer { name: 'x' type: 'ReLU' bottom: 'a' top: 'b' }")
    assert {one.blob: one.shape for one in definition.inputs} == shapes


def test_the_training_data_layer_lends_its_normalisation() -> None:
    definition = read(
        "input: 'data' input_shape { dim: [1, 3, 5, 6] }"
        "layer { type: 'Data' top: 'data' include { phase: TRAIN } transform_param { mean_value: 7 } }"
        "layer { name: 'x' type: 'ReLU' bottom: 'data' top: 'b' }"
    )
    (one,) = definition.inputs
    assert one.transform is not None
    assert one.transform.numbers("mean_value") == [7]


@pytest.mark.parametrize(
    ("text", "code", "says"),
    [
        ("name: 'x'", "caffe-empty-network", "the network definition has no layers"),
        ("layer { type: 'ReLU' include { phase: TRAIN } }", "caffe-empty-network", "no layer of the network runs at test time"),
        ("layer { name: 'x' }", "caffe-no-type", "layer x has no type"),
        ("layers { layer { name: 'x' } }", "caffe-too-old", "the network definition is in Caffe's oldest format (V0)"),
        ("input: 'a' input_dim: 1 layer { type: 'ReLU' }", "caffe-input-shape", "1 inputs, but 1 input_dim"),
        ("input: 'a' input_shape { } input_shape { } layer { type: 'ReLU' }", "caffe-input-shape", "1 inputs, but 2 input_shape"),
    ],
)  # fmt: skip
def test_wrong_definitions_are_refused(text: str, code: str, says: str) -> None:
    with pytest.raises(ModelError) as caught:
        read(text)
    assert (caught.value.code, caught.value.message) == (code, says)
    assert caught.value.context["file"] == "net.prototxt"


def test_the_stage_of_the_only_input_is_chosen() -> None:
    # DIGITS keeps training, validation and deployment in one file.
    definition = read(
        "layer { name: 'train' type: 'Data' top: 'data' include { phase: TRAIN } }"
        "layer { name: 'deploy' type: 'Input' top: 'data' include { stage: 'deploy' } input_param { shape { dim: [1, 3, 5, 6] } } }"
        "layer { name: 'shift' type: 'Power' bottom: 'data' top: 'x' include { phase: TEST stage: 'deploy' } }"
        "layer { name: 'score' type: 'ReLU' bottom: 'x' top: 'y' include { stage: 'val' } }"
        "layer { name: 'quiet' type: 'ReLU' bottom: 'x' top: 'z' exclude { stage: 'deploy' } }"
    )
    assert (definition.stages, [layer.name for layer in definition.layers]) == (("deploy",), ["shift"])
    assert definition.elsewhere == ("score", "quiet")
    assert [one.shape for one in definition.inputs] == [(1, 3, 5, 6)]


def test_no_stage_is_chosen_where_an_input_needs_none() -> None:
    definition = read(
        "input: 'data' layer { name: 'in' type: 'Input' top: 'b' include { stage: 'deploy' } }"
        "layer { name: 'a' type: 'ReLU' bottom: 'data' top: 'x' }"
    )
    assert definition.stages == ()
