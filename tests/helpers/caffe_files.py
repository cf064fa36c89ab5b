"""Caffe files for tests: a writer of ``.caffemodel`` bytes, and both importers run on the same definition.

The writer is the wire format alone, written from protobuf's encoding guide and the field numbers of caffe.proto; it
shares nothing with the reader under test. Two spellings of everything that real files spell in two ways.
"""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnx_graphsurgeon as gs
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from deploycc.detector import Detector
from deploycc.errors import ModelError
from deploycc.graph.shapes import infer_shapes
from deploycc.importers.caffe import load, prototxt
from deploycc.importers.caffe.definition import Definition, InputDef, LayerDef, define
from deploycc.importers.caffe.input_spec import find_picture
from deploycc.importers.caffe.network import Network
from deploycc.importers.caffe.prototxt import Message
from deploycc.importers.caffe.random_weights import SeededWeights
from deploycc.importers.caffe.weights import Blob

Array = NDArray[np.float32]
Weights = Mapping[str, Sequence[Array]]

SMALL_DETECTOR = """
name: "small_ssd"
input: "data" input_shape { dim: 1 dim: 3 dim: 20 dim: 24 }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  convolution_param { num_output: 8 kernel_size: 3 stride: 2 pad: 1 bias_term: false } }
layer { name: "conv1_bn" type: "BatchNorm" bottom: "conv1" top: "conv1" }
layer { name: "conv1_scale" type: "Scale" bottom: "conv1" top: "conv1" scale_param { bias_term: true } }
layer { name: "conv1_relu" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1" pooling_param { kernel_size: 3 stride: 2 } }
layer { name: "branch" type: "ConvolutionDepthwise" bottom: "pool1" top: "branch"
  convolution_param { num_output: 8 kernel_size: 3 pad: 1 } }
layer { name: "sum" type: "Eltwise" bottom: "pool1" bottom: "branch" top: "sum" eltwise_param { coeff: 1 coeff: 0.5 } }
layer { name: "norm" type: "Normalize" bottom: "sum" top: "norm"
  norm_param { across_spatial: false channel_shared: false scale_filler { type: "constant" value: 20 } } }
layer { name: "loc" type: "Convolution" bottom: "norm" top: "loc" convolution_param { num_output: 8 kernel_size: 1 } }
layer { name: "loc_perm" type: "Permute" bottom: "loc" top: "loc_perm"
  permute_param { order: 0 order: 2 order: 3 order: 1 } }
layer { name: "loc_flat" type: "Flatten" bottom: "loc_perm" top: "loc_flat" }
layer { name: "conf" type: "Convolution" bottom: "norm" top: "conf" convolution_param { num_output: 6 kernel_size: 1 } }
layer { name: "conf_perm" type: "Permute" bottom: "conf" top: "conf_perm"
  permute_param { order: 0 order: 2 order: 3 order: 1 } }
layer { name: "conf_rows" type: "Reshape" bottom: "conf_perm" top: "conf_rows"
  reshape_param { shape { dim: 0 dim: -1 dim: 3 } } }
layer { name: "conf_soft" type: "Softmax" bottom: "conf_rows" top: "conf_rows" softmax_param { axis: 2 } }
layer { name: "conf_flat" type: "Flatten" bottom: "conf_rows" top: "conf_flat" }
layer { name: "priors" type: "PriorBox" bottom: "norm" bottom: "data" top: "priors"
  prior_box_param { min_size: 6 max_size: 12 variance: 0.1 variance: 0.1 variance: 0.2 variance: 0.2 } }
layer { name: "out" type: "DetectionOutput" bottom: "loc_flat" bottom: "conf_flat" bottom: "priors" top: "out"
  detection_output_param { num_classes: 3 code_type: CENTER_SIZE nms_param { nms_threshold: 0.45 } } }
"""
"""A detector of a few layers; its heads are loc_flat [1, 240] and conf_flat [1, 180]."""


@dataclass(frozen=True)
class Style:
    """How a weight file is written.

    Attributes:
        old: V1 ``layers`` instead of ``layer``.
        legacy_shape: num, channels, height, width instead of ``shape``.
        packed: floats in one run; otherwise each with a tag.
        doubles: double_data instead of data.
        half: NVIDIA's raw_data in 16 bits.
    """

    old: bool = False
    legacy_shape: bool = False
    packed: bool = True
    doubles: bool = False
    half: bool = False


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*out, value))


def field(number: int, *parts: bytes) -> list[bytes]:
    """A length-delimited field, in pieces: VGG's 105 MB are joined once, at the end."""
    return [varint(number << 3 | 2), varint(sum(map(len, parts))), *parts]


