"""Planted bugs: a module with one line of its source changed, for tests that must notice."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from random import Random
from types import ModuleType
from typing import TypeVar

from hypothesis import Phase, find, settings
from hypothesis.strategies import SearchStrategy

T = TypeVar("T")


def mutant(module: ModuleType, old: str, new: str) -> ModuleType:
    """Return a copy of ``module`` in which the one occurrence of ``old`` is ``new``; the original stays as it is."""
    source = inspect.getsource(module)
    assert source.count(old) == 1, f"{old!r} occurs {source.count(old)} times in {module.__name__}"
    copy = ModuleType(f"{module.__name__}_with_a_bug")
    copy.__dict__["__file__"] = module.__file__
    sys.modules[copy.__name__] = copy  # dataclasses look their module up
    try:
        exec(compile(source.replace(old, new), str(module.__file__), "exec"), copy.__dict__)
    finally:
        del sys.modules[copy.__name__]
    return copy


def find_example(strategy: SearchStrategy[T], condition: Callable[[T], bool], seed: int = 0) -> T:
    """Return an example that shows the bug, the same one in every run; fails where 3000 examples do not show it."""
    quick = settings(max_examples=3000, phases=(Phase.generate,), database=None)
    return find(strategy, condition, settings=quick, random=Random(seed))
