"""Import a Caffe detector: the steps of this package in order."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx_graphsurgeon as gs

from deploycc.detector import Colour, Detector, Nms, Source
from deploycc.errors import ModelError, Note
from deploycc.files import path_text
from deploycc.importers.caffe import (  # noqa: F401 - the layer modules register their emitters
    detection,
    layers_activation,
    layers_affine,
    layers_combine,
    layers_convolution,
    layers_pooling,
    layers_resize,
    layers_shape,
    priors,
    prototxt,
)
from deploycc.importers.caffe.definition import define
from deploycc.importers.caffe.input_spec import describe_input, find_picture, subtracts_mean
from deploycc.importers.caffe.network import Network
from deploycc.importers.caffe.random_weights import SeededWeights
from deploycc.importers.caffe.weights import TrainedWeights


def load(
    path: Path,
    weights: Path | None = None,
    *,
    random_weights: int | None = None,
    mean: float | Sequence[float] | None = None,
    scale: float | Sequence[float] | None = None,
    colour: Colour | None = None,
) -> Detector:
    """Import a Caffe detector.

    Args:
        path: network definition, or a ``.caffemodel`` beside a definition of the same name.
        weights: trained weights; default: the definition's name with ``.caffemodel``.
        random_weights: seed for random weights instead of trained ones.
        mean: subtracted from pixels, one value or one per channel, in the tensor's channel order; default: the
            definition's ``transform_param``, otherwise SSD's usual values with a note.
        scale: factor applied after that, in the same form.
        colour: channel order; default: BGR, as Caffe reads pictures.

    Returns:
        The detector, its graph in opset 13 with static shapes and batch 1. With a DetectionOutput layer the graph's
        outputs are that layer's first two inputs; without one they are the blobs that no layer reads, and the
        detector has no heads.

    Raises:
        ModelError: a file is missing or broken, the network is not supported, or definition and weights do not match.
    """
    if path.suffix == ".caffemodel":
        weights, path = weights or path, path.with_suffix(".prototxt")
    if weights is not None and random_weights is not None:
        raise ModelError(
            "caffe-two-weights",
            f"weights can come from {weights.name} or from a seed, but not from both",
            context={"file": path},
            hint="omit `weights` or `random_weights`",
        )
    root, text = prototxt.read(path)
    definition = define(root)
    picture = find_picture(definition)
    first = subtracts_mean(definition, picture)
    spec, notes = describe_input(picture, definition.file, first, _values(mean), _values(scale), colour)
    trained = None if random_weights is not None else TrainedWeights(_weight_file(path, weights))
    tensor = gs.Variable(picture.blob, dtype=np.float32, shape=list(spec.shape))
    network = Network(definition, tensor, trained or SeededWeights(random_weights or 0))
    graph = network.build()
    graph.name = definition.name or path_text(path.stem)
    if definition.dropped:
        names = ", ".join(definition.dropped)
        notes.append(Note("", "caffe-training-layers", f"layers for training or evaluation are dropped: {names}"))
    if definition.stages:
        reason = f"the Input layer runs only in the stage {', '.join(definition.stages)}, which is chosen"
        notes.append(Note("", "caffe-stage", reason))
    if definition.elsewhere:
        reason = f"layers that run only in other stages are dropped: {_listed(definition.elsewhere)}"
        notes.append(Note("", "caffe-stage", reason))
    unused = trained.unused() if trained is not None else []
    if unused:
        reason = f"the weight file has weights that the definition does not use, of {_listed(unused)}"
        notes.append(Note("", "caffe-unused-weights", reason))
    decoding = network.decoding
    if decoding is None:
        outputs = ", ".join(output.name for output in graph.outputs)
        notes.append(
            Note(
                "",
                "caffe-no-detection-output",
                f"the network has no DetectionOutput layer, so boxes are not decoded; its outputs are {outputs}",
            )
        )
    digest = hashlib.sha256(text)
    alone = [digest.hexdigest(), *([hashlib.sha256(trained.data).hexdigest()] if trained else [])]
    digest.update(trained.data if trained else f"seed:{random_weights}".encode())
    files = (path_text(path), *([path_text(_weight_file(path, weights))] if trained else []))
    return Detector(
        graph=graph,
        input=spec,
        source=Source(files, digest.hexdigest(), "caffe", random_weights, tuple(alone)),
        heads=decoding.heads if decoding else None,
        nms=decoding.nms if decoding else Nms(),
        notes=(*notes, *network.notes),
    )


def _listed(names: Sequence[str], most: int = 8) -> str:
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")


def _values(values: float | Sequence[float] | None) -> Sequence[float] | None:
    return (float(values),) if isinstance(values, int | float) else values


def _weight_file(definition: Path, weights: Path | None) -> Path:
    if weights is not None:
        return weights
    beside = definition.with_suffix(".caffemodel")
    if not beside.exists():
        raise ModelError(
            "caffe-no-weights",
            f"there are no weights beside the definition: {beside.name} does not exist",
            context={"file": definition},
            hint="give a file with `weights=FILE`, or random weights with `random_weights=SEED`",
        )
    return beside
