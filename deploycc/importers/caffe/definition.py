"""Extract the layers that run at test time from a network definition, in one form for old and new files."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

from deploycc.errors import ModelError
from deploycc.importers.caffe.prototxt import Message, Scalar

# Types of the old ``layers`` field (caffe.proto, V1LayerParameter.LayerType) and today's names.
_V1_TYPES = {
    "ABSVAL": (35, "AbsVal"), "ACCURACY": (1, "Accuracy"), "ARGMAX": (30, "ArgMax"), "BNLL": (2, "BNLL"),
    "CONCAT": (3, "Concat"), "CONTRASTIVE_LOSS": (37, "ContrastiveLoss"), "CONVOLUTION": (4, "Convolution"),
    "CROP": (40, "Crop"), "DATA": (5, "Data"), "DECONVOLUTION": (39, "Deconvolution"), "DROPOUT": (6, "Dropout"),
    "DUMMY_DATA": (32, "DummyData"), "EUCLIDEAN_LOSS": (7, "EuclideanLoss"), "ELTWISE": (25, "Eltwise"),
    "EXP": (38, "Exp"), "FLATTEN": (8, "Flatten"), "HDF5_DATA": (9, "HDF5Data"), "HDF5_OUTPUT": (10, "HDF5Output"),
    "HINGE_LOSS": (28, "HingeLoss"), "IMAGE_DATA": (12, "ImageData"), "INFOGAIN_LOSS": (13, "InfogainLoss"),
    "INNER_PRODUCT": (14, "InnerProduct"), "LRN": (15, "LRN"), "MEMORY_DATA": (29, "MemoryData"),
    "MULTINOMIAL_LOGISTIC_LOSS": (16, "MultinomialLogisticLoss"), "POOLING": (17, "Pooling"), "POWER": (26, "Power"),
    "PRELU": (None, "PReLU"), "RELU": (18, "ReLU"), "SIGMOID": (19, "Sigmoid"), "SILENCE": (36, "Silence"),
    "SIGMOID_CROSS_ENTROPY_LOSS": (27, "SigmoidCrossEntropyLoss"), "SOFTMAX": (20, "Softmax"),
    "SOFTMAX_LOSS": (21, "SoftmaxWithLoss"), "SPLIT": (22, "Split"), "SLICE": (33, "Slice"), "TANH": (23, "TanH"),
    "THRESHOLD": (31, "Threshold"), "WINDOW_DATA": (24, "WindowData"),
}  # fmt: skip
_DATA_TYPES = frozenset(
    ("Data", "AnnotatedData", "ImageData", "MemoryData", "DummyData", "WindowData", "HDF5Data", "VideoData", "Input")
)
_MEASURING_TYPES = frozenset(("Accuracy", "DetectionEvaluate", "HDF5Output"))


@dataclass(frozen=True, eq=False)
class LayerDef:
    """One layer as defined.

    Attributes:
        name: unique in the network; layers that share a name get ``_1``, ``_2``, ... from the second on.
        given_name: as written, the key of its weights; `occurrence` counts earlier layers of this name.
        type: in current spelling.
        line: in the file.
        bottoms, tops: blobs read and written.
        message: the whole definition.
        shared: names under which parameters are shared with other layers; an empty string if not shared.
    """

    name: str
    given_name: str
    occurrence: int
    type: str
    line: int
    bottoms: tuple[str, ...]
    tops: tuple[str, ...]
    message: Message
    shared: tuple[str, ...] = ()

    def error(self, code: str, message: str, note: str | None = None, hint: str | None = None) -> ModelError:
        """Create an error that gives the layer's position in the file."""
        context = {"file": self.message.file, "layer": self.name, "type": self.type, "line": self.line}
        return ModelError(code, message, context=context, note=note, hint=hint)


@dataclass(frozen=True, eq=False)
class InputDef:
    """A blob that is fed from outside.

    Attributes:
        blob: its name.
        shape: as given, empty if the file does not state it.
        line: in the file.
        transform: ``transform_param`` of the layer that feeds it, or None.
        lent: the transform is that of another layer, which feeds the blob in training.
        stage: the only one that it is fed in when testing, for a blob that is not fed; empty: it is fed in training.
    """

    blob: str
    shape: tuple[int, ...]
    line: int
    transform: Message | None = None
    lent: bool = False
    stage: str = ""


