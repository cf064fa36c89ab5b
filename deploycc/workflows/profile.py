"""Profiling: how much each kernel of a detector is used on calibration pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deploycc.progress import Say, quiet

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from deploycc.detector import Detector
    from deploycc.detector.picture_list import PictureList
    from deploycc.documents.utilisation import UtilisationProfile
    from deploycc.errors import Note


@dataclass(frozen=True)
class Profiled:
    """A profile, and what is to be said about how it was made."""

    profile: UtilisationProfile
    notes: tuple[Note, ...]


def measure_profile(
    detector: Detector,
    pictures: PictureList,
    *,
    partial: Path | None = None,
    executor: Executor | None = None,
    say: Say = quiet,
) -> Profiled:
    """Record how often each gated kernel fires; without gates, how often each kernel's activation is not zero.

    Args:
        detector: as imported; what the passes make of it in FP32 runs on this machine's CPU.
        pictures: calibration pictures, at least one.
        partial: file that keeps the sums of an interrupted run, which continues from it when called again; the caller
            removes it once the profile is written.
        executor: whose workers run the network; None: this process does. The profile is the same.
        say: progress.

    Raises:
        PictureError: a picture cannot be read.
        MeasureError: the network does not run.
    """
    from deploycc.passes import PIPELINE, run
    from deploycc.utilisation.measure import measure_utilisation
    from deploycc.workflows.prune import cpu_options

    optimised = run(detector, cpu_options(), PIPELINE).detector
    profile, notes = measure_utilisation(optimised, pictures, partial=partial, executor=executor, say=say)
    return Profiled(profile, notes)


def profile(
    detector: Detector, pictures: str | Path | PictureList, *, executor: Executor | None = None, say: Say = quiet
) -> UtilisationProfile:
    """Record how much each kernel is used.

    Args:
        detector: as `deploycc.load` reads it.
        pictures: a folder, ``voc:FOLDER[@SPLIT]``, ``generated:SEED[:COUNT]``, or pictures that are open already.
        executor: of ``concurrent.futures``, whose workers run the network, such as a ``ProcessPoolExecutor``, or
            ``get_executor()`` of a Dask client (extra ``farm``); None: this process does. The profile is the same.
        say: progress.

    Raises:
        InputError, PictureError: the pictures cannot be read.
        MeasureError: the network does not run.
    """
    from deploycc.workflows.pictures import open_pictures

    opened = open_pictures(pictures, detector.input)
    return measure_profile(detector, opened, executor=executor, say=say).profile


def record_profile(
    detector: Detector,
    pictures: str | Path | PictureList,
    output: Path,
    *,
    executor: Executor | None = None,
    say: Say = quiet,
) -> Profiled:
    """Record how much each kernel is used, and write it.

    An interrupted run leaves ``output`` with the suffix ``.partial`` behind, and continues from it when called again.

    Args:
        detector: as for `profile`.
        pictures: likewise.
        output: file to write.
        executor: as for `profile`.
        say: progress.

    Raises:
        InputError, PictureError: the pictures cannot be read.
        MeasureError: the network does not run.
        ArtefactError: the file cannot be written.
    """
    from deploycc.files import is_stream
    from deploycc.workflows.pictures import open_pictures

    partial = None if is_stream(output) else output.with_name(f"{output.name}.partial")
    opened = open_pictures(pictures, detector.input)
    profiled = measure_profile(detector, opened, partial=partial, executor=executor, say=say)
    profiled.profile.write(output)
    if partial is not None:
        partial.unlink(missing_ok=True)
    return profiled


def draw_profile(profile: UtilisationProfile, *, html: Path | None = None, svg: Path | None = None) -> None:
    """Draw a profile as a page, as a picture, or as both; raises ArtefactError where a file cannot be written."""
    from deploycc.files import write_text
    from deploycc.report.utilisation import render_utilisation_html, render_utilisation_svg
    from deploycc.report.utilisation_summary import utilisation_figure

    for file, render in ((svg, render_utilisation_svg), (html, render_utilisation_html)):
        if file is not None:
            write_text(file, render(utilisation_figure(profile)))
