"""An imported network with gates: trained as one, and written as nodes that compute the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from graph_text import network, picture, run

torch = pytest.importorskip("torch", reason="PyTorch, of the extra train, is not installed")

from deploycc.detector import Detector  # noqa: E402
from deploycc.errors import InputError  # noqa: E402
from deploycc.graph.gates.search import search_gates  # noqa: E402
from deploycc.trainable.gate import engaged_kernels  # noqa: E402
from deploycc.trainable.gated import GatedNetwork, GateShape  # noqa: E402
from deploycc.trainable.network import TrainableNetwork  # noqa: E402

TEXT = """
<ir_version: 8, opset_import: ["" : 17]> g (float[1,4,6,6] x, float[16,4,3,3] w1, float[16] b1, float[16,16,1,1] w2,
    float[16] b2, float[16,1,3,3] w3, float low, float high) => (float[1,16,4,4] y) {
    first = Conv<pads=[1,1,1,1]>(x, w1, b1)
    a = Relu(first)
    second = Conv(a, w2, b2)
    b = Clip(second, low, high)
    y = Conv<group=16>(b, w3)
}
"""
SHAPES = {
    "kernel": GateShape(hidden=4),
    "block": GateShape("block", block=4, hidden=4),
    "nested": GateShape("nested", block=4, hidden=0),
    "shared": GateShape("nested", shared=4, hidden=4),
    "shared ends": GateShape("block", shared=(0.5, 1.0), hidden=4),
}


@pytest.fixture
def detector() -> Detector:
    made = network(TEXT, {"low": np.float32(0), "high": np.float32(6)})
    for node in made.graph.nodes:
        node.name = f"make_{node.outputs[0].name}"
    return made


def gated(detector: Detector, shape: GateShape, output: str = "y") -> tuple[GatedNetwork, list[str]]:
    torch.manual_seed(3)
    layers = [node.name for node in detector.graph.nodes if node.op == "Conv"][:2]
    built = GatedNetwork(detector, [output], [detector.input.name], layers, shape)
    for _, gate in built.deciding:
        for parameter in gate.parameters():
            torch.nn.init.normal_(parameter, std=2.0)
    return built, layers


@pytest.mark.parametrize("name", SHAPES)
def test_what_is_written_is_what_was_trained(detector: Detector, name: str) -> None:
    built, layers = gated(detector, SHAPES[name])
    pictures = np.concatenate([picture(detector.graph, seed) for seed in range(6)])
    with torch.no_grad():
        [expected] = built(torch.from_numpy(pictures))
    written = built.trained()
    for number in range(6):
        [result] = run(written.graph, pictures[number : number + 1])
        np.testing.assert_allclose(result, expected[number : number + 1].numpy(), rtol=1e-4, atol=1e-4)
    gates, notes = search_gates(written.graph, written.gates)
    assert not notes
    assert [gate.layer for gate in gates] == layers
    assert {gate.source for gate in gates} == {"metadata"}
    assert {gate.granularity for gate in gates} == {SHAPES[name].granularity}
    shares = torch.cat([gate.engaged for _, gate in built.deciding], 1).mean(1)  # type: ignore[list-item]
    assert len(built.deciding) == (1 if SHAPES[name].shared else 2)
    assert 0 < float(shares.detach().mean()) < 1


def test_a_kernel_that_is_off_learns_whether_it_is_needed(detector: Detector) -> None:
    """Multiplied before the activation, kernels that are off would get no gradient at all."""
    built, _ = gated(detector, SHAPES["kernel"])
    [output] = built(torch.from_numpy(picture(detector.graph, 1)))
    output.sum().backward()
    for _, gate in built.deciding:
        assert gate.engaged is not None
        off = gate.engaged[0] == 0
        bias: Any = gate.decide.bias
        assert off.any()
        assert (bias.grad[off] != 0).any()


@pytest.mark.parametrize("name", ["kernel", "block", "shared ends"])
def test_maps_are_compared_where_they_are_computed(detector: Detector, name: str) -> None:
    built, layers = gated(detector, SHAPES[name], "b")
    pictures = torch.from_numpy(np.concatenate([picture(detector.graph, seed) for seed in range(6)]))
    with torch.no_grad():
        [masked] = built(pictures)
        [whole] = TrainableNetwork(detector, ["b"])(pictures)
    off = engaged_kernels(built.by_layer[layers[1]]) == 0
    assert off.any()
    assert not off.all()
    assert (masked[off] == 0).all()
    left = built.computed("b", whole)
    assert (left[off] == 0).all()
    assert torch.equal(left[~off], whole[~off])
    assert torch.equal(built.computed("y", whole), whole)  # no gate multiplies this one


def test_units_that_are_hardly_used_retire(detector: Detector) -> None:
    built, _ = gated(detector, SHAPES["kernel"])
    pictures = torch.from_numpy(np.concatenate([picture(detector.graph, seed) for seed in range(6)]))
    with torch.no_grad():
        built(pictures)
        for _ in range(400):
            built.count_use()
        never = sum(int((gate.engaged == 0).all(0).sum()) for _, gate in built.deciding)  # type: ignore[union-attr]
        assert built.retire(0.01) == never > 0


def test_only_plain_convolutions_can_be_gated(detector: Detector) -> None:
    names = [node.name for node in detector.graph.nodes]
    for layer, why in ((names[-1], "depthwise"), (names[1], "not a convolution"), ("nothing", "not a convolution")):
        with pytest.raises(InputError, match=why):
            GatedNetwork(detector, ["y"], [detector.input.name], [layer], GateShape())
    with pytest.raises(InputError, match="blocks of kernels"):
        GatedNetwork(detector, ["y"], [detector.input.name], [names[0]], GateShape(shared=4))
