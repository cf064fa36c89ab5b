"""Several output folders in one table: networks by variant, platform and precision.

It has the columns of tables 4 and 5 of the white paper (`deploycc.report.published`).
A cell is filled only by what was measured. Predicted and published figures have columns of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from deploycc.documents.compile import AccuracyRecord, CompileReport, PredictedLatency
from deploycc.documents.latency import LatencyReport
from deploycc.documents.plan import Variant
from deploycc.report.published import PublishedLatency, published_latency
from deploycc.report.stats import MIN_EFFECT_OF_PROCESSES, Change, compare_medians, compare_pairs
from deploycc.report.variants import by_block, measured_in_turns, typical_samples
from deploycc.report.verdict import Assessment, assess_run

Kind = Literal["original", "pruned", "gated"]
KINDS: tuple[Kind, ...] = ("original", "pruned", "gated")
_BYTES = {"fp32": 4, "fp16": 2}


@dataclass(frozen=True, eq=False)
class Folder:
    """An output folder.

    Attributes:
        name: of the folder.
        compiled, latency: its documents.
        gated: its gates became branches, as a plan says.
    """

    name: str
    compiled: CompileReport
    latency: LatencyReport | None
    gated: bool = False

    def kind(self, variant: Variant) -> Kind:
        """Return what a network of the folder is."""
        if variant == "original":
            return "original"
        return "gated" if self.gated else "pruned" if self.compiled.prunings else "original"

    @property
    def trained_sha256(self) -> str:
        """Digest of the trained files, before any pruning."""
        prunings = self.compiled.prunings
        return prunings[0].source.sha256 if prunings else self.compiled.source.sha256


@dataclass(frozen=True, eq=False)
class Cell:
    """One network of a row.

    Attributes:
        folder: that holds it.
        measured: the latest run; None where nothing was measured.
        change: of the median against the original network's; None for the original one, and where the two were not
            measured on one device.
        predicted: latency; None where the target has no constants of prediction.
        accuracy: None where it was not scored.
        weights_bytes: its parameters, in the row's precision; None where no pass counted them.
    """

    folder: Folder
    measured: Assessment | None = None
    change: Change | None = None
    predicted: PredictedLatency | None = None
    accuracy: AccuracyRecord | None = None
    weights_bytes: int | None = None


@dataclass(frozen=True, eq=False)
class Row:
    """One network on one platform in one precision.

    Attributes:
        network: name of the trained detector; with the folder's, where several prunings of it are shown.
        platform: name of the target.
        unit: what ran it: ``CPU``, ``GPU``, ``iGPU`` or ``dGPU``.
        precision: of the engines.
        cells: by what the network is.
        published: the white paper's figures for this network on this platform.
    """

    network: str
    platform: str
    unit: str
    precision: str
    cells: dict[Kind, Cell] = field(default_factory=dict)
    published: PublishedLatency | None = None


def overview(folders: Sequence[Folder]) -> tuple[Row, ...]:
    """Gather folders into rows: by network, then platform, then precision, in the order of the folders."""
    rows: dict[tuple[str, str, str], list[Row]] = {}
    names: dict[str, str] = {}
    for folder in sorted(folders, key=lambda each: bool(each.compiled.prunings)):  # a pruned file has another name
        names.setdefault(folder.trained_sha256, folder.compiled.detector.name)
    for folder in folders:
        for network in folder.compiled.networks:
            kind, precision = folder.kind(network.variant), network.precision
            key = (folder.trained_sha256, folder.compiled.target.name, precision)
            found = rows.setdefault(key, [])
            cell = _cell(folder, precision, network.variant)
            if kind == "original" and found:
                found[0].cells.setdefault(kind, cell)  # several folders hold the same one
                continue
            row = next((row for row in found if kind not in row.cells), None)
            if row is None:
                row = _row(folder, names[folder.trained_sha256], precision, again=bool(found))
                found.append(row)
            row.cells[kind] = cell
    order = list(dict.fromkeys(folder.trained_sha256 for folder in folders))
    gathered = [row for key in sorted(rows, key=lambda key: order.index(key[0])) for row in rows[key]]
    return tuple(_with_changes(row, _original_of(row, gathered)) for row in gathered)


def _row(folder: Folder, name: str, precision: str, again: bool) -> Row:
    target = folder.compiled.target
    return Row(
        network=f"{name} ({folder.name})" if again else name,
        platform=target.name,
        unit=_unit(target.name, target.runtime),
        precision=precision,
        published=published_latency(folder.compiled) if precision == "fp32" else None,
    )


def _unit(target: str, runtime: str) -> str:
    if runtime == "onnxruntime":
        return "CPU"
    return {"igpu": "iGPU", "dgpu": "dGPU"}.get(target.rpartition("-")[2], "GPU")


def _cell(folder: Folder, precision: str, variant: Variant) -> Cell:
    compiled = folder.compiled
    run = folder.latency.run(precision, variant) if folder.latency else None
    ours = [each for each in compiled.networks if (each.precision, each.variant) == (precision, variant) and each.steps]
    return Cell(
        folder,
        assess_run(run, folder.latency) if run and run.samples_ms and folder.latency else None,
        None,
        next((each for each in compiled.predictions if (each.precision, each.variant) == (precision, variant)), None),
        next((each for each in compiled.accuracy if each.variant == variant), None),
        ours[0].steps[-1].after.params * _BYTES.get(precision, 4) if ours else None,
    )


def _original_of(row: Row, rows: Sequence[Row]) -> Cell | None:
    """Return the original network that a row's others are compared with, maybe in the row above."""
    if "original" in row.cells:
        return row.cells["original"]
    trained = next(iter(row.cells.values())).folder.trained_sha256
    for other in rows:
        same = (other.platform, other.precision) == (row.platform, row.precision)
        if same and "original" in other.cells and other.cells["original"].folder.trained_sha256 == trained:
            return other.cells["original"]
    return None


def _with_changes(row: Row, original: Cell | None) -> Row:
    cells = {}
    for kind, cell in row.cells.items():
        if kind != "original":
            beside = _cell(cell.folder, row.precision, "original")  # the one measured in turns with it, if there is one
            reference = beside if beside.measured else original
            change = _change(reference.measured if reference else None, cell.measured)
            cell = Cell(cell.folder, cell.measured, change, cell.predicted, cell.accuracy, cell.weights_bytes)
        cells[kind] = cell
    return Row(row.network, row.platform, row.unit, row.precision, cells, row.published)


def _change(original: Assessment | None, other: Assessment | None) -> Change | None:
    """Compare two networks that one device ran in the same way."""
    if original is None or other is None:
        return None
    before, after = original.run, other.run
    if (before.device, before.threads, before.period_ms) != (after.device, after.threads, after.period_ms):
        return None
    if measured_in_turns(before, after):
        return compare_pairs(by_block(before), by_block(after))
    return compare_medians(typical_samples(before), typical_samples(after), effect=MIN_EFFECT_OF_PROCESSES)
