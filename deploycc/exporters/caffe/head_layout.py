"""The layout of SSD heads: the predictor kernels of each anchor of each feature map."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from deploycc.detector import SsdHeads
from deploycc.errors import ModelError
from deploycc.graph.predictors import HeadTrace, Predictor, Untraceable, softmax_axis, trace_head

Array = NDArray[np.int64]
Activation = Literal["Sigmoid", "Softmax"]


@dataclass(frozen=True, eq=False)
class MapHead:
    """The heads of one feature map.

    Attributes:
        scores, locations: their predictors.
        cells: rows and columns of the map.
        priors: [cells, anchors] the prior of each anchor in each cell, cells row by row.
        score_kernels: [anchors, C] kernels of ``scores``, by class.
        location_kernels: [anchors, 4] kernels of ``locations``, x y w h.
    """

    scores: gs.Node
    locations: gs.Node
    cells: tuple[int, int]
    priors: Array
    score_kernels: Array
    location_kernels: Array


def lay_out(graph: gs.Graph, heads: SsdHeads) -> tuple[list[MapHead], Activation | None]:
    """Read the heads of a graph: maps in the order of their priors, and the activation of the scores.

    Raises:
        ModelError: ``caffe-cannot-express``: the heads do not have the layout of an SSD.
    """
    tensors = graph.tensors()
    try:
        scores, locations = trace_head(tensors[heads.scores]), trace_head(tensors[heads.locations])
        activation = _activation(scores, heads)
    except Untraceable as stop:
        _refuse(stop.node, stop.reason)
    score_values, location_values = _values(scores, heads), _values(locations, heads)
    if heads.y_first:
        location_values = location_values[:, [1, 0, 3, 2]]
    maps = [
        _map(score, location, priors, score_values, location_values)
        for score, location, priors in _pairs(scores, locations, score_values, location_values)
    ]
    return sorted(maps, key=lambda head: int(head.priors.min())), activation


def _values(trace: HeadTrace, heads: SsdHeads) -> Array:
    """Return [P, values per prior]: the element of the predictors' outputs that each value of a prior is."""
    return np.asarray(trace.elements[trace.head].reshape(len(heads.priors), -1))


def _activation(scores: HeadTrace, heads: SsdHeads) -> Activation | None:
    """Return the activation that every score passes exactly once; a softmax must run over the classes of a prior."""
    prior_of = np.zeros(sum(int(np.prod(predictor.shape)) for predictor in scores.predictors), np.int64)
    values = _values(scores, heads)
    prior_of[values] = np.arange(len(values))[:, None]
    passed = np.zeros(len(prior_of), np.int64)
    kinds = set()
    for node in scores.nodes:
        if node.op not in ("Sigmoid", "Softmax"):
            continue
        kinds.add(node.op)
        elements = scores.elements[node.outputs[0].name]
        passed[elements] += 1
        if node.op == "Softmax":
            axis = softmax_axis(node, elements.ndim)
            rows = np.moveaxis(prior_of[elements], axis, -1)
            if rows.shape[-1] != heads.classes or (rows != rows[..., :1]).any():
                raise Untraceable(str(node.name), "it does not normalise over the classes of a prior")
    if not kinds:
        return None
    if len(kinds) > 1 or (passed[values] != 1).any():
        raise Untraceable(scores.head, "its scores do not all have the same activation")
    kind: Activation = "Softmax" if "Softmax" in kinds else "Sigmoid"
    return kind


def _pairs(
    scores: HeadTrace, locations: HeadTrace, score_values: Array, location_values: Array
) -> Iterator[tuple[Predictor, Predictor, Array]]:
    """Yield the score and location predictors that serve the same priors, and these priors."""
    of_score, of_location = _owner(scores, score_values), _owner(locations, location_values)
    for index, score in enumerate(scores.predictors):
        priors = np.flatnonzero(of_score == index)
        partners = np.unique(of_location[priors])
        if len(partners) != 1 or (of_location == partners[0]).sum() != len(priors):
            _refuse(str(score.node.name), "its priors get their boxes from several convolutions")
        location = locations.predictors[int(partners[0])]
        if score.shape[1:] != location.shape[1:]:
            _refuse(str(score.node.name), f"its map differs in size from that of {location.node.name}")
        yield score, location, priors


def _owner(trace: HeadTrace, values: Array) -> Array:
    """Return [P]: the predictor that all values of a prior come from."""
    firsts = [predictor.first_element for predictor in trace.predictors]
    owners = np.searchsorted(firsts, values, side="right") - 1
    if (owners != owners[:, :1]).any():
        _refuse(trace.head, "the values of one prior come from several convolutions")
    return np.asarray(owners[:, 0])


def _map(score: Predictor, location: Predictor, priors: Array, score_values: Array, location_values: Array) -> MapHead:
    rows, columns = score.shape[1:]
    area = rows * columns
    cells, kernels = [], []
    for predictor, values in ((score, score_values), (location, location_values)):
        elements = values[priors] - predictor.first_element
        cells.append(elements % area)
        kernels.append(elements // area)
    cell = cells[0][:, 0]
    if any((cells_of_values != cell[:, None]).any() for cells_of_values in cells):
        _refuse(str(score.node.name), "the values of one prior come from several cells of the map")
    both = np.concatenate(kernels, axis=1)
    anchors, anchor = np.unique(both, axis=0, return_inverse=True)
    anchor = anchor.reshape(-1)
    table = np.full((area, len(anchors)), -1, np.int64)
    table[cell, anchor] = priors
    if len(priors) != table.size or (table < 0).any():
        _refuse(str(score.node.name), "its anchors are not the same in every cell")
    return MapHead(
        scores=score.node,
        locations=location.node,
        cells=(rows, columns),
        priors=table,
        score_kernels=anchors[:, : kernels[0].shape[1]],
        location_kernels=anchors[:, kernels[0].shape[1] :],
    )


def _refuse(node: str, reason: str) -> NoReturn:
    context: dict[str, Any] = {"node": node}
    raise ModelError(
        "caffe-cannot-express",
        f"the heads cannot be written as layers of an SSD in Caffe: {reason}",
        context=context,
        hint="`deploycc compile MODEL --target drive-px2-igpu` writes the network without decoding",
    )
