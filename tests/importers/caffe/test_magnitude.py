"""Values of seeded networks stay near 1 through residual sums, linear bottlenecks and normalisations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_graphsurgeon as gs
import pytest
from caffe_files import run, seeded_files

from deploycc.importers.caffe import load
from deploycc.importers.caffe.magnitude import PICTURE, Magnitudes

NETWORKS = {
    "pvanet_pva9.1_imagenet": "fc6",  # fifteen residual blocks with concatenations and negated copies
    "MobileNetv2_SSDLite_voc_deploy": None,
    "vgg_ssd300_voc_deploy": None,
}


@pytest.mark.parametrize("name", NETWORKS)
def test_every_convolution_of_a_real_network_puts_out_values_near_one(name: str, assets: Path, tmp_path: Path) -> None:
    text, model = seeded_files(assets / "prototxt" / f"{name}.prototxt", tmp_path, seed=1, until=NETWORKS[name])
    detector = load(text, model)
    picture = np.random.default_rng(0).uniform(-PICTURE * np.sqrt(3), PICTURE * np.sqrt(3), detector.input.shape)
    detector.graph.outputs = [node.outputs[0] for node in detector.graph.nodes if node.op == "Conv"]
    found = run(detector, picture.astype(np.float32))
    assert len(found) > 20
    large = {name: values for name, values in found.items() if values.size > 1000}  # the last maps have a few pixels
    sizes = {name: float(np.sqrt(np.mean(np.square(values)))) for name, values in large.items()}
    assert min(sizes.values()) > 0.2
    assert max(sizes.values()) < 6


def follow(op: str, *inputs: float | gs.Tensor, shape: tuple[int, ...] = (1, 8, 2, 2), **attrs: object) -> float:
    """Predicted mean square of an operator's output, for inputs that are constants of these mean squares."""
    tensors = [
        each if isinstance(each, gs.Tensor) else gs.Constant(f"c{k}", np.full((1, 8, 2, 2), np.sqrt(each), np.float32))
        for k, each in enumerate(inputs)
    ]
    output = gs.Variable("y", np.float32, list(shape))
    magnitudes = Magnitudes(gs.Variable("picture", np.float32, [1, 3, 2, 2]))
    magnitudes.follow(gs.Node(op, "node", dict(attrs), tensors, [output]))
    return magnitudes.rms(output) ** 2


def test_rules() -> None:
    assert follow("Add", 1.0, 2.0) == pytest.approx(3, rel=1e-6, abs=0)
    assert follow("Relu", 3.0) == pytest.approx(1.5, rel=1e-6, abs=0)
    assert follow("Transpose", 3.0) == pytest.approx(3, rel=1e-6, abs=0)
    assert follow("Mul", 3.0, 4.0) == pytest.approx(12, rel=1e-6, abs=0)
    assert follow("Conv", 9.0, 4.0) == 1
    assert follow("NoSuchOperator", 9.0) == 1
    small = gs.Constant("small", np.full((1, 4, 2, 2), 2, np.float32))
    assert follow("Concat", 1.0, small, shape=(1, 12, 2, 2), axis=1) == pytest.approx(2, rel=1e-6, abs=0)


def test_a_normalised_vector_has_the_length_one() -> None:
    x = gs.Variable("x", np.float32, [1, 8, 2, 2])
    total, norm, unit = (
        gs.Variable(n, np.float32, s) for n, s in (("t", [1, 1, 2, 2]), ("n", [1, 1, 2, 2]), ("u", x.shape))
    )
    magnitudes = Magnitudes(x)
    for op, inputs, output in (("ReduceSumSquare", [x], total), ("Sqrt", [total], norm), ("Div", [x, norm], unit)):
        magnitudes.follow(gs.Node(op, op, {}, inputs, [output]))
    assert magnitudes.rms(unit) ** 2 * 8 == pytest.approx(1, rel=1e-6, abs=0)
