"""Measure kernel utilisation on calibration pictures: how often gates are on, or responses are not zero.

Utilisation by gates is the white paper's. Utilisation by activations is one minus APoZ (Hu et al., Network Trimming,
2016, equation 1), the average percentage of zeros after a ReLU. Pictures are processed one at a time; memory grows by
one bit per picture and kernel.
"""

from __future__ import annotations

import json
import time
import zipfile
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deploycc import __version__
from deploycc.detector import Detector
from deploycc.detector.picture_list import PictureList
from deploycc.documents.document import Evidence, this_tool
from deploycc.documents.utilisation import (
    GateRecord,
    LayerUse,
    Pictures,
    Preparation,
    UtilisationProfile,
    operation_reduction,
    pack_vectors,
    summarise_reduction,
)
from deploycc.errors import Note
from deploycc.files import replacing
from deploycc.progress import Say, quiet
from deploycc.utilisation.probe import Probe, ProbedLayer, Reading, backend_macs, layers_to_probe
from deploycc.utilisation.shards import readings

DEVICE = "ONNX Runtime CPU, FP32"
_SAVE_EVERY_S = 10.0


@dataclass(eq=False)
class _Sums:
    """The sums of one layer over the pictures done."""

    used: NDArray[np.float64]
    squares: NDArray[np.float64]
    used_squares: NDArray[np.float64]
    bits: bytearray = field(default_factory=bytearray)

    @classmethod
    def start(cls, kernels: int) -> _Sums:
        return cls(np.zeros(kernels), np.zeros(kernels), np.zeros(kernels))

    def add(self, reading: Reading, gated: bool) -> None:
        self.used += reading.used
        self.squares += reading.squares
        if gated:
            self.used_squares += reading.used * reading.squares
            self.bits += np.packbits(reading.used > 0).tobytes()


def measure_utilisation(
    detector: Detector,
    pictures: PictureList,
    *,
    partial: Path | None = None,
    executor: Executor | None = None,
    say: Say = quiet,
) -> tuple[UtilisationProfile, tuple[Note, ...]]:
    """Run every picture and sum up the use of each kernel.

    Args:
        detector: the trained network after the optimising passes, in FP32.
        pictures: at least one.
        partial: file to which the sums are saved every few seconds, and when an error or an interrupt ends the run. A
            later run of the same network on the same pictures resumes from it, with the same result as an
            uninterrupted one. The caller removes it once the profile is written.
        executor: whose workers run the network; None: this process does. The profile is the same.
        say: called with the number of pictures done.

    Returns:
        The profile, and a note if ``partial`` could not be resumed.

    Raises:
        ModelError: the network has no layers to profile.
        MeasureError: the network does not run, or its responses are not finite.
        PictureError: a picture cannot be read; its name is in the context.
        ArtefactError: ``partial`` cannot be written.
    """
    layers = layers_to_probe(detector)
    probe = Probe(detector, layers)
    job = _job(detector, pictures, layers)
    done, sums, notes = _resume(partial, job, layers)
    saved, saved_at = done, time.monotonic()
    try:
        say("measuring pictures", done, len(pictures.names))
        for taken in readings(probe, pictures, done, executor):
            for layer, total, reading in zip(layers, sums, taken, strict=True):
                total.add(reading, layer.gate is not None)
            done += 1
            say("measuring pictures", done, len(pictures.names))
            if partial is not None and time.monotonic() - saved_at > _SAVE_EVERY_S:
                _save(partial, job, done, sums)
                saved, saved_at = done, time.monotonic()
    except BaseException:  # also on an interrupt: keep the sums
        if partial is not None and done > saved:
            _save(partial, job, done, sums)
        raise
    return _profile(detector, pictures, layers, sums), notes


def _job(detector: Detector, pictures: PictureList, layers: Sequence[ProbedLayer]) -> str:
    """Describe everything that the sums depend on."""
    source, spec = detector.source, detector.input
    return json.dumps(
        {
            "schema": 1,
            "tool": __version__,
            "source": [source.sha256, source.random_weights],
            "input": [list(spec.shape), spec.colour, list(spec.mean), list(spec.scale)],
            "pictures": pictures.sha256,
            "layers": [[layer.name, layer.kernels, layer.response, layer.gate is not None] for layer in layers],
        }
    )


def _save(partial: Path, job: str, done: int, sums: Sequence[_Sums]) -> None:
    arrays: dict[str, NDArray[np.generic]] = {"job": np.array(job), "done": np.array(done)}
    for number, total in enumerate(sums):
        arrays[f"sums_{number}"] = np.stack([total.used, total.squares, total.used_squares])
        arrays[f"bits_{number}"] = np.frombuffer(bytes(total.bits), np.uint8)
    with replacing(partial) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]  # its keywords are arrays


def _resume(partial: Path | None, job: str, layers: Sequence[ProbedLayer]) -> tuple[int, list[_Sums], tuple[Note, ...]]:
    """Return the number of pictures done and their sums: from the file if it belongs to this job, else zeros."""
    fresh = [_Sums.start(layer.kernels) for layer in layers]
    if partial is None or not partial.exists():
        return 0, fresh, ()
    try:
        with partial.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            if str(stored["job"]) != job:
                reason = "it belongs to another network, to other pictures or to another version of deploycc"
                return 0, fresh, (_restarted(partial, reason),)
            sums = []
            for number, layer in enumerate(layers):
                used, squares, used_squares = stored[f"sums_{number}"].reshape(3, layer.kernels)
                bits = bytearray(stored[f"bits_{number}"].tobytes())
                sums.append(_Sums(used, squares, used_squares, bits))
            return int(stored["done"]), sums, ()
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        return 0, fresh, (_restarted(partial, f"it cannot be read: {error}"),)


def _restarted(partial: Path, reason: str) -> Note:
    return Note("", "profile-restarted", f"{partial.name} cannot be resumed: {reason}")


def _profile(
    detector: Detector, pictures: PictureList, layers: Sequence[ProbedLayer], sums: Sequence[_Sums]
) -> UtilisationProfile:
    count, spec = len(pictures.names), detector.input
    scope, scope_macs = backend_macs(detector)
    records = tuple(_layer_use(layer, total) for layer, total in zip(layers, sums, strict=True))
    gated = layers[0].gate is not None
    return UtilisationProfile(
        tool=this_tool(),
        evidence=Evidence(kind="measured", source=DEVICE),
        source_sha256=detector.source.sha256,
        random_weights=detector.source.random_weights,
        network=detector.name,
        kind="gates" if gated else "activations",
        input=Preparation(shape=spec.shape, colour=spec.colour, mean=spec.mean, scale=spec.scale, assumed=spec.assumed),
        pictures=Pictures(source=pictures.source, count=count, sha256=pictures.sha256),
        scope=scope,
        scope_macs=scope_macs,
        layers=records,
        reduction=summarise_reduction(operation_reduction(records, count, scope_macs)) if gated else None,
    )


def _layer_use(layer: ProbedLayer, total: _Sums) -> LayerUse:
    gate = layer.gate
    record = None
    if gate is not None:
        record = GateRecord(
            place=gate.place,
            granularity=gate.granularity,
            threshold=gate.threshold,
            unit_of=gate.unit_of,
            macs=gate.macs,
            used_squares=tuple(total.used_squares.tolist()),
            vectors=pack_vectors(bytes(total.bits)),
        )
    return LayerUse(
        name=layer.name,
        macs=layer.macs,
        response=layer.response,
        activation=layer.activation,
        used=tuple(total.used.tolist()),
        squares=tuple(total.squares.tolist()),
        gate=record,
    )
