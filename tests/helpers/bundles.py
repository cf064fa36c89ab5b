"""Bundles of a small board folder, signed with keys of the tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from board_folders import TX2, built, compiled_folder, measured
from small_networks import conv_model

from deploycc.bundle.keys import make_keys
from deploycc.documents.build import BuildResult
from deploycc.workflows.package import Packaged, package
from deploycc.workflows.package_contents import PackageSettings

ENGINE = {"builder_version": "8.2.1", "compute_capability": "6.2"}
L4T = "32.7.1"


def keys(folder: Path, name: str = "me") -> tuple[Path, Path]:
    """Make a pair of keys, private and public."""
    private, public = folder / f"{name}.key", folder / f"{name}.pub"
    make_keys(private, public)
    return private, public


def board_folder(folder: Path, *, engine: bytes | None = b"engine of a board", model: Any = None) -> Path:
    """Write an output folder for a Jetson TX2, with what came back from the board unless ``engine`` is None."""
    compiled_folder(folder, networks={"fp32": model or conv_model()})
    if engine is not None:
        environment = {**TX2, "l4t": L4T}
        build = built(folder, {"fp32": engine}, environment)
        build = build.model_copy(update={"engines": tuple(row.model_copy(update=ENGINE) for row in build.engines)})
        build.write(folder / BuildResult.FILE_NAME)
        latency = measured(folder, build, environment, "fp32")
        latency.write(folder / latency.FILE_NAME)
    return folder


def board_bundle(place: Path, engine: bytes = b"engine of a board", **settings: Any) -> tuple[Packaged, Path]:
    """Write ``bundle.tar`` and its keys into a new folder; return what was packaged and the public key."""
    place.mkdir(exist_ok=True)
    private, public = keys(place)
    folder = board_folder(place / "out", engine=engine)
    return package(folder, private, place / "bundle.tar", PackageSettings(**settings)), public
