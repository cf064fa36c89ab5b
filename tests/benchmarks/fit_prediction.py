"""Fit the constants of `deploycc/prediction/stacks.toml` to public measurements, each network left out once.

    python tests/benchmarks/fit_prediction.py [--facts FOLDER] [--choose]

``--choose`` also prints the errors of networks left out for other tiles, by which these were chosen. Constants are kept near physical values (`PRIORS`: value and relative width), so that
few networks decide them; the fit is least squares of the logarithm of predicted over measured time.
"""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import fit_caffe
import fit_convolutions
import numpy as np
from prediction_data import Networks, Series, facts_folder, gpu, tensorrt_3, tensorrt_8

from deploycc.prediction.launches import Fusion
from deploycc.prediction.stacks import Model

# Relative rates of the tiles of 128 by 32, 64 and 128 kernels on a TX2: medians over the kernels that TensorRT's
# builder timed for 220 convolutions (tx2-conv-mbnet), large maps, where all three run at one clock.
TILES = ((32, 0.87), (64, 0.97), (128, 1.0))

PRIORS = {
    "winograd": (0.9, 0.3),
    "direct": (0.55, 0.3),
    "latency_cycles": (80.0, 0.7),
    "latency_fp16": (0.6, 0.25),
    "depthwise": (0.03, 0.7),
    "pooling": (0.06, 0.7),
    "bandwidth": (0.7, 0.15),
    "launch_us": (10.0, 0.5),
    "launch_cycles": (12e3, 0.5),
    "network_ms": (0.2, 0.7),
    "copy_gb_s": (1.0, 0.4),
}
WEIGHT = 0.003  # of the priors against the measurements


@dataclass(frozen=True)
class Fit:
    """One set of constants to fit."""

    name: str
    fusion: Fusion
    fixed: dict[str, object]
    free: tuple[str, ...]
    series: Sequence[Series]
    networks: Networks

    def model(self, x: np.ndarray) -> Model:
        values = dict(zip(self.free, map(float, np.exp(x)), strict=True))
        return Model.model_construct(**{**DEFAULTS, **self.fixed, **values})

    def logs(self, model: Model) -> np.ndarray:
        """Logarithm of predicted over measured, [series, network]."""
        return np.array(
            [np.log(self.networks.predict(gpu(each.board), model, each.precision) / each.ms) for each in self.series]
        )

    def fit(self, left_out: int | None = None) -> Model:
        start = np.log([PRIORS[name][0] for name in self.free])
        width = np.array([PRIORS[name][1] for name in self.free])
        kept = np.arange(len(self.networks.names)) != (-1 if left_out is None else left_out)

        def loss(x: np.ndarray) -> float:
            prior = WEIGHT * np.sum(((x - start) / width) ** 2)
            return float(prior + np.sum(self.logs(self.model(x))[:, kept] ** 2))

        return self.model(minimise(loss, start))

    def left_out(self) -> np.ndarray:
        """Logarithm of predicted over measured of each network by a fit that has not seen it, [series, network]."""
        columns = [self.logs(self.fit(number))[:, number] for number in range(len(self.networks.names))]
        return np.stack(columns, axis=1)


DEFAULTS: dict[str, object] = {
    "latency_fp16": 1.0, "launch_us": 0.0, "launch_cycles": 0.0, "convolution_us": 0.0, "network_ms": 0.0,
    "copy_gb_s": 0.0, "elementwise_fp32": False, "kernel_tiles": TILES,
}  # fmt: skip


def minimise(loss: Callable[[np.ndarray], float], start: np.ndarray, rounds: int = 80) -> np.ndarray:
    """Pattern search along the axes, for a handful of parameters."""
    x, value, steps = start.copy(), loss(start), np.full(len(start), 0.3)
    for _ in range(rounds):
        for axis in range(len(x)):
            for sign in (1, -1):
                trial = x.copy()
                trial[axis] += sign * steps[axis]
                found = loss(trial)
                if found < value:
                    x, value = trial, found
                    steps[axis] *= 1.3
                    break
            else:
                steps[axis] *= 0.5
        if steps.max() < 1e-3:
            break
    return x


