"""How long single convolutions take on one machine: what decides how many kernels a layer keeps.

The time of a convolution is a staircase over its channels, because kernels are computed in blocks of 8 or 16: a few
channels more may cost nothing, and a few fewer may leave the fast path. Each convolution is timed in ONNX Runtime
between two small ones (`single_convolution`), whose time is included.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Literal

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx import TensorProto, helper, numpy_helper

from deploycc.documents.costs import Convolution, CostTable, Machine, ProfiledNetwork, Timing
from deploycc.documents.document import Evidence, this_tool
from deploycc.graph.edit import static_shape
from deploycc.timing.machine import check_machine
from deploycc.timing.timer import LocalTimer, Timer

ROUNDS = 3
_NEIGHBOUR = 16  # channels of the maps before and after a convolution that is timed


class Costs:
    """Times of convolutions; those that are not known yet are measured on demand.

    Attributes:
        machine: whose times they are.
        timer: measures there.
        profiles: of whole networks.
    """

    def __init__(
        self,
        machine: Machine,
        table: CostTable | None = None,
        *,
        rounds: int = ROUNDS,
        timer: Timer | None = None,
        keep: Callable[[CostTable], None] | None = None,
        together: bool = False,
    ) -> None:
        """Start with a table of the machine, or with nothing.

        Args:
            machine: whose times they are.
            table: times that were measured there before.
            rounds: number of samples of each convolution.
            timer: of the machine; None: it is this one.
            keep: told everything that is known after each profile, which takes long to measure again.
            together: convolutions that are measured at once may be timed in one engine; see `Timer.time_small`.

        Raises:
            ArtefactError: ``costs-other-machine``.
        """
        if table is not None:
            check_machine(table.machine, machine)
        self.machine, self._rounds = machine, rounds
        self.timer: Timer = timer or LocalTimer(machine)
        self._known = {} if table is None else {timing.convolution: timing for timing in table.timings}
        self.profiles = [] if table is None else list(table.profiles)
        self._keep, self._together = keep, together

    evidence: Literal["measured"] = "measured"

    def describe(self) -> str:
        """The machine in words."""
        return self.machine.describe()

    def unknown(self, convolutions: Iterable[Convolution]) -> list[Convolution]:
        """Return those that were not measured yet, each once."""
        return [convolution for convolution in dict.fromkeys(convolutions) if convolution not in self._known]

    def measure(self, convolutions: Iterable[Convolution]) -> None:
        """Time those that are not known yet, in turns.

        Raises:
            MeasureError: ``onnxruntime-refuses``.
        """
        new = self.unknown(convolutions)
        if self._together:
            times = self.timer.time_small([_model(convolution) for convolution in new], self._rounds)
        else:
            times = self.timer.time_calls([self.timer.load(*_model(convolution)) for convolution in new], self._rounds)
        for convolution, samples_ms in zip(new, times, strict=True):
            self._known[convolution] = Timing(convolution=convolution, samples_ms=samples_ms)

    def time_ms(self, convolution: Convolution) -> float:
        """Return the median time of a convolution that was measured."""
        return self._known[convolution].median_ms

    def samples_ms(self, convolution: Convolution) -> tuple[float, ...]:
        """Return all samples of a convolution that was measured."""
        return self._known[convolution].samples_ms

    def add_profile(self, profile: ProfiledNetwork) -> None:
        """Add what the profiles of one network told."""
        self.profiles.append(profile)
        if self._keep is not None:
            self._keep(self.table())

    def table(self) -> CostTable:
        """Return everything that is known, as a document."""
        evidence = Evidence(kind="measured", source=self.machine.describe())
        return CostTable(
            tool=this_tool(),
            evidence=evidence,
            machine=self.machine,
            timings=tuple(self._known.values()),
            profiles=tuple(self.profiles),
        )


def convolution_of(node: gs.Node) -> Convolution | None:
    """Read a node; None for other operators, and for shapes that are not static or not two-dimensional."""
    if node.op != "Conv":
        return None
    source, weight = static_shape(node.inputs[0]), static_shape(node.inputs[1])
    if source is None or weight is None or len(source) != 4 or node.attrs.get("auto_pad", "NOTSET") != "NOTSET":
        return None
    return Convolution(
        inputs=source[1],
        kernels=weight[0],
        groups=int(node.attrs.get("group", 1)),
        kernel=(weight[2], weight[3]),
        stride=tuple(node.attrs.get("strides", (1, 1))),
        dilation=tuple(node.attrs.get("dilations", (1, 1))),
        pads=tuple(node.attrs.get("pads", (0, 0, 0, 0))),
        size=(source[2], source[3]),
    )


def own_share(convolution: Convolution) -> float:
    """Return the share of the multiply-accumulates of `single_convolution` that are not its neighbours'.

    Maps are large and channels few in a detector's first layers: there the neighbours compute more than a depthwise
    convolution between them does.
    """
    c = convolution
    ends = zip(c.size, c.pads[:2], c.pads[2:], c.kernel, c.stride, c.dilation, strict=True)
    made = math.prod((n + a + b - step * (k - 1) - 1) // stride + 1 for n, a, b, k, stride, step in ends)
    own = made * c.kernels * c.inputs // c.groups * math.prod(c.kernel)
    return float(own / (own + _NEIGHBOUR * (c.inputs * math.prod(c.size) + c.kernels * made)))


def _model(convolution: Convolution) -> tuple[onnx.ModelProto, dict[str, object]]:
    return single_convolution(convolution), {"convolution": convolution.model_dump_json()}


def single_convolution(convolution: Convolution) -> onnx.ModelProto:
    """Return a network of this convolution and a ReLU, between 1x1 convolutions from and to 16 channels.

    Weights are seeded. Between convolutions, ONNX Runtime keeps maps in blocks of channels where the channel counts
    allow it, and rearranges them where they do not: the neighbours make that cost appear, as inside a network.
    """
    c = convolution
    window = {"kernel_shape": c.kernel, "strides": c.stride, "dilations": c.dilation, "pads": c.pads}
    shapes = {
        "w_in": (c.inputs, _NEIGHBOUR, 1, 1), "w": (c.kernels, c.inputs // c.groups, *c.kernel), "b": (c.kernels,),
        "w_out": (_NEIGHBOUR, c.kernels, 1, 1),
    }  # fmt: skip
    generator = np.random.default_rng(0)
    constants = [
        numpy_helper.from_array(generator.standard_normal(shape, np.float32), name) for name, shape in shapes.items()
    ]
    nodes = [
        helper.make_node("Conv", ["x", "w_in"], ["before"]),
        helper.make_node("Conv", ["before", "w", "b"], ["c"], group=c.groups, **window),  # type: ignore[arg-type]
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Conv", ["r", "w_out"], ["y"]),
    ]
    source = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, _NEIGHBOUR, *c.size])
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, _NEIGHBOUR, None, None])
    graph = helper.make_graph(nodes, "convolution", [source], [result], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
