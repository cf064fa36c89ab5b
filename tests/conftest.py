"""Fixtures every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# The machine is shared: how long one example takes says nothing. Failing examples are printed as code.
settings.register_profile("shared", deadline=None, print_blob=True)
settings.load_profile("shared")


@pytest.fixture(scope="session")
def assets() -> Path:
    """The folder of real models and pictures; tests that need it are skipped without it."""
    default = Path(__file__).resolve().parents[1] / ".." / "shared" / "assets"
    folder = Path(os.environ.get("DEPLOYCC_ASSETS", default)).resolve()
    if not folder.is_dir():
        pytest.skip(f"no real models: {folder} is missing (DEPLOYCC_ASSETS names the folder)")
    return folder
