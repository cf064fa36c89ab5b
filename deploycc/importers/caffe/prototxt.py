"""Read Caffe's network definitions, in protobuf text format, into a tree that keeps line numbers.

The tree has no schema. protobuf's own reader needs a fixed schema, but every SSD fork adds fields, and it discards the
line numbers that this importer's errors give. The reader of a field decides its type: each getter states one, and
`Message.unread` lists fields that were never read, so that no attribute is ignored by accident.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NoReturn, TypeVar

from deploycc.errors import ModelError
from deploycc.files import read_bytes

Kind = Literal["string", "number", "word"]
T = TypeVar("T")

_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\f\v]+|\#[^\n]*)
      | (?P<newline>\n)
      | (?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
      | (?P<number>[-+]?(?:0[xX][0-9a-fA-F]+|(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?[fF]?)(?![\w.]))
      | (?P<word>-?[A-Za-z_][\w.]*)
      | (?P<mark>[{}<>\[\]:,;])""",
    re.VERBOSE,
)
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{1,2}|[0-7]{1,3}|.)")
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}
_WIDEST = 1 << 32
_LEAST_FLOAT = 2.0**-126  # GPUs may take smaller float32 numbers for 0, and most of them are 0
_BEYOND_FLOAT = (2 - 2.0**-24) * 2.0**127  # numbers from here on round to infinity as float32
_DEEPEST = 64  # protobuf stops at 100, Caffe needs 5
_TRUE, _FALSE = ("true", "True", "t", "1"), ("false", "False", "f", "0")


@dataclass(frozen=True)
class Scalar:
    """One value as written: text without quotes, kind of token, line and column (from 1)."""

    text: str
    kind: Kind
    line: int
    column: int


class Message:
    """One ``{ ... }`` of the text, or the whole file.

    Attributes:
        file: the file it was read from.
        name: the field whose value it is; empty for the file.
        line: of its opening brace, counted from 1.
    """

    def __init__(self, file: str, name: str = "", line: int = 1) -> None:
        self.file, self.name, self.line = file, name, line
        self._fields: dict[str, list[Scalar | Message]] = {}
        self._read: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name in self._fields

    def add(self, name: str, value: Scalar | Message) -> None:
        """Append one value of a field."""
        self._fields.setdefault(name, []).append(value)

    def items(self) -> Iterator[tuple[str, Scalar | Message]]:
        """Yield every field and value; fields in the order of their first value."""
        for name, values in self._fields.items():
            for value in values:
                yield name, value

    def unread(self) -> list[tuple[str, int]]:
        """Return the fields that no getter has read, with the line of each."""
        return [(name, values[0].line) for name, values in self._fields.items() if name not in self._read]

    def ignore(self, *names: str) -> None:
        """Mark fields as known that do not change what the network computes."""
        self._read.update(names)

    def messages(self, name: str) -> list[Message]:
        """Return all values of a message field.

        Raises:
            ModelError: a value is not a message.
        """
        messages = []
        for value in self._values(name):
            if not isinstance(value, Message):
                self._wrong(name, value, "a message in braces")
            messages.append(value)
        return messages

    def message(self, name: str) -> Message:
        """Return the value of a message field, merged if it is given several times, empty if it is not given."""
        messages = self.messages(name)
        if not messages:
            return Message(self.file, name, self.line)
        first, *others = messages
        for other in others:
            for key, value in other.items():
                first.add(key, value)
        self._fields[name] = [first]
        return first

    def texts(self, name: str) -> list[str]:
        """Return all values of a string field."""
        return self._all(name, _to_text)

    def integers(self, name: str) -> list[int]:
        """Return all values of an integer field."""
        return self._all(name, _to_integer)

    def numbers(self, name: str) -> list[float]:
        """Return all values of a number field."""
        return self._all(name, _to_number)

    def text(self, name: str, default: str = "") -> str:
        """Return the value of a string field."""
        return self._single(name, _to_text, default)

    def integer(self, name: str, default: int = 0) -> int:
        """Return the value of an integer field."""
        return self._single(name, _to_integer, default)

    def number(self, name: str, default: float = 0.0) -> float:
        """Return the value of a number field."""
        return self._single(name, _to_number, default)

    def flag(self, name: str, default: bool = False) -> bool:
        """Return the value of a true/false field."""
        return self._single(name, _to_flag, default)

    def written(self, name: str) -> str:
        """Return a value as written, whatever its kind; empty if the field is not given."""
        return self._single(name, lambda value: value.text, "")

    def choice(self, name: str, choices: Mapping[str, int], default: str) -> str:
        """Return the name of an enumeration's value, which the file may also give by number.

        Args:
            name: the field.
            choices: every name with its number in Caffe's schema.
            default: the name if the field is not given.

        Raises:
            ModelError: the value is not one of the choices.
        """

        def convert(value: Scalar) -> str:
            for key, number in choices.items():
                if value.text in (key, str(number)):
                    return key
            raise ValueError("one of " + ", ".join(choices))

        return self._single(name, convert, default)

    def _values(self, name: str) -> list[Scalar | Message]:
        self._read.add(name)
        return self._fields.get(name, [])

    def _all(self, name: str, convert: Callable[[Scalar], T]) -> list[T]:
        converted = []
        for value in self._values(name):
            if isinstance(value, Message):
                self._wrong(name, value, "a plain value")
            try:
                converted.append(convert(value))
            except ValueError as error:
                self._wrong(name, value, str(error))
        return converted

    def _single(self, name: str, convert: Callable[[Scalar], T], default: T) -> T:
        values = self._all(name, convert)
        if len(values) > 1:
            raise ModelError(
                "caffe-repeated-field",
                f"{name} is given {len(values)} times, but takes one value",
                context={"file": self.file, "line": self._fields[name][1].line},
            )
        return values[0] if values else default

    def _wrong(self, name: str, value: Scalar | Message, expected: str) -> NoReturn:
        written = f"{value.text!r}" if isinstance(value, Scalar) else "a message in braces"
        raise ModelError(
            "caffe-wrong-value",
            f"{name} is {written}, but must be {expected}",
            context={"file": self.file, "line": value.line},
        )


