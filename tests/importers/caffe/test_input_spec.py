from __future__ import annotations

import pytest
from caffe_files import import_text

from deploycc.detector import Detector
from deploycc.errors import ModelError

CONV = (
    "layer { name: 'c' type: 'Convolution' bottom: 'data' top: 'c' convolution_param { num_output: 1 kernel_size: 1 } }"
)


def declared(channels: int = 3, batch: int = 1) -> str:
    return f"input: 'data' input_shape {{ dim: {batch} dim: {channels} dim: 6 dim: 8 }} {CONV}"


def fed(transform: str) -> str:
    return f"layer {{ type: 'Input' top: 'data' input_param {{ shape {{ dim: [1, 3, 6, 8] }} }} transform_param {{ {transform} }} }} {CONV}"


def codes(detector: Detector) -> set[str]:
    return {note.code for note in detector.notes}


def test_an_unstated_normalisation_is_assumed_with_a_note() -> None:
    detector = import_text(declared())
    spec = detector.input
    assert (spec.name, spec.height, spec.width, spec.colour) == ("data", 6, 8, "BGR")
    assert (spec.mean, spec.scale, spec.assumed) == ((104, 117, 123), (1, 1, 1), True)
    (note,) = [note for note in detector.notes if note.code == "caffe-assumed-input"]
    assert note.reason == (
        "the definition states no normalisation: BGR, mean 104,117,123 and scale 1 are assumed; give the true values "
        "with `colour`, `mean` and `scale`"
    )


@pytest.mark.parametrize(
    ("transform", "mean", "scale"),
    [
        ("mean_value: 103.94 mean_value: 116.78 mean_value: 123.68 scale: 0.017", (103.94, 116.78, 123.68), 0.017),
        ("mean_value: 127.5 scale: 0.0078125", (127.5,) * 3, 0.0078125),
        ("scale: 0.00390625", (0, 0, 0), 0.00390625),
        ("mirror: false", (0, 0, 0), 1.0),
    ],
)
def test_transform_param_states_the_normalisation(transform: str, mean: tuple[float, ...], scale: float) -> None:
    detector = import_text(fed(transform))
    assert (detector.input.mean, detector.input.scale) == (mean, (scale,) * 3)
    assert not detector.input.assumed
    assert "caffe-assumed-input" not in codes(detector)


def test_a_mean_file_is_not_supported() -> None:
    detector = import_text(fed("mean_file: 'mean.binaryproto'"))
    assert detector.input.assumed
    assert "mean files are not supported" in next(n.reason for n in detector.notes if n.code == "caffe-assumed-input")
    assert not import_text(fed("mean_file: 'mean.binaryproto'"), mean=(1, 2, 3)).input.assumed


def test_the_caller_overrides_everything() -> None:
    assert import_text(fed("scale: 0"), scale=0.5).input.scale == (0.5,) * 3
    spec = import_text(fed("mean_value: 1"), mean=(9, 8, 7), scale=0.5, colour="RGB").input
    assert (spec.mean, spec.scale, spec.colour, spec.assumed) == ((9, 8, 7), (0.5,) * 3, "RGB", False)


def test_assumed_mean_follows_the_colour() -> None:
    spec = import_text(declared(), colour="RGB").input
    assert (spec.mean, spec.assumed) == ((123, 117, 104), True)


def test_one_channel_is_gray() -> None:
    spec = import_text(declared(channels=1)).input
    assert (spec.colour, spec.shape, len(spec.mean), spec.assumed) == ("GRAY", (1, 1, 6, 8), 1, True)


def test_batch_becomes_one_and_is_noted() -> None:
    detector = import_text(declared(batch=10))
    assert detector.graph.inputs[0].shape == [1, 3, 6, 8]
    assert "caffe-batch" in codes(detector)


@pytest.mark.parametrize(
    ("text", "options", "code", "says"),
    [
        (f"input: 'data' {CONV}", {}, "caffe-no-input-shape", "the definition does not state the shape of its input data"),
        (CONV, {}, "caffe-no-input-shape", "the definition does not state the shape of its input data"),
        (declared(channels=4), {}, "caffe-input-shape",
         "input data has the shape [1, 4, 6, 8], not batch x 1 or 3 channels x height x width"),
        (declared(), {"mean": (1, 2)}, "caffe-input-shape", "2 mean values do not fit 3 channels"),
        (declared(), {"colour": "GRAY"}, "caffe-input-shape", "GRAY pictures do not fit 3 channels"),
        (fed("scale: 0"), {}, "caffe-input-scale", "the input's scale is 0, which makes all pictures equal"),
        ("input: 'a' input: 'b' input_shape { dim: [1, 3, 6, 8] } input_shape { dim: [1, 3, 6, 8] }"
         "layer { name: 'x' type: 'Eltwise' bottom: 'a' bottom: 'b' top: 'c' }", {}, "caffe-several-inputs",
         "the network has 2 pictures as inputs: a, b"),
        ("input: 'a' input: 'im_info' input_shape { dim: [1, 3, 6, 8] } input_shape { dim: [1, 3] }"
         "layer { name: 'x' type: 'Scale' bottom: 'a' bottom: 'im_info' top: 'c' scale_param { axis: 0 } }", {},
         "caffe-several-inputs", "layer x reads the input im_info in addition to the picture a"),
    ],
)  # fmt: skip
def test_inputs_that_are_not_a_single_picture(text: str, options: dict[str, object], code: str, says: str) -> None:
    with pytest.raises(ModelError) as caught:
        import_text(text, **options)  # type: ignore[arg-type]
    assert (caught.value.code, caught.value.message) == (code, says)


