"""Gates begin with the kernels off that are worth least, and let a picture that needs more of a layer have more."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch, of the extra train, is not installed")

from folded_detector import folded  # noqa: E402
from mutation import mutant  # noqa: E402

import deploycc  # noqa: E402
from deploycc.detector import Detector  # noqa: E402
from deploycc.distillation import gate_start  # noqa: E402
from deploycc.distillation.gate_start import layers_with_spare, start_in_order  # noqa: E402
from deploycc.distillation.picture_worth import PictureWorth  # noqa: E402
from deploycc.trainable.gated import GatedNetwork, GateShape  # noqa: E402

LAYERS = ("backend.1.0/conv/Conv", "backend.2.0/conv/Conv")
"""The first has more MACs."""


@pytest.fixture(scope="module")
def teacher() -> Detector:
    return deploycc.load("street_ssd")


@pytest.mark.parametrize("shape", [GateShape(hidden=8), GateShape("block", 32, hidden=8)])
def test_units_worth_least_per_mac_start_switched_off(teacher: Detector, shape: GateShape) -> None:
    layers = LAYERS
    network = GatedNetwork(folded(teacher), [], [], layers, shape)
    rising, falling = np.arange(1.0, 129.0), np.arange(128.0, 0.0, -1.0)
    start_in_order(network, {layers[0]: rising, layers[1]: falling}, 0.3)
    first, second = (gate.decide.bias.detach() for _, gate in network.deciding)
    assert torch.equal(first, first.sort().values)
    assert torch.equal(second, second.sort(descending=True).values)
    macs = np.array([network.macs[name] for name in layers])
    off = sum(int((part < 0).sum()) / len(part) * share for part, share in zip((first, second), macs, strict=True))
    assert 0.3 <= off / macs.sum() < 0.3 + 1 / len(first)  # up to the unit in which the share ends
    ratio = macs[0] / macs[1]
    assert ratio > 2
    half, unit = len(first) // 2, 3 * len(second) // 4
    cheaper = rising.reshape(len(first), -1).sum(1) / ratio < falling.reshape(len(second), -1).sum(1)[unit]
    assert torch.equal(first[:half] < second[unit], torch.from_numpy(cheaper[:half]))
    worse, better = torch.cat([first[:half], second[half:]]), torch.cat([first[half:], second[:half]])
    assert worse.max() < better.min()  # a layer keeps the better half of its units
    assert not any(gate.decide.weight.any() for _, gate in network.deciding)


@pytest.mark.parametrize(
    ("off", "least", "expected"),
    [
        (0.25, 0.0, ("low", "none", "high", "mixed")),
        (0.25, 0.1, ("low", "none", "mixed")),
        (0.25, 0.45, ("low", "none")),
        (0.25, 0.9, ("none",)),
        (0.25, 1.1, ("none",)),
        (-0.1, 0.1, ("none",)),
    ],
)
def test_layers_without_kernels_to_spare_get_no_gate(off: float, least: float, expected: tuple[str, ...]) -> None:
    """A quarter of the multiply-accumulates is half of ``low`` and three eighths of ``mixed``."""
    macs = {"low": 100, "none": 100, "high": 300, "mixed": 400}
    worths = {"low": np.full(10, 0.1), "high": np.full(10, 90.0), "mixed": np.r_[np.full(2, 1.0), np.full(6, 80.0)]}
    assert layers_with_spare(macs, worths, off, least) == expected


def test_where_no_layer_has_kernels_to_spare_all_get_gates() -> None:
    assert layers_with_spare({"one": 100, "other": 100}, {"one": np.ones(4), "other": np.ones(4)}, 0.1, 0.9) == (
        "one",
        "other",
    )


def test_where_as_many_may_stay_as_the_loss_allows_all_start_switched_on(teacher: Detector) -> None:
    network = GatedNetwork(folded(teacher), [], [], ("backend.2.0/conv/Conv",), GateShape(hidden=8))
    start_in_order(network, {"backend.2.0/conv/Conv": np.arange(128.0)}, -0.1)
    assert all(bool((gate.decide.bias > 0).all()) for _, gate in network.deciding)


def test_a_layer_without_worths_starts_as_before(teacher: Detector) -> None:
    layers = LAYERS
    network = GatedNetwork(folded(teacher), [], [], layers, GateShape(hidden=8))
    start_in_order(network, {layers[1]: np.ones(7)}, 0.3)
    assert all(bool((gate.decide.bias == 2.0).all()) for _, gate in network.deciding)


def pictures_with_need(network: GatedNetwork, count: int = 120) -> PictureWorth:
    """Pictures in which a layer is worth more the more of some of its channels there is; in others it is noise."""
    rng = np.random.default_rng(5)
    need = rng.normal(size=count)
    worths, means = {}, {}
    for name, gate in network.deciding:
        channels = (gate.squeeze or gate.decide).weight.shape[1]
        read = rng.normal(2.0, 1.0, (count, channels)) * 0.1
        read[:, 3] = 5.0 + 0.5 * need
        read[:, 40] = 1.0 - 0.2 * need
        worths[name] = np.exp(need[:, None] + 0.3 * rng.normal(size=(count, gate.kernels))) * np.arange(1, 129)
        means[name] = read
    return PictureWorth(worths, means)


def opposed(evidence: PictureWorth) -> PictureWorth:
    """The last layer is worth less in pictures in which the others are worth more."""
    last = [*evidence.worths][-1]
    worths = evidence.worths[last]
    return PictureWorth({**evidence.worths, last: worths.mean(0) ** 2 / worths}, evidence.means)


def engaged(network: GatedNetwork, evidence: PictureWorth) -> dict[str, np.ndarray]:
    """Number of the kernels that each picture engages, by layer."""
    found = {}
    for name, gate in network.deciding:
        with torch.no_grad():
            mask = gate(torch.from_numpy(evidence.means[name]).float()[:, :, None, None])
        found[name] = mask.sum((1, 2, 3)).numpy()
    return found


def shares(network: GatedNetwork, evidence: PictureWorth) -> np.ndarray:
    """Share of the gated MACs that gates engage on maps with these means."""
    found = engaged(network, evidence)
    total = sum(found[name] / gate.kernels * network.macs[name] for name, gate in network.deciding)
    return np.asarray(total / sum(network.macs.values()))


def begun(teacher: Detector, hidden: int, module: ModuleType = gate_start) -> tuple[np.ndarray, np.ndarray]:
    torch.manual_seed(0)
    network = GatedNetwork(folded(teacher), [], [], LAYERS, GateShape(hidden=hidden))
    evidence = pictures_with_need(network)
    module.start_by_worth(network, evidence, 0.3, 0.04)
    return shares(network, evidence), np.log(evidence.worths[LAYERS[0]].sum(1))


@pytest.mark.parametrize("hidden", [0, 8])
def test_pictures_that_need_more_engage_more(teacher: Detector, hidden: int) -> None:
    found, need = begun(teacher, hidden)
    assert found.mean() == pytest.approx(0.7, rel=0, abs=0.01)
    assert found.std() == pytest.approx(0.04, rel=0.15, abs=0)
    assert np.corrcoef(found, need)[0, 1] > 0.9


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("-float(centre @ weights)", "float(centre @ weights)"),
        ("/ scale / deviation", "/ deviation"),
        ("spread / together_std", "0.5 * spread"),
        ("logarithm(values.sum(1))", "logarithm(values.sum(1)[::-1])"),
    ],
)
def test_planted_bugs_are_caught(teacher: Detector, old: str, new: str) -> None:
    found, need = begun(teacher, 8, mutant(gate_start, old, new))
    wrong = abs(found.mean() - 0.7) > 0.01 or abs(found.std() / 0.04 - 1) > 0.15
    assert wrong or np.corrcoef(found, need)[0, 1] < 0.9


def test_all_layers_engage_more_in_the_same_pictures(teacher: Detector) -> None:
    """Otherwise one layer takes back what others give, and each must vary more for the same spread of the whole."""
    torch.manual_seed(0)
    network = GatedNetwork(folded(teacher), [], [], (*LAYERS, "backend.2.1/conv/Conv"), GateShape(hidden=8))
    evidence = opposed(pictures_with_need(network))
    gate_start.start_by_worth(network, evidence, 0.2, 0.04)
    found = np.array([*engaged(network, evidence).values()])
    assert np.corrcoef(found).min() > 0.8
    assert shares(network, evidence).std() == pytest.approx(0.04, rel=0.15, abs=0)


def test_what_no_picture_changes_is_the_same_in_all(teacher: Detector) -> None:
    network = GatedNetwork(folded(teacher), [], [], LAYERS, GateShape(hidden=8))
    evidence = pictures_with_need(network)
    same = PictureWorth({name: np.ones_like(values) for name, values in evidence.worths.items()}, evidence.means)
    gate_start.start_by_worth(network, same, 0.3, 0.04)
    assert len(set(shares(network, evidence).round(6))) == 1
