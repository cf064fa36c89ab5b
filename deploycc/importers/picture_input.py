"""Give an ONNX graph its one picture input: float32, NCHW, batch 1, fixed size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx_graphsurgeon as gs

from deploycc.detector import Colour, InputSpec
from deploycc.errors import ModelError, Note
from deploycc.importers.description import InputDescription

DEFAULT_COLOUR: Colour = "RGB"
DEFAULT_MEAN, DEFAULT_SCALE = 127.5, 1 / 127.5  # -1..1, as most public ONNX SSDs were trained

_NHWC_TO_NCHW = [0, 3, 1, 2]


def fix_picture_input(graph: gs.Graph, described: InputDescription, path: Path) -> tuple[InputSpec, list[Note]]:
    """Give the graph's input a static NCHW float32 shape with batch 1, in place.

    Args:
        graph: as imported; an NHWC input is changed to NCHW.
        described: size, colour, mean and scale given by the user.
        path: the model, for messages.

    Raises:
        ModelError: the graph has no input or several, the input is not a picture or has an open size, or values do
            not fit the channels.
    """
    tensor = _only_input(graph, path)
    if described.name not in (None, tensor.name):
        raise ModelError(
            "input-name",
            f"the description names the input {described.name}, but the network's is {tensor.name}",
            context={"file": path, "key": "input.name"},
        )
    notes: list[Note] = []
    shape = _static_shape(tensor, described, path)
    if shape[1] not in (1, 3) and shape[3] in (1, 3):
        shape = _change_to_nchw(graph, tensor, shape)
        tensor = graph.inputs[0]
        notes.append(Note(tensor.name, "onnx-nhwc-input", "the file takes NHWC pictures; its input is now NCHW"))
    if shape[1] not in (1, 3):
        raise _not_a_picture(tensor, path, f"it has {shape[1]} channels")
    tensor.shape = list(shape)
    return _spec(tensor.name, shape, described, path, notes), notes


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


def _static_shape(tensor: gs.Variable, described: InputDescription, path: Path) -> tuple[int, int, int, int]:
    if tensor.dtype != np.float32:
        kind = np.dtype(tensor.dtype).name if tensor.dtype else "unknown"
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


def _spec(
    name: str, shape: tuple[int, int, int, int], described: InputDescription, path: Path, notes: list[Note]
) -> InputSpec:
    channels = shape[1]
    default = InputSpec(
        name=name,
        height=shape[2],
        width=shape[3],
        colour=DEFAULT_COLOUR if channels == 3 else "GRAY",
        mean=(DEFAULT_MEAN,) * channels,
        scale=(DEFAULT_SCALE,) * channels,
        assumed=True,
    )
    spec = override(default, described, path)
    missing = [key for key in ("colour", "mean", "scale") if getattr(described, key) is None]
    if missing == ["colour"] and channels == 1:
        missing = []
    if missing:
        values = ", ".join(f"{key} {getattr(spec, key)}" for key in missing)
        notes.append(
            Note(
                name,
                "input-assumed",
                f"an ONNX file does not say how pixels are normalised; assumed: {values}. Give `mean`, `scale`, "
                "`colour` or a description if the network was trained differently",
            )
        )
    return InputSpec(**{**spec.__dict__, "assumed": bool(missing)})


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
        note="a detector takes one float32 picture [1, channels, height, width] with 1 or 3 channels",
    )
