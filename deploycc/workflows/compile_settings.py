"""How to compile."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deploycc.passes.options import Detection, Precision


@dataclass(frozen=True)
class CompileSettings:
    """How to compile.

    Attributes:
        precisions: to build; empty for all that a target does.
        detection: where decoding and suppression happen; None for the target's preferred place.
        keep_fp32: layers that stay FP32 in an FP16 network, by name.
        verify: read every network back and compare it with what it was compiled from; every engine that is built is
            then run on pictures, where that is possible.
        original: where the network is pruned or its gates become branches, also build and time it as it was.
        build: build the engines that can be built here, or on the device.
        measure: time the engines that can run here, or on the device.
        device: where they are built and timed, as `deploycc.agent_host.devices.find` takes it; None: here. Several
            targets go to several boards at once.
        max_performance: time them in the fastest power mode of a Jetson, with fixed clocks; what was before is back
            afterwards.
        quick: time for half a second: a smoke test, which is never valid.
        threads: CPU threads of the runtime; 0 for one per core.
        dump_to: folder for the network as ONNX text after every pass.
        command: the command line, for the report.
    """

    precisions: tuple[Precision, ...] = ()
    detection: Detection | None = None
    keep_fp32: tuple[str, ...] = ()
    verify: bool = True
    original: bool = True
    build: bool = True
    measure: bool = True
    device: str | None = None
    max_performance: bool = False
    quick: bool = False
    threads: int = 0
    dump_to: Path | None = None
    command: str | None = None
