"""What a verification says when a network computes something else, or gives numbers that are not finite."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from deploycc.errors import ModelError

if TYPE_CHECKING:
    import numpy as np
    import onnx_graphsurgeon as gs
    from numpy.typing import NDArray

    from deploycc.detector import Detector
    from deploycc.verification.comparison import Difference

Against = Literal["file", "import", "pruned"]

_AGAINST: Mapping[Against, str] = {
    "file": "what its file computes",
    "import": "what the imported network computes",
    "pruned": "what the pruned network computes",
}


def differs_error(detector: Detector, against: Against, worst: Difference, since: str, tolerance: float) -> ModelError:
    """Say which output of a compiled network is wrong, how far, and since which pass.

    Args:
        detector: of the reference.
        against: what the network was compared with.
        worst: the largest difference.
        since: the pass that made it, ``import``, or ``writing the file``.
        tolerance: what was allowed.
    """
    return ModelError(
        "network-differs",
        f"the compiled network does not compute {_AGAINST[against]}",
        context={
            "file": detector.source.files[0],
            "output": worst.output,
            "difference": f"{worst.share:.2g} of the largest value; {tolerance:g} is allowed",
            "since": since,
        },
        note="both were run on seeded pictures in ONNX Runtime",
        hint="this is a fault of deploycc: please report it with the model; `verify=False` compiles without comparing",
    )


def not_finite_error(graph: gs.Graph, detector: Detector, output: str, picture: NDArray[np.float32]) -> ModelError:
    """Name the first tensor of a network that holds NaN or infinity.

    Args:
        graph: the network.
        detector: that it belongs to, for its input and its file.
        output: a tensor that is not finite.
        picture: the input that shows it.
    """
    import numpy as np
    import onnx_graphsurgeon as graphsurgeon

    from deploycc.graph.session import GraphRunner, cut_at
    from deploycc.timing.machine import usable_cores
    from deploycc.verification.comparison import first_not_finite

    before = [tensor for node in cut_at(graph, [output]).nodes for tensor in node.outputs]
    names = [
        tensor.name
        for tensor in before
        if isinstance(tensor, graphsurgeon.Variable) and tensor.dtype is not None and np.dtype(tensor.dtype).kind == "f"
    ]
    values = GraphRunner(cut_at(graph, names), usable_cores(), {"network": detector.name})(
        {detector.input.name: picture}
    )
    first = first_not_finite((name, values[name]) for name in names)
    if first is None:
        return ModelError(
            "network-not-finite",
            f"the file gives NaN or infinity in {output}",
            context={"file": detector.source.files[0]},
            note="its own nodes do, for a seeded picture; as imported, in FP32 throughout, the network does not",
            hint="export the network in FP32",
        )
    name, count, size = first
    tensor = graph.tensors()[name]
    half = np.dtype(tensor.dtype) == np.float16
    node = tensor.inputs[0]
    if half and node.op == "Cast" and node.inputs[0].inputs:
        node = node.inputs[0].inputs[0]  # the layer whose result is rounded
    return ModelError(
        "network-not-finite",
        f"the network gives NaN or infinity in {output}",
        context={
            "file": detector.source.files[0],
            "node": node.name,
            "tensor": f"{name}: {count} of {size} values",
        },
        note="it is the first such tensor, for a seeded picture"
        + (", in FP16, whose largest number is 65504" if half else ""),
        hint=f"`keep_fp32={node.name}`" if half else "check the weights, and how pixels enter the network",
    )
