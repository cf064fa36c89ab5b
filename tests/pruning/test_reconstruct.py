"""Refitting recovers redundant channels, leaves other weights alone, and planted bugs are caught."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from types import ModuleType

import numpy as np
import pytest
from graph_text import network, run
from mutation import mutant
from numpy.typing import NDArray

from deploycc.detector import Detector
from deploycc.errors import InputError, MeasureError
from deploycc.graph.channels.carriers import silence
from deploycc.passes.options import Prune
from deploycc.passes.prune_channels import prune
from deploycc.pruning import reconstruct, responses, windows

COUNT = 15
GONE = {"first": (1, 4, 6, 7), "second": (0, 3)}

TEXT = """<ir_version: 8, opset_import: ["" : 13]>
n (float[1,3,9,8] x, float[8,3,3,3] u, float[8] ub, float[8,1,3,3] d, float[8] db, float[6,8,3,2] v, float[6] vb,
   float[4,6,1,1] w) => (float[1,4,height,width] z) {
 [first] a = Conv<pads=[1,1,1,1]>(x, u, ub)
 [relu] b = Relu(a)
 [depthwise] c = Conv<pads=[1,1,1,1], group=8>(b, d, db)
 [second] e = Conv<pads=[1,0,1,1], strides=[2,1]>(c, v, vb)
 [relu2] f = Relu(e)
 [third] z = Conv(f, w)
}"""


def dependent() -> Detector:
    """Kernels 1, 4, 6, 7 of ``first`` are positive multiples of others, and so is all that the depthwise makes of them.

    So is kernel 0 of ``second``; its kernel 3 answers 9 everywhere.
    """
    random = np.random.default_rng(4)
    u, ub, d = (random.normal(size=shape) for shape in ((8, 3, 3, 3), (8,), (8, 1, 3, 3)))
    v, vb = random.normal(size=(6, 8, 3, 2)), random.normal(size=6)
    for kernel, factor, other in ((1, 0.5, 0), (4, 2.0, 2), (6, 1.5, 3), (7, 0.7, 5)):
        u[kernel], ub[kernel], d[kernel] = factor * u[other], factor * ub[other], d[other]
    v[0], vb[0], v[3], vb[3] = 0.6 * v[1], 0.6 * vb[1], 0 * v[4], 9.0
    values = {"u": u, "ub": ub, "d": d, "db": np.zeros(8), "v": v, "vb": vb}
    return network(TEXT, {name: value.astype(np.float32) for name, value in values.items()})


def read(number: int) -> NDArray[np.float32]:
    return np.random.default_rng(100 + number).normal(size=(1, 3, 9, 8)).astype(np.float32)


def pruned(found: Detector, gone: dict[str, tuple[int, ...]]) -> tuple[Detector, dict[str, tuple[int, ...]]]:
    small = replace(found, graph=found.graph.copy())
    return small, dict(prune(small, Prune(gone)).removed)


def refitted(module: ModuleType = reconstruct) -> tuple[float, float, reconstruct.Reconstruction]:
    """Share of the output's energy that is wrong on new pictures, pruned and refitted."""
    found = dependent()
    small, removed = pruned(found, GONE)
    assert set(removed) == {"first", "second", "depthwise"}
    before = wrong(found, small)
    result = module.reconstruct(found, small, removed, (), read, COUNT)
    return before, wrong(found, small), result


def wrong(found: Detector, small: Detector) -> float:
    errors, energy = 0.0, 0.0
    for number in range(COUNT, COUNT + 5):
        expected, got = run(found.graph, read(number))[0], run(small.graph, read(number))[0]
        errors, energy = errors + float(np.sum((got - expected) ** 2)), energy + float(np.sum(expected**2))
    return errors / energy


def test_redundant_channels_are_recovered_on_unseen_pictures() -> None:
    before, after, result = refitted()
    assert before > 0.1
    assert after < 1e-6
    assert result.pictures == (12, 3)
    assert [layer.name for layer in result.layers] == ["second", "third"], "each depthwise kernel sees what it saw"
    for layer in result.layers:
        assert layer.ridge == reconstruct.RIDGES[0]
        assert layer.error[0] > 0.1
        assert layer.error[1] < 1e-6


BUGS = [
    (reconstruct, "goal - (x @ weight + bias[:, None, :])", "goal - x @ weight"),
    (reconstruct, "(weight + change[:, :-1])", "(weight - change[:, :-1])"),
    (reconstruct, ".transpose(0, 2, 1).reshape(old.shape)", ".reshape(old.shape)"),
    (reconstruct, "                step += 1\n", ""),
    (reconstruct, "(bias + change[:, -1])", "bias"),
    (responses, "response[self.kept]", "response[: len(self.kept)]"),
    (windows, "(row * self.strides[0])", "(row * self.strides[1])"),
    (windows, "(top, bottom), (left, right)", "(top, bottom), (right, left)"),
    (windows, "np.divmod(positions, self.width)", "np.divmod(positions, self.width + 1)"),
]  # fmt: skip


