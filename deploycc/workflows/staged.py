"""A gated detector as networks that run in a row: the first decides how many kernels the next one needs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploycc.errors import InputError, ModelError, Note

if TYPE_CHECKING:
    import numpy as np
    import onnx_graphsurgeon as gs
    from numpy.typing import NDArray

    from deploycc.detector import Detector
    from deploycc.documents.gate_plan import LayerPlan
    from deploycc.graph.branches.gated_network import GatedNetwork
    from deploycc.graph.branches.staged import Stages
    from deploycc.graph.gates.search import Gate
    from deploycc.target import Target

FIRST_FILE, SECOND_FILE = "first.onnx", "second-{}.onnx"


@dataclass(frozen=True, eq=False)
class StagedDetector:
    """A detector in two stages; its outputs are those of the second.

    Attributes:
        first: from the picture to the decision, and to what a second stage reads.
        decision: output of the first stage, [1] int32: number of the second stage that is to run.
        second: one network for each number of kernels, ascending, with the heads and output names of the detector. The
            inputs of its graph are outputs of the first stage, and the picture where it reads that.
        notes: on gates that still multiply although the plan lowers them.
    """

    first: gs.Graph
    decision: str
    second: tuple[Detector, ...]
    notes: tuple[Note, ...]

    def write(
        self, folder: Path, inputs: Iterable[Path] = (), on_kept: Callable[[str], None] = lambda sentence: None
    ) -> None:
        """Write ``first.onnx`` and ``second-0.onnx``, ``second-1.onnx`` ... into a folder.

        Args and errors are those of `deploycc.workflows.staging.staged_folder`.
        """
        from deploycc.workflows.staging import staged_folder

        with staged_folder(folder, inputs, on_kept) as staged:
            self.save(staged)

    def save(self, folder: Path) -> None:
        """Write the files into a folder that is there."""
        from deploycc.detector.file import save
        from deploycc.graph.onnx_stream import write_onnx

        with (folder / FIRST_FILE).open("wb") as file:
            write_onnx(self.first, {}, file)
        for number, stage in enumerate(self.second):
            save(stage, folder / SECOND_FILE.format(number))


def stage(detector: Detector, plan: Sequence[LayerPlan], target: Target) -> StagedDetector:
    """Split a gated detector where one decision switches many layers.

    Instead of an `If` inside the network, the program that runs it chooses: it runs the first stage, reads the
    decision, and runs that second stage. On a GPU nothing waits inside an engine then, and each may be a CUDA graph;
    the decision is copied to the host between the two. Every second stage has weights of its own.

    `deploycc gates --staged` plans stages where they are faster, and `deploycc.compile` builds and times them.
    `StagedSession` runs them in ONNX Runtime; the files of `StagedDetector.write` are ordinary networks.

    Args:
        detector: as imported; it stays as it is.
        plan: of `deploycc.plan_gates`, or by hand: ``variants`` of all layers that one decision switches. Of several
            such decisions the first that can be is staged; all other gates multiply, with notes.
        target: what the passes before prepare the network for.

    Returns:
        The stages, which compute the outputs of the detector.

    Raises:
        InputError: ``stages-none``: the plan has no ``variants``.
        ModelError: ``gate-plan-unknown-layer``, ``gate-plan-kernels``: the plan is for another network;
            ``stages-impossible``: the network cannot be split there.
    """
    from deploycc.graph.branches.gated_network import read_gated_network
    from deploycc.graph.shapes import infer_shapes
    from deploycc.workflows.gate_network import prepare_network

    prepared, _ = prepare_network(detector, target)
    infer_shapes(prepared.graph)
    return stage_network(prepared, read_gated_network(prepared.graph), plan)


def stage_network(prepared: Detector, network: GatedNetwork, plan: Sequence[LayerPlan]) -> StagedDetector:
    """Split a network after the passes before gates are lowered; see `stage`, which prepares it."""
    from deploycc.graph.gates.search import gates_by_decision
    from deploycc.graph.shapes import infer_shapes
    from deploycc.passes.lower_gates import check_plan

    check_plan(network.groups, plan)
    planned = {layer.layer: layer for layer in plan if layer.lowering == "variants"}
    notes = [
        Note(layer.layer, "gate-not-staged", f"its plan has {layer.lowering}, and only variants are staged")
        for layer in plan
        if layer.lowering not in ("variants", "multiply")
    ]
    stages: Stages | None = None
    for gates in gates_by_decision(network.gates):
        layers = [planned[gate.layer] for gate in gates if gate.layer in planned]
        if not layers:
            continue
        split = _split(network, gates, layers) if stages is None else "the network is split at another decision"
        if isinstance(split, str):
            notes.append(Note(layers[0].layer, "gate-not-staged", split))
        else:
            stages = split
    if stages is None:
        raise _no_stages(prepared.name, plan, notes)
    for graph in (stages.first, *stages.second):
        infer_shapes(graph)
    second = tuple(replace(prepared, graph=graph, gates=()) for graph in stages.second)
    return StagedDetector(stages.first, stages.decision, second, tuple(notes))


def _split(network: GatedNetwork, gates: Sequence[Gate], layers: Sequence[LayerPlan]) -> Stages | str:
    """Split a network at one decision, or return why that is not possible."""
    from deploycc.graph.branches.shared_part import find_shared_part
    from deploycc.graph.branches.staged import split_at_decision
    from deploycc.passes.lower_gates import kernels_of_variants

    if len(layers) < len(gates) or len({len(layer.sizes) for layer in layers}) > 1:
        return "the plan does not have the same number of variants for every layer that this decision switches"
    part = find_shared_part(network, gates)
    split = part if isinstance(part, Note) else split_at_decision(network.graph, part, kernels_of_variants(layers))
    return split.reason if isinstance(split, Note) else split


def _no_stages(name: str, plan: Sequence[LayerPlan], notes: Sequence[Note]) -> InputError | ModelError:
    if any(layer.lowering == "variants" for layer in plan) and notes:
        return ModelError(
            "stages-impossible",
            f"the network cannot be split at the decision for {notes[-1].node}: {notes[-1].reason}",
            context={"network": name},
            hint="`deploycc gates` without `--staged` plans a single network",
        )
    return InputError(
        "stages-none",
        "the plan has no decision that switches several layers",
        context={"network": name, "lowerings": ", ".join(sorted({layer.lowering for layer in plan})) or "none"},
        note="a network is split where the plan has `variants`",
        hint="`deploycc train` with granularity `nested` makes gates with one decision for many layers",
    )


class StagedSession:
    """Runs the stages of a detector in ONNX Runtime, one after another on this machine's CPU."""

    def __init__(self, staged: StagedDetector, threads: int = 1) -> None:
        """Load all stages.

        Args:
            staged: see `stage`.
            threads: of each stage.

        Raises:
            MeasureError: ``onnxruntime-refuses``.
        """
        from deploycc.graph.export import to_onnx
        from deploycc.timing.in_a_row import SessionsInARow

        models = (to_onnx(graph) for graph in (staged.first, *(detector.graph for detector in staged.second)))
        self._sessions = SessionsInARow(models, staged.decision, threads, {"network": staged.second[0].name})

    def run(self, picture: NDArray[np.float32], number: int | None = None) -> tuple[int, dict[str, NDArray[Any]]]:
        """Run a prepared picture.

        Args:
            picture: as the detector's input specification says, NCHW.
            number: of the second stage, to time one that was not decided on: its outputs are not the detector's then.
                None: as decided.

        Returns:
            The number of the second stage that ran, and the detector's outputs by name.
        """
        return self._sessions.run(picture, number)
