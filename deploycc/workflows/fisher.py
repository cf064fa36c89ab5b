"""Which kernels a network's own outputs hardly depend on: pictures are needed, labels are not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploycc.progress import Say, quiet
from deploycc.workflows.pictures_with_objects import pictures_with_objects
from deploycc.workflows.prune_settings import cpu_options

if TYPE_CHECKING:
    from deploycc.detector import Detector
    from deploycc.detector.picture_list import FitPictures, PictureList
    from deploycc.distillation.picture_worth import PictureWorth
    from deploycc.graph.blocks.search import Key

PICTURES = 400
"""Enough for the order of the kernels: each picture gives one random direction, and 400 leave about 7 % of error."""
DIRECTIONS = 4
"""Of each picture at most, where there are fewer: then chance lies in the pictures more than in the directions."""


@dataclass(frozen=True, eq=False)
class FisherImportance:
    """What a network's outputs lose without each kernel.

    Attributes:
        values: see `deploycc.distillation.importance.output_change`.
        blocks: likewise of whole blocks, by what identifies them (`deploycc.distillation.block_importance`); empty
            where they were not asked for.
        source: of the pictures, as it was given.
        pictures: how many of them were used.
        rankings: how often the kernels were ranked (`deploycc.workflows.fisher_rounds`).
    """

    values: Mapping[str, Any]
    source: str
    pictures: int
    blocks: Mapping[Key, float] = field(default_factory=dict)
    rankings: int = 1


def fisher_importance(
    detector: Detector,
    pictures: str | Path | PictureList,
    *,
    count: int = PICTURES,
    threads: int = 0,
    seed: int = 1,
    blocks: bool = False,
    say: Say = quiet,
) -> FisherImportance:
    """Estimate how much the outputs of a trained network change without each kernel, by Fisher information.

    Args:
        detector: with SSD heads that are known.
        pictures: a folder or a data set (`deploycc.workflows.pictures`); labels are not looked at.
        count: pictures to use at most, chosen at random of those with objects
            (`deploycc.workflows.pictures_with_objects`); of fewer, each gives several directions.
        threads: see `deploycc.workflows.train.use_threads`.
        seed: of the choice of pictures and of the directions.
        blocks: also estimate it for whole blocks.
        say: progress.

    Raises:
        DeployError: ``train-extra-missing``: PyTorch is not installed.
        ModelError: the heads are not known, or PyTorch does not run an operator.
        PictureError: a picture cannot be read.
    """
    from deploycc.workflows.train import require_torch, use_threads

    require_torch()
    from deploycc.distillation.block_importance import block_change
    from deploycc.distillation.importance import output_change
    from deploycc.graph.blocks.search import find_blocks
    from deploycc.graph.channels.labels import channel_groups
    from deploycc.passes import DROP_DEAD, FOLD, run

    use_threads(threads)
    network = run(detector, cpu_options(), FOLD + DROP_DEAD).detector
    fit_on = pictures_with_objects(pictures, detector, say)
    passes, picture = _passes(fit_on, network, count, seed)
    groups = channel_groups(network.graph)
    values = output_change(network, groups, picture, passes, seed=seed, say=say)
    found = find_blocks(network.graph, groups) if blocks else []
    changes = block_change(network, found, picture, passes, seed=seed, say=say) if found else {}
    return FisherImportance(values, fit_on.source, len(set(passes)), changes)


def fisher_by_picture(
    detector: Detector,
    pictures: str | Path | PictureList,
    layers: Sequence[str],
    *,
    count: int = PICTURES,
    threads: int = 0,
    seed: int = 1,
    say: Say = quiet,
) -> PictureWorth:
    """Estimate how much the outputs change without each kernel of some layers, in each picture.

    Args:
        detector: with SSD heads that are known; its graph is taken as it is.
        pictures: see `fisher_importance`.
        layers: names of convolutions.
        count: of pictures, see `fisher_importance`.
        threads: see `deploycc.workflows.train.use_threads`.
        seed: see `fisher_importance`.
        say: progress.

    Raises:
        DeployError, ModelError, PictureError: see `fisher_importance`.
    """
    from deploycc.workflows.train import require_torch, use_threads

    require_torch()
    from deploycc.distillation.picture_worth import picture_worth

    use_threads(threads)
    passes, picture = _passes(pictures_with_objects(pictures, detector, say), detector, count, seed)
    return picture_worth(detector, layers, picture, passes, seed=seed, say=say)


def _passes(fit_on: FitPictures, network: Detector, count: int, seed: int) -> tuple[list[int], Callable[[int], Any]]:
    """The picture of each pass, and a function that reads one as the network's input."""
    import numpy as np

    from deploycc.detector.pictures import prepare

    numbers = np.random.default_rng([seed, 3]).permutation(len(fit_on.names))[:count].tolist()
    return (
        numbers * min(DIRECTIONS, max(1, count // max(1, len(numbers)))),
        lambda number: prepare(fit_on.read(number), network.input),
    )
