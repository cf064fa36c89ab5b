from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_graphsurgeon as gs
import pytest
from caffe_files import Array, import_text, run

from deploycc.importers.caffe import load

HEAD = "input: 'data' input_shape { dim: [1, 3, 8, 8] }\n"


def conv(name: str, bottom: str = "data", param: str = "") -> str:
    return (
        f"layer {{ name: '{name}' type: 'Convolution' bottom: '{bottom}' top: '{name}' {param} "
        "convolution_param { num_output: 3 kernel_size: 1 } }\n"
    )


def weights(text: str, seed: int = 0) -> dict[str, Array]:
    tensors = import_text(text, seed=seed).graph.tensors().values()
    return {tensor.name: tensor.values for tensor in tensors if isinstance(tensor, gs.Constant)}


def test_a_seed_gives_one_network() -> None:
    text = HEAD + conv("a") + conv("b", "a")
    for name, values in weights(text, 3).items():
        np.testing.assert_array_equal(values, weights(text, 3)[name])
        assert (values != weights(text, 4)[name]).all()
        assert values.dtype == np.float32


def test_weights_depend_on_the_layers_name_not_on_its_place() -> None:
    alone, among = weights(HEAD + conv("b")), weights(HEAD + conv("a") + conv("b"))
    np.testing.assert_array_equal(alone["b/weight"], among["b/weight"])
    assert (among["a/weight"] != among["b/weight"]).all()


def test_shared_parameters_are_shared() -> None:
    shared = "param { name: 'w' } param { name: 'b' }"
    found = weights(HEAD + conv("a", param=shared) + conv("b", param=shared) + conv("c"))
    np.testing.assert_array_equal(found["a/weight"], found["b/weight"])
    np.testing.assert_array_equal(found["a/bias"], found["b/bias"])
    assert (found["a/weight"] != found["c/weight"]).all()


def test_kernels_keep_the_mean_square_of_their_input() -> None:
    text = (
        HEAD
        + conv("a")
        + """layer { name: 'b' type: 'Convolution' bottom: 'a' top: 'b'
      convolution_param { num_output: 4000 kernel_size: 3 bias_term: false } }"""
    )
    values = weights(text)["b/weight"]
    assert float(values.std()) == pytest.approx(np.sqrt(1 / 27), rel=0.01)
    assert abs(float(values.mean())) < 0.01
    rectified = text.replace(
        "layer { name: 'b'", "layer { name: 'r' type: 'ReLU' bottom: 'a' top: 'a' } layer { name: 'b'"
    )
    np.testing.assert_allclose(weights(rectified)["b/weight"], values * np.sqrt(2), rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    "name", ["squeezenet_ssd_voc_deploy", "MobileNetSSD_bn_deploy", "MobileNetv2_SSDLite_voc_deploy"]
)
def test_activations_stay_sane_through_real_networks(name: str, assets: Path) -> None:
    detector = load(assets / "prototxt" / f"{name}.prototxt", random_weights=1)
    shape = detector.input.shape
    picture = np.random.default_rng(0).uniform(-128, 128, shape).astype(np.float32)
    assert detector.heads is not None
    locations = run(detector, picture)[detector.heads.locations]
    assert 0.05 < float(locations.std()) < 50
