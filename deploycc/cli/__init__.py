"""The command line, one file per command.

Modules here import only typer, the standard library and light modules of the package at their top: `deploycc --help`
answers at once, and heavy libraries load where a command uses them.
"""

from __future__ import annotations

import functools
import math
import sys
import traceback
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import typer

from deploycc.errors import EXIT_BUG, EXIT_INTERRUPTED, Detached
from deploycc.system_errors import diagnose
from deploycc.terminal import console, process

_COMMANDS = (
    "compile",
    "inspect",
    "predict",
    "build",
    "bench",
    "evaluate",
    "detect",
    "export",
    "profile",
    "prune",
    "prune-curve",
    "gates",
    "keys",
    "package",
    "verify",
    "report",
    "matrix",
    "target",
    "device",
    "train",
)
"""In the order of the help; each is a module of this package."""

_MOST = (1 << 63) - 1

_EXIT_STATUSES = """
\b
Exit status:
  0    done
  1    a diagnosed failure: the message says what happened and what helps
  2    wrong usage
  3    a budget or a regression gate was missed
  4    the measurements cannot tell whether a gate was missed
  70   a bug of deploycc, with its traceback
  130  interrupted
"""

app = typer.Typer(
    help="Compile SSD detectors for NVIDIA Jetson and DRIVE boards, and measure them.",
    epilog=_EXIT_STATUSES,
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for _name in _COMMANDS:
    _module = import_module(f"deploycc.cli.{_name.replace('-', '_')}")
    if hasattr(_module, "app"):
        app.add_typer(_module.app, name=_name)
    else:
        app.command(_name)(_module.command)


@app.callback(invoke_without_command=True)
def _version(
    version: bool = typer.Option(False, "--version", help="Print the version and exit.", is_eager=True),
) -> None:
    if version:
        from deploycc import __version__

        console.out(f"deploycc {__version__}")
        raise typer.Exit


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return the exit status.

    0 done, 1 a diagnosed failure, 2 wrong usage, 3 a budget missed, 70 a bug (with its traceback), 130 interrupted.
    """
    try:
        whole = _whole()
        console.options = _options(whole, sys.argv[1:] if arguments is None else arguments)
        whole(arguments, standalone_mode=True)
    except SystemExit as exit_:
        return exit_.code if isinstance(exit_.code, int) else 0
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except Exception as error:
        return EXIT_INTERRUPTED if process.was_interrupted() and not isinstance(error, Detached) else _report(error)
    return 0


@functools.cache
def _whole() -> Any:
    """Return every command with its options, which takes as long to make as many a command takes to run."""
    whole = typer.main.get_command(app)
    _refuse_endless_numbers(whole)
    return whole


def _options(command: Any, arguments: list[str]) -> dict[str, str]:
    """Return how parameters are spelled: by any command, and first of all by the one that the arguments name."""
    spelled = {name: option for each in _below(command) for name, option in _spelled(each).items()}
    for argument in arguments:
        command = getattr(command, "commands", {}).get(argument, command)
    return spelled | _spelled(command)


def _below(command: Any) -> Iterator[Any]:
    yield command
    for each in getattr(command, "commands", {}).values():
        yield from _below(each)


def _spelled(command: Any) -> dict[str, str]:
    """Options by their long form, arguments by what the help calls them."""
    spelled = {}
    for parameter in command.params:
        long = [each for each in parameter.opts if each.startswith("--")]
        spelled[parameter.name] = long[0] if long else parameter.metavar or parameter.name.upper()
    return spelled


def _refuse_endless_numbers(command: Any) -> None:
    """Let every option refuse NaN, infinity and what no counter holds: a range such as ``x>=0`` takes all three."""

    def checked(context: Any, parameter: Any, value: Any) -> Any:
        if isinstance(value, float) and not math.isfinite(value):
            raise typer.BadParameter(f"{value} is not a finite number", ctx=context, param=parameter)
        if isinstance(value, int) and abs(value) > _MOST:
            raise typer.BadParameter(f"{value} is larger than {_MOST}", ctx=context, param=parameter)
        return value

    for each in _below(command):
        for parameter in each.params:
            if parameter.callback is None:
                parameter.callback = checked


def _report(error: Exception) -> int:
    """Print an error, and return the exit status that it means."""
    diagnosed = diagnose(error)
    if diagnosed is not None:
        console.fail(diagnosed)
        return diagnosed.exit_code
    traceback.print_exception(error)
    print(  # noqa: T201
        "\nThis is a bug of deploycc. Please report it with the traceback above and the command.", file=sys.stderr
    )
    return EXIT_BUG


def entry() -> None:
    """Console script."""
    process.end_on_signals()
    process.open_streams()
    sys.exit(main())
