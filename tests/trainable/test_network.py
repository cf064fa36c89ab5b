"""A network in PyTorch equals itself in ONNX Runtime, one picture or several, before training and after."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from graph_text import network, picture, run
from mutation import mutant

torch = pytest.importorskip("torch", reason="PyTorch, of the extra train, is not installed")

from deploycc import load  # noqa: E402
from deploycc.detector import Detector  # noqa: E402
from deploycc.errors import ModelError  # noqa: E402
from deploycc.graph.export import to_onnx  # noqa: E402
from deploycc.trainable import elementwise, layers, shapes  # noqa: E402
from deploycc.trainable.network import TrainableNetwork  # noqa: E402
from deploycc.trainable.table import OPERATORS  # noqa: E402

RTOL, ATOL = 1e-4, 1e-4
INTO = '<ir_version: 8, opset_import: ["" : 17]> g (float[1,4,6,6] x'


def text(body: str, constants: str = "", rank: int = 4) -> str:
    return f"{INTO}{', ' + constants if constants else ''}) => (float[{','.join('?' * rank)}] y) {{ {body} }}"


RANKS = {"Gemm": 2, "Transpose and Reshape": 3, "ReduceMean": 3, "Gather of one": 3}
NODES = {
    "Conv": ("y = Conv<pads=[1,0,0,1], strides=[2,1], dilations=[1,2], group=2>(x, w, b)", "float[6,2,3,2] w, float[6] b"),
    "Conv by channel": ("y = Conv<pads=[0,0,1,1], strides=[2,2], group=4>(x, w)", "float[4,1,3,3] w"),
    "Conv SAME_LOWER": ('y = Conv<auto_pad="SAME_LOWER", strides=[2,2]>(x, w)', "float[3,4,2,3] w"),
    "ConvTranspose": ("y = ConvTranspose<strides=[2,2], pads=[1,1,1,1], output_padding=[1,1]>(x, w, b)", "float[4,3,3,3] w, float[3] b"),
    "BatchNormalization": ("y = BatchNormalization(x, s, t, m, v)", "float[4] s, float[4] t, float[4] m, float[4] v"),
    "InstanceNormalization": ("y = InstanceNormalization(x, s, t)", "float[4] s, float[4] t"),
    "LRN": ("y = LRN<size=3, alpha=0.5, bias=2.0>(x)", ""),
    "MaxPool over the edge": ("y = MaxPool<kernel_shape=[3,3], strides=[2,2], ceil_mode=1>(x)", ""),
    "MaxPool padded": ("y = MaxPool<kernel_shape=[3,2], strides=[2,1], pads=[1,0,0,1]>(x)", ""),
    "AveragePool": ("y = AveragePool<kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1]>(x)", ""),
    "AveragePool with its border": ("y = AveragePool<kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1], count_include_pad=1>(x)", ""),
    "AveragePool over the edge": ("y = AveragePool<kernel_shape=[3,3], strides=[2,2], ceil_mode=1>(x)", ""),
    "GlobalAveragePool": ("y = GlobalAveragePool(x)", ""),
    "GlobalMaxPool": ("y = GlobalMaxPool(x)", ""),
    "Gemm": ("f = Flatten(x) y = Gemm<alpha=0.5, beta=2.0, transB=1>(f, w, b)", "float[5,144] w, float[5] b"),
    "MatMul": ("y = MatMul(x, w)", "float[6,3] w"),
    "Clip": ("y = Clip(x, l, h)", "float l, float h"),
    "Clip to one value": ("y = Clip(x, l, h)", "float l, float h"),
    "Clip of integers": ("i = Cast<to=7>(x) c = Clip(i, l, h) y = Cast<to=1>(c)", "int64 l, int64 h"),
    "LeakyRelu": ("y = LeakyRelu<alpha=0.2>(x)", ""),
    "Elu": ("y = Elu<alpha=0.7>(x)", ""),
    "ThresholdedRelu": ("y = ThresholdedRelu<alpha=0.4>(x)", ""),
    "Selu": ("y = Selu(x)", ""),
    "PRelu": ("y = PRelu(x, a)", "float[4,1,1] a"),
    "HardSigmoid": ("y = HardSigmoid<alpha=0.3, beta=0.4>(x)", ""),
    "HardSwish": ("y = HardSwish(x)", ""),
    "Softplus": ("y = Softplus(x)", ""),
    "Max": ("y = Max(x, a, b)", "float[4,1,1] a, float[6] b"),
    "Sum and Min": ("s = Sum(x, a) y = Min(s, x)", "float[4,1,1] a"),
    "Where": ("c = Greater(x, a) d = Not(c) y = Where(d, x, a)", "float[4,1,1] a"),
    "Cast of a step": ("c = Greater(x, a) m = Cast<to=1>(c) y = Mul(m, x)", "float[4,1,1] a"),
    "Transpose and Reshape": ("t = Transpose<perm=[0,2,3,1]>(x) y = Reshape(t, s)", "int64[3] s"),
    "Concat with a constant": ("y = Concat<axis=1>(x, a)", "float[1,2,6,6] a"),
    "Split": ("p, q = Split<axis=1>(x, n) y = Sub(p, q)", "int64[2] n"),
    "Slice backwards": ("y = Slice(x, i, j, k, l)", "int64[2] i, int64[2] j, int64[2] k, int64[2] l"),
    "Gather": ("y = Gather<axis=1>(x, i)", "int64[3] i"),
    "Gather of one": ("y = Gather<axis=2>(x, i)", "int64 i"),
    "Expand": ("g = GlobalAveragePool(x) y = Expand(g, s)", "int64[4] s"),
    "Tile": ("y = Tile(x, s)", "int64[4] s"),
    "DepthToSpace": ("y = DepthToSpace<blocksize=2>(x)", ""),
    "DepthToSpace CRD": ('y = DepthToSpace<blocksize=2, mode="CRD">(x)', ""),
    "SpaceToDepth": ("y = SpaceToDepth<blocksize=2>(x)", ""),
    "ReduceMean": ("y = ReduceMean<axes=[1], keepdims=0>(x)", ""),
    "ReduceL2 and Div": ("n = ReduceL2<axes=[1]>(x) y = Div(x, n)", ""),
    "ReduceSumSquare": ("y = ReduceSumSquare<axes=[2,3]>(x)", ""),
    "ReduceSum": ("y = ReduceSum(x, i)", "int64[1] i"),
    "ReduceMax": ("y = ReduceMax<axes=[-1]>(x)", ""),
    "Softmax": ("y = Softmax<axis=1>(x)", ""),
    "LogSoftmax": ("y = LogSoftmax(x)", ""),
    "Resize nearest": ('y = Resize<mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor">(x, , f)', "float[4] f"),
    "Resize linear": ('y = Resize<mode="linear">(x, , f)', "float[4] f"),
    "Resize to corners": ('y = Resize<mode="linear", coordinate_transformation_mode="align_corners">(x, , f)', "float[4] f"),
    "Pad": ("y = Pad(x, p, v)", "int64[8] p, float v"),
    "Pad reflected": ('y = Pad<mode="reflect">(x, p)', "int64[8] p"),
}  # fmt: skip
VALUES = {
    "Clip": {"l": np.float32(-0.3), "h": np.float32(0.5)},
    "Clip to one value": {"l": np.float32(0.5), "h": np.float32(0.5)},
    "Clip of integers": {"l": np.array(0), "h": np.array(1)},
    "BatchNormalization": {"v": np.array([0.5, 1, 2, 3], np.float32)},
    "Transpose and Reshape": {"s": np.array([0, -1, 2])},
    "Split": {"n": np.array([2, 2])},
    "Slice backwards": {"i": np.array([-1, 1]), "j": np.array([-(2**31), 5]), "k": np.array([2, 3]), "l": np.array([-2, 1])},
    "Gather": {"i": np.array([3, 0, -2])},
    "Gather of one": {"i": np.array(-1)},
    "Expand": {"s": np.array([1, 4, 2, 3])},
    "Tile": {"s": np.array([1, 1, 2, 3])},
    "ReduceSum": {"i": np.array([2])},
    "Resize nearest": {"f": np.array([1, 1, 2, 3], np.float32)},
    "Resize linear": {"f": np.array([1, 1, 2, 2], np.float32)},
    "Resize to corners": {"f": np.array([1, 1, 2, 2], np.float32)},
    "Pad": {"p": np.array([0, 1, 2, 0, 0, 0, 1, 3]), "v": np.float32(0.5)},
    "Pad reflected": {"p": np.array([0, 0, 2, 0, 0, 0, 1, 3])},
}  # fmt: skip


def small(name: str) -> Detector:
    body, constants = NODES[name]
    return network(text(body, constants, RANKS.get(name, 4)), VALUES.get(name))


def worst(detector: Detector, names: list[str] | None = None) -> float:
    """Largest difference on two pictures at once, in units of the tolerance."""
    trainable = TrainableNetwork(detector, names)
    pictures = [picture(detector.graph, seed) for seed in (1, 2)]
    with torch.no_grad():
        outputs = trainable(torch.from_numpy(np.concatenate(pictures)))
    largest = 0.0
    for number, one in enumerate(pictures):
        for ours, wanted in zip(outputs, run(detector.graph, one), strict=True):
            found = ours[number : number + 1].numpy()
            assert found.shape == wanted.shape
            largest = max(largest, float(np.max(np.abs(found - wanted) / (ATOL + RTOL * np.abs(wanted)))))
    return largest


@pytest.mark.parametrize("name", NODES)
def test_an_operator_is_that_of_onnx_runtime(name: str) -> None:
    assert worst(small(name)) <= 1


@pytest.mark.parametrize("name", ["Conv", "ConvTranspose", "Gemm", "MatMul"])
def test_autocast_reaches_operators_with_weights(name: str) -> None:
    made = small(name)
    executor, x = TrainableNetwork(made, [made.graph.outputs[0].name]), torch.from_numpy(picture(made.graph))
    [whole] = executor(x)
    with torch.autocast("cpu", torch.bfloat16):
        [half] = executor(x)
    assert half.dtype == torch.bfloat16 or name == "Gemm"  # its product is scaled and added to in 32 bits
    assert not torch.equal(half.float(), whole)
    assert torch.allclose(half.float(), whole, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("name", ["street_ssd", "street_ssd_lkam", "street_ssd_blocks"])
def test_shipped_detectors_are_equal(name: str) -> None:
    assert worst(load(name)) <= 1


REAL = (
    "voc21_ssd_mobilenet/voc21_ssd_mnv1_075.prototxt",
    "voc21_ssd_mobilenet/voc21_ssd_mnv1_075_boxes.onnx",
    "res10_face_ssd/deploy.prototxt",
    "ultralight_rfb320/version-RFB-320.onnx",
    "yufacedetect_v2/yufacedetectnet-open-v2.prototxt",
    "prototxt/squeezenet_ssd_voc_deploy.prototxt",
    "prototxt/MobileNetv2_SSDLite_voc_deploy.prototxt",
    "prototxt/pvanet_pva9.1_imagenet.prototxt",
    "prototxt/vgg_ssd300_voc_deploy.prototxt",
)


@pytest.mark.parametrize("name", REAL)
def test_real_networks_are_equal(assets: Path, name: str) -> None:
    path = assets / name
    seed = 0 if path.parent.name in ("prototxt", "res10_face_ssd") else None
    assert worst(load(path, random_weights=seed)) <= 1


BUGS = {
    "windows over the edge see zeros": (layers, "edge, float(\"-inf\"))", "edge, 0.0)", "MaxPool over the edge", "MaxPool"),
    "the border counts": (layers, "1.0 if inside else 0.0", "1.0", "AveragePool", "AveragePool"),
    "the longer side of the padding comes first": (layers, "less if automatic == \"SAME_UPPER\" else more", "less", "Conv SAME_LOWER", "Conv"),
    "pads are read in PyTorch's order": (layers, "for axis in reversed(range(rank))", "for axis in range(rank)", "Pad", "Pad"),
    "steps are left out": (shapes, "slice(start, end, step)", "slice(start, end)", "Slice backwards", "Slice"),
    "elements of a block change places": (shapes, "permute(0, 3, 4, 1, 5, 2)", "permute(0, 3, 4, 2, 5, 1)", "DepthToSpace", "DepthToSpace"),
    "the shift of the activation is lost": (elementwise, "alpha * x + beta", "alpha * x", "HardSigmoid", "HardSigmoid"),
}  # fmt: skip


@pytest.mark.parametrize("bug", BUGS)
def test_planted_bugs_show(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, old, new, name, operator = BUGS[bug]
    monkeypatch.setitem(OPERATORS, operator, _broken(module, old, new)[operator])
    detector = small(name)
    try:
        difference = worst(detector)
    except (AssertionError, RuntimeError, IndexError):
        return  # another shape, or none
    assert difference > 1


def _broken(module: ModuleType, old: str, new: str) -> dict[str, object]:
    """The operators of a module with a bug; the table itself stays as it is."""
    kept = dict(OPERATORS)
    OPERATORS.clear()
    try:
        mutant(module, old, new)
        return dict(OPERATORS)
    finally:
        OPERATORS.clear()
        OPERATORS.update(kept)


def test_untrained_weights_go_back_byte_by_byte() -> None:
    detector = load("street_ssd_lkam")
    before = to_onnx(detector.graph).SerializeToString()
    assert to_onnx(TrainableNetwork(detector).trained().graph).SerializeToString() == before


def test_trained_weights_are_in_the_graph_and_nowhere_else() -> None:
    detector = load("street_ssd")
    trainable = TrainableNetwork(detector)
    x = torch.from_numpy(np.concatenate([picture(detector.graph, seed) for seed in (1, 2)]))
    sum(output.square().mean() for output in trainable(x)).backward()
    optimiser = torch.optim.SGD(trainable.parameters(), 1e-3)
    optimiser.step()
    result = trainable.trained()
    changed = [
        name
        for name, tensor in detector.graph.tensors().items()
        if hasattr(tensor, "values") and not np.array_equal(tensor.values, result.graph.tensors()[name].values)
    ]
    assert set(changed) <= set(trainable.names)
    assert len(changed) > 0.9 * len(trainable.names)
    with torch.no_grad():
        ours = trainable(x[:1])
    for mine, wanted in zip(ours, run(result.graph, picture(detector.graph, 1)), strict=True):
        np.testing.assert_allclose(mine.numpy(), wanted, rtol=1e-4, atol=1e-4)


def test_an_operator_that_is_not_there_is_named() -> None:
    detector = network(text("y = Hardmax(x)"))
    with pytest.raises(ModelError, match="Hardmax"):
        TrainableNetwork(detector)


def test_a_weight_that_is_no_number_is_not_written() -> None:
    trainable = TrainableNetwork(load("street_ssd"))
    with torch.no_grad():
        trainable.weights[3][0] = float("nan")
    with pytest.raises(ModelError) as error:
        trainable.trained()
    assert error.value.code == "training-not-finite"
    assert error.value.context["tensor"] == trainable.names[3]


def test_normalisation_is_trained_where_asked() -> None:
    detector = small("BatchNormalization")
    assert TrainableNetwork(detector).names == ()
    assert TrainableNetwork(detector, train_normalisation=True).names == ("s", "t")


def test_a_step_passes_its_gradient_on() -> None:
    """A gate decides by a threshold, which has no gradient of its own (straight-through)."""
    detector = network(text("c = Greater(x, a) m = Cast<to=1>(c) y = Mul(m, x)", "float[4,1,1] a"))
    trainable = TrainableNetwork(detector, ["m"])
    x = torch.from_numpy(picture(detector.graph)).requires_grad_()
    [mask] = trainable(x)
    mask.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, torch.ones_like(x))


CHAIN = (
    "c = Conv<pads=[0,0,1,1], strides=[2,2], group=4>(x, w) k = Clip(c, l, h) "
    "y = MaxPool<kernel_shape=[2,2], pads=[0,0,1,1]>(k)"
)


def test_maps_stay_laid_out_with_the_channels_last() -> None:
    made = network(text(CHAIN, "float[4,1,3,3] w, float l, float h"), {"l": np.float32(0), "h": np.float32(6)})
    pictures = np.concatenate([picture(made.graph, seed) for seed in (1, 2)])
    [y] = TrainableNetwork(made, ["y"])(torch.from_numpy(pictures))
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert not y.is_contiguous()


def test_strided_depthwise_convolutions_stay_in_32_bits_on_a_cpu() -> None:
    made = network(text(CHAIN, "float[4,1,3,3] w, float l, float h"), {"l": np.float32(0), "h": np.float32(6)})
    executor = TrainableNetwork(made, ["y"])
    with torch.autocast("cpu", torch.bfloat16):
        [half] = executor(torch.from_numpy(picture(made.graph)))
    assert half.dtype == torch.float32
