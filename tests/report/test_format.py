from __future__ import annotations

import pytest

from deploycc.report import format as formats


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0123, "0.012 ms"), (0.9996, "1.000 ms"), (1.23456, "1.235 ms"), (12.3456, "12.35 ms"), (157.14, "157.1 ms"),
     (1869.3, "1869 ms")],
)  # fmt: skip
def test_milliseconds(value: float, text: str) -> None:
    assert formats.milliseconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (812, "812"), (5_531_000, "5.53 M"), (31_374_000_000, "31.37 G"), (1_500, "1.50 k")],
)
def test_counts(value: int, text: str) -> None:
    assert formats.count(value) == text


def test_the_rest() -> None:
    assert formats.count(31_374_000_000, "MACs") == "31.37 GMACs"
    assert formats.size(18_140_000) == "17.3 MiB"
    assert formats.size(100) == "100 bytes"
    assert formats.seconds(0.85) == "850 ms"
    assert formats.seconds(1.234) == "1.23 s"
    assert formats.change(200, 150) == "-25.0%"
    assert formats.change(0, 3) == "+3"
    assert formats.change(3, 3) == "="
    assert formats.scientific(0.000123) == "1.2e-04"
    assert formats.scientific(0) == "0"
