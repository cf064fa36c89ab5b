"""The table of TensorRT releases: in order, and no release supports less than the one before."""

from __future__ import annotations

import itertools

from deploycc.parsers.tensorrt_releases import LATEST, PARSERS, dotted, first_with, numbers, parser_of


def test_releases_are_ordered_and_never_support_less_than_before() -> None:
    for earlier, later in itertools.pairwise(PARSERS):
        assert earlier.since < later.since
        assert earlier.opset <= later.opset
        assert earlier.ir <= later.ir
    assert parser_of(()) is PARSERS[0]
    assert parser_of((8, 2, 1)).ir == 7
    assert (first_with(opset=14), first_with(ir=13), first_with(opset=99)) == ("8.4", "11.0", None)
    assert numbers(dotted(LATEST)) == LATEST
