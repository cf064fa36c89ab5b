"""Counting how often a function is called, whichever module imported it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest


def record_calls(monkeypatch: pytest.MonkeyPatch, function: Callable[..., Any]) -> list[tuple[Any, ...]]:
    """Return a list that gets the arguments of every call, from all modules of the package that are loaded now."""
    calls: list[tuple[Any, ...]] = []

    def recorded(*arguments: Any, **named: Any) -> Any:
        calls.append(arguments)
        return function(*arguments, **named)

    for name, module in list(sys.modules.items()):
        if name.startswith("deploycc.") and getattr(module, function.__name__, None) is function:
            monkeypatch.setattr(module, function.__name__, recorded)
    return calls
