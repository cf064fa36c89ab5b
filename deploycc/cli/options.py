"""How options are declared: one by one, and as classes for those that belong together."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any, get_type_hints

import typer


def option(
    metavar: str,
    help: str,
    *names: str,
    min: float | None = None,
    max: float | None = None,
    parser: Callable[[str], Any] | None = None,
    autocompletion: Callable[[str], list[str]] | None = None,
) -> Any:
    """Declare an option that takes a value.

    Args:
        metavar: what the help calls the value.
        help: what it does.
        names: spellings, where there are others than that of the parameter.
        min: smallest value.
        max: largest value.
        parser: reads the value; raises typer.BadParameter for one that it does not know.
        autocompletion: what a shell offers for an unfinished value.
    """
    return typer.Option(
        *names, metavar=metavar, help=help, min=min, max=max, parser=parser, autocompletion=autocompletion
    )


def switch(name: str, help: str) -> Any:
    """Declare an option that takes no value; ``--this/--that`` for one with an opposite."""
    return typer.Option(name, help=help)


def argument(metavar: str, help: str, autocompletion: Callable[[str], list[str]] | None = None) -> Any:
    """Declare an argument; see `option`."""
    return typer.Argument(metavar=metavar, help=help, autocompletion=autocompletion)


def takes_options(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command take dataclasses whose fields are options.

    typer sees the fields in place of the parameter, and the command receives an instance. A field is declared as a
    parameter of a command is: ``steps: Annotated[int, option("N", "Number of steps.")] = 4000``.
    """
    parameters = inspect.signature(command, eval_str=True).parameters.values()
    classes: dict[str, Any] = {
        each.name: each.annotation for each in parameters if dataclasses.is_dataclass(each.annotation)
    }
    fields = {name: _parameters_of(kind) for name, kind in classes.items()}
    options = [option for each in parameters for option in fields.get(each.name, [each])]
    keywords = [option.replace(kind=inspect.Parameter.KEYWORD_ONLY) for option in options]

    @functools.wraps(command)
    def with_options(**values: Any) -> None:
        made = {
            name: kind(**{each.name: values.pop(each.name) for each in fields[name]}) for name, kind in classes.items()
        }
        command(**made, **values)

    with_options.__signature__ = inspect.Signature(keywords)  # type: ignore[attr-defined]
    with_options.__annotations__ = {each.name: each.annotation for each in keywords}
    del with_options.__wrapped__  # typer would look through it, at the command's own parameters
    return with_options


def _parameters_of(kind: type) -> list[inspect.Parameter]:
    kinds = get_type_hints(kind, include_extras=True)  # an inherited field is read in the module that declares it
    return [each.replace(annotation=kinds[each.name]) for each in inspect.signature(kind).parameters.values()]
