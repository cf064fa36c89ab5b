"""Layer parameters found from boxes make the same boxes, by Caffe's own definition."""

from __future__ import annotations

from typing import Any

import caffe_reference
import numpy as np
import pytest
from examples import examples
from hypothesis import given, settings
from mutation import find_example, mutant
from numpy.typing import NDArray
from strategies import PriorLayer, prior_layers

from deploycc.exporters.caffe import prior_boxes
from deploycc.exporters.caffe.prior_boxes import NoPriorBox, PriorBox, find_prior_box


def by_caffe(layer: PriorLayer | PriorBox) -> NDArray[np.float64]:
    """Return the boxes that Caffe's layer writes with these parameters, [rows, columns, anchors, 4]."""
    boxes = caffe_reference.priors(
        layer.cells,
        layer.image,
        layer.min_sizes,
        layer.max_sizes,
        layer.ratios,
        flip=layer.flip,
        step=layer.step,
        offset=layer.offset,
        clip=layer.clip,
        truncated=False,
    )
    return boxes.reshape(*layer.cells, -1, 4)


def written(layer: PriorLayer) -> NDArray[np.float32]:
    """The same in single precision, its anchors picked and put into another order."""
    every = by_caffe(layer).astype(np.float32)
    return every if layer.picked is None else every[:, :, [i for i in layer.picked if i < every.shape[2]]]


def agrees(layer: PriorLayer, module: Any = prior_boxes) -> bool:
    boxes = written(layer)
    found = module.find_prior_box(boxes, layer.image)
    used = [slot for slot, anchor in enumerate(found.slots) if anchor is not None]
    order = [anchor for anchor in found.slots if anchor is not None]
    every = by_caffe(found)
    return (
        every.shape[2] == len(found.slots)
        and sorted(order) == list(range(boxes.shape[2]))
        and np.allclose(every[:, :, used], boxes[:, :, order], rtol=0, atol=1.1e-6)
        and (layer.picked is not None or found.slots == tuple(range(boxes.shape[2])))
    )


@settings(max_examples=examples(200))
@given(prior_layers())
def test_found_layers_write_the_same_boxes(layer: PriorLayer) -> None:
    assert agrees(layer)


BUGS = {
    "height for width": ("sizes = np.stack([width * image[1], height * image[0]]", "sizes = np.stack([height * image[0], width * image[1]]"),
    "offset of the other end": ("offsets = [float(c[0] / step)", "offsets = [float(c[-1] / step)"),
    "one step for both": ("vertical, horizontal = (float(step or", "vertical, horizontal = (float(steps[0] or step or"),
    "second squares are first": ("maximums.append(float(width * width / minimums[-1]))", "maximums.append(float(width))"),
    "flip without inverses": ("for r, inverse in pairs):", "for r, inverse in []):"),
    "clipping is not seen": ("(False, True) if at_border", "(False,) if at_border"),
    "clipped sides count": ("seen = np.concatenate([low > 0, high < 1])", "seen = np.concatenate([low > -1, high < 2])"),
    "anchors in the wrong slots": ("return a\n        return None", "return min(free_anchors | {a})\n        return None"),
    "no distance is too large": ("if distance <= ATOL:", "if True:"),
}  # fmt: skip


@pytest.mark.parametrize("bug", BUGS)
def test_planted_bugs_show(bug: str) -> None:
    broken = mutant(prior_boxes, *BUGS[bug])

    def shows(layer: PriorLayer) -> bool:
        try:
            return not agrees(layer, broken)
        except broken.NoPriorBox:  # parameters that do not make the boxes are found out: the layer is lost
            return True

    shown = find_example(prior_layers(), shows)
    assert shows(shown)
    assert agrees(shown)


def test_parameters_come_back_as_they_were_written() -> None:
    """The second feature map of SSD300 (Liu et al., 2016)."""
    layer = PriorLayer((19, 19), (300, 300), (60.0,), (111.0,), (2.0, 3.0), True, (16.0, 16.0), 0.5, False)
    assert find_prior_box(written(layer), (300, 300)) == PriorBox(
        (19, 19), (300, 300), (60.0,), (111.0,), (2.0, 3.0), True, (16.0, 16.0), 0.5, False, (0, 1, 2, 3, 4, 5)
    )


def test_a_single_cell_with_boxes_beyond_the_picture() -> None:
    """The last map of SSD300, clipped: its 2:1 boxes show their short side only."""
    layer = PriorLayer((1, 1), (300, 300), (264.0,), (315.0,), (2.0,), True, None, 0.5, True)
    found = find_prior_box(written(layer), (300, 300))
    assert (found.min_sizes, found.max_sizes, found.ratios, found.flip) == ((264.0,), (315.0,), (2.0,), True)
    assert found.slots == (0, 1, 2, 3)


def test_tensorflows_first_map_needs_spare_squares() -> None:
    """A small square, and two boxes of twice its side: PriorBox has no ratio without its square."""
    layer = PriorLayer((19, 19), (300, 300), (30.0, 60.0), (), (2.0,), True, None, 0.5, False, picked=(0, 4, 5))
    found = find_prior_box(written(layer), (300, 300))
    assert (found.min_sizes, found.ratios, found.slots) == ((60.0, 30.0), (2.0,), (None, 1, 2, 0, None, None))


def test_boxes_that_differ_from_cell_to_cell_are_refused() -> None:
    boxes = written(PriorLayer((4, 4), (64, 64), (16.0,), (), (), False, None, 0.5, False))
    boxes[2, 3, 0, 2] += 0.02
    with pytest.raises(NoPriorBox, match=r"no PriorBox layer writes its boxes \(16.08x16 pixels\) on 4x4 cells"):
        find_prior_box(boxes, (64, 64))


def test_grids_that_run_backwards_are_refused() -> None:
    boxes = written(PriorLayer((4, 4), (64, 64), (16.0,), (), (), False, None, 0.5, False))
    with pytest.raises(NoPriorBox, match="do not run from the top left to the bottom right"):
        find_prior_box(np.ascontiguousarray(boxes[::-1]), (64, 64))


def test_a_box_clipped_to_the_whole_picture_is_one_of_that_size() -> None:
    boxes = written(PriorLayer((1, 1), (64, 64), (80.0,), (), (), False, None, 0.5, True))
    found = find_prior_box(boxes, (64, 64))
    assert (found.min_sizes, found.clip) == ((64.0,), False)


def test_boxes_clipped_on_all_sides_in_every_cell_are_refused() -> None:
    boxes = written(PriorLayer((2, 2), (64, 64), (120.0,), (), (), False, None, 0.5, True))
    with pytest.raises(NoPriorBox, match=r"pixels\) on 2x2 cells|clipped on all sides in every cell"):
        find_prior_box(boxes, (64, 64))


def test_whole_sizes_are_found_where_a_second_square_could_be_a_minimum() -> None:
    boxes = caffe_reference.priors((4, 6), (48, 80), [20], [41], [], flip=True, step=(12, 12), offset=0.5, clip=False)
    found = find_prior_box(boxes.reshape(4, 6, 2, 4).astype(np.float32), (48, 80))
    assert (found.min_sizes, found.max_sizes) == ((20.0,), (41.0,))
