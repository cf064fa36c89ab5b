"""What is exported is what was trained, gates included."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch", reason="PyTorch, of the extra train, is not installed")

from lkam_run import SIZE, run, small_config, small_gates  # noqa: E402

from deploycc import importers  # noqa: E402
from deploycc.detector import Source  # noqa: E402
from deploycc.detector.file import read_gates  # noqa: E402
from deploycc.documents.document import Granularity  # noqa: E402
from deploycc.errors import InputError, ModelError  # noqa: E402
from deploycc.evaluation.detect import OnnxRuntimeDetector  # noqa: E402
from deploycc.graph.gates.search import find_gates  # noqa: E402
from deploycc.lkam.checkpoint import build_model  # noqa: E402
from deploycc.lkam.export import compare, describe_gates, export_checkpoint, to_model, trace  # noqa: E402
from deploycc.lkam.insert import GatedConv, Place, deciding_gates, gated_convs, insert_gates  # noqa: E402
from deploycc.lkam.network import Ssd  # noqa: E402
from deploycc.lkam.training import CHECKPOINT  # noqa: E402
from deploycc.trainable.gate import KernelGate  # noqa: E402

SOURCE = Source(("checkpoint.pt",), "0" * 64, "pytorch")
NAMES = ("car", "truck", "bus", "person", "cyclist", "sign")


def network(granularity: Granularity, place: Place = "norm", shared: int | tuple[float, ...] = 0) -> Ssd:
    """A network whose gates decide differently for different pictures."""
    patterns = ("backend.[12].*.conv",)
    config = small_config(gates=small_gates(granularity=granularity, place=place, shared=shared, patterns=patterns))
    model = build_model(config).train()
    torch.manual_seed(5)
    x = torch.from_numpy(pictures(12))
    with torch.no_grad():
        for _ in range(10):  # lets BatchNorm see what it normalises
            model(x)
        model.eval()
        for _, module in gated_convs(model):
            if isinstance(module.gate, KernelGate):
                _balance(model, module, x)
    return model


def _balance(model: Ssd, module: GatedConv, x: torch.Tensor) -> None:
    """Random filters, and biases that put the mean of each logit at zero."""
    gate = module.gate
    for parameter in gate.parameters():
        torch.nn.init.normal_(parameter)
    gate.slope = 1.7
    seen: list[torch.Tensor] = []
    hook = gate.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model(x)
    hook.remove()
    hidden = torch.relu(gate.squeeze(seen[0].mean((2, 3), keepdim=True)))  # type: ignore[misc]
    weight, bias = gate.logit_filters()
    logits = torch.nn.functional.conv2d(hidden, weight, bias)
    mean = logits.mean((0, 2, 3)) / gate.slope
    gate.decide.bias -= mean[1:].mean() if gate.granularity == "nested" else mean  # type: ignore[operator]


def pictures(count: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    scale = rng.uniform(0.05, 3, (count, 1, 1, 1))
    return (rng.standard_normal((count, 3, SIZE, SIZE)) * scale + rng.standard_normal((count, 3, 1, 1))).astype(
        np.float32
    )


@pytest.mark.parametrize("granularity", ["kernel", "block", "nested"])
@pytest.mark.parametrize("place", ["norm", "conv"])
def test_onnx_runtime_and_pytorch_agree(granularity: Granularity, place: Place) -> None:
    model = network(granularity, place)
    exported = to_model(model, NAMES, SOURCE, "small")
    onnx.checker.check_model(exported, full_check=True)
    agreement = compare(model, exported, pictures(12))
    assert agreement.outputs < 1e-4
    assert agreement.gates == 0
    assert agreement.decisions == 12 * sum(gated.gate.units for _, gated in gated_convs(model))


@pytest.mark.parametrize("granularity", ["block", "nested"])
def test_a_shared_gate_is_one_decision_in_the_file_too(granularity: Granularity) -> None:
    model = network(granularity, shared=4)
    exported = to_model(model, NAMES, SOURCE, "small")
    onnx.checker.check_model(exported, full_check=True)
    agreement = compare(model, exported, pictures(12))
    assert agreement.outputs < 1e-4
    assert (agreement.gates, agreement.decisions) == (0, 12 * 4)
    gates, _ = read_gates(exported)
    assert [gate.layer for gate in gates] == [name for name, _ in gated_convs(model)]
    assert len({gate.decision for gate in gates}) == 1
    assert {gate.unit_of for gate in gates} == {
        tuple(k * 4 // gate.kernels for k in range(gate.kernels)) for gate in gates
    }
    with torch.no_grad():
        model(torch.from_numpy(pictures(12)))
    [leader] = deciding_gates(model)
    assert leader.engaged is not None
    assert len(leader.engaged.sum(1).unique()) > 1  # pictures differ


def test_the_file_tells_units_of_different_sizes() -> None:
    model = network("nested", shared=(0.25, 0.75, 1.0))
    exported = to_model(model, NAMES, SOURCE, "small")
    assert compare(model, exported, pictures(12)).outputs < 1e-4
    gates, _ = read_gates(exported)
    assert [np.bincount(gate.unit_of).tolist() for gate in gates] == [[8, 16, 8]] * 4


@pytest.mark.parametrize("granularity", ["kernel", "block", "nested"])
def test_the_metadata_match_the_graph(granularity: Granularity) -> None:
    model = network(granularity)
    exported = to_model(model, NAMES, SOURCE, "small")
    gates, _ = read_gates(exported)
    nodes = {node.name: node for node in exported.graph.node}
    weights = {init.name: init for init in exported.graph.initializer}
    assert [gate.layer for gate in gates] == [name for name, _ in gated_convs(model)]
    for gate, (_, module) in zip(gates, gated_convs(model), strict=True):
        conv, multiply = nodes[gate.conv], nodes[gate.multiply]
        assert conv.op_type == "Conv"
        assert weights[conv.input[1]].dims[0] == gate.kernels == len(gate.unit_of)
        assert multiply.op_type == "Mul"
        assert set(multiply.input) == {conv.output[0], gate.mask}
        assert gate.units == module.gate.units == max(gate.unit_of) + 1
        assert gate.granularity == granularity
        assert gate.threshold == 0.5
        assert gate.place == "after-batchnorm"
    kinds = {node.op_type for node in exported.graph.node}
    assert {"GlobalAveragePool", "Conv", "Sigmoid", "Greater", "Cast", "Mul"} <= kinds
    assert kinds <= {
        *[
            "Conv",
            "Relu",
            "GlobalAveragePool",
            "Sigmoid",
            "Greater",
            "Cast",
            "Gather",
            "Mul",
            "Transpose",
            "Reshape",
            "Concat",
            "Softmax",
        ]
    }


@pytest.mark.parametrize("granularity", ["kernel", "block", "nested"])
def test_gates_decide_differently_for_different_pictures(granularity: Granularity) -> None:
    """Otherwise the comparisons above would compare constants."""
    model = network(granularity)
    with torch.no_grad():
        model(torch.from_numpy(pictures(12)))
    for name, module in gated_convs(model):
        assert module.gate.engaged is not None
        assert (module.gate.engaged.std(0) > 0).any(), name


def test_a_checkpoint_becomes_a_detector(tmp_path: Path) -> None:
    run(small_config(gates=small_gates(), steps=1), tmp_path)
    export_checkpoint(tmp_path / CHECKPOINT, tmp_path / "small.onnx")
    detector = importers.load(tmp_path / "small.onnx")
    assert detector.class_names == ("background", *NAMES)
    assert detector.input.shape == (1, 3, SIZE, SIZE)
    assert (detector.input.colour, detector.input.mean[0], detector.input.scale[0]) == ("RGB", 128.0, 1 / 128)
    assert detector.heads is not None
    assert detector.heads.classes == 7
    OnnxRuntimeDetector(detector).detect(np.zeros((50, 70, 3), np.uint8))
    assert not list(tmp_path.glob(".small*"))


def test_a_threshold_can_be_given_when_exporting(tmp_path: Path) -> None:
    run(small_config(gates=small_gates(), steps=1), tmp_path / "gated")
    export_checkpoint(tmp_path / "gated" / CHECKPOINT, tmp_path / "small.onnx", threshold=0.875)
    detector = importers.load(tmp_path / "small.onnx")
    assert [gate.threshold for gate in find_gates(detector.graph, detector.gates)] == [0.875, 0.875]
    run(small_config(steps=1), tmp_path / "dense")
    with pytest.raises(InputError, match="export-no-gates"):
        export_checkpoint(tmp_path / "dense" / CHECKPOINT, tmp_path / "dense.onnx", threshold=0.875)


def test_without_metadata_the_gates_are_still_in_the_graph(tmp_path: Path) -> None:
    exported = to_model(network("kernel"), NAMES, SOURCE, "small", gates_metadata=False)
    assert read_gates(exported) == ((), ())
    path = tmp_path / "small.onnx"
    onnx.save(exported, str(path))
    found = find_gates(importers.load(path).graph)
    assert [gate.source for gate in found] == ["structure"] * 4


@pytest.mark.parametrize("granularity", ["kernel", "block", "nested"])
@pytest.mark.parametrize("place", ["norm", "conv"])
def test_the_compiler_finds_every_gate(granularity: Granularity, place: Place, tmp_path: Path) -> None:
    model = network(granularity, place)
    path = tmp_path / "small.onnx"
    onnx.save(to_model(model, NAMES, SOURCE, "small"), str(path))
    detector = importers.load(path)
    found = find_gates(detector.graph, detector.gates)
    assert len(found) == 4
    for gate, (_, module) in zip(found, gated_convs(model), strict=True):
        assert gate.source == "metadata"
        assert (gate.kernels, gate.units, gate.granularity) == (module.gate.kernels, module.gate.units, granularity)


def test_a_gated_convolution_that_runs_twice_is_refused() -> None:
    class Twice(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = torch.nn.Sequential(torch.nn.Conv2d(4, 4, 3, padding=1))
            insert_gates(self, ["inner.0"])

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner(torch.relu(self.inner(x)))

    model, x = Twice().eval(), torch.randn(1, 4, 6, 6)
    with pytest.raises(ModelError, match="exactly once"):
        describe_gates(trace(model, x, ["x"], ["y"]), model, x)
