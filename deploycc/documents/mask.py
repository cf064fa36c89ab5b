"""A file that lists the kernels to remove: JSON, one list of indices a layer."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from deploycc.documents.document import Count
from deploycc.errors import InputError
from deploycc.files import read_bytes

_FORM = TypeAdapter(dict[str, tuple[Count, ...]])


def read_mask(path: Path) -> dict[str, tuple[int, ...]]:
    """Read ``{"layer": [0, 5], ...}``.

    Raises:
        InputError: ``mask-unreadable``, ``mask-invalid``.
    """
    try:
        text = read_bytes(path).decode("utf-8")
        json.loads(text)
    except OSError as error:
        raise InputError(
            "mask-unreadable", "the mask file cannot be read", context={"file": path}, note=error.strerror
        ) from None
    except (ValueError, RecursionError) as error:
        raise InputError("mask-invalid", f"{path.name} is not JSON", context={"file": path}, note=str(error)) from None
    try:
        return _FORM.validate_json(text, strict=True)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False, include_context=False)[0]
        raise InputError(
            "mask-invalid",
            f"{path.name} lists no kernels",
            context={"file": path, "entry": ".".join(map(str, problem["loc"])) or "file"},
            note=problem["msg"],
            hint='write {"layer": [0, 5]}: for each layer the kernels to remove, counted from 0',
        ) from None
