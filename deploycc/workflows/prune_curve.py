"""What each strength of pruning costs in accuracy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from deploycc.progress import Say, prefixed, quiet
from deploycc.workflows.pictures_with_objects import pictures_with_objects
from deploycc.workflows.prune import PruneSettings, host_costs, prune

NETWORKS = "networks"

if TYPE_CHECKING:
    from deploycc.detector import Detector
    from deploycc.detector.picture_list import PictureList
    from deploycc.documents.pruning import PruningRecord
    from deploycc.documents.pruning_curve import CurvePoint, PruningCurve
    from deploycc.documents.utilisation import UtilisationProfile
    from deploycc.evaluation.dataset import Dataset
    from deploycc.prediction.costs import PredictedCosts
    from deploycc.timing.convolutions import Costs


def prune_curve(
    detector: Detector,
    settings: Sequence[PruneSettings],
    datasets: Sequence[Dataset],
    *,
    profile: UtilisationProfile | None = None,
    pictures: PictureList | None = None,
    costs: Costs | PredictedCosts | None = None,
    target: str = "x86-cpu",
    latencies: bool = True,
    keep_in: Path | None = None,
    names: Sequence[str] = (),
    say: Say = quiet,
) -> Iterator[PruningCurve]:
    """Prune at several strengths and score every network; each curve has one network more than the one before.

    Args:
        detector: as imported.
        settings: one per strength.
        datasets: annotated pictures that every network is scored on.
        profile: of the detector, for criteria that need one.
        pictures: also refit every pruned network on these, without labels.
        costs: as `deploycc.workflows.prune.prune` takes them; what one strength measured is known to the next.
        target: name of the one that the costs are of.
        latencies: also tell how long each network takes, by the same costs.
        keep_in: folder that each pruned network is written to, in `NETWORKS`.
        names: the model's class names in order, where the detector does not know them.
        say: progress.

    Raises:
        InputError, ArtefactError, PictureError, MeasureError: as `deploycc.workflows.prune.prune`.
    """
    from deploycc.documents.document import Evidence, this_tool
    from deploycc.documents.pruning_curve import Calibration, PruningCurve
    from deploycc.workflows.latency_clock import latency_clock

    calibration, costs = None, costs or host_costs()
    if pictures is not None:
        pictures = pictures_with_objects(pictures, detector, say)
        count = len(pictures.names)
        calibration = Calibration(source=pictures.source, count=count, sha256=pictures.sha256)
    points: list[CurvePoint] = []
    clock = latency_clock(detector, costs, say) if latencies else None
    for number, setting in enumerate(settings, start=1):
        say_here = prefixed(say, f"{number} of {len(settings)}, {setting.by} below {setting.below:g}")
        for refit_on in (None, pictures) if pictures else (None,):
            pruned = prune(detector, setting, profile=profile, pictures=refit_on, costs=costs, say=say_here)
            if not points:
                first = _point(detector, pruned.record, 0, None, False, datasets, names, say_here)
                points.append(first.model_copy(update={"latency_ms": None if clock is None else clock.before_ms}))
            refitted = refit_on is not None
            point = _point(pruned.detector, pruned.record, 1, setting, refitted, datasets, names, say_here)
            latency_ms = None if clock is None else clock.network_ms(pruned.detector)
            file = None if keep_in is None else _keep(pruned.detector, point, keep_in)
            points.append(point.model_copy(update={"latency_ms": latency_ms, "file": file}))
            yield PruningCurve(
                tool=this_tool(),
                evidence=Evidence(kind="measured", source="ONNX Runtime CPU, FP32"),
                target=target,
                latency=None if clock is None else clock.evidence(),
                network=detector.name,
                source_sha256=detector.source.sha256,
                data=tuple(dataset.spelling for dataset in datasets),
                pictures=tuple(len(dataset) for dataset in datasets),
                calibration=calibration,
                points=tuple(points),
            )


def write_curve(curve: PruningCurve, folder: Path) -> None:
    """Write a curve as JSON, Markdown and HTML."""
    from deploycc.files import write_text
    from deploycc.report.pruning_curve import render_curve_html, render_curve_markdown

    curve.write(folder / curve.FILE_NAME)
    write_text(folder / "pruning-curve.md", render_curve_markdown(curve))
    write_text(folder / "pruning-curve.html", render_curve_html(curve))


def _keep(detector: Detector, point: CurvePoint, folder: Path) -> str:
    """Write a network, and return its path in the folder."""
    from deploycc.workflows.written import save_network

    name = f"{point.criterion}-{point.below:g}{'-refitted' if point.refitted else ''}.onnx"
    (folder / NETWORKS).mkdir(exist_ok=True)
    save_network(detector, folder / NETWORKS / name)
    return f"{NETWORKS}/{name}"


def _point(
    detector: Detector,
    record: PruningRecord,
    side: int,
    setting: PruneSettings | None,
    refitted: bool,
    datasets: Sequence[Dataset],
    names: Sequence[str],
    say: Say,
) -> CurvePoint:
    """Score one network; ``side`` 0 takes the sizes before pruning, 1 those after."""
    from deploycc.documents.pruning_curve import CurvePoint
    from deploycc.evaluation.accuracy import measure_accuracy
    from deploycc.evaluation.voc import mean_ap

    scores = [measure_accuracy(detector, dataset, names=tuple(names), say=say).voc for dataset in datasets]
    total = record.part("total")
    assert total is not None
    backend = record.part("back-end") or total
    return CurvePoint(
        criterion="none" if setting is None else setting.by,  # type: ignore[arg-type]
        below=0.0 if setting is None else setting.below,
        refitted=refitted,
        macs=total.macs[side],
        backend_macs=backend.macs[side],
        params=total.params[side],
        map50=tuple(mean_ap(score) for score in scores),
        map50_11point=tuple(mean_ap(score, eleven_point=True) for score in scores),
    )
