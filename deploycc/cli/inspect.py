"""``deploycc inspect MODEL``: what a detector is made of, and which targets accept it."""

from __future__ import annotations

from typing import Annotated

from deploycc.cli.model_options import ModelChoice
from deploycc.cli.options import switch, takes_options
from deploycc.cli.shared_options import AsJson
from deploycc.terminal import console


@takes_options
def command(
    *,
    layers: Annotated[bool, switch("--layers", "Also list every layer that multiplies.")] = False,
    as_json: AsJson = False,
    choice: ModelChoice,
) -> None:
    """Show layers, heads, gates, and which targets accept them."""
    from deploycc.report.inspection import inspection_json, inspection_notes, inspection_tables
    from deploycc.workflows.inspect import inspect_detector

    with console.progress("inspect") as say:
        found = inspect_detector(choice.load(say), say=say)
    tables = inspection_tables(found, layers=layers)
    console.show(as_json, inspection_json(found), *tables, remarks=inspection_notes(found))
