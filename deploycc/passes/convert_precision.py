"""Converting a network to FP16 types, for builders that take the precision from the network."""

from __future__ import annotations

import difflib
from collections import Counter

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from deploycc.detector import Detector
from deploycc.errors import ModelError, Note
from deploycc.graph.edit import FreshNames, producer, redirect_readers
from deploycc.graph.half import Kept, all_nodes, formal, is_fp32, keep_in_fp32, schema_of, takes_half
from deploycc.graph.shapes import infer_shapes
from deploycc.passes.options import Options
from deploycc.passes.runner import Result


def convert_precision(detector: Detector, options: Options) -> Result:
    """Convert weights and activations to FP16 if ``options.precision`` is fp16 and the network carries the type.

    Graph inputs and outputs stay FP32 with one Cast each, so that no caller needs a half type. Nodes in
    ``options.keep_fp32`` and those of `deploycc.graph.half.keep_in_fp32` stay FP32. Neighbouring FP32 nodes have no
    Cast between them, and a tensor is cast once for all its readers. Integers are not converted. If the builder takes
    the precision as a flag instead (``typed`` is False), the names are checked, and constants outside the range are
    noted: which layers become FP16 is the builder's choice.

    Before: ``c = Conv(x, W, b); y = Relu(c)``                        all float32
    After:  ``h = Cast(x); c = Conv(h, W', b'); r = Relu(c); y = Cast(r)``   x, y float32, the rest float16

    Raises:
        ModelError: ``unknown-node``: a name in ``options.keep_fp32`` is not a node of the network.
    """
    graph = detector.graph
    _check_names(graph, options.keep_fp32)
    if options.precision != "fp16":
        return Result(detector, changed=False)
    if not options.typed:
        return Result(detector, changed=False, notes=_flag_notes(graph, options.keep_fp32))
    infer_shapes(graph)
    kept = keep_in_fp32(graph, options.keep_fp32)
    notes = _kept_notes(kept)
    typing = _Typing(graph, kept)
    typing.apply()
    notes += typing.lost_weights()
    graph.cleanup().toposort()
    reason = "graph inputs and outputs stay float32, each with a Cast, so that no caller needs a half type"
    return Result(detector, changed=True, notes=(Note("", "fp16-borders", reason), *notes))


def _check_names(graph: gs.Graph, names: frozenset[str]) -> None:
    known = sorted({node.name for node in all_nodes(graph) if node.name})
    for name in sorted(names):
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            raise ModelError(
                "unknown-node",
                f"no node is named '{name}', so it cannot be kept in FP32",
                context={"network": graph.name or "network"},
                note="nodes are named after folding, which removes BatchNorm, Scale and Dropout layers",
                hint=f"did you mean '{close[0]}'?" if close else "`deploycc inspect MODEL --layers` lists them",
            )


def _flag_notes(graph: gs.Graph, asked: frozenset[str]) -> tuple[Note, ...]:
    overflowing = [kept for kept in keep_in_fp32(graph, asked).values() if kept.reason == "overflow"]
    return tuple(
        Note(
            kept.node.name,
            "fp16-flag-overflow",
            f"{kept.node.op} has constants outside the FP16 range ({kept.detail}): where the builder chooses FP16 for "
            f"it, they become infinite; `keep_fp32={kept.node.name}` keeps it out, where the builder can be told",
        )
        for kept in overflowing
    )


def _kept_notes(kept: dict[int, Kept]) -> list[Note]:
    notes = []
    for kept_node in kept.values():
        touches_float = any(is_fp32(t) for t in [*kept_node.node.inputs, *kept_node.node.outputs])
        note = _kept_note(kept_node) if touches_float else None
        if note is not None:
            notes.append(note)
    decoding = [kept_node.node.name for kept_node in kept.values() if kept_node.reason == "decoding"]
    if decoding:
        reason = f"{len(decoding)} nodes of box decoding and suppression stay FP32: coordinates need more than 11 bits"
        notes.append(Note(decoding[0], "fp32-decoding", reason))
    return notes


def _kept_note(kept: Kept) -> Note | None:
    """Make a note why a node stays FP32; None if the user asked for it, or if one note covers many nodes."""
    name, op = kept.node.name, kept.node.op
    detail = f" ({kept.detail})" if kept.detail else ""
    match kept.reason:
        case "no-half":
            return Note(name, "fp32-no-half", f"{op} has no FP16 form{detail}")
        case "sum-of-squares":
            fact = "activations near 200 over 512 channels exceed the FP16 range of 65504"
            return Note(name, "fp32-sum-of-squares", f"{op} sums squares: {fact}{detail}")
        case "overflow":
            return Note(name, "fp32-overflow", f"{op} has constants outside the FP16 range{detail}")
        case "underflow":
            return Note(name, "fp32-underflow", f"{op} has constants that FP16 rounds to zero{detail}")
        case _:
            return None


