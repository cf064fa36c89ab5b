"""What every test of a command may use."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from deploycc.report import gates_plots, plots, pruning_curve, utilisation


@pytest.fixture(autouse=True)
def frames_instead_of_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages of commands hold the frame of each plot: to draw them is half the time of a command.

    What plots show is tested where they are made (`tests/report`), and the README's commands draw them.
    """

    def frame(key: str, title: str, description: str, draw: Callable[..., None], width: float, height: float) -> str:
        return plots._inline('<svg viewBox="0 0 1 1"></svg>', key, title, description)

    for module in (plots, gates_plots, pruning_curve, utilisation):
        monkeypatch.setattr(module, "render", frame)
