"""Build the graph layer by layer, then select its outputs."""

from __future__ import annotations

import difflib

import onnx_graphsurgeon as gs

from deploycc.errors import ModelError, Note
from deploycc.importers.caffe.definition import Definition, LayerDef
from deploycc.importers.caffe.layer import EMITTERS, MANY, Decoding, Emitted, Emitter, Layer
from deploycc.importers.caffe.magnitude import Magnitudes
from deploycc.importers.caffe.parameters import parameters, unknown_attribute
from deploycc.importers.caffe.typos import meant
from deploycc.importers.caffe.weights import WeightSource

OPSET, IR = 13, 7


class Network:
    """A graph under construction.

    Args:
        definition: the layers.
        picture: the graph's input.
        weights: gives the layers their parameters.

    Attributes:
        blobs: current tensor of each blob name; an in-place layer replaces it.
        magnitudes: estimated magnitudes of values, for random weights.
        decoding: set by DetectionOutput.
        batch: as the definition states it; the graph's batch is 1.
        notes: decisions made while building.
    """

    def __init__(self, definition: Definition, picture: gs.Variable, weights: WeightSource) -> None:
        self.definition = definition
        self.picture = picture
        self.weights = weights
        self.blobs: dict[str, gs.Tensor] = {picture.name: picture}
        self.magnitudes = Magnitudes(picture)
        self.decoding: Decoding | None = None
        self.batch = next((fed.shape[0] for fed in definition.inputs if fed.blob == picture.name and fed.shape), 1)
        self._parameters = 0
        self.notes: list[Note] = []
        self._nodes: list[gs.Node] = []
        self._names = {picture.name}
        self._node_names: set[str] = set()
        self._unread: dict[str, None] = {}  # blobs that no layer has read yet, in order

    def build(self) -> gs.Graph:
        """Turn every layer into nodes and return the graph, with its outputs and without dead nodes.

        Raises:
            ModelError: a layer cannot be imported.
        """
        self._check_types()
        for layer in self.definition.layers:
            self._add(layer)
        outputs = self._outputs()
        graph = gs.Graph(
            nodes=self._nodes,
            inputs=[self.picture],
            outputs=outputs,
            name=self.definition.name or "network",
            opset=OPSET,
            ir_version=IR,
            producer_name="deploycc",
        )
        graph.cleanup(remove_unused_graph_inputs=False)
        if not self.picture.outputs:
            raise ModelError(
                "caffe-unused-input",
                f"no output depends on the picture {self.picture.name}",
                context={"file": self.definition.file},
            )
        return graph

    def unique(self, name: str) -> str:
        """Reserve and return the name, with a number appended if it is already taken."""
        return _unique(name, self._names)

    def add_parameters(self, count: int) -> int:
        """Count the parameters of one more layer, and return the number of all so far."""
        self._parameters += count
        return self._parameters

    def _check_types(self) -> None:
        unknown = [layer for layer in self.definition.layers if layer.type not in EMITTERS]
        if not unknown:
            return
        first, *rest = unknown
        near = meant(first.type, EMITTERS)
        others = ", ".join(f"{layer.name} ({layer.type}, line {layer.line})" for layer in rest[:8])
        raise first.error(
            "caffe-unknown-layer",
            f"layer {first.name} has the type {first.type}, which is not supported",
            note=f"nor are {others}" + (f" and {len(rest) - 8} more" if len(rest) > 8 else "") if rest else None,
            hint=f"did you mean {near}?"
            if near
            else "remove this layer and all that follow from the definition to cut the network before it",
        )

    def _add(self, definition: LayerDef) -> None:
        emitter = EMITTERS[definition.type]
        self._check_counts(definition, emitter)
        param = parameters(definition, emitter)
        inputs = [self._bottom(definition, blob) for blob in definition.bottoms]
        layer = Layer(definition, inputs, param, self)
        try:
            outputs = emitter.emit(layer)
        except ModelError as error:  # the getters of `Message` know the line, but not the layer
            if "layer" not in error.context:
                error.context |= {"layer": definition.name, "type": definition.type}
            raise
        if emitter.params and (unread := param.unread()):
            raise unknown_attribute(definition, param, *unread[0])
        self._name_nodes(layer)
        for blob in definition.bottoms:
            self._unread.pop(blob, None)
        self._bind_tops(layer, outputs)

    def _check_counts(self, layer: LayerDef, emitter: Emitter) -> None:
        for what, count, (low, high) in (
            ("bottom", len(layer.bottoms), emitter.bottoms),
            ("top", len(layer.tops), emitter.tops),
        ):
            if not low <= count <= high:
                allowed = str(low) if low == high else f"{low} or more" if high == MANY else f"{low} to {high}"
                plural = "" if allowed == "1" else "s"
                raise layer.error("caffe-wrong-count", f"{layer.type} takes {allowed} {what}{plural}, but has {count}")

    def _bottom(self, layer: LayerDef, blob: str) -> gs.Tensor:
        tensor = self.blobs.get(blob)
        if tensor is None:
            raise self._unknown_bottom(layer, blob)
        if self._is_detection(tensor) and layer.type != "Silence":
            raise layer.error("caffe-unsupported-layer", f"layer {layer.name} reads the detections")
        return tensor

    def _is_detection(self, tensor: gs.Tensor) -> bool:
        return self.decoding is not None and any(tensor is top for top in self.decoding.tops)

    def _unknown_bottom(self, layer: LayerDef, blob: str) -> ModelError:
        message = f"layer {layer.name} reads blob {blob}, which no earlier layer produces"
        if any(blob == fed.blob for fed in self.definition.inputs):
            return layer.error(
                "caffe-several-inputs",
                f"layer {layer.name} reads the input {blob} in addition to the picture {self.picture.name}",
                note="a detector has one input, the picture",
            )
        later = next((candidate for candidate in self.definition.layers if blob in candidate.tops), None)
        if later is None:
            near = difflib.get_close_matches(blob, self.blobs, n=1)
            return layer.error("caffe-unknown-blob", message, hint=f"did you mean {near[0]}?" if near else None)
        chain = self._chain(layer, later)
        if chain:
            return layer.error("caffe-cycle", f"the layers form a cycle: {' -> '.join(chain)}")
        return layer.error(
            "caffe-unknown-blob",
            message,
            note=f"layer {later.name} in line {later.line} produces it, but Caffe runs layers in file order",
        )

    def _chain(self, start: LayerDef, goal: LayerDef) -> list[str]:
        """Return the layers on a path from ``start`` to ``goal`` and back to the start, or nothing."""
        came_from: dict[LayerDef, LayerDef | None] = {start: None}
        queue = [start]
        for layer in queue:
            if layer is goal:
                names: list[str] = []
                step: LayerDef | None = layer
                while step is not None:
                    names.append(step.name)
                    step = came_from[step]
                return [*reversed(names), start.name]
            for reader in self.definition.layers:
                if reader not in came_from and set(reader.bottoms) & set(layer.tops):
                    came_from[reader] = layer
                    queue.append(reader)
        return []

    def _name_nodes(self, layer: Layer) -> None:
        for node in layer.nodes:
            name = layer.definition.name if len(layer.nodes) == 1 else f"{layer.definition.name}/{node.name}"
            node.name = _unique(name, self._node_names)
            self.magnitudes.follow(node)
        self._nodes += layer.nodes

    def _bind_tops(self, layer: Layer, outputs: Emitted) -> None:
        definition = layer.definition
        made = {id(tensor) for node in layer.nodes for tensor in node.outputs}
        for top, tensor in zip(definition.tops, outputs, strict=True):
            in_place = top in definition.bottoms
            if top in self.blobs and not in_place:
                raise definition.error(
                    "caffe-duplicate-blob",
                    f"layer {definition.name} writes blob {top}, which an earlier layer already writes",
                )
            if id(tensor) in made:
                self._names.discard(tensor.name)
                tensor.name = self.unique(definition.name if in_place else top)
                made.discard(id(tensor))
            self.blobs[top] = tensor
            self._unread[top] = None

    def _outputs(self) -> list[gs.Variable]:
        if self.decoding is not None:
            outputs = [self.decoding.locations, self.decoding.scores]
            dropped = [b for b in self._unread if b not in outputs and not self._is_detection(self.blobs[b])]
            for blob in dropped:
                self.notes.append(
                    Note(blob, "caffe-output-dropped", "no layer reads this blob; only the detection heads are outputs")
                )
        else:
            outputs = [blob for blob in self._unread if isinstance(self.blobs[blob], gs.Variable)]
            for blob in self._unread:
                if blob not in outputs:
                    self.notes.append(Note(blob, "caffe-output-dropped", "a constant blob cannot be an output"))
        if not outputs:
            raise ModelError("caffe-no-output", "the network has no output", context={"file": self.definition.file})
        return [self._output(blob, outputs) for blob in outputs]

    def _output(self, blob: str, outputs: list[str]) -> gs.Variable:
        """Return the blob's tensor under the blob's name, even if an in-place layer or an alias changed it."""
        tensor = self.blobs[blob]
        shared = [other for other in outputs if self.blobs[other] is tensor]
        if tensor is self.picture or isinstance(tensor, gs.Constant) or shared[0] != blob:
            copy = gs.Variable(blob, dtype=tensor.dtype, shape=tensor.shape)
            self._free(blob)
            name = _unique(f"{blob}/copy", self._node_names)
            self._nodes.append(gs.Node("Identity", name=name, inputs=[tensor], outputs=[copy]))
            return copy
        if tensor.name != blob:
            self._free(blob)
            tensor.name = blob
        return tensor

    def _free(self, name: str) -> None:
        """Rename another tensor that has this name."""
        for node in self._nodes:
            for tensor in (*node.inputs, *node.outputs):
                if tensor.name == name and tensor is not self.picture:
                    tensor.name = self.unique(f"{name}/{node.name}" if "/" not in node.name else node.name)
        self._names.add(name)


def _unique(name: str, taken: set[str]) -> str:
    candidate, number = name, 0
    while candidate in taken:
        number += 1
        candidate = f"{name}_{number}"
    taken.add(candidate)
    return candidate
