"""Fit the FP32 constants of single convolutions on a TX2, beside `fit_prediction.py`.

The measurements are nvprof traces of TensorRT (7 or 8; the logs do not say) building and running 220 convolutions (github
PikaBeka/tensorRT-mbnet). Clocks were not pinned, and differ between traces by a factor of up to seven, so no trace tells
how fast it would be at the highest clock. But each trace also holds the kernels that the builder tried and did not
choose. Here the clock of a trace follows from those, and the chosen kernel is predicted at that clock; the fastest tenth
of the traces is taken to have run at the highest clock.
"""

from __future__ import annotations

import math
import warnings
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from prediction_data import gpu, rows

from deploycc.prediction.launches import Launch
from deploycc.prediction.stacks import Model
from deploycc.prediction.times import LaunchTable, launch_times

PRIORS = {"winograd": 1.1, "direct": 0.8, "bandwidth": 0.6}
_RUN = 9000  # calls from which on a kernel is the chosen one; the builder tries each about three times
_AT_THE_HIGHEST_CLOCK = 0.1  # share of the traces

Trace = dict[str, tuple[float, float]]
"""Kernel to its calls and its shortest time in milliseconds."""


@dataclass(frozen=True)
class Convolutions:
    """Single convolutions.

    Attributes:
        table: as launches.
        kernels: of each.
        measured: shortest time of the chosen kernel, milliseconds.
        tried: tile width to the shortest time of the kernels of that width that were tried and not chosen.
    """

    table: LaunchTable
    kernels: np.ndarray
    measured: np.ndarray
    tried: dict[int, np.ndarray]

    def at_width(self, model: Model, width: int) -> np.ndarray:
        """Predicted times of the kernel of one tile width, which does not use Winograd's method."""
        tiles = tuple((kernels, rate) for kernels, rate in model.kernel_tiles if kernels == width)
        plain = model.model_copy(update={"kernel_tiles": tiles, "winograd": model.direct})
        return launch_times(self.table, gpu("Jetson TX2"), plain, "fp32").total

    def clocks(self, model: Model) -> np.ndarray:
        """How many times slower than predicted the kernels were that were not chosen, by trace."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a trace without other kernels gives NaN
            return np.nanmedian(np.stack([self.tried[w] / self.at_width(model, w) for w in self.tried]), axis=0)

    def predict(self, model: Model) -> np.ndarray:
        """Milliseconds at the highest clock."""
        return launch_times(self.table, gpu("Jetson TX2"), model, "fp32").total


def read(facts: Path) -> Convolutions:
    """Read the traces in which one kernel was chosen."""
    traces: dict[tuple[int, ...], Trace] = defaultdict(dict)
    for row in rows(facts / "board-data" / "tx2-conv-mbnet" / "kernels.csv"):
        if row["library"] == "tensorrt":
            at = tuple(int(row[name]) for name in ("c", "hw", "k", "rs"))
            traces[at][row["kernel"]] = (float(row["calls"]), float(row["min_ms"]))
    chosen: dict[tuple[int, ...], float] = {}
    for at, trace in traces.items():
        ran = [ms for kernel, (calls, ms) in trace.items() if calls >= _RUN and "mem" not in kernel]
        if len(ran) == 1:
            chosen[at] = ran[0]
    return Convolutions(
        LaunchTable.of([_launch(*at) for at in chosen]),
        np.array([at[2] for at in chosen]),
        np.array(list(chosen.values())),
        {width: np.array([_tried(traces[at], width) for at in chosen]) for width in (32, 64, 128)},
    )


def _launch(channels: int, size: int, kernels: int, window: int) -> Launch:
    depth, pixels = channels * window**2, size**2
    return Launch(
        "conv", "convolution", ("conv",), macs=pixels * kernels * depth, pixels=pixels, kernels=kernels, depth=depth,
        window=(window, window), read=channels * pixels, written=kernels * pixels, weights=kernels * depth,
    )  # fmt: skip


def _tried(trace: Trace, width: int) -> float:
    times = [
        ms
        for kernel, (calls, ms) in trace.items()
        if f"scudnn_128x{width}_relu" in kernel and "winograd" not in kernel and calls < _RUN
    ]
    return min(times, default=math.nan)


def bare(model: Model) -> Model:
    """The model of a GPU kernel alone: nothing for the launch or the network."""
    return model.model_copy(update={"launch_cycles": 0.0, "launch_us": 0.0, "network_ms": 0.0})


def fit(data: Convolutions, start: Model, kept: np.ndarray) -> Model:
    """Fit the constants of `PRIORS` to some of the convolutions, by absolute errors of logarithms."""
    from fit_prediction import minimise

    def model(x: np.ndarray) -> Model:
        return bare(start).model_copy(update=dict(zip(PRIORS, map(float, np.exp(x)), strict=True)))

    def loss(x: np.ndarray) -> float:
        made = model(x)
        clock = data.clocks(made)
        errors = [np.log(data.predict(made) * clock / data.measured)]
        errors += [np.log(data.tried[w] / data.at_width(made, w) / clock) / len(data.tried) for w in data.tried]
        anchor = abs(math.log(float(np.nanquantile(clock[kept], _AT_THE_HIGHEST_CLOCK))))
        return float(sum(np.nanmean(np.abs(each[kept])) for each in errors) + anchor)

    return model(minimise(loss, np.log(list(PRIORS.values()))))


def left_out(data: Convolutions, start: Model, folds: int = 5) -> np.ndarray:
    """Predicted over measured, each fifth of the convolutions by a fit to the others, at the clock of each trace."""
    fold = np.random.default_rng(0).integers(0, folds, len(data.measured))
    ratios = np.zeros(len(data.measured))
    for number in range(folds):
        made = fit(data, start, fold != number)
        ratios[fold == number] = (data.predict(made) * data.clocks(made) / data.measured)[fold == number]
    return ratios
