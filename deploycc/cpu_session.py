"""ONNX Runtime on this machine's processor: how every session of the package is set up.

The agent, which imports nothing of the package, says the same in `deploycc.agent.run_onnxruntime`.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx
import onnxruntime as ort

from deploycc.errors import MeasureError

_SPIN_US = "100"
"""How long a thread waits actively for its next part. On an idle machine 100 us are as fast as the default of 1000 and
more, and faster than sleeping (a 1.1 ms network takes 1.3 then); beside one busy process they take 1.2 ms, the default
5.2, because a thread that spins keeps the core from the one that it waits for."""


def open_session(
    model: onnx.ModelProto, threads: int, what: Mapping[str, object], *, keep_memory: bool = True
) -> ort.InferenceSession:
    """Load a network. Idle, it takes no core from others.

    Args:
        model: checked or not.
        threads: inside one operator; operators run one after another.
        what: names the network in an error.
        keep_memory: keep for the next run what a run needed; False gives it back, for two networks in one process.

    Raises:
        MeasureError: ``onnxruntime-refuses``.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = keep_memory
    options.log_severity_level = 4  # what it refuses comes back as an exception
    # Threads spin while a picture runs, for speed, and stop when it ends, for whatever else needs the cores.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.add_session_config_entry("session.intra_op.spin_duration_us", _SPIN_US)
    try:
        return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions share no class
        raise MeasureError(
            "onnxruntime-refuses",
            "ONNX Runtime cannot load the network",
            context=what,
            note=str(error).splitlines()[0],
        ) from None
