"""What the agent says while it works."""

import sys


def say(message: str) -> None:
    """Write one line of progress."""
    sys.stderr.write(message + "\n")
    sys.stderr.flush()
