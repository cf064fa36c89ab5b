"""Two networks in a row instead of branches: their times, as ``gates.json`` keeps them."""

from __future__ import annotations

import math
from statistics import fmean
from typing import Annotated

from pydantic import Field, model_validator

from deploycc.documents.document import Count, Evidence, Record

Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Samples = Annotated[tuple[Positive, ...], Field(min_length=1)]
"""Milliseconds."""
Rounds = Annotated[tuple[Samples, ...], Field(min_length=1)]
"""Milliseconds, [rounds][pictures]."""


class TimesInARow(Record):
    """Both networks run one after the other, in turns with other networks on the same pictures.

    Attributes:
        dense_ms, planned_ms, staged_ms: without gates, the best plan in one network, and in a row; [rounds][pictures].
        worst_dense_ms, worst_staged_ms: without gates, and with the second network that takes longest.
    """

    dense_ms: Rounds
    planned_ms: Rounds
    staged_ms: Rounds
    worst_dense_ms: Rounds
    worst_staged_ms: Rounds

    @model_validator(mode="after")
    def _consistent(self) -> TimesInARow:
        for group in (
            (self.dense_ms, self.planned_ms, self.staged_ms),
            (self.worst_dense_ms, self.worst_staged_ms),
        ):
            if len({len(rounds) for rounds in group}) > 1 or len({len(row) for rounds in group for row in rounds}) > 1:
                raise ValueError("networks that were timed in turns have different numbers of rounds or pictures")
        return self


class TimesApart(Record):
    """Each network by itself, which is how a device times them: what both take in a row is the sum.

    Attributes:
        dense_ms: of the network without gates, which took turns with them.
        first_ms: of the network that decides.
        second_ms: of each network that may follow.
        reading_ms: what the host takes to read the decision; None: not known, and not part of a sum.
    """

    dense_ms: Samples
    first_ms: Samples
    second_ms: Annotated[tuple[Samples, ...], Field(min_length=2)]
    reading_ms: Annotated[float, Field(ge=0)] | None


class StagedRecord(Record):
    """A network that decides, and for each number of kernels another one that goes on from there.

    Times are the least of what was sampled, of each picture where there are pictures: whatever else the machine does
    only adds time.

    Attributes:
        layers: that the decision switches, in graph order.
        sizes: for each layer, its kernels in each second network, ascending.
        shares: for each second network, the share of the pictures that need it.
        added_bytes: weights of all these networks beyond those of the network in one.
        evidence: where the samples come from.
        whole: samples of both in a row; None where they were timed apart.
        parts: samples of each; None where they were timed in a row.
        chosen: whether the plan has it.
        why: reason, where it is not chosen.
    """

    layers: Annotated[tuple[str, ...], Field(min_length=2)]
    sizes: Annotated[tuple[tuple[Count, ...], ...], Field(min_length=2)]
    shares: Annotated[tuple[Share, ...], Field(min_length=2)]
    added_bytes: Count
    evidence: Evidence
    whole: TimesInARow | None = None
    parts: TimesApart | None = None
    chosen: bool = False
    why: str = ""

    @property
    def composed(self) -> bool:
        """Whether its times are sums, and not of a whole that ran."""
        return self.parts is not None

    @property
    def dense_ms(self) -> float:
        """Mean time of the network without gates."""
        return min(self.parts.dense_ms) if self.parts is not None else _mean(self._run.dense_ms)

    @property
    def planned_ms(self) -> float | None:
        """Mean time of the best plan in one network, in turns with this; None where this was timed apart."""
        return None if self.parts is not None else _mean(self._run.planned_ms)

    @property
    def expected_ms(self) -> float:
        """Mean time on the pictures: the first network, and of the second ones each by its share."""
        if self.parts is None:
            return _mean(self._run.staged_ms)
        seconds = sum(share * min(ms) for share, ms in zip(self.shares, self.parts.second_ms, strict=True))
        return min(self.parts.first_ms) + seconds + (self.parts.reading_ms or 0.0)

    @property
    def worst_ms(self) -> float:
        """Time where the slowest of the second networks follows."""
        if self.parts is None:
            return _mean(self._run.worst_staged_ms)
        return min(self.parts.first_ms) + max(map(min, self.parts.second_ms)) + (self.parts.reading_ms or 0.0)

    @property
    def relative_time(self) -> float:
        """Time on the pictures, divided by the dense network's."""
        return self.expected_ms / self.dense_ms

    @property
    def worst_case(self) -> float:
        """Time with the slowest second network, divided by the dense network's."""
        return self.worst_ms / (self.dense_ms if self.parts is not None else _mean(self._run.worst_dense_ms))

    @property
    def _run(self) -> TimesInARow:
        assert self.whole is not None
        return self.whole

    @model_validator(mode="after")
    def _consistent(self) -> StagedRecord:
        if (self.whole is None) == (self.parts is None):
            raise ValueError("two networks in a row were timed either as a whole or apart")
        if len(self.sizes) != len(self.layers) or any(len(sizes) != len(self.shares) for sizes in self.sizes):
            raise ValueError("not every layer has a number of kernels for each second network")
        if self.parts is not None and len(self.parts.second_ms) != len(self.shares):
            raise ValueError("not every second network has times")
        if not math.isclose(sum(self.shares), 1.0, abs_tol=1e-6):
            raise ValueError("the shares of the second networks are not 1 together")
        return self


def _mean(rounds: Rounds) -> float:
    """Return the mean over the pictures of the least time of each."""
    return fmean(min(times) for times in zip(*rounds, strict=True))
