"""What a target's parser accepts: operators, opset and types.

`refusals` names every node that the parser, or the builder after it, would refuse, with the first release that accepts
it. Operators and plugins by release are in ``tensorrt_ops.toml``, restrictions in `tensorrt_rules` and `caffe_rules`.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from deploycc.parsers import caffe_rules, tensorrt_rules
from deploycc.parsers.limits import Limit
from deploycc.parsers.tensorrt_releases import LATEST, PARSERS, Version, dotted, first_with, numbers
from deploycc.parsers.tensorrt_rules import Scope

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Parser = Literal["onnxruntime", "tensorrt-rtx", "tensorrt-onnx", "tensorrt-caffe"]
_ONNX_DOMAINS = ("", "ai.onnx")
_SOURCES: dict[Parser, str] = {
    "onnxruntime": "operator schemas of ONNX",
    "tensorrt-rtx": "docs/operators.md of onnx-tensorrt",  # the parser that TensorRT-RTX shares
    "tensorrt-onnx": "docs/operators.md of onnx-tensorrt",
    "tensorrt-caffe": "caffe.proto",
}
_IR_SOURCE = "the onnx release of that parser"
_IMPORTERS = "builtin_op_importers.cpp of onnx-tensorrt"
_PLUGINS = "plugin/ of NVIDIA/TensorRT"


@dataclass(frozen=True)
class Contract:
    """The parser that will read the network.

    Attributes:
        parser: ``onnxruntime``, ``tensorrt-rtx``, ``tensorrt-onnx`` or ``tensorrt-caffe``.
        version: TensorRT version as numbers, ``(8, 2, 1)``; empty if the runtime is not TensorRT, or if its version is
            known only on the device (then the oldest release is assumed).
        max_opset, max_ir: newest operator set and IR version that the network may use.
        int64: whether the network may hold INT64 tensors.
    """

    parser: Parser
    version: tuple[int, ...] = ()
    max_opset: int = 21
    max_ir: int = 10
    int64: bool = True


@dataclass(frozen=True)
class Refusal:
    """A node that the parser does not accept.

    Attributes:
        node: its name; the tensor's name for a graph input or output; empty for the whole network.
        op: its operator; ``input``, ``output``, ``opset`` or ``ir`` if the cause is not a node.
        reason: one sentence.
        first_release: first TensorRT that accepts it, ``8.5``; None if none does or the parser is not TensorRT's.
        source: the document or source file that states it.
    """

    node: str
    op: str
    reason: str
    first_release: str | None = None
    source: str = ""


def refusals(graph: gs.Graph, contract: Contract) -> list[Refusal]:
    """Return everything in a graph that a parser would refuse, subgraphs included, in graph order, each thing once.

    An unknown shape or type is not refused, except by writers that must state it; infer shapes first.
    """
    local = {function.name for function in getattr(graph, "functions", None) or ()}
    refused = list(_whole_network(graph, contract))
    opset = min(graph.opset or contract.max_opset, contract.max_opset)
    for node in _all_nodes(graph):
        refused += [
            _refusal(node.name or _first_output(node), node.op, limit, contract)
            for limit in _node_limits(node, contract, opset, local)
        ]
    return list(dict.fromkeys(refused))


def unproven(graph: gs.Graph, contract: Contract) -> str | None:
    """Return what the parser is expected to accept although no source confirms it; None if there is nothing."""
    return caffe_rules.unproven(graph.nodes) if contract.parser == "tensorrt-caffe" else None


def _refusal(name: str, op: str, limit: Limit, contract: Contract) -> Refusal:
    return Refusal(name, op, limit.reason, limit.first_release, limit.source or _SOURCES[contract.parser])


def _all_nodes(graph: gs.Graph) -> Iterator[gs.Node]:
    for node in graph.nodes:
        yield node
        for value in node.attrs.values():
            if isinstance(value, gs.Graph):
                yield from _all_nodes(value)


def _first_output(node: gs.Node) -> str:
    return next((output.name for output in node.outputs if output.name), "")


def _whole_network(graph: gs.Graph, contract: Contract) -> Iterator[Refusal]:
    caffe = contract.parser == "tensorrt-caffe"
    tensorrt = contract.parser == "tensorrt-onnx"
    if graph.opset and graph.opset > contract.max_opset and not caffe:
        first = first_with(opset=graph.opset) if tensorrt else None
        limit = Limit(f"opset {graph.opset}: the parser supports up to {contract.max_opset}", first)
        yield _refusal("", "opset", limit, contract)
    ir = getattr(graph, "ir_version", None)
    if ir and ir > contract.max_ir and not caffe:
        first = first_with(ir=ir) if tensorrt else None
        limit = Limit(f"IR version {ir}: the parser was built with {contract.max_ir}", first, _IR_SOURCE)
        yield _refusal("", "ir", limit, contract)
    if contract.parser == "onnxruntime":
        return
    for tensor in graph.inputs:
        if tensor.shape is not None and not all(isinstance(dim, int) and dim >= 0 for dim in tensor.shape):
            yield Refusal(
                tensor.name,
                "input",
                f"its shape {list(tensor.shape)} is dynamic, which needs an optimisation profile; build plans have"
                " none: fix the shape",
                source="plan.json of this compiler",
            )
    for kind, tensors in (("input", graph.inputs), ("output", graph.outputs)):
        for tensor in tensors:
            wrong_type = _binding_type(tensor, contract)
            if wrong_type is not None:
                yield _refusal(tensor.name, kind, wrong_type, contract)


def _binding_type(tensor: gs.Tensor, contract: Contract) -> Limit | None:
    kind = _type_of(tensor.dtype)
    if kind is None:
        return None
    if contract.parser == "tensorrt-caffe":
        return None if kind == "FLOAT" else Limit(f"it is {kind}; Caffe's blobs are FP32")
    if kind == "INT64" and not contract.int64:
        return Limit("it is INT64; before 9.0 the parser casts it to INT32, so the engine's binding differs", "9.0")
    return _type_limit(kind, contract)


def _node_limits(node: gs.Node, contract: Contract, opset: int, local: set[str]) -> Iterator[Limit]:
    if contract.parser == "onnxruntime":
        yield from _onnxruntime(node, opset, local)
    elif contract.parser == "tensorrt-caffe":
        yield from caffe_rules.limits(node)
    else:
        yield from _tensorrt(node, contract, opset, local)


def _onnxruntime(node: gs.Node, opset: int, local: set[str]) -> Iterator[Limit]:
    domain = node.domain or ""
    if node.op in local or domain == "com.microsoft":  # ONNX Runtime's own operators have no public schema here
        return
    if domain not in (*_ONNX_DOMAINS, "ai.onnx.ml"):
        yield Limit(f"its domain '{domain}' is not known to ONNX Runtime")
    elif not onnx.defs.has(node.op, "" if domain in _ONNX_DOMAINS else domain):
        yield Limit(f"ONNX has no operator {node.op}")
    elif domain in _ONNX_DOMAINS and not _exists_at(node.op, opset):
        yield Limit(f"{node.op} does not exist in opset {opset}")


def _exists_at(op: str, opset: int) -> bool:
    try:
        return not onnx.defs.get_schema(op, opset).deprecated
    except onnx.defs.SchemaError:
        return False


def _tensorrt(node: gs.Node, contract: Contract, opset: int, local: set[str]) -> Iterator[Limit]:
    rtx = contract.parser == "tensorrt-rtx"
    version: Version = LATEST if rtx else contract.version or PARSERS[0].since
    unknown = _rtx_operator(node, local) if rtx else _operator(node, version, local)
    if unknown is not None:
        yield unknown
        return
    for limit in tensorrt_rules.limits(node, Scope(version, opset, rtx=rtx)):
        yield replace(limit, first_release=None) if rtx else limit
    yield from _types(node, contract)


def has_operator(op: str, contract: Contract) -> bool:
    """Return whether the release of TensorRT's ONNX parser imports an operator; other parsers are not asked."""
    first = _first_release().get(op)
    if contract.parser != "tensorrt-onnx" or first is None:
        return True
    return (contract.version or PARSERS[0].since) >= numbers(first)