class _Typing:
    """Gives every tensor its new type and adds a Cast wherever a node needs another type."""

    def __init__(self, graph: gs.Graph, kept: dict[int, Kept]) -> None:
        self._graph = graph
        self._kept = kept
        self._casts: dict[tuple[int, int, str], gs.Variable] = {}
        self._constants: dict[int, gs.Constant] = {}
        self._lost: Counter[str] = Counter()
        self._total = 0
        self._names = FreshNames(graph)
        tensors = [tensor for node in all_nodes(graph) for tensor in [*node.inputs, *node.outputs]]
        self._were_fp32 = {id(tensor): tensor for tensor in tensors if is_fp32(tensor)}

    def apply(self) -> None:
        """Retype results, then operands, then restore the network's outputs."""
        for node in all_nodes(self._graph):
            for index, tensor in enumerate(node.outputs):
                if id(tensor) in self._were_fp32 and self._takes_half(node, index, output=True):
                    tensor.dtype = np.dtype(np.float16)
                    if node.op == "Cast":
                        node.attrs["to"] = onnx.TensorProto.FLOAT16
        self._operands(self._graph)
        for output in self._graph.outputs:
            if id(output) in self._were_fp32 and output.dtype == np.float16:
                self._restore(output)

    def lost_weights(self) -> list[Note]:
        """Return a note with the number of non-zero constants that FP16 rounds to zero, if there are any."""
        count = self._lost.total()
        if not count:
            return []
        worst, most = self._lost.most_common(1)[0]
        reason = f"{count} of {self._total} constants, below 2**-25, become zero in FP16; most in {worst} ({most})"
        return [Note("", "fp16-lost-weights", reason)]

    def _takes_half(self, node: gs.Node, index: int, *, output: bool = False) -> bool:
        if id(node) in self._kept:
            return False
        schema = schema_of(node, self._graph.opset)
        if schema is None or (node.op == "Resize" and not output and index > 0):
            return False  # the region and the scales of a Resize are not activations
        return takes_half(formal(list(schema.outputs if output else schema.inputs), index))

    def _operands(self, graph: gs.Graph) -> None:
        for node in list(graph.nodes):
            for index, tensor in enumerate(node.inputs):
                if id(tensor) not in self._were_fp32:
                    continue
                half = self._takes_half(node, index)
                if isinstance(tensor, gs.Constant):
                    if half:
                        node.inputs[index] = self._half_constant(tensor)
                else:
                    node.inputs[index] = self._as(graph, tensor, np.dtype(np.float16 if half else np.float32))
            for subgraph in node.subgraphs():
                self._operands(subgraph)
                for index, result in enumerate(subgraph.outputs):
                    if node.op == "If" and id(result) in self._were_fp32:
                        subgraph.outputs[index] = self._as(subgraph, result, np.dtype(node.outputs[index].dtype))

    def _half_constant(self, constant: gs.Constant) -> gs.Constant:
        if id(constant) not in self._constants:
            with np.errstate(over="ignore"):  # the bounds of a Clip; other constants were checked
                values = np.asarray(constant.values).astype(np.float16)
            name = self._names.take(f"{constant.name}_fp16")
            self._constants[id(constant)] = gs.Constant(name, values)
            self._total += values.size
            self._lost[constant.name] = int(np.count_nonzero(constant.values) - np.count_nonzero(values))
        return self._constants[id(constant)]

    def _as(self, graph: gs.Graph, tensor: gs.Variable, dtype: np.dtype[np.generic]) -> gs.Variable:
        if tensor.dtype == dtype:
            return tensor
        key = (id(graph), id(tensor), dtype.name)
        if key not in self._casts:
            suffix = "fp16" if dtype == np.float16 else "fp32"
            name = self._names.take(f"{tensor.name}_{suffix}")
            cast = gs.Variable(name, dtype=dtype, shape=tensor.shape)
            to = onnx.helper.np_dtype_to_tensor_dtype(dtype)
            graph.nodes.append(gs.Node("Cast", f"{name}_cast", {"to": to}, [tensor], [cast]))
            self._casts[key] = cast
        return self._casts[key]

    def _restore(self, output: gs.Variable) -> None:
        """Make an output float32 again: its writer writes a half tensor, and a Cast follows."""
        writer = producer(output)
        if writer is None:
            return
        name = self._names.take(f"{output.name}_fp16")
        half = gs.Variable(name, dtype=np.dtype(np.float16), shape=output.shape)
        index = next(i for i, tensor in enumerate(writer.outputs) if tensor is output)
        writer.outputs[index] = half
        redirect_readers(output, half)
        if cast := self._casts.get((id(self._graph), id(output), "float32")):
            redirect_readers(cast, output)  # FP32 readers share the Cast of the output
        output.dtype = np.dtype(np.float32)
        attrs = {"to": onnx.TensorProto.FLOAT}
        self._graph.nodes.append(gs.Node("Cast", f"{output.name}_cast", attrs, [half], [output]))
