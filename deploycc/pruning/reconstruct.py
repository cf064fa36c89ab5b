"""Recover accuracy without labels: refit layers after removed channels to the original network's responses.

Channel Pruning (He et al., 2017, section 3.2) and ThiNet (Luo et al., 2017, section 3.3) solve, layer by layer,
``min ||W' x' + b' - y||^2`` on calibration pictures, with x' the layer's input in the pruned network and y its response
in the original one. Layers are refitted from input to output, so that each also compensates the remaining error of
earlier ones. Here the ridge penalty is on the change ``W' - W``: without evidence the trained weights stay. Held-out
pictures decide on the strength of the penalty, and on whether to change a layer at all.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from deploycc.detector import Detector
from deploycc.errors import InputError, Note
from deploycc.graph.channels.groups import layer_names
from deploycc.graph.edit import constant_values, set_constant, static_shape
from deploycc.graph.gates.search import Gate
from deploycc.progress import Say, quiet
from deploycc.pruning.normal_equations import NormalEquations
from deploycc.pruning.responses import Responses, Target, target_of
from deploycc.pruning.stages import Read, Stages
from deploycc.pruning.windows import Windows

RIDGES = (1e-5, 1e-3, 1e-2, 1e-1, 1.0)
HELD_OUT = 5
"""Every fifth picture is held out from the fits."""

_POSITIONS = 256  # samples per map and picture; neighbouring positions are nearly redundant
_LINEAR = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@dataclass(frozen=True)
class LayerFit:
    """The result of refitting a layer.

    Attributes:
        name: node.
        ridge: best relative penalty; None if every change increased the error, so that the weights stayed.
        error: squared error of its response on held-out pictures, divided by the original response's sum of squares:
            in the pruned network before any refit, and after all of them.
    """

    name: str
    ridge: float | None
    error: tuple[float, float]


@dataclass(frozen=True)
class Reconstruction:
    """The result of refitting a network.

    Attributes:
        layers: in graph order.
        pictures: numbers of pictures fitted on, and held out.
        notes: layers that could not be refitted, with the reason.
    """

    layers: tuple[LayerFit, ...]
    pictures: tuple[int, int]
    notes: tuple[Note, ...]


@dataclass(frozen=True, eq=False)
class _Task:
    """A convolution to refit: its windows in the pruned network, and its target response."""

    name: str
    node: gs.Node
    windows: Windows
    target: Target


def reconstruct(
    original: Detector,
    pruned: Detector,
    removed: Mapping[str, tuple[int, ...]],
    folded: Sequence[Gate],
    read: Read,
    count: int,
    say: Say = quiet,
    *,
    rewired: Collection[str] = (),
) -> Reconstruction:
    """Refit, in place, every convolution whose input or gate was changed by pruning; kernels of zeros stay zero.

    Args:
        original: before gates were folded and channels removed; layers have the same names.
        pruned: its weights are replaced.
        removed: removed kernels by layer, numbered as in the original.
        folded: gates of the original that became constants.
        read: returns the input tensor of a picture, shape ``pruned.input.shape``.
        count: number of pictures, at least `HELD_OUT`.
        say: called with the progress.
        rewired: nodes that read other tensors than in the original (`rewired_nodes`).

    Raises:
        InputError: ``reconstruct-few-pictures``.
        MeasureError: a network does not run, or its responses are not finite.
    """
    if count < HELD_OUT:
        raise InputError(
            "reconstruct-few-pictures",
            f"{count} pictures are too few to refit weights",
            note=f"one in {HELD_OUT} is held out to detect overfitting",
            hint=f"give at least {HELD_OUT}, better 50 or more, similar to those of the task",
        )
    levels, notes = _levels(original, pruned, removed, {gate.layer: gate for gate in folded}, rewired)
    tasks = [task for level in levels for task in level]
    if not tasks:
        return Reconstruction((), (0, 0), notes)
    untouched = pruned.graph.copy()  # shares the weights, which are replaced below but never modified
    ridges: dict[str, float | None] = {}
    with tempfile.TemporaryDirectory() as folder:
        targets, inputs = (Path(folder) / name for name in ("targets", "inputs"))
        targets.mkdir()
        inputs.mkdir()
        original_stages, pruned_stages = Stages(original, read, count, targets), Stages(pruned, read, count, inputs)
        for number, level in enumerate(levels, start=1):
            say("refitting weights", number - 1, len(levels))
            later = [task for later_level in levels[number:] for task in later_level]
            ridges.update(_refit(pruned.graph, original_stages, pruned_stages, level, later))
    held_out = [picture for picture in range(count) if _is_held_out(picture)]
    before, after = _errors(original, [untouched, pruned.graph], tasks, pruned.input.name, read, held_out, say)
    fits = {name: LayerFit(name, ridge, (before[name], after[name])) for name, ridge in ridges.items()}
    order = [str(name) for _, name in layer_names(pruned.graph.nodes) if name in fits]
    return Reconstruction(tuple(fits[name] for name in order), (count - len(held_out), len(held_out)), notes)


def rewired_nodes(before: gs.Graph, after: gs.Graph) -> frozenset[str]:
    """Return the nodes, by the name of their layer, that read other tensors than before."""

    def reads(graph: gs.Graph) -> dict[str, list[str]]:
        return {
            name: [tensor.name for tensor in node.inputs if isinstance(tensor, gs.Variable)]
            for node, name in layer_names(graph.nodes)
        }

    known = reads(before)
    return frozenset(name for name, tensors in reads(after).items() if known.get(name) != tensors)


def _levels(
    original: Detector,
    pruned: Detector,
    removed: Mapping[str, tuple[int, ...]],
    folded: Mapping[str, Gate],
    rewired: Collection[str],
) -> tuple[list[list[_Task]], tuple[Note, ...]]:
    """Sort the convolutions to refit into levels by dependence; also return notes on those that cannot be refitted."""
    first: dict[str, int] = {}  # step from which on a tensor is final; absent if pruning did not change it
    steps: dict[int, list[_Task]] = {}
    notes = []
    widths = {name: _width(node) for node, name in layer_names(original.graph.nodes) if node.op in _LINEAR}
    for node, name in layer_names(pruned.graph.nodes):
        step = max((first[tensor.name] for tensor in node.inputs if tensor.name in first), default=None)
        step = 0 if step is None and name in rewired else step
        linear = node.op in _LINEAR and isinstance(node.inputs[1], gs.Constant)
        if linear and (step is not None or name in folded or _width(node) != widths.get(name, _width(node))):
            step = step or 0
            task = _task(original, pruned, node, name, removed.get(name, ()), folded.get(name))
            if isinstance(task, Note):
                notes.append(task)
            else:
                steps.setdefault(step, []).append(task)
                step += 1
        if step is not None:
            first.update({tensor.name: step for tensor in node.outputs})
    return [steps[step] for step in sorted(steps)], tuple(notes)


def _width(node: gs.Node) -> tuple[int, ...] | None:
    """Return a shape that shows how many channels each kernel reads; a depthwise kernel always reads one."""
    return tuple(node.inputs[1].shape[1:]) if node.op == "Conv" else static_shape(node.inputs[0])


def _task(
    original: Detector, pruned: Detector, node: gs.Node, name: str, gone: tuple[int, ...], gate: Gate | None
) -> _Task | Note:
    windows = Windows.of(node)
    if isinstance(windows, str):
        return Note(name, "reconstruct-unsupported", f"its weights are not refitted: {windows}")
    target = target_of(original.graph, pruned.graph, name, gone, gate)
    if isinstance(target, str):
        return Note(name, "reconstruct-no-target", f"its weights are not refitted: {target}")
    return _Task(name, node, windows, target)


def _refit(
    graph: gs.Graph, original: Stages, pruned: Stages, level: Sequence[_Task], later: Sequence[_Task]
) -> dict[str, float | None]:
    """Refit layers that do not depend on one another; return the penalty chosen for each."""
    by_windows: dict[Windows, list[_Task]] = {}  # layers with the same input, such as heads, share a system
    for task in level:
        by_windows.setdefault(task.windows, []).append(task)
    sums = {windows: (_empty(tasks), _empty(tasks)) for windows, tasks in by_windows.items()}
    steps = zip(
        pruned.run(_inputs_of(level), _inputs_of(later)),
        original.run(_targets_of(level), _targets_of(later)),
        strict=True,
    )
    for picture, (inputs, targets) in enumerate(steps):
        for number, (windows, tasks) in enumerate(by_windows.items()):
            responses = [task.target.values(targets) for task in tasks]
            positions = _sample(responses[0].shape[1] * responses[0].shape[2], (picture, number))
            x = windows.at(inputs[windows.tensor], positions)
            residuals = []
            for task, response in zip(tasks, responses, strict=True):
                weight, bias = _split(task)
                goal = _by_group(task, response.reshape(response.shape[0], -1)[:, positions])
                learns = weight.any(axis=1, keepdims=True)  # a carrier (`graph.channels.carriers`) must stay constant
                residuals.append(np.where(learns, goal - (x @ weight + bias[:, None, :]), 0.0))
            sums[windows][_is_held_out(picture)].add(x, np.concatenate(residuals, axis=2))
    ridges: dict[str, float | None] = {}
    for windows, tasks in by_windows.items():
        ridges.update(_best(graph, tasks, *sums[windows]))
    return ridges


def _inputs_of(tasks: Sequence[_Task]) -> list[str]:
    return list(dict.fromkeys(task.windows.tensor for task in tasks))


def _targets_of(tasks: Sequence[_Task]) -> list[str]:
    return list(dict.fromkeys(name for task in tasks for name in task.target.tensors))


def _best(
    graph: gs.Graph, tasks: Sequence[_Task], fit: NormalEquations, check: NormalEquations
) -> dict[str, float | None]:
    """Apply to each layer the change with the smallest error on held-out samples, if it is smaller than without."""
    changes = {ridge: fit.solve(ridge) for ridge in RIDGES} if fit.energy.any() else {}
    fits = {ridge: fit.error(change) for ridge, change in changes.items()}
    checks = {ridge: check.error(change) for ridge, change in changes.items()}
    chosen: dict[str, float | None] = {}
    start = 0
    for task in tasks:
        outputs = np.s_[:, start : start + task.node.inputs[1].shape[0] // task.windows.groups]
        start = outputs[1].stop
        best_ridge: float | None = None
        best = float(check.energy[outputs].sum())
        for ridge in changes:
            error = float(checks[ridge][outputs].sum())
            if error < best and fits[ridge][outputs].sum() <= fit.energy[outputs].sum():
                best_ridge, best = ridge, error
        chosen[task.name] = best_ridge
        if best_ridge is not None:
            _write(graph, task, changes[best_ridge][:, :, outputs[1]])
    return chosen


def _write(graph: gs.Graph, task: _Task, change: NDArray[np.float64]) -> None:
    old = np.asarray(constant_values(task.node.inputs[1]))
    weight, bias = _split(task)
    kernels = (weight + change[:, :-1]).transpose(0, 2, 1).reshape(old.shape)
    set_constant(graph, task.node, 1, kernels.astype(old.dtype), f"{task.name}_refit")
    set_constant(graph, task.node, 2, (bias + change[:, -1]).reshape(-1).astype(old.dtype), f"{task.name}_refit_bias")


def _split(task: _Task) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the current weights [groups, inputs, outputs] and bias [groups, outputs], counted per group."""
    values = np.asarray(constant_values(task.node.inputs[1]), np.float64)
    groups = task.windows.groups
    weight = values.reshape(groups, values.shape[0] // groups, -1).transpose(0, 2, 1)
    has_bias = len(task.node.inputs) > 2 and not task.node.inputs[2].is_empty()
    bias = np.asarray(constant_values(task.node.inputs[2]), np.float64) if has_bias else np.zeros(values.shape[0])
    return weight, bias.reshape(groups, -1)


def _empty(tasks: Sequence[_Task]) -> NormalEquations:
    shapes, groups = [task.node.inputs[1].shape for task in tasks], tasks[0].windows.groups
    return NormalEquations(groups, math.prod(shapes[0][1:]), sum(shape[0] for shape in shapes) // groups)


def _by_group(task: _Task, response: NDArray[np.float32]) -> NDArray[np.float64]:
    """Reshape [kernels, samples] to [groups, samples, kernels of a group]."""
    stacked = response.reshape(task.windows.groups, -1, response.shape[1])
    return stacked.transpose(0, 2, 1).astype(np.float64)


def _sample(count: int, seed: tuple[int, int]) -> NDArray[np.intp]:
    if count <= _POSITIONS:
        return np.arange(count)
    return np.random.default_rng(seed).choice(count, _POSITIONS, replace=False)


def _is_held_out(picture: int) -> bool:
    return picture % HELD_OUT == HELD_OUT - 1


def _errors(
    original: Detector,
    graphs: Sequence[gs.Graph],
    tasks: Sequence[_Task],
    source: str,
    read: Read,
    pictures: Sequence[int],
    say: Say,
) -> list[dict[str, float]]:
    """Return the relative squared error of every layer's response in each pruned network, over whole maps."""
    names = {task.name: task.node.outputs[0].name for task in tasks}
    reference = Responses(original.name, original.graph, _targets_of(tasks))
    networks = [Responses(original.name, graph, names.values()) for graph in graphs]
    squared_errors = [dict.fromkeys(names, 0.0) for _ in graphs]
    energy = dict.fromkeys(names, 0.0)
    for number, picture in enumerate(pictures):
        say("measuring the refitted network", number, len(pictures))
        tensor = read(picture)
        targets = reference.run({original.input.name: tensor}, picture)
        results = [network.run({source: tensor}, picture) for network in networks]
        for task in tasks:
            response = task.target.values(targets).astype(np.float64)
            energy[task.name] += float(np.sum(response**2))
            for errors, values in zip(squared_errors, results, strict=True):
                errors[task.name] += float(np.sum((values[names[task.name]][0] - response) ** 2))
    return [{name: errors[name] / energy[name] if energy[name] else 0.0 for name in names} for errors in squared_errors]
