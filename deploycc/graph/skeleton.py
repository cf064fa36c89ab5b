"""A graph without its weights, for shape inference and the text form."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping

import onnx
import onnx_graphsurgeon as gs


def export_without_weights(graph: gs.Graph, keep_up_to: int) -> onnx.ModelProto:
    """Export what `without_weights` returns; a graph without branches is not copied for it.

    Args:
        graph: stays as it is.
        keep_up_to: constants of more elements become inputs.
    """
    if next(graph.subgraphs(), None) is not None:
        model: onnx.ModelProto = gs.export_onnx(without_weights(graph, keep_up_to))
        return model
    left_out: dict[str, gs.Tensor] = {}
    for name, tensor in graph.tensors().items():
        if isinstance(tensor, gs.Constant) and math.prod(tensor.shape) > keep_up_to:
            left_out[name] = gs.Variable(name, tensor.dtype, list(tensor.shape))
    model = gs.export_onnx(_Skeleton(graph, left_out))
    return model


class _Skeleton(gs.Graph):  # type: ignore[misc]
    """The nodes of a graph, whose exporter meets inputs in the place of the constants that are left out."""

    def __init__(self, graph: gs.Graph, left_out: Mapping[str, gs.Tensor]) -> None:
        super().__init__(
            nodes=graph.nodes,
            inputs=[*graph.inputs, *left_out.values()],
            outputs=graph.outputs,
            name=graph.name,
            doc_string=graph.doc_string,
            opset=graph.opset,
            import_domains=_own_domains(graph),
            functions=graph.functions,
            ir_version=graph.ir_version,
        )
        self._graph, self._left_out = graph, left_out

    def tensors(self, check_duplicates: bool = False) -> OrderedDict[str, gs.Tensor]:
        """Return the tensors by name, in the order of the nodes."""
        tensors = self._graph.tensors(check_duplicates)
        return OrderedDict((name, self._left_out.get(name, tensor)) for name, tensor in tensors.items())


def _own_domains(graph: gs.Graph) -> list[onnx.OperatorSetIdProto] | None:
    """Return a list of its own: exporting adds the domains of nodes to it, and graphsurgeon's copies share one."""
    return None if graph.import_domains is None else list(graph.import_domains)


def without_weights(graph: gs.Graph, keep_up_to: int) -> gs.Graph:
    """Return a copy in which constants of more than ``keep_up_to`` elements are graph inputs of the same shape.

    A branch has no inputs, so its constants become inputs of the outermost graph, which branches may read. Nothing
    large is copied or serialised afterwards. The original is not changed.
    """
    clone = graph.copy()
    clone.import_domains = _own_domains(graph)
    inputs, names = list(clone.inputs), {tensor.name for tensor in clone.inputs}
    for scope in (clone, *clone.subgraphs(recursive=True)):
        for tensor in scope.tensors().values():
            if isinstance(tensor, gs.Constant) and math.prod(tensor.shape) > keep_up_to:
                dtype, shape = tensor.dtype, list(tensor.shape)  # read before the tensor changes its kind
                variable = tensor.to_variable(dtype=dtype, shape=shape)
                variable.type = "tensor_type"  # graphsurgeon 0.6.1 leaves it out
                if variable.name not in names:
                    names.add(variable.name)
                    inputs.append(variable)
    clone.inputs = inputs
    return clone
