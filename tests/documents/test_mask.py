"""Mask files are read strictly."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploycc.documents.mask import read_mask
from deploycc.errors import InputError


def test_a_mask_is_read(tmp_path: Path) -> None:
    (tmp_path / "m.json").write_text('{"conv1": [0, 5], "b": []}', encoding="utf-8")
    assert read_mask(tmp_path / "m.json") == {"conv1": (0, 5), "b": ()}


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (None, "mask-unreadable"),
        ("{", "mask-invalid"),
        ("[1]", "mask-invalid"),
        ('{"a": [-1]}', "mask-invalid"),
        ('{"a": [1.5]}', "mask-invalid"),
        ('{"a": ["1"]}', "mask-invalid"),
        ('{"a": 1}', "mask-invalid"),
        ("\udcff", "mask-invalid"),
    ],
)
def test_what_is_no_mask_is_refused(text: str | None, code: str, tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    if text is not None:
        path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError) as raised:
        read_mask(path)
    assert raised.value.code == code
