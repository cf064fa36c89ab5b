"""The lock of a board, where the board's clock moves."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from deploycc.agent import device_lock


def test_a_clock_that_was_set_back_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The holder took the lock in what is the future now: it still holds it, and for no negative time."""
    path = str(tmp_path / "lock")
    handle = device_lock.take(path, {"owner": "a@b"}, lambda holder: None)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now - 3 * 86400)
    holder = device_lock.holder_of(path)
    assert holder is not None
    assert device_lock.sentence(holder) == "a job of a@b (for 0 s)"
    os.close(handle)
    assert device_lock.holder_of(path) is None


def test_an_age_that_is_no_time_is_not_believed() -> None:
    for since in (None, "yesterday", True, [1]):
        assert device_lock.sentence({"owner": "a@b", "since": since}) == "a job of a@b (for 0 s)"
