"""ONNX Runtime sessions on this machine's CPU, set up alike in the whole package.

The agent, which imports nothing of the package, repeats the set-up in `deploycc.agent.run_onnxruntime`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from deploycc.errors import MeasureError

_SPIN_US = "100"
"""How long a thread spins before it sleeps. On an idle machine 100 us are as fast as the default of 1000 and more, and
faster than sleeping at once (1.3 instead of 1.1 ms for one network). Beside one busy process, that network takes 1.2 ms
with 100 us and 5.2 ms with the default, because a spinning thread blocks the core that it waits for."""


def open_session(
    model: onnx.ModelProto,
    threads: int,
    context: Mapping[str, object],
    *,
    keep_memory: bool = True,
    weights: Mapping[str, ort.OrtValue] | None = None,
) -> ort.InferenceSession:
    """Load a network; an idle session uses no core.

    Args:
        model: any model; it need not be checked.
        threads: inside one operator; operators run one after another.
        context: of an error, naming the network.
        keep_memory: keep memory between runs; False frees it, for two networks in one process.
        weights: initialisers that the model only declares, as external data, by name.

    Raises:
        MeasureError: ``onnxruntime-refuses``.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = keep_memory
    options.log_severity_level = 4  # errors are raised as exceptions
    # Threads spin during a run, for speed, and stop when it ends, to free the cores.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.add_session_config_entry("session.intra_op.spin_duration_us", _SPIN_US)
    if weights:
        options.add_external_initializers(list(weights), list(weights.values()))
    try:
        return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions share no class
        raise MeasureError(
            "onnxruntime-refuses",
            "ONNX Runtime cannot load the network",
            context=context,
            note=str(error).splitlines()[0],
        ) from None


def run_session(
    session: ort.InferenceSession,
    wanted: Sequence[str] | None,
    given: Mapping[str, NDArray[Any]],
    context: Mapping[str, object],
) -> list[NDArray[Any]]:
    """Run a network once.

    Args:
        session: see `open_session`.
        wanted: names of outputs; None for all.
        given: inputs by name.
        context: of an error, naming the network.

    Returns:
        The outputs, in order.

    Raises:
        MeasureError: ``onnxruntime-fails``: a network that loads may still not fit together, which only running shows.
    """
    try:
        return [np.asarray(values) for values in session.run(wanted, dict(given))]
    except Exception as error:  # ONNX Runtime's exceptions share no class
        raise MeasureError(
            "onnxruntime-fails",
            "ONNX Runtime fails while it runs the network",
            context=context,
            note=str(error).splitlines()[0],
        ) from None
