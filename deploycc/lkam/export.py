"""Export a trained PyTorch detector as an ONNX file with a complete `Detector` description.

Gates become ordinary nodes (GlobalAveragePool, Conv 1x1, Relu, Sigmoid, Greater, Cast, for blocks a Gather, Mul), and
the file describes each of them: see `deploycc.graph.gates.metadata`.
"""

from __future__ import annotations

import copy
import hashlib
import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import torch
from numpy.typing import NDArray
from torch import nn

from deploycc.cpu_session import open_session
from deploycc.detector import Detector, InputSpec, Source
from deploycc.detector.file import describe, read_gates
from deploycc.errors import InputError, ModelError
from deploycc.files import replacing
from deploycc.graph.gates.metadata import DescribedGate
from deploycc.graph.shapes import infer_shapes
from deploycc.lkam.assess import NMS, make_heads
from deploycc.lkam.checkpoint import load_checkpoint, restore_model
from deploycc.lkam.insert import GatedConv, deciding_gates, gated_convs
from deploycc.lkam.network import Deployed, Ssd
from deploycc.lkam.samples import MEAN, SCALE

_OPSET = 13  # the newest that TensorRT 8.0 to 8.2 accept
_PICTURE = "image"


@dataclass(frozen=True)
class Agreement:
    """Differences between ONNX Runtime and PyTorch on some pictures.

    Attributes:
        outputs: largest absolute difference of offsets and scores.
        gates: number of gate decisions that differ.
        decisions: number of gate decisions compared.
        pictures: number of pictures compared.
    """

    outputs: float
    gates: int
    decisions: int
    pictures: int


def export_checkpoint(
    checkpoint: Path,
    path: Path,
    *,
    name: str | None = None,
    gates_metadata: bool = True,
    threshold: float | None = None,
) -> None:
    """Write a finished training run as an ONNX detector.

    Args:
        checkpoint: file written by `train`.
        path: the ONNX file, which appears whole or not at all.
        name: of the network; default: that of the file.
        gates_metadata: also describe the gates; otherwise they can only be recognised by structure.
        threshold: replaces the run's threshold of the gates' decisions; a higher one switches more kernels off.

    Raises:
        ArtefactError: the checkpoint cannot be read.
        InputError: a threshold is given for a detector without gates.
        ModelError: the gates of the exported graph differ from the model's.
    """
    state = load_checkpoint(checkpoint)
    digest = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    source = Source((checkpoint.name,), digest, "pytorch", file_sha256=(digest,))
    network = restore_model(state)
    if threshold is not None:
        _set_threshold(network, threshold)
    model = to_model(network, state.config.class_names, source, name or path.stem, gates_metadata=gates_metadata)
    with replacing(path) as temporary:
        onnx.save(model, str(temporary))


def _set_threshold(network: Ssd, threshold: float) -> None:
    gates = deciding_gates(network)
    if not gates:
        raise InputError("export-no-gates", "a gate threshold was given, but the detector has no gates")
    for gate in gates:
        gate.threshold = threshold


def to_model(
    network: Ssd, class_names: tuple[str, ...], source: Source, name: str, *, gates_metadata: bool = True
) -> onnx.ModelProto:
    """Convert a network to an ONNX model with its description; see `export_checkpoint` for the arguments."""
    network = _freeze_gates(network)
    size = network.config.size
    picture = torch.zeros(1, 3, size, size)
    graph = trace(Deployed(network), picture, [_PICTURE], ["locations", "scores"])
    graph.name = name
    gates = describe_gates(graph, network, picture)
    spec = InputSpec(_PICTURE, size, size, "RGB", (MEAN,) * 3, (SCALE,) * 3)
    heads = make_heads(size, network.config.classes)
    detector = Detector(
        graph=graph,
        input=spec,
        source=source,
        heads=heads,
        nms=NMS,
        class_names=("background", *class_names),
        gates=gates if gates_metadata else (),
    )
    return describe(detector)


def trace(module: nn.Module, picture: torch.Tensor, inputs: list[str], outputs: list[str]) -> gs.Graph:
    """Export a module with PyTorch's tracer, with BatchNorms folded and nodes named after their modules."""
    buffer: Any = io.BytesIO()  # which PyTorch takes and its types do not name
    with warnings.catch_warnings():
        # The newer exporter needs onnxscript and writes opset 18 or later, which TensorRT before 8.6 cannot read.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(),
            (picture,),
            buffer,
            opset_version=_OPSET,
            dynamo=False,
            input_names=inputs,
            output_names=outputs,
        )
    graph = gs.import_onnx(onnx.load_from_string(buffer.getvalue()))
    graph.fold_constants().cleanup()  # no toposort: PyTorch writes nodes in execution order
    for tensor in graph.tensors().values():
        if tensor.name not in (*inputs, *outputs):
            tensor.name = _plain(tensor.name)
    for node in graph.nodes:
        node.name = _plain(node.name)
    infer_shapes(graph)  # the compiler reads shapes from the file
    return graph


