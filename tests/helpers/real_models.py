"""Where real models and pictures are: no part of the project, and tests and benchmarks that need them say so."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

DEFAULT = Path(__file__).resolve().parents[2] / ".." / "shared" / "assets"
ASSETS = Path(os.environ.get("DEPLOYCC_ASSETS", DEFAULT)).resolve()


def missing(folder: Path) -> str | None:
    """Why a folder of real models cannot be used."""
    return None if folder.is_dir() else f"no real models: {folder} is missing (DEPLOYCC_ASSETS names the folder)"


def add_assets_option(parser: argparse.ArgumentParser) -> None:
    """``--assets``, a folder that is there."""
    # Argparse checks a default that is a string as if it had been given.
    parser.add_argument("--assets", type=_folder, default=str(ASSETS), metavar="DIR", help="folder of real models")


def _folder(path: str) -> Path:
    if reason := missing(Path(path)):
        raise argparse.ArgumentTypeError(reason)
    return Path(path)