TENSORRT_3 = Fusion(frozenset({"Relu"}), normalisation=True, siblings=True, concatenation=True)
TENSORRT_8 = Fusion(
    frozenset({"Relu", "Clip", "Sigmoid"}),
    normalisation=True, residual=True, chains=True, siblings=True, concatenation=True,
)  # fmt: skip
SHARED = ("winograd", "direct", "latency_cycles", "depthwise", "pooling", "bandwidth")


def fits(facts: Path) -> list[Fit]:
    old, old_series = tensorrt_3(facts)
    plain, plain_series = tensorrt_8(facts, ["Jetson TX2", "Jetson Nano"])
    tensor, tensor_series = tensorrt_8(facts, ["Jetson NX", "Jetson Xavier"])
    return [
        Fit(
            "tensorrt-3.0-pascal", TENSORRT_3, {"pixel_tile": 16, "elementwise_fp32": True},
            (*SHARED, "latency_fp16", "launch_us", "copy_gb_s"), old_series, Networks(old, TENSORRT_3),
        ),
        Fit(
            "tensorrt-8.0-pascal", TENSORRT_8, {"pixel_tile": 64}, (*SHARED, "launch_cycles", "network_ms"),
            plain_series, Networks(plain, TENSORRT_8),
        ),
        Fit(
            "tensorrt-8.0-volta", TENSORRT_8, {"pixel_tile": 64}, (*SHARED, "launch_us"), tensor_series,
            Networks(tensor, TENSORRT_8),
        ),
    ]  # fmt: skip


def spread(logs: np.ndarray) -> float:
    """Standard deviation of one more network's logarithm: root mean square, with the fit's own uncertainty."""
    return float(np.sqrt(np.mean(logs**2)) * math.sqrt(1 + 1 / logs.shape[1]))


def show(fit: Fit, model: Model, logs: np.ndarray) -> None:
    print(f"\n{fit.name}: {len(fit.networks.names)} networks, spread {spread(logs):.3f}")
    for name in fit.free:
        print(f"  {name} = {getattr(model, name):.4g}")
    for number, each in enumerate(fit.series):
        errors = np.exp(logs[number]) - 1
        print(
            f"  {each.board} {each.precision}: left out, mean {np.abs(errors).mean():.1%}, largest "
            f"{np.abs(errors).max():.1%}"
        )


def choose(fit: Fit) -> None:
    """Errors of networks left out with other tiles."""
    for tile in (1, 16, 32, 64, 128):
        other = replace(fit, fixed={**fit.fixed, "pixel_tile": tile})
        errors = np.abs(np.exp(other.left_out()) - 1).mean(axis=1)
        print(f"  {fit.name}, {tile} output positions per tile: " + ", ".join(f"{error:.1%}" for error in errors))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--facts")
    parser.add_argument("--choose", action="store_true")
    arguments = parser.parse_args()
    facts = facts_folder(arguments.facts)
    for fit in fits(facts):
        model = fit.fit()
        show(fit, model, fit.left_out())
        if arguments.choose:
            choose(fit)
        if fit.name == "tensorrt-8.0-pascal":
            show_convolutions(facts, model)
    assets = Path(os.environ.get("DEPLOYCC_ASSETS") or fit_caffe.default_assets())
    if (assets / "prototxt").is_dir():
        show_caffe(facts, assets)


def show_convolutions(facts: Path, model: Model) -> None:
    data = fit_convolutions.read(facts)
    made = fit_convolutions.fit(data, model, np.ones(len(data.measured), bool))
    ratios = fit_convolutions.left_out(data, model)
    print("\ntensorrt-8.0-pascal, fp32: single convolutions")
    for name in fit_convolutions.PRIORS:
        print(f"  {name} = {getattr(made, name):.4g}")
    low, high = np.nanquantile(np.log(ratios), [0.05, 0.95])
    print(
        f"  left out: median error {np.nanmedian(np.abs(ratios - 1)):.1%}, layer spread {(high - low) / 2 / 1.645:.2f}"
    )


def show_caffe(facts: Path, assets: Path) -> None:
    made = fit_caffe.fit(facts, *fit_caffe.caffe_networks(assets))
    print("\ncaffe-cudnn-pascal: table 4 of the white paper, nothing left out")
    for name in fit_caffe.PRIORS:
        print(f"  {name} = {getattr(made, name):.4g}")


if __name__ == "__main__":
    main()