@pytest.mark.parametrize(("module", "old", "new"), BUGS, ids=range(len(BUGS)))
def test_planted_bugs_are_caught(module: ModuleType, old: str, new: str, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = mutant(module, old, new)
    for name in ("Windows", "target_of"):
        if hasattr(broken, name):
            monkeypatch.setattr(reconstruct, name, getattr(broken, name))
    try:
        _, after, result = refitted(broken if module is reconstruct else reconstruct)
    except (ValueError, IndexError):
        return
    assert max(after, *(layer.error[1] for layer in result.layers)) > 1e-4


def test_an_irrecoverable_error_is_reduced() -> None:
    found = dependent()
    small, removed = pruned(found, {"first": (0, 2)})
    before = wrong(found, small)
    result = reconstruct.reconstruct(found, small, removed, (), read, 40)
    second = next(layer for layer in result.layers if layer.name == "second")
    assert 0 < second.error[1] < second.error[0]
    assert wrong(found, small) < before


def test_weights_stay_if_every_change_increases_the_held_out_error() -> None:
    """The removed kernel 1 equals kernel 0 on fitted pictures, and is its opposite on held-out ones."""
    found = network(
        '<ir_version: 8, opset_import: ["" : 13]> n (float[1,2,4,4] x, float[2,2,1,1] u, float[1,2,1,1] v) => '
        "(float[1,1,4,4] z) { [first] a = Conv(x, u)\n [second] z = Conv(a, v) }",
        {"u": np.eye(2, dtype=np.float32).reshape(2, 2, 1, 1)},
    )

    def pictures(sign: int, number: int) -> NDArray[np.float32]:
        same = read(number)[:, :1, :4, :4]
        return np.concatenate([same, same * (sign if number % 5 == 4 else 1)], axis=1)

    small, removed = pruned(found, {"first": (1,)})
    second = next(node for node in small.graph.nodes if node.name == "second")
    old = np.array(second.inputs[1].values)
    (layer,) = reconstruct.reconstruct(found, small, removed, (), partial(pictures, -1), 10).layers
    assert layer.ridge is None
    assert layer.error[0] == layer.error[1]
    np.testing.assert_allclose(second.inputs[1].values, old, rtol=0, atol=0)
    (layer,) = reconstruct.reconstruct(found, small, removed, (), partial(pictures, 1), 10).layers
    assert layer.ridge is not None
    assert layer.error[1] < 1e-6 * layer.error[0]


def test_kernels_of_zeros_stay_zero() -> None:
    """They may carry constants of removed channels, which readers count on."""
    found = dependent()
    small, removed = pruned(found, {"first": GONE["first"]})
    silence(small.graph, {"second": (2,)})
    result = reconstruct.reconstruct(found, small, removed, (), read, COUNT)
    assert [layer.name for layer in result.layers if layer.ridge is not None] == ["second", "third"]
    second = next(node for node in small.graph.nodes if node.name == "second")
    for constant in second.inputs[1:]:
        assert not constant.values[2].any()


def test_nothing_to_refit() -> None:
    found = dependent()
    small, removed = pruned(found, {})
    assert reconstruct.reconstruct(found, small, removed, (), read, COUNT).layers == ()


def test_other_layers_are_listed_in_notes() -> None:
    found = network(
        '<ir_version: 8, opset_import: ["" : 13]> n (float[1,3,4,4] x, float[4,3,1,1] u, float[4,2,2,2] v) => '
        "(float[1,2,8,8] z) { [first] a = Conv(x, u)\n [up] z = ConvTranspose<strides=[2,2]>(a, v) }"
    )
    small, removed = pruned(found, {"first": (2,)})
    result = reconstruct.reconstruct(found, small, removed, (), lambda n: read(n)[:, :, :4, :4], COUNT)
    assert [(note.node, note.code) for note in result.notes] == [("up", "reconstruct-unsupported")]
    assert not result.layers


def test_too_few_pictures_are_refused() -> None:
    found = dependent()
    small, removed = pruned(found, GONE)
    with pytest.raises(InputError, match="reconstruct-few-pictures"):
        reconstruct.reconstruct(found, small, removed, (), read, reconstruct.HELD_OUT - 1)


def test_pictures_that_make_no_finite_response_are_refused() -> None:
    found = dependent()
    small, removed = pruned(found, GONE)
    with pytest.raises(MeasureError, match="response-not-finite"):
        reconstruct.reconstruct(found, small, removed, (), lambda n: read(n) * np.float32(np.nan), COUNT)
