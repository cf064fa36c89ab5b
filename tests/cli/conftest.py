"""What every test of a command may use."""

from __future__ import annotations

import pytest

from deploycc.report import plots


@pytest.fixture(autouse=True)
def frames_instead_of_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages of commands hold the frame of each plot: to draw them is half the time of a command.

    What plots show is tested where they are made (`tests/report`), and the README's commands draw them.
    """

    frame = '<svg viewBox="0 0 1 1"></svg>'
    monkeypatch.setattr(plots, "_drawn", lambda *_: frame)
    monkeypatch.setattr(plots, "_drawn_sizes", lambda *_: frame)  # what it remembers outlives a test
