"""Format numbers for readers: few digits, always with a unit."""

from __future__ import annotations

from collections.abc import Sequence


def milliseconds(value: float) -> str:
    """Return ``12.34 ms``."""
    return f"{_significant(value)} ms"


def bare_ms(value: float) -> str:
    """Return a number of milliseconds without its unit, for a column that gives the unit."""
    return _significant(value)


def seconds(value: float) -> str:
    """Return ``850 ms`` below a second, else ``1.23 s``."""
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.2f} s"


def rate(value: float) -> str:
    """Return ``81.2 pictures/s``."""
    return f"{value:.1f} pictures/s"


def count(value: int, unit: str = "") -> str:
    """Return a count with a decimal prefix: ``31.37 G``, ``5.53 M``, ``812``."""
    for factor, prefix in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if value >= factor:
            return f"{value / factor:.2f} {prefix}{unit}"
    return f"{value} {unit}".rstrip()


def size(value: int) -> str:
    """Return a file size with a binary prefix: ``17.3 MiB``."""
    for factor, prefix in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if value >= factor:
            return f"{value / factor:.1f} {prefix}"
    return f"{value} bytes"


def change(before: int, after: int) -> str:
    """Return a relative change: ``-12.5%``, or ``=`` if nothing changed."""
    if before == after:
        return "="
    return f"{(after - before) / before:+.1%}" if before else f"+{after}"


def scientific(value: float) -> str:
    """Return an error: ``0`` or ``1.2e-04``."""
    return f"{value:.1e}" if value else "0"


def _significant(value: float) -> str:
    """Format with four significant digits from 1 ms on, and whole microseconds below."""
    return f"{value:.{max(0, 4 - len(str(int(value)))) if value >= 1 else 3}f}"


def without_controls(text: str) -> str:
    """Replace what cannot be printed, but for line breaks: a page opened in a terminal must not move its cursor."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() or character == "\n" else "\N{REPLACEMENT CHARACTER}" for character in text
    )


def preparation(colour: str, mean: Sequence[float], scale: Sequence[float]) -> str:
    """Describe how pictures become tensors."""
    means, factors = (", ".join(f"{value:g}" for value in dict.fromkeys(values)) for values in (mean, scale))
    return f"{colour}, (pixel - ({means})) * ({factors})"


def assumed_preparation(colour: str, mean: Sequence[float], scale: Sequence[float], what: str) -> str:
    """Say that no file states how pictures become tensors, and that ``what`` depends on it."""
    return (
        f"no file says how this network expects its pictures; assumed: {preparation(colour, mean, scale)}. "
        f"Give `mean`, `scale` and `colour`: with wrong ones {what} means nothing"
    )
