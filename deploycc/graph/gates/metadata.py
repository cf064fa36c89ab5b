"""What a file says about its gates: the metadata entry ``deploycc.gates`` that the training part writes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from deploycc.documents.document import Granularity

KEY = "deploycc.gates"


class DescribedGate(BaseModel):
    """One gate as its exporter saw it; a pass may have changed the network since.

    Attributes:
        layer: the gated module's name in the training framework.
        conv, multiply: nodes: the convolution, and the product with the mask.
        place: where the mask multiplied when the file was written.
        probability, decision, mask: tensors: compared with the threshold, result of that, what is multiplied.
        threshold: a unit is engaged where its probability is larger.
        granularity: ``nested``: units go off from the last to the first.
        kernels, units: numbers of both.
        unit_of: for each kernel the unit that decides about it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    layer: str
    conv: str
    multiply: str
    place: str
    probability: str
    decision: str
    mask: str
    threshold: float
    granularity: Granularity
    kernels: Annotated[int, Field(gt=0)]
    units: Annotated[int, Field(gt=0)]
    unit_of: tuple[int, ...]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    schema_version: Literal[1]
    gates: tuple[DescribedGate, ...]


def read_entry(text: str) -> tuple[DescribedGate, ...]:
    """Read the entry's text.

    Raises:
        ValueError: it is no JSON, of another schema version, or has fields missing, unknown or of a wrong type.
    """
    return _Entry.model_validate_json(text).gates


def write_entry(gates: tuple[DescribedGate, ...]) -> str:
    """Return the entry's text."""
    return _Entry(schema_version=1, gates=gates).model_dump_json()
