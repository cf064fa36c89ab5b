"""Classes of options, for options that several commands share or that make one value together."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any


def takes_options(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command take dataclasses whose fields are options.

    typer sees the fields in place of the parameter, and the command receives an instance. A field is declared as a
    parameter of a command is: ``steps: Annotated[int, typer.Option(help="Number of steps.")] = 4000``.
    """
    parameters = inspect.signature(command, eval_str=True).parameters.values()
    classes: dict[str, Any] = {}
    for each in parameters:
        if dataclasses.is_dataclass(each.annotation):
            classes[each.name] = each.annotation
    fields = {name: list(inspect.signature(kind, eval_str=True).parameters.values()) for name, kind in classes.items()}
    options = [option for each in parameters for option in fields.get(each.name, [each])]
    keywords = [option.replace(kind=inspect.Parameter.KEYWORD_ONLY) for option in options]

    @functools.wraps(command)
    def with_options(**values: Any) -> None:
        made = {
            name: kind(**{option.name: values.pop(option.name) for option in fields[name]})
            for name, kind in classes.items()
        }
        command(**made, **values)

    with_options.__signature__ = inspect.Signature(keywords)  # type: ignore[attr-defined]
    with_options.__annotations__ = {each.name: each.annotation for each in keywords}
    del with_options.__wrapped__  # typer would look through it, at the command's own parameters
    return with_options
