"""Forms of an ONNX ``If`` that each release of TensorRT's ONNX parser handles.

Source: importer `If` and ConditionalHelpers.cpp of onnx-tensorrt, branches 8.0-GA to 10.0-GA and the commit of TensorRT
8.2.1 (e9456d5). Three faults lie between 8.2, the first release with real conditionals, and 10.0:

* Several outputs of an `If` are paired with those of its branches by the order of layers (8.2 to 8.5) or of pointers
  (8.6); from 10.0 on by ONNX's order.
* Tensors from outside reach a branch through a conditional input layer if a node of that branch reads them; what only a
  nested `If` reads does not.
* From 8.2.2 to 8.4 the list of these tensors is passed by value, so that there is no conditional input layer at all
  (8.4-GA, ConditionalHelpers.cpp:262; repaired in 8.5-GA, line 265).

Plain conditionals avoid the first two: one output per `If`, and none inside a branch.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx_graphsurgeon as gs

from deploycc.parsers.limits import Limit, constant
from deploycc.parsers.tensorrt_releases import Version, conditional

_SOURCE = "ConditionalHelpers.cpp of onnx-tensorrt"


def limits(node: gs.Node, version: Version) -> Iterator[Limit]:
    """Yield what a release mishandles of an `If` whose condition is computed."""
    kind = conditional(version)
    if kind == "unconnected":
        yield Limit("its condition is computed; this release connects no tensor to its branches", "8.5", _SOURCE)
    elif kind == "plain":
        if len(node.outputs) > 1:
            count = len(node.outputs)
            yield Limit(
                f"its {count} outputs are paired with those of its branches in no certain order", "10.0", _SOURCE
            )
        for branch in node.attrs.values():
            if isinstance(branch, gs.Graph):
                yield from _unconnected(branch)


def _unconnected(branch: gs.Graph) -> Iterator[Limit]:
    """Yield the tensors from outside a branch that only an `If` inside it reads."""
    known = {tensor.name for node in branch.nodes for tensor in (*node.inputs, *node.outputs)}
    for node in branch.nodes:
        if node.op != "If" or constant(node, 0) is not None:
            continue
        for name in sorted(_read_from_outside(node) - known):
            inner = node.name or node.outputs[0].name
            yield Limit(f"only the If {inner} inside its branch reads {name} from outside", "10.0", _SOURCE)


def _read_from_outside(node: gs.Node) -> set[str]:
    """Return the variables that the branches of a node read and do not compute."""
    found: set[str] = set()
    for branch in node.attrs.values():
        if not isinstance(branch, gs.Graph):
            continue
        made = {tensor.name for inner in branch.nodes for tensor in inner.outputs}
        for inner in branch.nodes:
            read = {tensor.name for tensor in inner.inputs if isinstance(tensor, gs.Variable) and not tensor.is_empty()}
            found |= (read | _read_from_outside(inner)) - made
    return found
