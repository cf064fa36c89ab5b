"""Checks of values that came in a JSON file: of which type, within which limits.

A check takes a value and where it is in the file, and returns the value, or raises `Wrong`. Checks of lists and records
are made of the checks of what they hold.
"""

import re
from typing import Any, Callable, Dict, List, Optional

Check = Callable[[Any, str], Any]


class Wrong(Exception):  # noqa: N818 - the reader turns it into a failure that names the file
    """A value is not what the file's format asks for."""

    def __init__(self, where: str, what: str) -> None:
        super().__init__("{}: {}".format(where or "file", what))


def text(pattern: str = r"[^\x00]*", most: int = 4096, what: "Optional[str]" = None) -> Check:
    """Text that a pattern matches wholly and UTF-8 can spell.

    Args:
        pattern: regular expression.
        most: characters.
        what: the text in words, for the message.
    """
    matcher = re.compile("(?:" + pattern + r")\Z", re.DOTALL)

    def check(value: "Any", where: str) -> str:
        if not isinstance(value, str):
            raise Wrong(where, "must be text")
        if len(value) > most or not matcher.match(value) or any("\ud800" <= each <= "\udfff" for each in value):
            raise Wrong(where, "must be " + (what or "text of at most {} characters".format(most)))
        return value

    return check


def whole(least: int, most: int) -> Check:
    """A whole number within limits, both included."""

    def check(value: "Any", where: str) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise Wrong(where, "must be a whole number from {} to {}".format(least, most))
        return value

    return check


def number(least: float, most: float, above: bool = False) -> Check:
    """A finite number within limits, both included; ``above``: not the lower one."""

    def check(value: "Any", where: str) -> float:
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not is_number or not least <= value <= most or (above and value == least):
            raise Wrong(where, "must be a number {} {:g} to {:g}".format("above" if above else "from", least, most))
        return float(value)

    return check


def flag(value: "Any", where: str) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise Wrong(where, "must be true or false")
    return value


def one_of(*choices: str) -> Check:
    """One of these texts."""

    def check(value: "Any", where: str) -> str:
        if not isinstance(value, str) or value not in choices:
            raise Wrong(where, "must be one of " + ", ".join(choices))
        return value

    return check


def optional(of_value: Check) -> Check:
    """A value, or null."""
    return lambda value, where: None if value is None else of_value(value, where)


def list_of(of_element: Check, least: int, most: int) -> Check:
    """A list of so many elements at least and at most."""

    def check(value: "Any", where: str) -> "List[Any]":
        if not isinstance(value, list) or not least <= len(value) <= most:
            raise Wrong(where, "must be a list of {} to {} elements".format(least, most))
        return [of_element(element, "{}.{}".format(where, index)) for index, element in enumerate(value)]

    return check


def record(
    required: "Dict[str, Check]",
    defaults: "Optional[Dict[str, Any]]" = None,
    ignored: "Any" = (),
    others: bool = False,
) -> Check:
    """An object with these fields.

    Args:
        required: name -> check.
        defaults: name -> value of a field that may be absent; its check is in ``required`` too.
        ignored: names of fields that nobody reads any more.
        others: fields of any other name are left out, and no error.
    """
    absent = defaults or {}

    def check(value: "Any", where: str) -> "Dict[str, Any]":
        if not isinstance(value, dict):
            raise Wrong(where, "must be an object")
        below = where + "." if where else ""
        unknown = sorted(set(value) - set(required) - set(ignored))
        if unknown and not others:
            raise Wrong(below + unknown[0], "is not a field of this file")
        checked = {}
        for name, of_field in required.items():
            if name in value:
                checked[name] = of_field(value[name], below + name)
            elif name in absent:
                checked[name] = absent[name]
            else:
                raise Wrong(below + name, "is missing")
        return checked

    return check
