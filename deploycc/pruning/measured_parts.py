"""How long convolutions take with fewer channels: some counts are timed, others lie between them.

The time over the kernels is a staircase, which no few counts show. ONNX Runtime computes kernels in sets of 64 and
shares out sets and rows among its threads: with two of them, 208 kernels take as long as 256, and 192 three quarters.
Where timing a convolution builds nothing, every count that a search may take of the upper half is timed.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from deploycc.documents.costs import Convolution
from deploycc.graph.channels.groups import ChannelGroups
from deploycc.progress import Say, quiet
from deploycc.pruning.goal_search import narrow_multiple
from deploycc.timing.convolutions import Costs, convolution_of, own_share

_PARTS = 4  # a quarter, a half... of the channels are timed

Array = NDArray[np.float64]


class MeasuredConvolution:
    """The time of one convolution by the channels that it reads and writes.

    Of two numbers of channels only one is changed at a time: ``t(i, k) = t(i, all) t(all, k) / t(all, all)``.

    Attributes:
        tensors: that it reads and writes.
    """

    def __init__(self, node: gs.Node, inputs: dict[int, float], kernels: dict[int, float]) -> None:
        """Start with times.

        Args:
            node: the convolution.
            inputs: milliseconds by number of inputs, with all kernels.
            kernels: milliseconds by number of kernels, with all inputs.
        """
        self.tensors = (node.inputs[0].name, node.outputs[0].name)
        self._inputs, self._kernels = _curve(inputs), _curve(kernels)
        self._full_ms = float(self._kernels[1][-1])

    def costs(self, kept: NDArray[np.int64]) -> Array:
        """Return the times in milliseconds, [cases], for inputs and kernels that stay, [cases, 2]."""
        by_inputs, by_kernels = (
            np.interp(kept[:, axis], *curve) for axis, curve in enumerate((self._inputs, self._kernels))
        )
        return np.asarray(by_inputs * by_kernels / self._full_ms, np.float64)


def measured_parts(
    graph: gs.Graph, groups: ChannelGroups, removable: Collection[int], multiple: int, costs: Costs, say: Say = quiet
) -> list[MeasuredConvolution]:
    """Return the convolutions whose time depends on channels that may go.

    Args:
        graph: with all channels.
        groups: channel groups of the graph.
        removable: groups that may go.
        multiple: of channels at which times are taken.
        costs: measures times that it does not know.
        say: told how many convolutions are timed.

    Raises:
        MeasureError: ``onnxruntime-refuses``.
    """
    able = np.zeros(groups.count, np.bool_)
    able[list(removable)] = True

    def shrinks(tensor: gs.Tensor) -> bool:
        labelled = groups.tensors.get(tensor.name)
        return labelled is not None and bool(able[labelled.groups].any())

    wanted, fine = [], not costs.timer.builds
    for node in graph.nodes:
        convolution = convolution_of(node)
        depthwise = convolution is not None and convolution.groups == convolution.inputs
        if convolution is None or not (convolution.groups == 1 or depthwise):
            continue
        reads, makes = shrinks(node.inputs[0]), shrinks(node.outputs[0])
        if reads or makes:
            inputs = _counts(convolution.inputs, multiple) if reads and not depthwise else [convolution.inputs]
            kernels = _counts(convolution.kernels, multiple, fine) if makes else [convolution.kernels]
            by_inputs = {count: convolution.narrowed(count, convolution.kernels) for count in inputs}
            by_kernels = {
                count: convolution.narrowed(count if depthwise else convolution.inputs, count) for count in kernels
            }
            wanted.append((node, by_inputs, by_kernels))
    parts = []
    for number, (node, by_inputs, by_kernels) in enumerate(wanted):
        say("timing convolutions", number, len(wanted))
        costs.measure([*by_inputs.values(), *by_kernels.values()])
        parts.append(MeasuredConvolution(node, _least_ms(by_inputs, costs), _least_ms(by_kernels, costs)))
    return parts


def _least_ms(convolutions: dict[int, Convolution], costs: Costs) -> dict[int, float]:
    """The least sample of each, without its neighbours: whatever else the machine does only adds time."""
    return {count: min(costs.samples_ms(each)) * own_share(each) for count, each in convolutions.items()}


def _counts(channels: int, multiple: int, fine: bool = False) -> list[int]:
    multiple = narrow_multiple(channels, multiple)
    parts = {multiple * round(channels * part / _PARTS / multiple) for part in range(1, _PARTS)}
    if fine:
        parts.update(range(multiple * round(channels / 2 / multiple), channels, multiple))
    return sorted(count for count in {*parts, channels} if 0 < count <= channels)


def _curve(times_ms: dict[int, float]) -> tuple[Array, Array]:
    """Counts and times, ascending; noise only adds time, so none exceeds that of more channels."""
    counts = sorted(times_ms)
    times = np.minimum.accumulate([times_ms[count] for count in reversed(counts)])[::-1]
    if len(counts) == 1:
        return np.array([counts[0]], np.float64), np.asarray(times, np.float64)
    return np.array([0, *counts], np.float64), np.array([0.0, *times])
