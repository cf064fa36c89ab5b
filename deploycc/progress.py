"""How long steps tell what they are doing."""

from __future__ import annotations

from typing import Protocol


class Say(Protocol):
    """Shows the user what is being done, while it lasts; nothing is kept."""

    def __call__(self, what: str, done: int = 0, total: int = 0) -> None:
        """Show what is being done now.

        Args:
            what: the step in a few words, such as ``measuring pictures``.
            done: how many of ``total`` are done.
            total: how many there are; 0 where nothing is counted.
        """


def quiet(what: str, done: int = 0, total: int = 0) -> None:
    """Show nothing."""


def prefixed(say: Say, prefix: str) -> Say:
    """Return a `Say` that puts ``prefix: `` before each step."""

    def with_prefix(what: str, done: int = 0, total: int = 0) -> None:
        say(f"{prefix}: {what}", done, total)

    return with_prefix
