from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import caffe_messages

from deploycc.errors import ModelError
from deploycc.importers.caffe.prototxt import Message, parse, read


def tree(message: Message) -> list[Any]:
    """Return a message in the form of the strategy; fields with the same name are adjacent."""
    return [
        (name, tree(value)) if isinstance(value, Message) else (name, value.kind, value.text)
        for name, value in message.items()
    ]


def grouped(tree: list[Any]) -> list[Any]:
    """The tree as `Message` keeps it: fields in the order of their first value."""
    names = list(dict.fromkeys(node[0] for node in tree))
    ordered = sorted(tree, key=lambda node: names.index(node[0]))
    return [(node[0], grouped(node[1])) if len(node) == 2 else node for node in ordered]


@given(caffe_messages())
def test_any_layout_reads_as_the_same_tree(drawn: tuple[str, list[Any]]) -> None:
    text, expected = drawn
    assert tree(parse(text, "net")) == grouped(expected)


@given(st.text(alphabet="ab{}<>[]:,;\"'#.-1e\n \\", max_size=40))
def test_any_text_is_read_or_diagnosed(text: str) -> None:
    found = None
    try:
        parse(text, "net")
    except ModelError as error:
        found = error
    assert found is None or (found.code, int(found.context["line"]) <= text.count("\n") + 1) == ("caffe-syntax", True)


def test_every_form_of_a_value() -> None:
    message = parse(
        """
        text: "a\\"b\\n\\x41\\101" 'c'  # joined, as in C
        int: 12 hex: 0x1F negative: -3 float: 1.5e-3 suffix: 2f short: .5 far: 3.40282347e+38
        yes: true no: f one: 1
        list: [1, 2, 3] list: 4; empty: []
        message < inner: 1 > message: { inner: 2 }
        phase: TEST, number_for_name: 1
        """,
        "net",
    )
    assert message.text("text") == 'a"b\nAAc'
    assert [message.integer(name) for name in ("int", "hex", "negative")] == [12, 31, -3]
    assert [message.number(name) for name in ("float", "suffix", "short", "far", "hex")] == [
        0.0015,
        2,
        0.5,
        3.40282347e38,
        31,
    ]
    assert [message.flag(name) for name in ("yes", "no", "one")] == [True, False, True]
    assert message.integers("list") == [1, 2, 3, 4]
    assert message.integers("empty") == []
    assert [inner.integer("inner") for inner in message.messages("message")] == [1, 2]
    assert message.choice("phase", {"TRAIN": 0, "TEST": 1}, "TRAIN") == "TEST"
    assert message.choice("number_for_name", {"TRAIN": 0, "TEST": 1}, "TRAIN") == "TEST"
    assert (message.integer("absent", 7), message.text("absent", "x"), message.flag("absent", True)) == (7, "x", True)


def test_messages_given_twice_are_merged() -> None:
    merged = parse("a { b: 1 } a { c: 2 }", "net")
    for _ in range(2):
        assert (merged.message("a").integer("b"), merged.message("a").integer("c")) == (1, 2)


def test_unread_fields_are_known_with_their_lines() -> None:
    message = parse("a: 1\nb: 2\nc: 3\nb: 4", "net")
    message.integer("a")
    message.ignore("c")
    assert message.unread() == [("b", 2)]


@pytest.mark.parametrize(
    ("text", "line", "column", "says"),
    [
        ("layer {\n  name: 'x'\n", 3, 1, "the file ends inside layer {, opened in line 1"),
        ("a: 1\nb: }", 2, 4, "expected a value after b, found '}'"),
        ("a 1", 1, 3, "expected ':' or '{' after a, found '1'"),
        ("a:", 1, 3, "expected a value after a, found the end of the file"),
        ("a: 1 }", 1, 6, "expected a field name, found '}'"),
        ("a: 'open", 1, 4, "unexpected string without its closing quote"),
        ("a: 1\n  @", 2, 3, "unexpected '@'"),
        ("a: 12abc", 1, 4, "unexpected '1'"),
        ("a: [1, }", 1, 8, "expected a value after a, found '}'"),
        ("a { b: 1 >", 1, 10, "expected a field name, found '>'"),
        ("a {" * 70, 1, 195, "messages are nested more than 64 deep"),
    ],
)
def test_syntax_errors_name_line_and_column(text: str, line: int, column: int, says: str) -> None:
    with pytest.raises(ModelError) as caught:
        parse(text, "net.prototxt")
    assert caught.value.render() == (
        f"error[caffe-syntax]: {says}\n    file: net.prototxt\n    line: {line}\n  column: {column}"
    )


@pytest.mark.parametrize(
    ("text", "getter", "says"),
    [
        ("a: 'x'", "integer", "a is 'x', but must be a whole number of 32 bits"),
        ("a: 1.5", "integer", "a is '1.5', but must be a whole number of 32 bits"),
        ("a: 4294967296", "integer", "a is '4294967296', but must be a whole number of 32 bits"),
        ("a: 1e400", "integer", "a is '1e400', but must be a whole number of 32 bits"),
        ("a: x", "number", "a is 'x', but must be a number"),
        ("a: 2", "flag", "a is '2', but must be true or false"),
        ("a: 2", "text", "a is '2', but must be a string in quotes"),
        ("a { }", "integer", "a is a message in braces, but must be a plain value"),
        ("a: 1", "message", "a is '1', but must be a message in braces"),
        ("a: 1 a: 2", "integer", "a is given 2 times, but takes one value"),
    ],
)
def test_wrong_values_are_diagnosed(text: str, getter: str, says: str) -> None:
    with pytest.raises(ModelError) as caught:
        getattr(parse("\n" + text, "net"), getter)("a")
    assert caught.value.message == says
    assert caught.value.context == {"file": "net", "line": "2"}


def test_files_that_are_not_definitions(tmp_path: Path) -> None:
    path = tmp_path / "net.prototxt"
    with pytest.raises(ModelError, match="does not exist"):
        read(path)
    path.write_bytes(b" \n")
    with pytest.raises(ModelError, match="is empty"):
        read(path)
    path.write_bytes(b"\x0a\x03net\x00\x00")
    with pytest.raises(ModelError, match="is not text"):
        read(path)
    with pytest.raises(ModelError, match="cannot be read"):
        read(tmp_path)
    path.write_bytes("\ufeffname: 'x' # 网络".encode("utf-8") + b"\xff")
    assert read(path)[0].text("name") == "x"


@pytest.mark.parametrize("written", ["1e-50", "-1e-39", "1e-45f"])
def test_numbers_that_become_zero_as_float32_are_refused(written: str) -> None:
    """A variance of 1e-50 would make every offset 0."""
    message = parse(f"variance: {written} eps: 1.2e-38 zero: 0 none: -0.0", "net")
    assert [message.number(name) for name in ("eps", "zero", "none")] == [1.2e-38, 0, 0]
    with pytest.raises(ModelError, match="must be 0, or a number of 32 bits that is not taken for 0"):
        message.numbers("variance")


@pytest.mark.parametrize("written", ["nan", "inf", "-inf", "1e39", "-3.5e38", "0x" + "f" * 40, "1e999"])
def test_numbers_that_are_not_finite_as_float32_are_refused(written: str) -> None:
    with pytest.raises(ModelError) as caught:
        parse(f"a {{\n  scale: {written} }}", "net").message("a").number("scale")
    assert (caught.value.code, caught.value.message) == (
        "caffe-wrong-value", f"scale is {written!r}, but must be a finite number of 32 bits"
    )  # fmt: skip
    assert caught.value.context["line"] == "2"
