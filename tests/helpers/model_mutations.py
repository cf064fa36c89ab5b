"""Small Caffe and ONNX models, and mutations of them: bytes, words, attributes and structure."""

from __future__ import annotations

import random
import re
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from caffe_files import SMALL_DETECTOR, import_text, seeded_files
from gated_networks import Spelling, gated
from onnx import AttributeProto, ModelProto, TensorProto, helper, numpy_helper
from small_networks import conv_model, if_model
from ssd_tails import Tail, build, grid_priors

TINY = Path(__file__).resolve().parents[1] / "models" / "tiny_ssd.prototxt"
MORE_LAYERS = """
name: "many" input: "data" input_shape { dim: 1 dim: 3 dim: 24 dim: 32 }
layer { name: "mean" type: "Power" bottom: "data" top: "mean" power_param { power: 1 scale: 0.01 shift: -1.2 } }
layer { name: "c1" type: "Convolution" bottom: "mean" top: "c1"
  convolution_param { num_output: 8 kernel_size: 3 stride: 2 pad: 1 dilation: 1 group: 1 bias_term: false } }
layer { name: "bn" type: "BN" bottom: "c1" top: "c1" bn_param { eps: 0.001 } }
layer { name: "act" type: "HSwish" bottom: "c1" top: "c1" }
layer { name: "two" type: "Slice" bottom: "c1" top: "a" top: "b" slice_param { axis: 1 slice_point: 4 } }
layer { name: "elu" type: "ELU" bottom: "a" top: "a" elu_param { alpha: 0.5 } }
layer { name: "lrn" type: "LRN" bottom: "b" top: "b" lrn_param { local_size: 3 alpha: 0.1 beta: 0.75 k: 1 } }
layer { name: "cat" type: "Concat" bottom: "a" bottom: "b" top: "cat" concat_param { axis: 1 } }
layer { name: "crelu" type: "CReLU" bottom: "cat" top: "wide" }
layer { name: "shuffle" type: "ShuffleChannel" bottom: "wide" top: "mixed" shuffle_channel_param { group: 4 } }
layer { name: "up" type: "Deconvolution" bottom: "mixed" top: "up"
  convolution_param { num_output: 4 kernel_size: 4 stride: 2 pad: 1 } }
layer { name: "interp" type: "Interp" bottom: "up" top: "small" interp_param { height: 12 width: 16 } }
layer { name: "crop" type: "Crop" bottom: "small" bottom: "c1" top: "crop" crop_param { axis: 2 offset: 0 } }
layer { name: "pool" type: "Pooling" bottom: "crop" top: "pool"
  pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 } }
layer { name: "gap" type: "Pooling" bottom: "pool" top: "gap" pooling_param { pool: AVE global_pooling: true } }
layer { name: "fc" type: "InnerProduct" bottom: "gap" top: "fc" inner_product_param { num_output: 4 } }
layer { name: "gate" type: "Sigmoid" bottom: "fc" top: "gate" }
layer { name: "se" type: "Scale" bottom: "pool" bottom: "gate" top: "se" scale_param { axis: 0 } }
layer { name: "mvn" type: "MVN" bottom: "se" top: "mvn" mvn_param { eps: 0.001 } }
layer { name: "tile" type: "Tile" bottom: "mvn" top: "tile" tile_param { axis: 1 tiles: 2 } }
layer { name: "sum" type: "Reduction" bottom: "tile" top: "sum" reduction_param { axis: 2 operation: MEAN } }
layer { name: "soft" type: "Softmax" bottom: "sum" top: "soft" softmax_param { axis: 1 } }
"""
VALUES = (
    *("0", "-1", "1", "2", "3", "7", "64", "1000", "20000", "4294967295", "1099511627776", "-2147483648", "0.5", "1e-30"),
    *("1e30", "3.4e38", "1e39", "-1e30", "nan", "inf", "-inf", "true", "false", "MAX", "TEST", '""', '"data"', '"x"', "{", "}", ""),
)  # fmt: skip
NUMBERS = (0, -1, 1, 2, 3, 7, 255, 1000, 20000, 2**31, 2**40, 2**62, -(2**31), -(2**62))
REALS = (0.0, -1.0, 1e-30, 1e30, 3.4e38, float("nan"), float("inf"), float("-inf"), 1e-45)
OPERATORS = (
    *(
        "Add",
        "Mul",
        "Div",
        "Conv",
        "Relu",
        "Concat",
        "Reshape",
        "Transpose",
        "Softmax",
        "Gemm",
        "MatMul",
        "Slice",
        "Split",
    ),
    *(
        "Resize",
        "MaxPool",
        "AveragePool",
        "BatchNormalization",
        "Exp",
        "Log",
        "Sqrt",
        "Gather",
        "Shape",
        "Cast",
        "Loop",
    ),
    *("If", "NonMaxSuppression", "TopK", "Unknown", "Identity", "Constant", "Expand", "Pad", "ReduceSum", "Clip"),
)


