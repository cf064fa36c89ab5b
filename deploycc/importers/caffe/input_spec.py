"""Which blob is the picture, and how pixels become its numbers."""

from __future__ import annotations

from collections.abc import Sequence

from deploycc.detector import Colour, InputSpec
from deploycc.errors import ModelError, Note
from deploycc.importers.caffe.definition import Definition, InputDef

_ASSUMED_MEAN = (104.0, 117.0, 123.0)  # ImageNet's mean, B G R: what SSD is trained with


def find_picture(definition: Definition) -> InputDef:
    """The one input that is a picture: four dimensions, 1 or 3 channels.

    Raises:
        ModelError: none, several, or one without a size.
    """
    read = {blob for layer in definition.layers for blob in layer.bottoms}
    fed = [one for one in definition.inputs if one.blob in read]
    pictures = [one for one in fed if len(one.shape) == 4 and one.shape[1] in (1, 3) and min(one.shape[1:]) > 0]
    if len(pictures) == 1:
        return pictures[0]
    context: dict[str, object] = {"file": definition.file}
    if len(pictures) > 1:
        names = ", ".join(one.blob for one in pictures)
        raise ModelError(
            "caffe-several-inputs", f"the network has {len(pictures)} pictures as inputs: {names}", context=context
        )
    if fed:
        one = fed[0]
        context |= {"input": one.blob, "line": one.line}
        if one.shape:
            raise ModelError(
                "caffe-input-shape",
                f"input {one.blob} has the shape {list(one.shape)}, not batch x 1 or 3 channels x height x width",
                context=context,
            )
    produced = {top for layer in definition.layers for top in layer.tops}
    missing = next((b for layer in definition.layers for b in layer.bottoms if b not in produced), None)
    blob = fed[0].blob if fed else missing or "data"
    raise ModelError(
        "caffe-no-input-shape",
        f"the definition does not state the shape of its input {blob}",
        context=context,
        hint=f'add at the top: input: "{blob}" input_shape {{ dim: 1 dim: 3 dim: HEIGHT dim: WIDTH }}',
    )


def describe_input(
    picture: InputDef,
    file: str,
    mean: Sequence[float] | None,
    scale: Sequence[float] | None,
    colour: Colour | None,
) -> tuple[InputSpec, list[Note]]:
    """How the picture is fed: what the caller says, else the file's ``transform_param``, else SSD's usual values.

    Args:
        picture: the input.
        file: for errors.
        mean: one value, or one a channel, in the tensor's channel order.
        scale: likewise.
        colour: channel order.

    Raises:
        ModelError: a count or colour does not fit the channels, or a scale is 0.
    """
    _, channels, height, width = picture.shape
    notes = []
    if picture.shape[0] != 1:
        notes.append(Note(picture.blob, "caffe-batch", f"batch {picture.shape[0]} of the definition becomes 1"))
    default_colour: Colour = "GRAY" if channels == 1 else "BGR"
    colour = colour or default_colour
    if (colour == "GRAY") != (channels == 1):
        raise ModelError(
            "caffe-input-shape", f"{colour} pictures do not fit {channels} channels", context={"file": file}
        )
    transform = picture.transform
    assumed = mean is None and (transform is None or "mean_file" in transform)
    if transform is not None:
        mean = mean or transform.numbers("mean_value") or (0.0,)
        scale = scale or [transform.number("scale", 1.0)]
    if scale and 0 in scale:
        raise ModelError(
            "caffe-input-scale",
            "the input's scale is 0, with which every picture looks the same",
            context={"file": file, "input": picture.blob},
            hint="--scale states another",
        )
    if assumed:
        mean = _ASSUMED_MEAN if channels == 3 else (sum(_ASSUMED_MEAN) / 3,)
        if colour == "RGB":
            mean = mean[::-1]
        why = "the mean file is not read" if transform is not None else "the definition does not say"
        shown = ",".join(f"{value:g}" for value in mean)
        notes.append(
            Note(
                picture.blob,
                "caffe-assumed-input",
                f"{why} how pictures are normalised: assumed {colour}, mean {shown}, scale "
                + ",".join(f"{value:g}" for value in scale or (1.0,))
                + "; --mean, --scale and --colour state it",
            )
        )
    return (
        InputSpec(
            name=picture.blob,
            height=height,
            width=width,
            colour=colour,
            mean=_each_channel("mean", mean or (0.0,), channels, file),
            scale=_each_channel("scale", scale or (1.0,), channels, file),
            assumed=assumed,
        ),
        notes,
    )


def _each_channel(name: str, values: Sequence[float], channels: int, file: str) -> tuple[float, ...]:
    if len(values) not in (1, channels):
        raise ModelError(
            "caffe-input-shape", f"{len(values)} {name} values do not fit {channels} channels", context={"file": file}
        )
    return tuple(float(v) for v in values) * (channels if len(values) == 1 else 1)
