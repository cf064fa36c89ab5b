"""From what a user names to a detector."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from deploycc.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deploycc.detector import Colour, Detector

_COLOURS = ("BGR", "RGB", "GRAY")


def load(
    model: str | Path,
    *,
    weights: str | Path | None = None,
    random_weights: int | None = None,
    describe: str | Path | None = None,
    mean: float | Sequence[float] | None = None,
    scale: float | Sequence[float] | None = None,
    colour: str | None = None,
) -> Detector:
    """Read a trained detector.

    Args:
        model: ``.prototxt``, ``.caffemodel`` or ``.onnx`` file, a compiled folder, or the name of a shipped detector.
        weights: Caffe weights; None: the file of the same name with ``.caffemodel``.
        random_weights: seed that fills a definition without weights.
        describe: detector description; None: ``MODEL.detector.toml`` where it exists.
        mean: subtracted from each pixel, one number or one per channel, in the order of ``colour``.
        scale: factor after the mean is subtracted, likewise.
        colour: channel order that the network expects: ``BGR``, ``RGB`` or ``GRAY``, in capitals or not.

    Raises:
        InputError: ``wrong-colour``, ``wrong-number``, ``scale-zero``: a value that no preparation has.
        ModelError, InputError: the files are missing, unreadable, or do not describe a network that is supported.
        ArtefactError: ``chain-broken``: a file of an output folder was changed after it was written.
    """
    from deploycc import importers, models
    from deploycc.workflows.chain import check_chain, check_file

    means, factors, order = _channels("mean", mean), _channels("scale", scale), _colour(colour)
    if factors is not None and 0 in factors:
        raise InputError("scale-zero", f"`scale={_listed(factors)}` holds a 0, with which every picture looks the same")
    file = models.resolve(_network_of(str(model)))
    if Path(model).is_dir():
        check_chain(Path(model), results=False)
    elif file.is_file():
        check_file(file)
    return importers.load(
        file,
        weights=None if weights is None else Path(weights),
        random_weights=random_weights,
        describe=None if describe is None else Path(describe),
        mean=means,
        scale=factors,
        colour=order,
    )


def is_untrained(model: str | Path) -> bool:
    """Return whether a model is a Caffe definition without a file of weights beside it."""
    path = Path(model)
    return path.suffix == ".prototxt" and not path.with_suffix(".caffemodel").exists()


def save(detector: Detector, path: str | Path) -> str:
    """Write a detector to one ONNX file that `load` reads back whole; returns its SHA-256.

    Raises:
        ArtefactError: the file cannot be written.
        ModelError: ``written-unreadable``; what was there before stays.
    """
    from deploycc.workflows.written import save_network

    return save_network(detector, Path(path))


def find_original(detector: Detector) -> Detector | None:
    """The network that a pruned one was made from, where its files are still there and still the same.

    Raises:
        ModelError: a file has the recorded digest and cannot be read any more.
    """
    from deploycc import importers
    from deploycc.files import sha256_of

    if not detector.prunings:
        return None
    source = detector.prunings[0].source
    files = [Path(file) for file in source.files]
    if len(source.file_sha256) != len(files):
        return None  # an older version did not record them
    if any(not file.is_file() or sha256_of(file) != sha256 for file, sha256 in zip(files, source.file_sha256)):  # noqa: B905
        return None
    weights = files[1] if source.format == "caffe" and len(files) > 1 else None
    original = importers.load(files[0], weights=weights, random_weights=source.random_weights)
    return replace(original, input=detector.input)  # what was given beside the files


def _channels(name: str, values: float | Sequence[float] | None) -> tuple[float, ...] | None:
    if values is None:
        return None
    numbers = (float(values),) if isinstance(values, int | float) else tuple(values)
    if not all(map(math.isfinite, numbers)):
        raise InputError(
            "wrong-number", f"`{name}={_listed(numbers)}` is not a list of numbers", hint=f"`{name}=104,117,123`"
        )
    return numbers


def _listed(numbers: Sequence[float]) -> str:
    return ",".join(f"{number:g}" for number in numbers)


def _colour(name: str | None) -> Colour | None:
    order = None if name is None else name.upper()
    if order not in (None, *_COLOURS):
        raise InputError("wrong-colour", f"`colour={name}` is not one of {', '.join(_COLOURS)}")
    return order  # type: ignore[return-value]


def _network_of(model: str) -> str:
    """The FP32 network, or the only one, of a folder that `compile` wrote; anything else as it is."""
    folder = Path(model)
    networks = sorted(folder.glob("network-fp??.onnx")) if folder.is_dir() else []
    return str(networks[-1]) if networks else model  # fp16 sorts before fp32