@dataclass(frozen=True, eq=False)
class Definition:
    """A network at test time.

    Attributes:
        file: the file it was read from.
        name: the network's name, may be empty.
        inputs: blobs fed from outside, pictures and labels alike.
        layers: the layers that run, in file order.
        dropped: names of layers for training or evaluation.
        training: blobs that only the training phase, or another stage, feeds.
        stages: chosen because the file states none, and its Input layer runs only in these.
        elsewhere: names of layers that run in other stages only.
    """

    file: str
    name: str
    inputs: tuple[InputDef, ...]
    layers: tuple[LayerDef, ...]
    dropped: tuple[str, ...] = ()
    training: tuple[InputDef, ...] = ()
    stages: tuple[str, ...] = ()
    elsewhere: tuple[str, ...] = ()


def define(root: Message) -> Definition:
    """Convert a parsed file: rename old ``layers``, drop training layers, make names unique.

    Raises:
        ModelError: no layers, wrong input shapes, a format older than V1, an attribute of the wrong type.
    """
    entries = [entry for name, entry in root.items() if name in ("layer", "layers") and isinstance(entry, Message)]
    if not entries:
        raise ModelError(
            "caffe-empty-network",
            "the network definition has no layers",
            context={"file": root.file},
            note="a network is a list of `layer { ... }` (or the older `layers { ... }`)",
        )
    phase_fields = root.message("state")
    stages = set(phase_fields.texts("stage"))
    level = phase_fields.integer("level", 0)
    chosen = [] if stages else _stages_of_input(root, level)
    stages |= set(chosen)
    inputs, kept, dropped = _declared_inputs(root), [], []
    training: list[InputDef] = []
    elsewhere: list[str] = []
    seen: Counter[str] = Counter()
    spare_transform: Message | None = None
    for message in entries:
        layer = _layer(message, seen)
        if layer.type in _DATA_TYPES or (layer.type == "Python" and not layer.bottoms):
            transform = message.message("transform_param") if "transform_param" in message else None
            if not _runs(message, level, stages):
                spare_transform = spare_transform or transform
                training += [replace(fed, stage=_stage_of(message, level)) for fed in _fed_blobs(layer, transform)]
                continue
            inputs += _fed_blobs(layer, transform)
        elif not _runs(message, level, stages):
            if _runs(message, level, None):
                elsewhere.append(layer.name)
            continue
        elif layer.type.endswith("Loss") or layer.type in _MEASURING_TYPES:
            dropped.append(layer.name)
        else:
            kept.append(layer)
        seen[layer.given_name] += 1
    if spare_transform is not None:  # the data layer of the training phase states how pictures are normalised
        inputs = [i if i.transform else replace(i, transform=spare_transform, lent=True) for i in inputs]
    if not kept:
        raise ModelError(
            "caffe-empty-network", "no layer of the network runs at test time", context={"file": root.file}
        )
    name = root.text("name")
    return Definition(
        root.file, name, tuple(inputs), tuple(kept), tuple(dropped), tuple(training), tuple(chosen), tuple(elsewhere)
    )


def _layer(message: Message, seen: Counter[str]) -> LayerDef:
    if message.name == "layers" and "layer" in message:
        raise ModelError(
            "caffe-too-old",
            "the network definition is in Caffe's oldest format (V0)",
            context={"file": message.file, "line": message.line},
            hint="convert it with Caffe's upgrade_net_proto_text",
        )
    given_name = message.text("name") or "unnamed"
    old = message.name == "layers"
    layer_type = _modern_type(message.written("type")) if old else message.text("type")
    if not layer_type:
        raise ModelError(
            "caffe-no-type", f"layer {given_name} has no type", context={"file": message.file, "line": message.line}
        )
    _refuse_empty_names(message, given_name)
    occurrence = seen[given_name]
    shared = tuple(
        value.text("name") if isinstance(value, Message) else value.text
        for name, value in message.items()
        if name == "param"
    )
    return LayerDef(
        name=f"{given_name}_{occurrence}" if occurrence else given_name,
        given_name=given_name,
        occurrence=occurrence,
        type=layer_type,
        line=message.line,
        bottoms=tuple(message.texts("bottom")),
        tops=tuple(message.texts("top")),
        message=message,
        shared=shared,
    )


def _refuse_empty_names(message: Message, layer: str) -> None:
    for name, value in message.items():
        if name in ("bottom", "top") and isinstance(value, Scalar) and not value.text:
            raise ModelError(
                "caffe-empty-name",
                f"a {name} of layer {layer} has an empty name",
                context={"file": message.file, "layer": layer, "line": value.line},
            )


def _modern_type(name: str) -> str:
    for old, (number, modern) in _V1_TYPES.items():
        if name == old or (number is not None and name == str(number)):
            return modern
    return name


