"""Tables within a width."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from deploycc.report.table import lay_out

LAYERS = ("layer", "kernels", "after", "MACs", "change", "why")
PRUNED = (
    ("backend.0.4/conv/conv/Conv", "64", "56", "14.75 M", "-12.5%", "11 useless, 3 kept for a multiple of 8"),
    ("score.0.1/Conv", "42", "42", "1.61 M", "=", ""),
)


def _text(columns: tuple[str, ...], rows: tuple[tuple[str, ...], ...], width: int | None) -> str:
    table = lay_out(columns, rows, width)
    return "\n".join([*table.head, *table.body])


def test_without_a_width_every_row_is_a_line_and_numbers_are_right_aligned() -> None:
    assert _text(LAYERS, PRUNED, None) == (
        "layer                       kernels  after     MACs  change  why\n"
        "backend.0.4/conv/conv/Conv       64     56  14.75 M  -12.5%  11 useless, 3 kept for a multiple of 8\n"
        "score.0.1/Conv                   42     42   1.61 M       ="
    )


def test_cells_wrap_at_spaces_before_a_name_breaks() -> None:
    assert _text(LAYERS, PRUNED, 90) == (
        "layer                       kernels  after     MACs  change  why\n"
        "backend.0.4/conv/conv/Conv       64     56  14.75 M  -12.5%  11 useless, 3 kept for a\n"
        "                                                             multiple of 8\n"
        "score.0.1/Conv                   42     42   1.61 M       ="
    )


def test_prose_goes_below_its_row_before_it_becomes_a_narrow_column() -> None:
    assert _text(LAYERS, PRUNED, 70) == (
        "layer                       kernels  after     MACs  change\n"
        "    why\n"
        "backend.0.4/conv/conv/Conv       64     56  14.75 M  -12.5%\n"
        "    11 useless, 3 kept for a multiple of 8\n"
        "score.0.1/Conv                   42     42   1.61 M       ="
    )


def test_names_break_after_punctuation_where_nothing_else_helps() -> None:
    assert _text(LAYERS[:-1], tuple(row[:-1] for row in PRUNED), 50) == (
        "layer              kernels  after     MACs  change\n"
        "backend.0.4/conv/       64     56  14.75 M  -12.5%\n"
        "conv/Conv\n"
        "score.0.1/Conv          42     42   1.61 M       ="
    )


def test_a_table_that_cannot_fit_is_turned() -> None:
    columns = tuple(f"time of network {number}" for number in range(9))
    rows = (tuple(f"{number}.123 ms" for number in range(9)), tuple("1.000 ms" for _ in range(9)))
    assert _text(columns, rows, 60).splitlines()[:2] == [
        "time of network 0  0.123 ms  1.000 ms",
        "time of network 1  1.123 ms  1.000 ms",
    ]
    one_by_one = _text(columns, rows, 30).splitlines()
    assert one_by_one[0] == "time of network 0  0.123 ms"
    assert one_by_one[9:11] == ["", "time of network 0  1.000 ms"]


def test_prose_is_never_right_aligned() -> None:
    table = lay_out(("name", "why"), (("a", "11 useless, 3 kept"), ("b", "4 useless")))
    assert table.body == ("a     11 useless, 3 kept", "b     4 useless")


def test_a_table_without_rows_is_its_head() -> None:
    assert lay_out(("a", "b"), (), 80).body == ()
    assert lay_out(("a" * 50, "b" * 50, "c"), (), 80).head


@given(
    st.lists(
        st.lists(st.text("abcdefghijklmnopqrstuvwxyz0123456789/._ ", max_size=12), min_size=4, max_size=4), max_size=5
    ),
    st.integers(60, 90),
)
def test_lines_fit_and_nothing_is_lost(rows: list[list[str]], width: int) -> None:
    table = lay_out(["one", "two", "three", "four"], rows, width)
    assert all(len(line) <= width for line in (*table.head, *table.body))
    shown = "".join("".join(table.body).split())
    assert sorted(shown) == sorted("".join("".join(cell for row in rows for cell in row).split()))