class Mutations:
    """Models by number.

    Args:
        seed: of everything.
        only: ``caffe`` or ``onnx``, or None for both.
    """

    def __init__(self, seed: int, only: str | None) -> None:
        self._seed, self._only = seed, only
        self._definitions = [SMALL_DETECTOR, TINY.read_text(encoding="utf-8"), MORE_LAYERS]
        self._models = [
            conv_model(),
            if_model(),
            gs.export_onnx(gated(Spelling()).graph),
            gs.export_onnx(import_text(SMALL_DETECTOR).graph),
            gs.export_onnx(import_text(MORE_LAYERS).graph),
            _tail(),
        ]

    def write(self, number: int, folder: Path) -> tuple[Path, str]:
        """Write one mutated model; return its file and what was done to it."""
        rng = random.Random(f"{self._seed}/{number}")
        kinds = [kind for kind in KINDS if self._only in (None, kind.split()[0])]
        kind = rng.choice(kinds)
        if kind.startswith("caffe"):
            path = folder / "model.prototxt"
            text = rng.choice(self._definitions)
            if kind == "caffe weights":
                path.write_text(text, encoding="utf-8")
                _, weights = seeded_files(path, folder, seed=0)
                weights.write_bytes(mutated_bytes(weights.read_bytes(), rng, rng.randint(1, 4)))
            elif kind == "caffe bytes":
                path.write_bytes(mutated_bytes(text.encode(), rng, rng.randint(1, 5)))
            else:
                path.write_text(MUTATE_TEXT[kind](text, rng), encoding="utf-8")
            return path, kind
        path = folder / "model.onnx"
        model = ModelProto()
        model.CopyFrom(rng.choice(self._models))
        if kind == "onnx bytes":
            path.write_bytes(mutated_bytes(model.SerializeToString(), rng, rng.randint(1, 4)))
            return path, kind
        for _ in range(rng.randint(1, 3)):
            MUTATE_MODEL[kind](model, rng)
        path.write_bytes(model.SerializeToString())
        return path, kind


def _tail() -> ModelProto:
    centres = grid_priors((2, 3), np.array([[0.3, 0.3], [0.5, 0.2]], np.float32))
    return build(Tail((2, 3), centres, np.full_like(centres, 0.1)))


def mutated_bytes(data: bytes, rng: random.Random, times: int) -> bytes:
    """Flip, delete, repeat or cut bytes."""
    changed = bytearray(data)
    for _ in range(times):
        place, length = rng.randrange(len(changed) or 1), rng.choice((1, 1, 2, 4, 16, 200))
        action = rng.choice(("flip", "random", "delete", "repeat", "cut", "float"))
        if action == "flip" and changed:
            changed[place] ^= 1 << rng.randrange(8)
        elif action == "random":
            changed[place : place + length] = rng.randbytes(length)
        elif action == "delete":
            del changed[place : place + length]
        elif action == "repeat":
            changed[place:place] = changed[place : place + length]
        elif action == "cut" and rng.random() < 0.3:
            del changed[place:]
        elif action == "float":
            changed[place : place + 4] = struct.pack("<f", rng.choice(REALS[:3] + REALS[5:8]))
    return bytes(changed)


def _words(text: str) -> list[str]:
    return re.findall(r'#[^\n]*|"[^"]*"|[\w.+\-]+|\s+|.', text)


