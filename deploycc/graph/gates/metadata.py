"""The metadata entry ``deploycc.gates``, in which the training part describes the gates of a file."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from deploycc.documents.document import Granularity

KEY = "deploycc.gates"


class DescribedGate(BaseModel):
    """One gate as exported; a pass may have changed the network since.

    Attributes:
        layer: the gated module's name in the training framework.
        conv, multiply: nodes: the convolution, and the multiplication with the mask.
        place: where the mask multiplied when the file was written.
        probability, decision, mask: tensors: the probability, the result of comparing it with the threshold, and the
            factor of the multiplication.
        threshold: a unit is on if its probability is larger.
        granularity: as in `deploycc.graph.gates.search.Gate`.
        kernels, units: number of each.
        unit_of: the unit of each kernel.
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
        ValueError: not JSON, of another schema version, or with fields missing, unknown or of a wrong type.
    """
    return _Entry.model_validate_json(text).gates


def write_entry(gates: tuple[DescribedGate, ...]) -> str:
    """Return the entry's text."""
    return _Entry(schema_version=1, gates=gates).model_dump_json()
