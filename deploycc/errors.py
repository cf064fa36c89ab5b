"""Errors that the compiler diagnoses, and notes.

DeployError                     exit 1, unless a subclass says otherwise
├── InputError                  a file or value from the user
│   ├── ModelError              a network: unreadable, inconsistent, unsupported
│   ├── TargetError             a target: unknown name, wrong file, unsupported request
│   ├── PictureError            a picture or a folder of pictures
│   └── ArtefactError           a plan, report or output folder written by an earlier step
├── BuildError                  the engine builder refused or failed
├── MeasureError                an engine could not be run or timed
├── DeviceError                 a device: unknown, unreachable, or its work did not come to an end
│   └── Detached                exit 130: interrupted, and the work goes on on the device
├── BudgetMissed                exit 3: a budget or regression gate was missed
└── Undecided                   exit 4: the measurements cannot tell whether a gate was missed

An error reads: code, what happened, where, the fact behind it, the command that helps. Any other exception that reaches
the top is a bug of the compiler (exit 70, with its traceback).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

EXIT_DIAGNOSED = 1
EXIT_USAGE = 2
EXIT_BUDGET = 3
EXIT_UNDECIDED = 4
EXIT_BUG = 70
EXIT_INTERRUPTED = 130


class DeployError(Exception):
    """A failure the user can act on.

    Args:
        code: stable kebab-case identifier, for example ``caffe-unknown-layer``.
        message: one sentence: what happened.
        context: where it happened, in reading order (``{"file": ..., "layer": ..., "line": ...}``).
        note: the fact behind the refusal.
        hint: the command or change that helps.
    """

    exit_code = EXIT_DIAGNOSED

    def __init__(
        self,
        code: str,
        message: str,
        *,
        context: Mapping[str, object] | None = None,
        note: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.context = {key: str(value) for key, value in (context or {}).items()}
        self.note = note
        self.hint = hint

    def lines(self) -> list[tuple[str, str]]:
        """Return the error as labels and texts, one fact per line; labels of the context are right-aligned."""
        width = max((len(key) for key in self.context), default=0)
        facts = [(f"  {key:>{width}}", value) for key, value in self.context.items()]
        more = [(f"  {label}", text) for label, text in (("note", self.note), ("hint", self.hint)) if text]
        return [(f"error[{self.code}]", self.message), *facts, *more]

    def render(self) -> str:
        """Return the error as plain text, one fact per line."""
        return "\n".join(f"{label}: {text}" for label, text in self.lines())

    def __str__(self) -> str:
        return self.render()

    def __reduce__(self) -> tuple[Any, ...]:
        """Come whole out of another process."""
        return _rebuilt, (type(self), vars(self))


def _rebuilt(kind: type[DeployError], fields: dict[str, Any]) -> DeployError:
    error = kind(fields["code"], fields["message"])
    vars(error).update(fields)
    return error


class InputError(DeployError):
    """A file or value from the user cannot be used."""


class ModelError(InputError):
    """A network is unreadable, inconsistent or uses something unsupported."""


class TargetError(InputError):
    """A target is unknown, its file is wrong, or it does not support the request."""


class PictureError(InputError):
    """A picture, or a folder of pictures, cannot be used."""


class ArtefactError(InputError):
    """A plan, report or output folder of an earlier step cannot be used."""


class BuildError(DeployError):
    """The engine builder refused the network or failed."""


class MeasureError(DeployError):
    """An engine could not be run or timed."""


class DeviceError(DeployError):
    """A device is unknown or unreachable, or its work did not come to an end."""


class Detached(DeviceError):  # noqa: N818 - an outcome
    """This process was interrupted, and the work goes on on the device."""

    exit_code = EXIT_INTERRUPTED


class BudgetMissed(DeployError):  # noqa: N818 - a verdict, not an error
    """A budget or a regression gate was missed."""

    exit_code = EXIT_BUDGET


class Undecided(DeployError):  # noqa: N818 - a verdict, not an error
    """The measurements cannot tell whether a gate was missed."""

    exit_code = EXIT_UNDECIDED


@dataclass(frozen=True)
class Note:
    """A decision of the compiler, or something it could not do, that the user should know.

    Attributes:
        node: the graph node, layer or tensor that it concerns; empty for the whole network.
        code: stable kebab-case identifier.
        reason: one sentence with the fact behind the decision.
    """

    node: str
    code: str
    reason: str