def _mutated_values(text: str, rng: random.Random) -> str:
    """Replace values by strange ones, or by those of other places."""
    words = _words(text)
    places = [
        i for i, word in enumerate(words) if re.fullmatch(r'[-+]?[\d.]+(e-?\d+)?|"[^"]*"|true|false|[A-Z_]{3,}', word)
    ]
    for _ in range(rng.randint(1, 3)):
        place = rng.choice(places)
        words[place] = rng.choice((rng.choice(VALUES), words[rng.choice(places)]))
    return "".join(words)


def _mutated_words(text: str, rng: random.Random) -> str:
    """Delete, repeat or exchange words."""
    words = [word for word in _words(text) if not word.startswith("#")]
    for _ in range(rng.randint(1, 4)):
        one, other = rng.randrange(len(words)), rng.randrange(len(words))
        action = rng.choice(("delete", "repeat", "swap"))
        if action == "delete":
            del words[one]
        elif action == "repeat":
            words.insert(other, words[one])
        else:
            words[one], words[other] = words[other], words[one]
    return "".join(words)


def _mutated_layers(text: str, rng: random.Random) -> str:
    """Delete, repeat, move or retype layers, and add fields to them."""
    from deploycc.importers.caffe.layer import EMITTERS

    head, *layers = re.split(r"(?=^layer )", text, flags=re.MULTILINE)
    for _ in range(rng.randint(1, 3)):
        place = rng.randrange(len(layers))
        action = rng.choice(("delete", "repeat", "move", "type", "field", "param"))
        if action == "delete" and len(layers) > 1:
            del layers[place]
        elif action == "repeat":
            layers.insert(rng.randrange(len(layers)), layers[place])
        elif action == "move":
            layers.insert(rng.randrange(len(layers)), layers.pop(place))
        elif action == "type":
            layers[place] = re.sub(r'type: "\w+"', f'type: "{rng.choice(sorted(EMITTERS))}"', layers[place], count=1)
        else:
            emitter = EMITTERS[rng.choice(sorted(EMITTERS))]
            field = f"{rng.choice(sorted(emitter.fields) or ['engine'])}: {rng.choice(VALUES)}"
            inside = f"{rng.choice(emitter.params)} {{ {field} }}" if emitter.params else field
            layers[place] = layers[place].replace("{", "{ " + (inside if action == "param" else field), 1)
    return head + "".join(layers)


def _mutated_attributes(model: ModelProto, rng: random.Random) -> None:
    """Change, delete or retype an attribute."""
    nodes = [node for node in model.graph.node if node.attribute]
    if not nodes:
        return
    node = rng.choice(nodes)
    attribute = rng.choice(list(node.attribute))
    action = rng.choice(("value", "value", "value", "delete", "type", "name", "add"))
    if action == "delete":
        node.attribute.remove(attribute)
    elif action == "name":
        attribute.name = rng.choice(("axis", "pads", "", "x"))
    elif action == "add":
        node.attribute.append(
            helper.make_attribute(rng.choice(("axis", "pads", "auto_pad", "ceil_mode")), rng.choice(NUMBERS[:9]))
        )
    elif action == "type":
        attribute.type = rng.choice(list(AttributeProto.AttributeType.values()))
    elif attribute.ints:
        attribute.ints[rng.randrange(len(attribute.ints))] = rng.choice(NUMBERS)
    elif attribute.type == AttributeProto.INT:
        attribute.i = rng.choice(NUMBERS)
    elif attribute.type == AttributeProto.FLOAT:
        attribute.f = rng.choice(REALS)
    elif attribute.type == AttributeProto.STRING:
        attribute.s = rng.choice((b"", b"SAME_UPPER", b"linear", b"\xff\xfe"))
    elif attribute.HasField("t"):
        _change_tensor(attribute.t, rng)


