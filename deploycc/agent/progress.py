"""What the agent says while it works."""

import sys
import unicodedata


def printable(text: str) -> str:
    """Return a text on one line that moves no cursor: what is not printable is spelled as an escape."""
    if text.isprintable():
        return text
    return "".join(
        character
        if character.isprintable() or unicodedata.category(character) == "Zs"
        else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def say(message: str) -> None:
    """Write one line of progress; a reader that is gone does not end the work."""
    try:
        sys.stderr.write(printable(message) + "\n")
        sys.stderr.flush()
    except (OSError, ValueError):  # the terminal was closed, or a pipe's other end
        pass