def blob(array: Array, style: Style = Style()) -> list[bytes]:
    if style.legacy_shape:
        dims = (1,) * (4 - array.ndim) + array.shape
        out = [varint(number << 3) + varint(dim) for number, dim in enumerate(dims, start=1)]
    else:
        out = field(7, *field(1, b"".join(varint(dim) for dim in array.shape)))
    flat = np.ascontiguousarray(array).reshape(-1)
    if style.half:
        return [*out, varint(10 << 3) + varint(2), *field(12, flat.astype("<f2").tobytes())]
    number, code, wire = (8, "<f8", 1) if style.doubles else (5, "<f4", 5)
    if style.packed:
        return [*out, *field(number, flat.astype(code, copy=False).tobytes())]
    tag = varint(number << 3 | wire)
    return [*out, *(tag + struct.pack("<d" if style.doubles else "<f", value) for value in flat)]


def caffemodel(weights: Weights | Iterable[tuple[str, Sequence[Array]]], style: Style = Style()) -> bytes:
    """A weight file: layer name to blobs, or pairs where names repeat."""
    out = field(1, b"net")
    for name, arrays in weights.items() if isinstance(weights, Mapping) else weights:
        if style.old:
            layer = [*field(4, name.encode()), varint(5 << 3) + varint(4)]
        else:
            layer = [*field(1, name.encode()), *field(2, b"Any")]
        for array in arrays:
            layer += field(6 if style.old else 7, *blob(array, style))
        out += field(2 if style.old else 100, *layer)
    return b"".join(out)


def import_text(
    text: str, weights: Weights | None = None, *, seed: int | None = None, style: Style = Style(), **options: Any
) -> Detector:
    """Write the files into a folder of their own and import them."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "net.prototxt")
        path.write_text(text, encoding="utf-8")
        if weights:
            path.with_suffix(".caffemodel").write_bytes(caffemodel(weights, style))
        elif seed is None:
            seed = 0
        return load(path, random_weights=seed, **options)


def run(detector: Detector, picture: Array) -> dict[str, Array]:
    """Outputs in ONNX Runtime, after the checks that every imported graph must pass."""
    return runner(detector)(picture)


def runner(detector: Detector) -> Callable[[Array], dict[str, Array]]:
    """Run many pictures in one session, after the checks that every imported graph must pass."""
    model = gs.export_onnx(detector.graph)
    onnx.checker.check_model(model, full_check=True)
    check_shapes(detector)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 2
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in detector.graph.outputs]

    def outputs(picture: Array) -> dict[str, Array]:
        found = dict(zip(names, session.run(names, {detector.input.name: picture}), strict=True))
        for output in detector.graph.outputs:
            assert found[output.name].shape == tuple(output.shape)
        return found

    return outputs


def check_shapes(detector: Detector) -> None:
    """The shapes that the importer states are those that ONNX infers; names are there and unique."""
    graph = detector.graph
    names = [node.name for node in graph.nodes]
    assert len(set(names)) == len(names)
    assert all(names)
    stated = {
        name: (tuple(tensor.shape), np.dtype(tensor.dtype)) for name, tensor in graph.tensors(True).items() if name
    }
    inferred = graph.copy()
    infer_shapes(inferred)
    for name, tensor in inferred.tensors().items():
        if name:
            assert (tuple(tensor.shape), np.dtype(tensor.dtype)) == stated[name], name


def run_opencv(text: str, weights: Weights, picture: Array, layers: Sequence[str]) -> list[Array]:
    """Outputs of layers, by name, in OpenCV's own importer."""
    model = caffemodel(weights or {"none": [np.zeros(1, np.float32)]})
    net = cv2.dnn.readNetFromCaffe(np.frombuffer(text.encode(), np.uint8), np.frombuffer(model, np.uint8))
    net.setPreferableBackend(cv2.dnn.DNN_BACKEND_OPENCV)
    net.enableFusion(False)
    net.enableWinograd(False)
    net.setInput(picture)
    return list(net.forward(list(layers)))


@dataclass(frozen=True, eq=False)
class Case:
    """A network to import, its weights and a picture."""

    text: str
    weights: dict[str, list[Array]]
    picture: Array

    def imported(self) -> list[Array]:
        """Outputs of this project's importer in ONNX Runtime."""
        return list(run(import_text(self.text, self.weights), self.picture).values())

    def opencv(self) -> Array:
        """Output of the layer under test in OpenCV's importer."""
        return run_opencv(self.text, self.weights, self.picture, ["under"])[0]

    def refusal(self) -> ModelError:
        """The error that importing it raises."""
        with pytest.raises(ModelError) as caught:
            import_text(self.text, self.weights)
        return caught.value


