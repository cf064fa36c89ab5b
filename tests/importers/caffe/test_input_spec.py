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