def _stages_of_input(root: Message, level: int) -> list[str]:
    """Return the stages that the only Input layers require: DIGITS keeps training and deployment in one file."""
    inputs = [entry for entry in root.messages("layer") if entry.written("type") == "Input"]
    if "input" in root or any(_runs(entry, level, set()) for entry in inputs):
        return []
    rules = [rule for entry in inputs for rule in entry.messages("include") if _meets(rule, level, None)]
    return next((rule.texts("stage") for rule in rules if "stage" in rule), [])


def _stage_of(message: Message, level: int) -> str:
    """Return the stages, joined, in which a layer runs when testing; empty if it runs in none."""
    rules = [rule for rule in message.messages("include") if _meets(rule, level, None)]
    return ", ".join(rules[0].texts("stage")) if rules else ""


def _runs(message: Message, level: int, stages: set[str] | None) -> bool:
    """Return whether a layer runs when testing, in these stages; None: in any stage."""
    include, exclude = message.messages("include"), message.messages("exclude")
    if stages is None:
        exclude = [rule for rule in exclude if "stage" not in rule and "not_stage" not in rule]
    if include:
        return any(_meets(rule, level, stages) for rule in include)
    return not any(_meets(rule, level, stages) for rule in exclude)


def _meets(rule: Message, level: int, stages: set[str] | None) -> bool:
    required, forbidden = set(rule.texts("stage")), set(rule.texts("not_stage"))
    return (
        rule.choice("phase", {"TRAIN": 0, "TEST": 1}, "TEST") == "TEST"
        and rule.integer("min_level", level) <= level <= rule.integer("max_level", level)
        and (stages is None or (required <= stages and not forbidden & stages))
    )


def _declared_inputs(root: Message) -> list[InputDef]:
    names = root.texts("input")
    shapes = [tuple(shape.integers("dim")) for shape in root.messages("input_shape")]
    dims = root.integers("input_dim")
    lines = [value.line for field_name, value in root.items() if field_name == "input"]
    for name, line in zip(names, lines, strict=True):
        if not name:
            raise ModelError(
                "caffe-empty-name", "an input has an empty name", context={"file": root.file, "line": line}
            )
    if dims:
        shapes = [tuple(dims[start : start + 4]) for start in range(0, len(dims), 4)]
    if shapes and (len(shapes) != len(names) or (dims and len(dims) != 4 * len(names))):
        sizes = f"{len(dims)} input_dim" if dims else f"{len(shapes)} input_shape"
        raise ModelError(
            "caffe-input-shape",
            f"{len(names)} inputs, but {sizes}",
            context={"file": root.file, "line": lines[0] if lines else 1},
            note="each input needs four input_dim, or one input_shape",
        )
    return [
        InputDef(name, shape, line) for name, shape, line in zip(names, shapes or [()] * len(names), lines, strict=True)
    ]


def _fed_blobs(layer: LayerDef, transform: Message | None) -> list[InputDef]:
    shapes = _fed_shapes(layer, transform)
    shapes += [()] * (len(layer.tops) - len(shapes))
    return [
        InputDef(top, shape, layer.line, transform if index == 0 else None)
        for index, (top, shape) in enumerate(zip(layer.tops, shapes, strict=False))
    ]


def _fed_shapes(layer: LayerDef, transform: Message | None) -> list[tuple[int, ...]]:
    """Return the shapes of a data layer's tops, as far as its parameters state them; the first is the picture."""
    message = layer.message
    if layer.type in ("Input", "DummyData"):
        param = message.message("input_param" if layer.type == "Input" else "dummy_data_param")
        shapes = [tuple(shape.integers("dim")) for shape in param.messages("shape")]
        old = [param.integers(name) for name in ("num", "channels", "height", "width")]
        shapes = shapes or [tuple(dims) for dims in zip(*old, strict=False)]
        return shapes * len(layer.tops) if len(shapes) == 1 else shapes
    transform = transform or Message(message.file)
    colours = 1 if transform.flag("force_gray") else 3
    if layer.type == "MemoryData":
        param = message.message("memory_data_param")
        return [tuple(param.integer(name, 0) for name in ("batch_size", "channels", "height", "width"))]
    if layer.type == "ImageData":
        param = message.message("image_data_param")
        colours = 3 if param.flag("is_color", True) else 1
        size = (param.integer("new_height", 0), param.integer("new_width", 0))
    else:
        resize = transform.message("resize_param")
        size = (resize.integer("height", 0), resize.integer("width", 0))
    old_params = message.message("data_param") if layer.type == "Data" else Message(message.file)
    crop = transform.integer("crop_size", old_params.integer("crop_size", 0))
    size = (crop, crop) if crop else size
    return [(1, colours, *size)] if all(size) else []
