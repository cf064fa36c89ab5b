"""How a job ends when it does not end well. Anything else that is raised is a bug of the agent."""

from typing import Any, Dict, Optional


class NotPossible(Exception):  # noqa: N818 - an outcome, not a fault
    """This machine cannot do it: no such runtime, no such GPU, not enough memory. Nothing is broken."""

    def __init__(self, reason: str, hint: "Optional[str]" = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint


class Failed(Exception):  # noqa: N818 - an outcome
    """The builder refused the network, or the engine does not run."""

    def __init__(self, reason: str, node: "Optional[str]" = None, hint: "Optional[str]" = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.node = node
        self.hint = hint


def fields_of(error: "Any") -> "Dict[str, Any]":
    """Return what a row says of one of these."""
    status = "not-possible" if isinstance(error, NotPossible) else "failed"
    return {"status": status, "reason": error.reason, "hint": error.hint, "node": getattr(error, "node", None)}