def _to_text(value: Scalar) -> str:
    if value.kind == "number":
        raise ValueError("a string in quotes")
    return value.text


def _to_integer(value: Scalar) -> int:
    try:
        number = int(value.text, 0)
    except ValueError:
        try:  # ``2.0`` and ``08``: protobuf accepts neither, but generated files contain both
            exact = float(value.text) if value.kind == "number" else math.nan
            number = int(exact) if exact.is_integer() else _WIDEST
        except ValueError:
            number = _WIDEST
    if value.kind != "number" or not -_WIDEST < number < _WIDEST:
        raise ValueError("a whole number of 32 bits")
    return number


def _to_number(value: Scalar) -> float:
    text = value.text.rstrip("fF") if value.kind == "number" and "x" not in value.text.lower() else value.text
    if value.kind != "string":
        try:
            number = float(int(text, 16)) if "x" in text.lower() else float(text)
        except (ValueError, OverflowError):
            pass
        else:
            if not abs(number) < _BEYOND_FLOAT:  # true for NaN
                raise ValueError("a finite number of 32 bits")
            if number and abs(number) < _LEAST_FLOAT:
                raise ValueError("0, or a number of 32 bits that is not taken for 0")
            return number
    raise ValueError("a number")


def _to_flag(value: Scalar) -> bool:
    if value.kind != "string" and value.text in _TRUE:
        return True
    if value.kind != "string" and value.text in _FALSE:
        return False
    raise ValueError("true or false")


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    line: int
    column: int


def parse(text: str, file: str) -> Message:
    """Read a network definition.

    Args:
        text: contents of the file.
        file: its name, for errors.

    Raises:
        ModelError: syntax error, with line and column.
    """
    return _Parser(text, file).parse()