def one_layer(
    kind: str,
    params: str = "",
    *,
    shape: tuple[int, int, int, int] = (1, 4, 5, 6),
    blobs: Sequence[tuple[int, ...]] = (),
    seed: int = 0,
    tops: int = 1,
    second: str = "",
    bottoms: Sequence[str] = ("pre",),
) -> Case:
    """A network of one layer, ``under``, behind a 1x1 convolution ``pre`` that gives it a blob of ``shape``.

    Args:
        kind: type of the layer.
        params: text of its parameters.
        shape: of its input.
        blobs: shapes of its parameters.
        seed: of weights and picture.
        tops: number of its outputs: under, under1, under2, ... (OpenCV calls some layers by their top)
        second: text of layers that make more blobs out of ``pre``.
        bottoms: blobs it reads.
    """
    rng = np.random.default_rng(seed)
    text = f"""
    input: "data" input_shape {{ dim: 1 dim: 3 dim: {shape[2]} dim: {shape[3]} }}
    layer {{ name: "pre" type: "Convolution" bottom: "data" top: "pre"
      convolution_param {{ num_output: {shape[1]} kernel_size: 1 }} }}
    {second}
    layer {{ name: "under" type: "{kind}" {" ".join(f'bottom: "{b}"' for b in bottoms)}
      {" ".join(f'top: "under{index or ""}"' for index in range(tops))} {params} }}
    """

    def draw(*dims: int) -> Array:
        return np.asarray(rng.standard_normal(dims), np.float32)

    weights = {"pre": [draw(shape[1], 3, 1, 1) * np.float32(0.6), draw(shape[1]) * np.float32(0.1)]}
    if blobs:
        weights["under"] = [np.asarray(draw(*dims), np.float32) for dims in blobs]
    return Case(text, weights, draw(1, 3, *shape[2:]))


def pre(case: Case) -> Array:
    """What the layer under test reads."""
    kernel, bias = case.weights["pre"]
    return np.einsum("oc,bchw->bohw", kernel[:, :, 0, 0], case.picture) + bias[:, None, None]


def to_text(message: Message, indent: str = "") -> str:
    """A parsed message as text again."""
    lines = []
    for name, value in message.items():
        if isinstance(value, Message):
            lines.append(f"{indent}{name} {{\n{to_text(value, indent + '  ')}{indent}}}\n")
        else:
            lines.append(
                f'{indent}{name}: "{value.text}"\n' if value.kind == "string" else f"{indent}{name}: {value.text}\n"
            )
    return "".join(lines)


class RecordingWeights(SeededWeights):
    """Seeded weights that remember what they gave, in order, as a weight file holds it."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.given: list[tuple[str, list[Array]]] = []

    def blobs(self, layer: LayerDef, wanted: Sequence[Blob]) -> list[Array]:
        arrays = super().blobs(layer, wanted)
        self.given.append((layer.given_name, arrays))
        return arrays


def deployable(definition: Definition, until: str | None = None) -> Definition:
    """The definition up to a layer, without it."""
    names = [layer.name for layer in definition.layers]
    kept = definition.layers[: names.index(until)] if until else definition.layers
    return replace(definition, layers=kept)


def deploy_text(definition: Definition, picture: InputDef) -> str:
    """The definition as every importer reads it: one declared input, no training layers, one phase."""
    dims = " ".join(f"dim: {dim}" for dim in (1, *picture.shape[1:]))
    layers = "".join(f"layer {{\n{to_text(layer.message, '  ')}}}\n" for layer in definition.layers)
    return f'name: "{definition.name}"\ninput: "{picture.blob}" input_shape {{ {dims} }}\n{layers}'


def seeded_files(path: Path, folder: Path, seed: int, until: str | None = None) -> tuple[Path, Path]:
    """Write a definition without training layers and seeded weights for it."""
    definition = deployable(define(prototxt.read(path)[0]), until)
    picture = find_picture(definition)
    weights = RecordingWeights(seed)
    tensor = gs.Variable(picture.blob, dtype=np.float32, shape=[1, *picture.shape[1:]])
    Network(definition, tensor, weights).build()
    text, model = folder / f"{path.stem}.prototxt", folder / f"{path.stem}.caffemodel"
    text.write_text(deploy_text(definition, picture), encoding="utf-8")
    model.write_bytes(caffemodel(weights.given))
    return text, model