def test_missing_shape_has_a_hint() -> None:
    with pytest.raises(ModelError) as caught:
        import_text(CONV)
    assert caught.value.hint == 'add at the top: input: "data" input_shape { dim: 1 dim: 3 dim: HEIGHT dim: WIDTH }'


def test_a_mean_file_is_named_in_a_sentence() -> None:
    (note,) = [
        n for n in import_text(fed("mean_file: 'mean.binaryproto' scale: 0.5")).notes if n.code == "caffe-assumed-input"
    ]
    assert note.reason.startswith(
        "mean files are not supported, but mean.binaryproto gives the mean: BGR, mean 104,117,123 and"
    )


TRAIN = "layer { type: 'AnnotatedData' top: 'data' top: 'label' include { phase: TRAIN } %s }\n"


def test_a_training_definition_is_named_with_its_size() -> None:
    with pytest.raises(ModelError) as caught:
        import_text(TRAIN % "transform_param { resize_param { height: 6 width: 8 } }" + CONV)
    error = caught.value
    assert error.code == "caffe-training-definition"
    assert error.message == (
        "this is a definition for training: its input data is fed in training only (line 1), with 8x6 pixels"
    )
    assert error.hint is not None
    assert error.hint.endswith('input: "data" input_shape { dim: 1 dim: 3 dim: 6 dim: 8 }')
    with pytest.raises(ModelError) as caught:
        import_text(TRAIN % "" + CONV)
    assert caught.value.message.endswith("in training only (line 1)")


def test_data_that_only_another_stage_feeds_is_not_called_training() -> None:
    with pytest.raises(ModelError) as caught:
        import_text((TRAIN % "").replace("TRAIN", "TEST stage: 'deploy'") + CONV)
    assert caught.value.message == "the input data is fed in the stage deploy only (line 1)"
    assert caught.value.note == "the definition states no stage, so that layer does not run"


FIRST = "layer {{ name: 'first' type: '{}' bottom: 'data' top: '{}' {} }}"
INPUT = "input: 'data' input_shape { dim: [1, 3, 6, 8] } "
READS_X = CONV.replace("bottom: 'data'", "bottom: 'x'")


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        (INPUT + FIRST.format("Power", "x", "power_param { shift: -127 }") + READS_X, True),
        (INPUT + FIRST.format("Power", "data", "power_param { shift: -127 scale: 2 }") + CONV, True),
        (INPUT + FIRST.format("Scale", "x", "scale_param { bias_term: true }") + READS_X, True),
        (INPUT + FIRST.format("Bias", "x", "") + READS_X, True),
        (TRAIN % "transform_param { mean_value: 127 }" + INPUT + FIRST.format("Bias", "x", "") + READS_X, True),
        (INPUT + FIRST.format("Power", "x", "power_param { scale: 0.5 }") + READS_X, False),
        (INPUT + FIRST.format("BatchNorm", "x", "") + READS_X, False),  # trained on pictures less a mean: res10
        (INPUT + FIRST.format("Bias", "x", "") + READS_X + CONV.replace("'c'", "'d'"), False),
    ],
)
def test_a_first_layer_that_subtracts_the_mean_leaves_none_to_assume(text: str, inside: bool) -> None:
    detector = import_text(text)
    assert detector.input.assumed != inside
    assert detector.input.mean == ((0, 0, 0) if inside else (104, 117, 123))
    assert ("caffe-mean-inside" in codes(detector)) == inside


def test_a_stated_mean_stays_before_a_first_layer_that_subtracts() -> None:
    text = fed("mean_value: 9").replace(CONV, FIRST.format("Bias", "x", "") + READS_X)
    assert import_text(text).input.mean == (9, 9, 9)
    assert import_text(INPUT + FIRST.format("Bias", "x", "") + READS_X, mean=3).input.mean == (3, 3, 3)


@pytest.mark.parametrize("values", [{"mean": float("nan")}, {"scale": float("inf")}])
def test_normalisation_must_be_finite(values: dict[str, float]) -> None:
    with pytest.raises(ModelError) as caught:
        import_text(declared(), **values)  # type: ignore[arg-type]
    assert caught.value.message == "a mean or scale of the input is not finite"


def test_a_huge_picture_is_refused_before_anything_is_allocated() -> None:
    with pytest.raises(ModelError) as caught:
        import_text(declared().replace("dim: 6 dim: 8", "dim: 20000 dim: 20000"))
    assert (caught.value.code, caught.value.message) == (
        "caffe-too-large", "input data would have the shape [1, 3, 20000, 20000]"
    )  # fmt: skip
