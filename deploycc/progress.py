"""How long steps say what they are doing."""

from __future__ import annotations

from collections.abc import Callable

Say = Callable[[str], None]
"""Takes a few words on what begins now: shown to the user while it lasts, kept nowhere."""