def _operator(node: gs.Node, version: Version, local: set[str]) -> Limit | None:
    """Refuse an operator that the release does not know; the parser matches its name, not its domain."""
    table = _table()
    if node.op in local:
        return None if version >= (10, 0) else Limit("model-local functions are not supported", "10.0", _IMPORTERS)
    if node.op in table["plugins"]:
        first, last = table["plugins"][node.op]
        if version < (7, 1):
            since = dotted(max((7, 1), numbers(first)))
            return Limit("plugins cannot be named in an ONNX network yet", since, _IMPORTERS)
        if version < numbers(first):
            return Limit(f"the plugin comes with TensorRT {first}", first, _PLUGINS)
        if last and version[:2] > numbers(last):
            return Limit(f"TensorRT {last} was the last release with this plugin", None, _PLUGINS)
        return None
    first = _first_release().get(node.op)
    if first is None:
        return Limit(f"no release up to {dotted(LATEST)} has the operator {node.op}")
    if version < numbers(first):
        return Limit(f"TensorRT {dotted(version)} has no importer for {node.op}", first, _IMPORTERS)
    return None


def _rtx_operator(node: gs.Node, local: set[str]) -> Limit | None:
    measured = _table()["tensorrt-rtx"]
    if node.op in local or node.op in measured["plugins"]:
        return None
    if node.op in _table()["plugins"]:
        return Limit(f"TensorRT-RTX registers no plugin {node.op}", None, tensorrt_rules.MEASURED)
    if node.op in measured["unbuildable"]:
        return Limit(f"TensorRT-RTX has no implementation of {node.op}: the build fails", None, tensorrt_rules.MEASURED)
    if node.op in measured["unknown"] or node.op not in _first_release():
        return Limit(f"TensorRT-RTX has no operator {node.op}", None, tensorrt_rules.MEASURED)
    return None