def _mutated_structure(model: ModelProto, rng: random.Random) -> None:
    """Delete, repeat, rewire or rename nodes, inputs and outputs."""
    graph = model.graph
    action = rng.choice(
        ("delete", "repeat", "rewire", "operator", "empty", "outputs", "input", "domain", "opset", "cycle", "order")
    )
    node = rng.choice(list(graph.node))
    names = [name for other in graph.node for name in (*other.input, *other.output)]
    if action == "delete":
        graph.node.remove(node)
    elif action == "repeat":
        graph.node.append(node)
    elif action in ("rewire", "cycle") and node.input:
        node.input[rng.randrange(len(node.input))] = node.output[0] if action == "cycle" else rng.choice(names)
    elif action == "operator":
        node.op_type = rng.choice(OPERATORS)
    elif action == "empty" and node.input:
        node.input[rng.randrange(len(node.input))] = ""
    elif action == "outputs":
        if rng.random() < 0.5:
            del graph.output[:]
        else:
            graph.output.append(helper.make_tensor_value_info(rng.choice(names), TensorProto.FLOAT, None))
    elif action == "input":
        _change_type(rng.choice(list(graph.input)).type.tensor_type, rng)
    elif action == "domain":
        node.domain = rng.choice(("ai.onnx", "com.microsoft", "x", "ai.onnx.ml"))
    elif action == "opset":
        model.opset_import[0].version = rng.choice((0, 1, 7, 9, 10, 11, 17, 21, 99, 2**40))
    else:
        place = rng.randrange(len(graph.node))
        moved = graph.node[place]
        del graph.node[place]
        graph.node.insert(rng.randrange(len(graph.node) + 1), moved)


def _mutated_tensors(model: ModelProto, rng: random.Random) -> None:
    """Change shape, type or values of an initialiser, or the stated shape of a tensor."""
    tensors = list(model.graph.initializer)
    values = [*model.graph.input, *model.graph.output, *model.graph.value_info]
    if tensors and rng.random() < 0.7:
        _change_tensor(rng.choice(tensors), rng)
    else:
        _change_type(rng.choice(values).type.tensor_type, rng)


def _change_tensor(tensor: TensorProto, rng: random.Random) -> None:
    action = rng.choice(("dims", "type", "value", "value", "empty", "strings", "drop", "reshape"))
    if action == "dims" and tensor.dims:
        tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice(NUMBERS)
    elif action == "type":
        tensor.data_type = rng.choice((0, 1, 2, 6, 7, 8, 9, 10, 11, 16, 99, -1))
    elif action == "value":
        try:
            values = numpy_helper.to_array(tensor).copy()
        except (ValueError, TypeError, KeyError):  # mutated before
            return
        if values.size and values.dtype.kind in "fi":
            values.reshape(-1)[rng.randrange(values.size)] = rng.choice(
                REALS if values.dtype.kind == "f" else NUMBERS[:9]
            )
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    elif action == "empty":
        tensor.raw_data = b""
    elif action == "strings":
        tensor.data_type = TensorProto.STRING
        tensor.string_data.append(b"text")
    elif action == "drop":
        del tensor.dims[:]
    elif tensor.dims:
        tensor.dims.insert(0, 1)


def _change_type(kind: onnx.TypeProto.Tensor, rng: random.Random) -> None:
    action = rng.choice(("dim", "type", "name", "rank", "clear"))
    dims = kind.shape.dim
    if action == "dim" and dims:
        dims[rng.randrange(len(dims))].dim_value = rng.choice(NUMBERS)
    elif action == "type":
        kind.elem_type = rng.choice((0, 1, 2, 7, 9, 10, 99))
    elif action == "name" and dims:
        dims[rng.randrange(len(dims))].dim_param = rng.choice(("n", "", "batch"))
    elif action == "rank":
        dims.add().dim_value = rng.choice(NUMBERS[:6])
    else:
        kind.ClearField("shape")


MUTATE_TEXT: dict[str, Callable[[str, random.Random], str]] = {
    "caffe values": _mutated_values,
    "caffe words": _mutated_words,
    "caffe layers": _mutated_layers,
}
MUTATE_MODEL: dict[str, Callable[[ModelProto, random.Random], None]] = {
    "onnx attributes": _mutated_attributes,
    "onnx structure": _mutated_structure,
    "onnx tensors": _mutated_tensors,
}
KINDS = ("caffe values", "caffe values", "caffe words", "caffe layers", "caffe bytes", "caffe weights", "onnx bytes",
         *MUTATE_MODEL, *MUTATE_MODEL)  # fmt: skip