def read(path: Path) -> tuple[Message, bytes]:
    """Read a network definition from a file; also return the file's bytes.

    Raises:
        ModelError: the file is missing, unreadable or empty, or has a syntax error.
    """
    try:
        data = read_bytes(path)
    except FileNotFoundError:
        raise ModelError("file-missing", "the network definition does not exist", context={"file": path}) from None
    except OSError as error:
        raise ModelError(
            "file-unreadable", f"the network definition cannot be read: {error.strerror}", context={"file": path}
        ) from None
    if not data.strip():
        raise ModelError("file-empty", "the network definition is empty", context={"file": path})
    if b"\0" in data[:4096]:
        raise ModelError(
            "caffe-not-text",
            "the network definition is not text",
            context={"file": path},
            hint="pass the .prototxt as the model and the .caffemodel as `weights`",
        )
    # Comments in real files may have any encoding; names and attributes are ASCII.
    return parse(data.decode("utf-8-sig", errors="replace"), str(path)), data


class _Parser:
    def __init__(self, text: str, file: str) -> None:
        self._file = file
        self._tokens = self._split(text)
        self._next = self._depth = 0

    def parse(self) -> Message:
        root = Message(self._file)
        self._fields(root, end="")
        return root

    def _split(self, text: str) -> list[_Token]:
        tokens, position, line, line_start = [], 0, 1, 0
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None:
                wrong = "string without its closing quote" if text[position] in "\"'" else repr(text[position])
                self._fail(f"unexpected {wrong}", line, position - line_start + 1)
            kind = match.lastgroup or ""
            if kind == "newline":
                line, line_start = line + 1, match.end()
            elif kind != "space":
                tokens.append(_Token(kind, match.group(), line, position - line_start + 1))
            position = match.end()
        tokens.append(_Token("end", "", line, position - line_start + 1))
        return tokens

    def _fields(self, message: Message, end: str) -> None:
        while True:
            token = self._take()
            if token.text == end and token.kind in ("mark", "end"):
                return
            if token.text in (",", ";") and token.kind == "mark":
                continue
            if token.kind == "end":
                self._fail(f"the file ends inside {message.name} {{, opened in line {message.line}", *_at(token))
            if token.kind != "word":
                self._fail(f"expected a field name, found {token.text!r}", *_at(token))
            self._field(message, token)

    def _field(self, message: Message, name: _Token) -> None:
        colon = self._peek().text == ":" and self._peek().kind == "mark"
        if colon:
            self._take()
        token = self._peek()
        if token.kind == "mark" and token.text == "[":
            self._take()
            while not (self._peek().kind == "mark" and self._peek().text == "]"):
                self._value(message, name, colon)
                if self._peek().text == ",":
                    self._take()
            self._take()
        else:
            self._value(message, name, colon)

    def _value(self, message: Message, name: _Token, colon: bool) -> None:
        token = self._take()
        if token.kind == "mark" and token.text in ("{", "<"):
            child = Message(self._file, name.text, token.line)
            self._depth += 1
            if self._depth > _DEEPEST:
                self._fail(f"messages are nested more than {_DEEPEST} deep", *_at(token))
            self._fields(child, end="}" if token.text == "{" else ">")
            self._depth -= 1
            message.add(name.text, child)
            return
        if token.kind not in ("string", "number", "word") or not colon:
            found = repr(token.text) if token.text else "the end of the file"
            expected = "a value" if colon else "':' or '{'"
            self._fail(f"expected {expected} after {name.text}, found {found}", *_at(token))
        text = token.text
        if token.kind == "string":
            text = _unquote(text)
            while self._peek().kind == "string":  # adjacent strings are joined, as in C
                text += _unquote(self._take().text)
        message.add(name.text, Scalar(text, token.kind, token.line, token.column))  # type: ignore[arg-type]

    def _peek(self) -> _Token:
        return self._tokens[self._next]

    def _take(self) -> _Token:
        token = self._tokens[self._next]
        self._next = min(self._next + 1, len(self._tokens) - 1)
        return token

    def _fail(self, what: str, line: int, column: int) -> NoReturn:
        raise ModelError("caffe-syntax", what, context={"file": self._file, "line": line, "column": column})


def _at(token: _Token) -> tuple[int, int]:
    return token.line, token.column


def _unquote(text: str) -> str:
    def replace(match: re.Match[str]) -> str:
        code = match.group(1)
        if code[0] == "x" and len(code) > 1:
            return chr(int(code[1:], 16))
        if code[0] in "01234567":
            return chr(int(code, 8))
        return _ESCAPED.get(code, code)

    return _ESCAPE.sub(replace, text[1:-1]) if "\\" in text else text[1:-1]
