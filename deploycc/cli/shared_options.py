"""Options that several commands share: a command asks for the value, and typer sees the options that make it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer

Device = Annotated[
    str | None,
    typer.Option(
        "--device",
        metavar="DEVICE",
        help="Where: local (default), ssh://[user@]host[:port], or a name from devices.toml.",
    ),
]


def takes(**factories: Callable[..., Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Replace parameters of a command by the options that make their values.

    Args:
        factories: parameter name to a function whose own parameters are typer options or arguments; what it returns
            is handed to the command. Positional arguments come first, then the command's options, then the others.
    """
    options = {
        name: list(inspect.signature(factory, eval_str=True).parameters.values()) for name, factory in factories.items()
    }

    def replace(command: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(command, eval_str=True).parameters.values()
        shared = [parameter for parameters in options.values() for parameter in parameters]
        first = [parameter for parameter in shared if parameter.default is inspect.Parameter.empty]
        last = [parameter for parameter in shared if parameter.default is not inspect.Parameter.empty]
        kept = [parameter for parameter in own if parameter.name not in factories]
        keywords = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in (*first, *kept, *last)]

        @functools.wraps(command)
        def with_options(**values: Any) -> None:
            made = {
                name: factory(**{parameter.name: values.pop(parameter.name) for parameter in options[name]})
                for name, factory in factories.items()
            }
            command(**made, **values)

        with_options.__signature__ = inspect.Signature(keywords)  # type: ignore[attr-defined]
        with_options.__annotations__ = {each.name: each.annotation for each in keywords}
        del with_options.__wrapped__  # typer would look through it, at the command's own parameters
        return with_options

    return replace
