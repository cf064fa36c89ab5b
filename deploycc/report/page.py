"""What every HTML page has in common: templates beside this file, everything escaped, figures in their units."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from deploycc.report import format as formats

_FILTERS = ("milliseconds", "bare_ms", "seconds", "rate", "count", "size", "change", "scientific")


def page_template(name: str) -> Template:
    """Return a template; it escapes every value, and a name that nobody filled in is an error."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for each in _FILTERS:
        environment.filters[each] = getattr(formats, each)
    return environment.get_template(name)
