"""Find the picture among a network's inputs, and how its pixels are normalised."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from deploycc.detector import Colour, InputSpec
from deploycc.errors import ModelError, Note
from deploycc.importers.caffe.definition import Definition, InputDef, LayerDef
from deploycc.importers.caffe.layer import LARGEST

_ASSUMED_MEAN = (104.0, 117.0, 123.0)  # ImageNet's mean, B G R, as used to train SSD


def find_picture(definition: Definition) -> InputDef:
    """Return the only input that is a picture: four dimensions, 1 or 3 channels.

    Raises:
        ModelError: there is no picture, there are several, or its size is not stated.
    """
    read = {blob for layer in definition.layers for blob in layer.bottoms}
    used = [source for source in definition.inputs if source.blob in read]
    pictures = [source for source in used if _is_picture(source.shape)]
    if len(pictures) == 1:
        return pictures[0]
    context: dict[str, object] = {"file": definition.file}
    if len(pictures) > 1:
        names = ", ".join(picture.blob for picture in pictures)
        raise ModelError(
            "caffe-several-inputs", f"the network has {len(pictures)} pictures as inputs: {names}", context=context
        )
    if used:
        first = used[0]
        context |= {"input": first.blob, "line": first.line}
        if first.shape:
            raise ModelError(
                "caffe-input-shape",
                f"input {first.blob} has the shape {list(first.shape)}, not batch x 1 or 3 channels x height x width",
                context=context,
            )
    _refuse_training_definition(definition, context)
    produced = {top for layer in definition.layers for top in layer.tops}
    missing = next((b for layer in definition.layers for b in layer.bottoms if b not in produced), None)
    blob = used[0].blob if used else missing or "data"
    raise ModelError(
        "caffe-no-input-shape",
        f"the definition does not state the shape of its input {blob}",
        context=context,
        hint=f'add at the top: input: "{blob}" input_shape {{ dim: 1 dim: 3 dim: HEIGHT dim: WIDTH }}',
    )


def _refuse_training_definition(definition: Definition, context: dict[str, object]) -> None:
    """Name a definition whose picture is fed in training only, with the size that it has there."""
    read = {blob for layer in definition.layers for blob in layer.bottoms}
    fed = next((source for source in definition.training if source.blob in read), None)
    if fed is None:
        return
    size = f", with {fed.shape[3]}x{fed.shape[2]} pixels" if _is_picture(fed.shape) else ""
    height, width = fed.shape[2:] if size else ("HEIGHT", "WIDTH")
    channels = fed.shape[1] if size else 3
    if fed.stage:
        raise ModelError(
            "caffe-training-definition",
            f"the input {fed.blob} is fed in the stage {fed.stage} only (line {fed.line}){size}",
            context=context | {"input": fed.blob, "line": fed.line},
            note="the definition states no stage, so that layer does not run",
            hint="use the deploy file of the same network, or replace the layer by: "
            f'input: "{fed.blob}" input_shape {{ dim: 1 dim: {channels} dim: {height} dim: {width} }}',
        )
    raise ModelError(
        "caffe-training-definition",
        f"this is a definition for training: its input {fed.blob} is fed in training only (line {fed.line}){size}",
        context=context | {"input": fed.blob, "line": fed.line},
        note="a definition for deployment declares its input and ends in a DetectionOutput layer",
        hint="use the deploy file of the same network, or add at the top: "
        f'input: "{fed.blob}" input_shape {{ dim: 1 dim: {channels} dim: {height} dim: {width} }}',
    )


def subtracts_mean(definition: Definition, picture: InputDef) -> LayerDef | None:
    """Return the layer that subtracts the mean, if every layer that computes from the picture reads it from there.

    DIGITS writes such a Power layer; converters write Scale with a bias. PriorBox reads only the picture's size.

    Args:
        definition: the network.
        picture: its input.
    """
    readers = [
        layer
        for layer in definition.layers
        if picture.blob in layer.bottoms and layer.type not in ("PriorBox", "DetectionOutput", "Silence")
    ]
    if not readers or not _subtracts(readers[0]):
        return None
    in_place = picture.blob in readers[0].tops
    return readers[0] if in_place or len(readers) == 1 else None


def _subtracts(layer: LayerDef) -> bool:
    if layer.type == "Power":
        return layer.message.message("power_param").number("shift") != 0
    if layer.type == "Scale":
        return len(layer.bottoms) == 1 and layer.message.message("scale_param").flag("bias_term")
    return layer.type == "Bias" and len(layer.bottoms) == 1


def _is_picture(shape: tuple[int, ...]) -> bool:
    return len(shape) == 4 and shape[1] in (1, 3) and min(shape[1:]) > 0


def describe_input(
    picture: InputDef,
    file: str,
    first: LayerDef | None,
    mean: Sequence[float] | None,
    scale: Sequence[float] | None,
    colour: Colour | None,
) -> tuple[InputSpec, list[Note]]:
    """Return how pixels are normalised: by the caller's values, else ``transform_param``, else SSD's usual values.

    Args:
        picture: the input.
        file: for errors.
        first: the layer that subtracts the mean, or None (see `subtracts_mean`).
        mean: one value, or one per channel, in the tensor's channel order.
        scale: in the same form.
        colour: channel order.

    Raises:
        ModelError: the number of values or the colour does not fit the channels, or a scale is 0.
    """
    _, channels, height, width = picture.shape
    notes = []
    if channels * height * width > LARGEST:
        raise ModelError(
            "caffe-too-large",
            f"input {picture.blob} would have the shape {[1, channels, height, width]}",
            context={"file": file, "input": picture.blob, "line": picture.line},
            note="a tensor holds at most 2 GiB",
        )
    if picture.shape[0] != 1:
        notes.append(Note(picture.blob, "caffe-batch", f"batch {picture.shape[0]} of the definition becomes 1"))
    default_colour: Colour = "GRAY" if channels == 1 else "BGR"
    colour = colour or default_colour
    if (colour == "GRAY") != (channels == 1):
        raise ModelError(
            "caffe-input-shape", f"{colour} pictures do not fit {channels} channels", context={"file": file}
        )
    transform = None if first is not None and picture.lent else picture.transform
    if first is not None and transform is None:
        if mean is None:
            reason = f"{first.name} subtracts the mean in the network, so pixels enter without: mean 0 and scale 1"
            notes.append(Note(picture.blob, "caffe-mean-inside", reason))
        mean, scale = mean or (0.0,), scale or (1.0,)
    assumed = mean is None and (transform is None or "mean_file" in transform)
    if transform is not None:
        mean = mean or transform.numbers("mean_value") or (0.0,)
        scale = scale or [transform.number("scale", 1.0)]
    if not np.isfinite([*(mean or ()), *(scale or ())]).all():
        raise ModelError(
            "caffe-input-scale",
            "a mean or scale of the input is not finite",
            context={"file": file, "input": picture.blob},
        )
    if scale and 0 in scale:
        raise ModelError(
            "caffe-input-scale",
            "the input's scale is 0, which makes all pictures equal",
            context={"file": file, "input": picture.blob},
            hint="give another `scale`",
        )
    if assumed:
        mean = _ASSUMED_MEAN if channels == 3 else (sum(_ASSUMED_MEAN) / 3,)
        if colour == "RGB":
            mean = mean[::-1]
        reason = (
            f"mean files are not supported, but {transform.text('mean_file')} gives the mean"
            if transform is not None
            else "the definition states no normalisation"
        )
        shown_mean = ",".join(f"{value:g}" for value in mean)
        shown_scale = ",".join(f"{value:g}" for value in scale or (1.0,))
        notes.append(
            Note(
                picture.blob,
                "caffe-assumed-input",
                f"{reason}: {colour}, mean {shown_mean} and scale {shown_scale} are assumed; give the true values with "
                "`colour`, `mean` and `scale`",
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
