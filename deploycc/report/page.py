"""The common basis of HTML pages: templates beside this file, escaping, and filters for units."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from deploycc.report import format as formats

_FILTERS = ("milliseconds", "bare_ms", "seconds", "rate", "count", "size", "change", "scientific")


def _finalize(value: Any) -> Any:
    """Take control characters out of names from elsewhere; what is markup already was made here."""
    return formats.without_controls(value) if type(value) is str else value


@lru_cache
def page_template(name: str) -> Template:
    """Return a template, which escapes every value and raises an error for an undefined name."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalize,
    )
    for filter_name in _FILTERS:
        environment.filters[filter_name] = getattr(formats, filter_name)
    return environment.get_template(name)
