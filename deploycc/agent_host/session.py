"""What every place that builds and measures engines can do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

Progress = Callable[[str], None]
"""Called with each line the agent says while it works."""


class Session(Protocol):
    """A machine with a plan's folder on it."""

    def run_agent(self, plan: Path, arguments: list[str], on_progress: Progress) -> bytes:
        """Run an agent command on a plan and return the JSON that it wrote.

        Args:
            plan: ``plan.json``; its folder holds the files it names and receives the engines.
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
