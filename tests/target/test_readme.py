"""``targets/README.md`` describes every field of a target and what follows from them."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
from markdown_tables import code, table

from deploycc.target import Capabilities, Target, Tier

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "targets" / "README.md").read_text(encoding="utf-8")
FIELDS = {code(row[0])[0]: row for row in table(TEXT, "## Fields")}


def literals(annotation: Any) -> set[str]:
    """Every value that the annotation's ``Literal`` types name."""
    if get_origin(annotation) is Literal:
        return set(get_args(annotation))
    return set[str]().union(*(literals(part) for part in get_args(annotation)))


def test_every_field_is_described_in_the_models_order_and_nothing_else() -> None:
    assert list(FIELDS) == list(Target.model_fields)


@pytest.mark.parametrize("name", Target.model_fields)
def test_defaults_and_allowed_values_are_the_models(name: str) -> None:
    field, (_, kind, default, meaning) = Target.model_fields[name], FIELDS[name]
    stated = {"required": True, "none": None, "`onnx`": "onnx", '`["fp32"]`': ("fp32",), "`{}`": {}, "`[]`": ()}[
        default
    ]
    assert field.is_required() if stated is True else field.default == stated
    if values := literals(field.annotation):
        assert values == set(code(kind))
    assert meaning.endswith(".")


@pytest.mark.parametrize("name", [name for name in Target.model_fields if re.search(r"_(mhz|mib|bits)$", name)])
def test_units_of_names_are_those_of_the_table(name: str) -> None:
    unit = {"mhz": "MHz", "mib": "MiB", "bits": "bits"}[name.rpartition("_")[2]]
    assert FIELDS[name][1].endswith(f", {unit}")


def test_every_capability_is_described() -> None:
    rows = table(TEXT, "Derived, in `deploycc/target/target.py`:\n")
    assert [name for row in rows for name in code(row[0]) if name != "If"] == [
        field.name for field in dataclasses.fields(Capabilities)
    ]
    assert {name for row in rows for name in code(row[1])} <= set(Target.model_fields)


def test_every_tier_is_described_from_the_least_evidence_on() -> None:
    assert [code(row[0])[0] for row in table(TEXT, "## Tiers")] == list(reversed(get_args(Tier)))


def test_paths_in_it_exist() -> None:
    paths = re.findall(r"`((?:deploycc|tests)/[\w/.]+)`", TEXT)
    assert paths
    assert [path for path in paths if not (ROOT / path).exists()] == []
