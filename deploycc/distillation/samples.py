"""Pictures with or without labels, changed a little each time that they are seen."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deploycc.detector import InputSpec
from deploycc.detector.held_out import LEAST_PICTURES, held_out_numbers
from deploycc.detector.picture_list import PictureList
from deploycc.detector.pictures import prepare
from deploycc.distillation.balance import Balance, Draws, draws
from deploycc.distillation.views import NO_LABELS, Example, Labels, collage, vary, zoom
from deploycc.errors import InputError
from deploycc.trainable.matching import IGNORED

_BLOCK = 512  # views
_TIMES = 2  # that each view of a block is seen, before the next block: the teacher is asked half as often
_PER_PICTURE = 4  # on average, until each picture was drawn as often as it should be
_COLLAGES = 0.5  # share of the views
_BLENDS = 0.5  # share of the views without labels
_FAINTEST, _STRONGEST = 0.1, 0.5  # of the second picture of a blend


class Samples:
    """Pictures to train on, and pictures that are never trained on.

    Args:
        pictures: where they come from.
        spec: of the network's input.
        seed: of the order and the changes.
        labels: returns what is labelled in a picture, by its number; None: the pictures have no labels.
        balance: how often each picture is drawn; None: all alike.

    Attributes:
        held_out, trained_on: numbers of pictures.
        labelled: whether the pictures have labels.
        labelled_classes: numbers of the classes that occur in them.

    Raises:
        InputError: ``distillation-few-pictures``.
        PictureError: a picture cannot be read.
    """

    def __init__(
        self,
        pictures: PictureList,
        spec: InputSpec,
        seed: int,
        labels: Callable[[int], Labels] | None = None,
        balance: Balance | None = None,
    ) -> None:
        count = len(pictures.names)
        if count < LEAST_PICTURES:
            raise InputError(
                "distillation-few-pictures",
                f"{count} pictures are too few to learn from",
                context={"pictures": pictures.source},
                note=f"at least {LEAST_PICTURES} are needed, and a thousand are better",
            )
        self.held_out = held_out_numbers(count)
        self.trained_on = tuple(sorted(set(range(count)) - set(self.held_out)))
        self._spec, self._seed = spec, seed
        # All are read before the first step: one that is damaged is named now, and no step waits for a disk.
        self.labelled = labels is not None
        self._small = [
            Example(self._shrunk(pictures.read(number)), labels(number) if labels is not None else NO_LABELS)
            for number in range(count)
        ]
        self.labelled_classes = {int(k) for example in self._small for k in example.labels.classes if k != IGNORED}
        self._seen: dict[int, Labels] = {}
        places = len(self.trained_on)
        self._draws: Draws | None = None
        self._first = np.tile(np.arange(places), _PER_PICTURE)  # of each view of a round
        self._partners: NDArray[np.float64] | None = None  # how likely a picture is another one's in a collage
        if balance is not None:
            seen = [balance.look(self._small[number].pixels) for number in self.trained_on]
            self._draws = draws(seen, balance.power)
            self._first = np.repeat(np.arange(places), self._draws.counts(places * _PER_PICTURE))
            self._partners = self._draws.factors / self._draws.factors.sum()

    def picture(self, number: int) -> NDArray[np.uint8]:
        """A picture as it is, [H, W, 3] uint8, red first, not much larger than the network's input."""
        return self._small[number].pixels

    def views(self, step: int, size: int) -> tuple[int, ...]:
        """Return the views of a step's batch, the same for the same seed and step.

        A view is a picture with changes of its own. Each is seen twice, so that a teacher's answer is used twice, and
        then no more: views that come again and again are learned by heart.
        """
        return tuple(self._at(step * size + k) for k in range(size))

    def _at(self, place: int) -> int:
        """Return the view at a place of the training: blocks follow one another, each in several orders."""
        order, place = divmod(place, _BLOCK)
        permutation = np.random.default_rng([self._seed, 2, order]).permutation(_BLOCK)
        return order // _TIMES * _BLOCK + int(permutation[place])

    @property
    def views_per_round(self) -> int:
        """After how many views each picture was drawn as often as it should be."""
        return len(self._first)

    def first_picture(self, view: int) -> int:
        """Return the picture that a view shows; a collage shows three others as well."""
        return self.trained_on[self._place(view)]

    def _place(self, view: int) -> int:
        """Return the place among those trained on of the picture that a view shows."""
        number, place = divmod(view, len(self._first))
        permutation = np.random.default_rng([self._seed, 3, number]).permutation(len(self._first))
        return int(self._first[permutation[place]])

    def view(self, number: int) -> NDArray[np.float32]:
        """Return a view as the network's input, [1, C, H, W].

        Half of the views without labels have another picture blended in, as for a teacher any picture has an answer
        (mixup, Zhang et al., 2018; for distillation, Beyer et al., Knowledge distillation: A good teacher is patient
        and consistent, 2022).
        """
        shown = prepare(self._view(number).pixels, self._spec)
        rng = np.random.default_rng([self._seed, 4, number])
        if self.labelled or rng.random() >= _BLENDS:
            return shown
        other = self._varied(int(rng.choice(len(self.trained_on), p=self._partners)), rng)
        weight = np.float32(rng.uniform(_FAINTEST, _STRONGEST))
        return (1 - weight) * shown + weight * prepare(other.pixels, self._spec)

    def labels(self, number: int) -> Labels:
        """Return what is labelled in a view of pictures that have labels."""
        if number not in self._seen:  # otherwise the view was made already
            self._view(number)
        return self._seen[number]

    def _view(self, number: int) -> Example:
        rng = np.random.default_rng([self._seed, 1, number])
        first = self._place(number)
        if rng.random() >= _COLLAGES:
            view = self._varied(first, rng)
        else:
            others = rng.choice(len(self.trained_on), 3, p=self._partners)
            parts = [self._varied(int(place), rng) for place in (first, *others)]
            view = collage(parts, (self._spec.height, self._spec.width), rng)
        if self.labelled:
            self._seen[number] = view.labels
            if len(self._seen) > 2 * _BLOCK:
                self._seen.pop(next(iter(self._seen)))
        return view

    def _varied(self, place: int, rng: np.random.Generator) -> Example:
        """Change a picture, by its place among those that are trained on."""
        example = self._small[self.trained_on[place]]
        target = None if self._draws is None else self._draws.target(place, rng)
        return vary(example, rng) if target is None else zoom(example, target, rng)

    def _shrunk(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """At most half as large again as the input: patches of it still fill the input, and memory suffices."""
        height, width = picture.shape[:2]
        most_h, most_w = round(self._spec.height * 1.5), round(self._spec.width * 1.5)
        if height <= most_h and width <= most_w:
            return picture
        target = (min(width, most_w), min(height, most_h))
        return np.asarray(Image.fromarray(picture).resize(target, Image.Resampling.BILINEAR))