# ONNX data type -> first release whose parser supports it. INT8, INT4, FP8 and FP4 only between Q and DQ.
_TYPES = {
    "FLOAT": (5, 0),
    "FLOAT16": (5, 0),
    "INT32": (5, 0),
    "INT64": (5, 0),  # cast down to INT32 before 9.0
    "INT8": (5, 0),
    "BOOL": (7, 0),
    "DOUBLE": (7, 2),  # cast to FLOAT
    "UINT8": (9, 0),
    "BFLOAT16": (9, 0),
    "FLOAT8E4M3FN": (9, 0),
    "INT4": (10, 0),
    "FLOAT4E2M1": (10, 8),
}
_QUANTISED = ("INT8", "FLOAT8E4M3FN", "INT4", "FLOAT4E2M1")
_INT32 = np.iinfo(np.int32)


def _types(node: gs.Node, contract: Contract) -> Iterator[Limit]:
    kinds = dict.fromkeys(_type_of(tensor.dtype) for tensor in (*node.inputs, *node.outputs))
    for kind in kinds:
        if kind is None:
            continue
        limit = _type_limit(kind, contract)
        if limit is not None:
            yield limit
        elif kind in _QUANTISED and node.op not in ("QuantizeLinear", "DequantizeLinear", "Constant"):
            yield Limit(f"it computes in {kind}, which exists only between QuantizeLinear and DequantizeLinear")
        elif kind == "UINT8" and node.op not in ("Cast", "Constant", "Identity"):
            yield Limit("it computes in UINT8, which is supported only for network inputs and outputs")
    if contract.int64 or node.op == "Slice":  # clamping "to the end" of a Slice changes nothing
        return
    for tensor in node.inputs:
        if isinstance(tensor, gs.Constant) and tensor.dtype == np.int64 and tensor.values.size:
            low, high = int(tensor.values.min()), int(tensor.values.max())
            if low < _INT32.min or high > _INT32.max:
                outside = low if low < _INT32.min else high
                yield Limit(f"its INT64 constant holds {outside}, which is clamped to INT32 before 9.0", "9.0")


def _type_limit(kind: str, contract: Contract) -> Limit | None:
    version = LATEST if contract.parser == "tensorrt-rtx" else contract.version or PARSERS[0].since
    since = _TYPES.get(kind)
    if since is None:
        return Limit(f"it uses {kind}, which TensorRT does not support")
    if version < since:
        return Limit(f"it uses {kind}, which the parser does not support yet", dotted(since))
    return None


def _type_of(dtype: Any) -> str | None:
    """Return the name of an ONNX tensor type; None if unknown, or for a sequence or an optional."""
    if dtype is None or isinstance(dtype, onnx.TypeProto):
        return None
    number = dtype if isinstance(dtype, int) else onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return str(onnx.TensorProto.DataType.Name(number))


@functools.cache
def _table() -> dict[str, Any]:
    return tomllib.loads(Path(__file__).with_name("tensorrt_ops.toml").read_text(encoding="utf-8"))


@functools.cache
def _first_release() -> dict[str, str]:
    return {op: release for release, ops in _table()["operators"].items() for op in ops}
