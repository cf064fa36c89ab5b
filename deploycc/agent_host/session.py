"""What every place that builds and measures engines can do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

Progress = Callable[[str], None]
"""Called with each line the agent says while it works."""


MAX_PERFORMANCE = "--max-performance"
"""Option of the agent's ``bench``: the fastest power mode meanwhile."""


@dataclass(frozen=True)
class Scenario:
    """How pictures come to an engine (``deploycc/agent/scenario.py``).

    Attributes:
        name: ``single-stream`` or ``constant-stream``.
        period_ms: from one picture of a constant stream to the next.
        seconds: the measurement ends after these; None: it takes what the scenario needs.
    """

    name: str
    period_ms: float | None = None
    seconds: float | None = None

    def arguments(self) -> list[str]:
        """The agent's options."""
        named = (("--scenario", self.name), ("--period-ms", self.period_ms), ("--seconds", self.seconds))
        return [part for option, value in named if value is not None for part in (option, str(value))]


class Session(Protocol):
    """A machine with the folders of plans on it."""

    def run_agent(self, plans: Sequence[Path], arguments: list[str], on_progress: Progress) -> bytes:
        """Run an agent command on plans and return the JSON that it wrote.

        Args:
            plans: ``plan.json``; its folder holds the files it names and receives the engines. ``bench`` takes several.
            arguments: ``["build"]``, or ``["bench", "--only", "fp16"]``.
            on_progress: receives what the agent says, line by line.

        Raises:
            AgentStopped: the agent ended without a result.
        """
        ...


class AgentStopped(Exception):  # noqa: N818 - an outcome
    """The agent ended without a result.

    Attributes:
        last_lines: what it said last.
        code: its exit code; negative: the signal that ended it.
    """

    def __init__(self, code: int, last_lines: tuple[str, ...]) -> None:
        super().__init__(f"the agent ended with code {code}")
        self.code = code
        self.last_lines = last_lines
