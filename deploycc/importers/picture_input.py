"""Give an ONNX graph its one picture input: float32, NCHW, batch 1, fixed size; and say how pixels enter it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from deploycc.detector import Colour, InputSpec
from deploycc.errors import ModelError, Note
from deploycc.graph.edit import bypass
from deploycc.importers.description import InputDescription
from deploycc.importers.own_preparation import own_range, own_size

DEFAULT_COLOUR: Colour = "RGB"
DEFAULT_MEAN, DEFAULT_SCALE = 127.5, 1 / 127.5  # -1..1, as most public ONNX SSDs were trained

_NHWC_TO_NCHW = [0, 3, 1, 2]
_MOVES_PIXELS = frozenset(
    ["Expand", "Gather", "Identity", "Pad", "Reshape", "Resize", "Slice", "Squeeze", "Transpose", "Unsqueeze"]
)


@dataclass(frozen=True)
class FixedInput:
    """The graph's input after `fix_picture_input`.

    Attributes:
        integer: the file takes whole pixels, 0..255.
        notes: what was changed.
    """

    integer: bool
    notes: tuple[Note, ...]


def fix_picture_input(graph: gs.Graph, described: InputDescription, path: Path) -> FixedInput:
    """Give the graph's input a static NCHW float32 shape with batch 1, in place.

    Args:
        graph: as imported; an NHWC input is changed to NCHW, whole pixels to float32, and a batch axis is added where
            there is none.
        described: size given by the user.
        path: the model, for messages.

    Raises:
        ModelError: the graph has no input or several, the input is not a picture or has an open size.
    """
    tensor = _only_input(graph, path)
    if described.name not in (None, tensor.name):
        raise ModelError(
            "input-name",
            f"the description names the input {described.name}, but the network's is {tensor.name}",
            context={"file": path, "key": "input.name"},
        )
    notes: list[Note] = []
    integer = tensor.dtype is not None and not isinstance(tensor.dtype, int) and np.dtype(tensor.dtype).kind in "iu"
    if integer:
        kind = np.dtype(tensor.dtype).name
        if kind == "int8":
            raise _not_a_picture(tensor, path, "its type is int8, which does not hold pixels of 0..255")
        _take_float(graph, tensor, path)
        reason = f"the file takes pixels as {kind}; the input is now float32, with the same values of 0..255"
        notes.append(Note(tensor.name, "onnx-integer-input", reason))
    if tensor.shape is not None and len(tensor.shape) == 3:
        tensor = _add_batch(graph, tensor)
        notes.append(Note(tensor.name, "onnx-no-batch", "the file takes a picture without a batch axis; it gets one"))
    shape = _static_shape(graph, tensor, described, path, notes)
    if shape[1] not in (1, 3) and shape[3] in (1, 3):
        shape = _change_to_nchw(graph, tensor, shape)
        tensor = graph.inputs[0]
        notes.append(Note(tensor.name, "onnx-nhwc-input", "the file takes NHWC pictures; its input is now NCHW"))
    if shape[1] not in (1, 3):
        raise _not_a_picture(tensor, path, f"it has {shape[1]} channels, or {shape[3]} if it is NHWC")
    tensor.shape = list(shape)
    return FixedInput(bool(integer), tuple(notes))


def describe_picture(
    graph: gs.Graph, fixed: FixedInput, described: InputDescription, path: Path
) -> tuple[InputSpec, list[Note]]:
    """Say how pixels enter the network: as the user says, as the network's first nodes show, or assumed.

    Args:
        graph: with the input fixed, constants folded and shapes known.
        fixed: from `fix_picture_input`.
        described: colour, mean and scale given by the user.
        path: the model, for messages.

    Raises:
        ModelError: values do not fit the channels.
    """
    (tensor,) = graph.inputs
    _, channels, height, width = tensor.shape
    own = (255.0, "") if fixed.integer else own_range(graph)
    mean, scale = (DEFAULT_MEAN, DEFAULT_SCALE) if own is None else (0.0, 1 if own[0] == 255 else 1 / 255)
    default = InputSpec(
        name=tensor.name,
        height=height,
        width=width,
        colour=DEFAULT_COLOUR if channels == 3 else "GRAY",
        mean=(mean,) * channels,
        scale=(float(scale),) * channels,
        assumed=True,
    )
    spec = override(default, described, path)
    notes: list[Note] = []
    given = [key for key in ("colour", "mean", "scale") if getattr(described, key) is not None]
    known = [*given, *([] if own is None else ["mean", "scale"]), *(["colour"] if channels == 1 else [])]
    if own is not None and own[1] and not {"mean", "scale"} & {*given}:
        reason = f"the network computes {own[1]} itself, so it gets pixels of 0..{own[0]:.0f}"
        notes.append(Note(tensor.name, "input-normalised", reason))
    missing = [key for key in ("colour", "mean", "scale") if key not in known]
    if missing:
        values = ", ".join(f"{key} {getattr(spec, key)}" for key in missing)
        what = "how pixels are normalised" if missing != ["colour"] else "the order of colours"
        notes.append(
            Note(
                tensor.name,
                "input-assumed",
                f"an ONNX file does not say {what}; assumed: {values}. Give `mean`, `scale`, "
                "`colour` or a description if the network was trained differently",
            )
        )
    return replace(spec, assumed=bool(missing)), notes


def override(spec: InputSpec, described: InputDescription, path: Path) -> InputSpec:
    """Replace colour, mean and scale by the user's values where given.

    Raises:
        ModelError: a value does not fit the number of channels.
    """
    colour = described.colour or spec.colour
    if (colour == "GRAY") != (spec.channels == 1):
        raise ModelError(
            "input-colour",
            f"{colour} does not fit an input of {spec.channels} channels",
            context={"file": path, "input": spec.name},
        )
    return InputSpec(
        name=spec.name,
        height=spec.height,
        width=spec.width,
        colour=colour,
        mean=_per_channel("mean", described.mean, spec.channels, path) or spec.mean,
        scale=_per_channel("scale", described.scale, spec.channels, path) or spec.scale,
        assumed=spec.assumed and None in (described.colour, described.mean, described.scale),
    )


def _only_input(graph: gs.Graph, path: Path) -> gs.Variable:
    if len(graph.inputs) == 1:
        return graph.inputs[0]
    if not graph.inputs:
        raise ModelError("onnx-no-input", "the network has no input", context={"file": path})
    raise ModelError(
        "onnx-several-inputs",
        f"the network has {len(graph.inputs)} inputs, but a detector takes one picture",
        context={"file": path, "inputs": ", ".join(f"{t.name} {t.shape}" for t in graph.inputs)},
        hint="export it with the other inputs as constants",
    )


def _take_float(graph: gs.Graph, tensor: gs.Variable, path: Path) -> None:
    """Let the graph read whole pixels as float32: casts fall away, and what moves pixels moves floats."""
    queue: list[gs.Variable] = [tensor]
    for moved in queue:  # grows while it is walked
        for node in list(moved.outputs):
            if node.op == "Cast":
                if node.attrs.get("to") in (onnx.TensorProto.FLOAT, np.float32, np.dtype(np.float32)):
                    bypass(graph, node, moved)
            elif node.op in _MOVES_PIXELS and node.inputs[0] is moved:
                queue.extend(node.outputs)
            elif node.op not in ("Shape", "Size"):
                kind = np.dtype(tensor.dtype).name
                why = f"its type is {kind}, not float32, and {node.name} ({node.op}) computes with it before any Cast"
                raise _not_a_picture(tensor, path, why)
    for moved in queue:
        moved.dtype = np.float32
    graph.cleanup()


def _add_batch(graph: gs.Graph, tensor: gs.Variable) -> gs.Variable:
    """Give the input a batch axis of 1, which a Squeeze removes for the other nodes."""
    name = tensor.name
    tensor.name = f"{name}_alone"
    batch = gs.Variable(name, dtype=tensor.dtype, shape=[1, *tensor.shape])
    axes = gs.Constant(f"{name}_batch_axis", np.array([0], np.int64))
    graph.nodes.insert(0, gs.Node("Squeeze", f"{name}_without_batch", {}, [batch, axes], [tensor]))
    graph.inputs = [batch]
    return batch


def _type_name(dtype: Any) -> str:
    """Return the name of an element type; a number is one of ONNX that NumPy lacks, such as bfloat16."""
    if isinstance(dtype, int):
        return str(onnx.TensorProto.DataType.Name(dtype)).lower()
    return np.dtype(dtype).name if dtype else "unknown"


def _static_shape(
    graph: gs.Graph, tensor: gs.Variable, described: InputDescription, path: Path, notes: list[Note]
) -> tuple[int, int, int, int]:
    if tensor.dtype != np.float32:
        kind = _type_name(tensor.dtype)
        raise _not_a_picture(tensor, path, f"its type is {kind}, not float32")
    if tensor.shape is None or len(tensor.shape) != 4:
        raise _not_a_picture(tensor, path, f"its shape is {tensor.shape}, not [1, channels, height, width]")
    dims = [d if isinstance(d, int) and d > 0 else None for d in tensor.shape]
    if dims[0] not in (None, 1):
        raise ModelError(
            "onnx-batch",
            f"the network takes {dims[0]} pictures at once, but only batch 1 is supported",
            context={"file": path, "input": tensor.name, "shape": tensor.shape},
            hint="export it with batch 1 or an open batch",
        )
    nhwc = dims[1] not in (1, 3) and dims[3] in (1, 3)
    rows, columns, channels = (1, 2, 3) if nhwc else (2, 3, 1)
    for axis, size in zip((rows, columns), described.size or (None, None), strict=True):
        if size is None:
            continue
        if dims[axis] not in (None, size):
            raise ModelError(
                "input-size",
                f"the description says {size}, but the network is fixed to {dims[axis]}",
                context={"file": path, "input": tensor.name, "shape": tensor.shape, "key": "input.size"},
            )
        dims[axis] = size
    if dims[channels] is not None and dims[rows] is None and dims[columns] is None and (own := own_size(graph)):
        dims[rows], dims[columns] = own
        reason = f"the file leaves the size of its picture open and resizes it to {own[0]} x {own[1]}: the input's size"
        notes.append(Note(tensor.name, "onnx-own-size", reason))
    if dims[channels] is None or dims[rows] is None or dims[columns] is None:
        raise ModelError(
            "onnx-open-size",
            "the network does not fix the size of its picture",
            context={"file": path, "input": tensor.name, "shape": tensor.shape},
            note="an engine is built for one size",
            hint="write `[input]` `size = [height, width]` into a description and pass it as `describe`",
        )
    known = [d or 1 for d in dims]
    return (1, known[1], known[2], known[3])


def _change_to_nchw(
    graph: gs.Graph, tensor: gs.Variable, shape: tuple[int, int, int, int]
) -> tuple[int, int, int, int]:
    """Change the input to NCHW: remove transposes to NCHW, and add one to NHWC for other readers."""
    nchw_shape = (1, shape[3], shape[1], shape[2])
    nchw = gs.Variable(f"{tensor.name}_nchw", dtype=tensor.dtype, shape=list(nchw_shape))
    for node in list(tensor.outputs):
        if node.op == "Transpose" and list(node.attrs.get("perm", [])) == _NHWC_TO_NCHW:
            dead = node.outputs[0]
            for reader in list(dead.outputs):
                for index, source in enumerate(reader.inputs):
                    if source is dead:
                        reader.inputs[index] = nchw
            graph.outputs = [nchw if t is dead else t for t in graph.outputs]
            node.inputs.clear()
            graph.nodes = [other for other in graph.nodes if other is not node]
    name = tensor.name
    if tensor.outputs:
        tensor.name = f"{name}_nhwc"
        tensor.shape = list(shape)
        node = gs.Node("Transpose", f"{name}_to_nhwc", {"perm": [0, 2, 3, 1]}, [nchw], [tensor])
        graph.nodes.insert(0, node)
    nchw.name = name
    graph.inputs = [nchw]
    return nchw_shape


def _per_channel(key: str, values: Sequence[float] | None, channels: int, path: Path) -> tuple[float, ...] | None:
    if values is None:
        return None
    if len(values) not in (1, channels):
        raise ModelError(
            "input-mean" if key == "mean" else "input-scale",
            f"{len(values)} values of {key} do not fit {channels} channels",
            context={"file": path, "key": f"input.{key}"},
            hint="give one value, or one per channel",
        )
    return tuple(float(v) for v in values) * (channels if len(values) == 1 else 1)


def _not_a_picture(tensor: gs.Variable, path: Path, why: str) -> ModelError:
    return ModelError(
        "onnx-no-picture",
        f"the input {tensor.name} is not a picture: {why}",
        context={"file": path, "input": tensor.name, "shape": tensor.shape},
        note="a detector takes one picture of 1 or 3 channels: float32, or uint8 that is cast to it",
    )
