"""Gates before they are trained: which kernels begin switched off, and how a picture changes that.

The kernels that are worth least begin switched off in every picture. Near the border between off and on, a picture in
which the outputs depend more on the gated layers engages more kernels of each. That is how much gates may vary before
training: weights can make up for kernels that are always off, much less for those that come and go (on a MobileNet-SSD
of 21 classes with a quarter of eight layers off, refitting left 0.14 of the divergence if the same kernels were off in
all pictures, 0.16 to 0.20 with 1.5 to 3.4 points of variation in this way, and 0.25 to 0.37 where each kernel followed
what it was worth in the picture by itself, although those kernels were worth less).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from deploycc.distillation.picture_worth import PictureWorth
from deploycc.trainable.gate import KernelGate
from deploycc.trainable.gated import GatedNetwork

Array = NDArray[np.float64]
_RIDGES = (0.01, 0.1, 1.0, 10.0, 100.0)
_HELD_OUT = 5  # every fifth picture decides on the ridge
_MOST_OFF = 0.5  # of a layer's units: single worths do not say what many are worth together
_FAINT = 1e-3  # of the mean worth is added to each: the logarithm of nothing says too much


def start_by_worth(network: GatedNetwork, worth: PictureWorth, off: float, spread: float) -> None:
    """Let gates begin with what kernels are worth, in all pictures and in each.

    Args:
        network: its gates are changed.
        worth: of kernels; gates of other layers stay as they are.
        off: share of the gated MACs that begins switched off; below 0, none.
        spread: see `follow_pictures`.
    """
    start_in_order(network, worth.mean_worths(), off)
    follow_pictures(network, worth, spread)


def start_in_order(network: GatedNetwork, worths: Mapping[str, Array], off: float) -> None:
    """Let the units that are worth least per multiply-accumulate begin switched off, whatever their layer.

    Args:
        network: its gates are changed.
        worths: of kernels, by layer; gates of other layers stay as they are.
        off: share of the multiply-accumulates that begins switched off; below 0, none.
    """
    gates: list[KernelGate] = []
    values: list[Array] = []
    macs: list[Array] = []
    for name, gate in network.deciding:
        worth = worths.get(name)
        if worth is None or len(worth) != gate.kernels:
            continue
        unit_of = gate.get_buffer("unit_of").numpy()
        sizes = np.bincount(unit_of, minlength=gate.units).astype(np.float64) * (network.macs[name] / gate.kernels)
        gates.append(gate)
        values.append(np.bincount(unit_of, worth, gate.units) / sizes)
        macs.append(sizes)
    for gate, place in zip(gates, _places(values, macs) if gates else [], strict=True):
        gate.start_in_order(torch.from_numpy(place), off)


def follow_pictures(network: GatedNetwork, evidence: PictureWorth, spread: float) -> None:
    """Let gates that began in order engage more in pictures in which the outputs depend more on all their layers.

    All gates follow one number of each picture: the mean of the logarithms of what the gated layers are worth in it,
    each with deviation 1. From what a gate reads, a linear function is fitted to it by least squares. If each gate
    followed its own layer's worth, one layer would fall where others rise, and each would vary more for the same spread
    of the whole (on a MobileNet-SSD of 21 classes, one of eight layers had a correlation of -0.65 with others).

    Args:
        network: its gates are changed.
        evidence: layers without stay as they are.
        spread: standard deviation that the engaged share of the gated MACs has between pictures, where layers read what
            they do without gates.
    """
    worths = {
        name: values for name, values in evidence.worths.items() if name in network.macs and len(values) >= _HELD_OUT
    }
    if not worths:
        return
    need = np.mean([_standardised_logarithm(values.sum(1)) for values in worths.values()], axis=0)
    found = {name: _fit(evidence.means[name], need) for name in worths}
    # Layers that rise together spread further than those that do not.
    together = np.sum([network.macs[name] * values for name, (_, _, values) in found.items()], axis=0)
    together_std = float(together.std()) / sum(network.macs[name] for name in found)
    for name, gate in network.deciding:
        if name in found and together_std > 0:
            weights, bias, _ = found[name]
            gate.follow(torch.from_numpy(weights).float(), bias, spread / together_std)


def _standardised_logarithm(values: Array) -> Array:
    """Return logarithms with mean 0 and deviation 1, of values from 0; equal ones are 0."""
    logarithms = np.log(values + _FAINT * values.mean() + np.finfo(float).tiny)
    return np.asarray((logarithms - logarithms.mean()) / (logarithms.std() or 1.0), np.float64)


def _fit(inputs: Array, goal: Array) -> tuple[Array, float, Array]:
    """Return weights, bias and values of a linear function that rises with the goal, with mean 0 and deviation 1."""
    centre, scale = inputs.mean(0), inputs.std(0) + 1e-6 * (1 + np.abs(inputs).max())
    x, y = (inputs - centre) / scale, goal - goal.mean()
    held_out = np.arange(len(x)) % _HELD_OUT == _HELD_OUT - 1
    slopes = [_ridge_regression(x[~held_out], y[~held_out], ridge) for ridge in _RIDGES]
    best = min(slopes, key=lambda slope: float(np.square(x[held_out] @ slope - y[held_out]).sum()))
    values = x @ best
    deviation = float(values.std()) or 1.0
    weights = best / scale / deviation
    return weights, -float(centre @ weights), values / deviation


def _ridge_regression(x: Array, y: Array, ridge: float) -> Array:
    """Minimise the mean square error plus a penalty of the slopes, for columns of deviation 1."""
    return np.asarray(np.linalg.solve(x.T @ x / len(x) + ridge * np.eye(x.shape[1]), x.T @ y / len(x)), np.float64)


def layers_with_spare(
    macs: Mapping[str, int], worths: Mapping[str, Array], off: float, least: float
) -> tuple[str, ...]:
    """Return the layers of which enough kernels are worth so little that they would begin switched off.

    Args:
        macs: of each layer.
        worths: of kernels, by layer; layers without are among those returned.
        off: share of the multiply-accumulates of all layers that would begin switched off.
        least: share of a layer's kernels that is enough; 0, or more than any layer has: all are returned.
    """
    known = [name for name in macs if name in worths]
    sizes: list[Array] = [np.full(len(worths[name]), macs[name] / len(worths[name])) for name in known]
    values = [worths[name] / size for name, size in zip(known, sizes, strict=True)]
    places = _places(values, sizes) if known else []
    full = {name for name, place in zip(known, places, strict=True) if (place < off).mean() < least}
    return tuple(name for name in macs if name not in full) or tuple(macs)


def _places(values: Sequence[Array], macs: Sequence[Array]) -> list[Array]:
    """Return each unit's place, 0 to 1, in the order of the values, which counts multiply-accumulates.

    The better half of each layer comes after the worse halves of all.
    """
    flat, weights = np.concatenate(values), np.concatenate(macs)
    better = np.concatenate([np.argsort(np.argsort(each, kind="stable")) >= _MOST_OFF * len(each) for each in values])
    order = np.lexsort((flat, better))
    before = np.empty(len(flat))
    before[order] = (np.cumsum(weights[order]) - weights[order]) / weights.sum()
    return np.split(before, np.cumsum([len(each) for each in values])[:-1])