def describe_gates(graph: gs.Graph, network: nn.Module, picture: torch.Tensor) -> tuple[DescribedGate, ...]:
    """Find each gate of the model in its graph and describe it.

    Args:
        graph: from `trace`.
        network: the traced network; its gates' filters are frozen.
        picture: an input of the network.

    Raises:
        ModelError: the gates of the graph differ from the network's.
    """
    modules = _in_execution_order(network, picture)
    multiplies = [values for values in map(_read_multiply, graph.nodes) if values is not None]
    names = [name for name, _ in modules]
    if len(set(names)) != len(names) or len(names) != len(list(gated_convs(network))):
        raise ModelError(
            "export-gates",
            "each gated convolution must run exactly once",
            context={"layers in execution order": ", ".join(names)},
        )
    if len(multiplies) != len(modules):
        raise ModelError(
            "export-gates",
            f"the model has {len(modules)} gates, but its exported graph {len(multiplies)}",
        )
    described = []
    for (name, module), exported in zip(modules, multiplies, strict=True):  # both are in execution order
        gate = module.gate
        if exported["kernels"] != gate.kernels or abs(exported["threshold"] - gate.threshold) > 1e-6:
            raise ModelError("export-gates", "an exported gate differs from the model's", context={"layer": name})
        described.append(
            DescribedGate(
                layer=name,
                **exported,
                place="after-batchnorm" if module.norm is not None else "after-bias",
                granularity=gate.granularity,
                units=gate.units,
                unit_of=tuple(gate.get_buffer("unit_of").tolist()),
            )
        )
    return tuple(described)


def compare(network: Ssd, model: onnx.ModelProto, pictures: NDArray[np.float32]) -> Agreement:
    """Compare PyTorch and ONNX Runtime, including the gates' decisions.

    Args:
        network: in evaluation mode.
        model: exported from the network, with a description of its gates.
        pictures: [N, 3, size, size] network inputs.
    """
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    gates, _ = read_gates(model)
    by_decision = {gate.decision: gate for gate in gates}  # several layers may share one
    for name in by_decision:
        probe.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.BOOL, None))
    session = open_session(probe, 2, {"network": probe.graph.name})
    by_layer = dict(gated_convs(network))
    worst, differing, decisions = 0.0, 0, 0
    for picture in pictures:
        results = session.run(None, {_PICTURE: picture[None]})
        with torch.no_grad():
            expected = Deployed(network)(torch.from_numpy(picture[None]))
        for mine, theirs in zip(results[:2], expected, strict=True):
            worst = max(worst, float(np.abs(mine - theirs.numpy()).max()))
        for gate, decided in zip(by_decision.values(), results[2:], strict=True):
            engaged = by_layer[gate.layer].gate.engaged
            assert engaged is not None
            differing += int(np.count_nonzero(decided.ravel() != (engaged.numpy().ravel() > 0)))
            decisions += decided.size
    return Agreement(worst, differing, decisions, len(pictures))


def _freeze_gates(network: Ssd) -> Ssd:
    """Copy a network, folding slope and nested steps of its gates into plain filters."""
    frozen = copy.deepcopy(network).eval()
    for gate in deciding_gates(frozen):
        with torch.no_grad():
            weight, bias = gate.logit_filters()
            decide = nn.Conv2d(weight.shape[1], weight.shape[0], 1)
            decide.weight.copy_(weight)
            assert decide.bias is not None
            decide.bias.copy_(bias)
        gate.decide, gate.steps, gate.slope = decide, None, 1.0
    return frozen


def _in_execution_order(network: nn.Module, picture: torch.Tensor) -> list[tuple[str, GatedConv]]:
    """List gated convolutions in execution order, each as often as it runs."""
    order: list[tuple[str, GatedConv]] = []
    hooks = [
        module.register_forward_hook(lambda *_, pair=(name, module): order.append(pair))
        for name, module in gated_convs(network)
    ]
    with torch.no_grad():
        network(picture)
    for hook in hooks:
        hook.remove()
    return order


def _read_multiply(node: gs.Node) -> dict[str, Any] | None:
    """Match Conv x mask, where the mask is Greater(Sigmoid, constant) cast to float and optionally gathered."""
    if node.op != "Mul" or len(node.inputs) != 2:
        return None
    for data, mask in (node.inputs, node.inputs[::-1]):
        conv, gather = _producer(data, "Conv"), _producer(mask, "Gather")
        cast = _producer(gather.inputs[0] if gather else mask, "Cast")
        greater = _producer(cast.inputs[0], "Greater") if cast else None
        if conv is None or greater is None or _producer(greater.inputs[0], "Sigmoid") is None:
            continue
        return {
            "conv": conv.name,
            "multiply": node.name,
            "probability": greater.inputs[0].name,
            "decision": greater.outputs[0].name,
            "mask": mask.name,
            "threshold": round(float(greater.inputs[1].values), 7),
            "kernels": int(conv.inputs[1].shape[0]),
        }
    return None


def _producer(tensor: gs.Tensor, op: str) -> gs.Node | None:
    node = tensor.inputs[0] if tensor.inputs else None
    return node if node is not None and node.op == op else None


def _plain(name: str) -> str:
    """Shorten ``/network/backend.0/backend.0.4/conv/Conv`` to ``backend.0.4/conv/Conv``: PyTorch repeats the path."""
    if not name.startswith("/"):
        return name
    parts: list[str] = []
    for part in name.strip("/").split("/"):
        if parts and part.startswith(parts[-1] + "."):
            parts.pop()
        parts.append(part)
    return "/".join(parts[1:] if parts[0] == "network" and len(parts) > 1 else parts)
