"""Golden files hold expected texts; only ``DEPLOYCC_UPDATE_GOLDEN=1 pytest ...`` changes them."""

from __future__ import annotations

import os
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "golden"


def assert_golden(name: str, text: str) -> None:
    """Compare with ``golden/name``, or write it where the environment says so."""
    assert_file(FOLDER / name, text)


def assert_file(file: Path, text: str) -> None:
    """Compare with a file that lies elsewhere, or write it where the environment says so."""
    if os.environ.get("DEPLOYCC_UPDATE_GOLDEN"):
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8")
    assert text == file.read_text(encoding="utf-8")
