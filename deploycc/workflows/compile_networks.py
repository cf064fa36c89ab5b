"""What a compilation writes for one target before engines are built: networks, plan, contract, report.

It depends on nothing but its inputs, so that another process or machine may write it
(`deploycc.workflows.compile_workers`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deploycc.progress import Say, prefixed

if TYPE_CHECKING:
    from deploycc.detector import Detector
    from deploycc.detector.picture_list import PictureList
    from deploycc.documents.compile import AccuracyRecord, CompileReport, VerificationRecord
    from deploycc.documents.gate_plan import GatePlan
    from deploycc.documents.plan import Measurement
    from deploycc.documents.utilisation import UtilisationProfile
    from deploycc.integration.contract_files import Expected
    from deploycc.passes import Compiled
    from deploycc.passes.options import Precision, Prune
    from deploycc.target import Target
    from deploycc.workflows.compile_settings import CompileSettings
    from deploycc.workflows.networks import WrittenNetwork
    from deploycc.workflows.row_files import CompiledRow
    from deploycc.workflows.verify import Verifier


@dataclass(frozen=True, eq=False)
class Start:
    """What a compilation starts from, whatever the target.

    Attributes:
        detector: what the pipeline starts from.
        prune: what its pruning passes are told.
        original: the network to compare with; None where there is no other.
        shown: the detector that the report describes.
        profile: that it was pruned by on the way, if any.
        own_weights: the detector's weights are no longer those of its file.
    """

    detector: Detector
    prune: Prune | None
    original: Detector | None
    shown: Detector
    profile: UtilisationProfile | None = None
    own_weights: bool = False


@dataclass(frozen=True, eq=False)
class Compilation:
    """The compilation for one target.

    Attributes:
        start: what it starts from.
        target: what it is for.
        settings: how to compile.
        gate_plan: how gates are carried out.
        pictures: FP16 is compared with FP32 on these.
        accuracy: what was scored before.
    """

    start: Start
    target: Target
    settings: CompileSettings
    gate_plan: GatePlan | None
    pictures: PictureList | None
    accuracy: tuple[AccuracyRecord, ...]

    def write(self, folder: Path, verifier: Verifier | None, say: Say) -> None:
        """Write everything but engines and what is measured of them.

        Args:
            folder: an empty one.
            verifier: compares what is written with what it was compiled from; None: nothing is compared.
            say: progress.

        Raises:
            InputError: something does not fit.
            PictureError: a picture cannot be read.
        """
        from deploycc.workflows.contract import write_folder_contract
        from deploycc.workflows.networks import write_plan_and_agent
        from deploycc.workflows.output_folder import write_report
        from deploycc.workflows.verify import verify_networks

        start, settings = self.start, self.settings
        networks = _networks(self, folder, say)
        started = [(_start(start, network), network) for network in networks]
        verified = verify_networks(started, folder, verifier, say) if verifier is not None else ()
        written = [each.network for each in networks]
        build_plan = write_plan_and_agent(folder, self.target, written, start.detector, _measurement(settings))
        expected = _expected(settings, networks, self.pictures, say)
        write_folder_contract(folder, build_plan, networks, start.shown, expected)
        if start.profile is not None:
            start.profile.write(folder / start.profile.FILE_NAME)
        if self.gate_plan is not None:
            self.gate_plan.write(folder / self.gate_plan.FILE_NAME)
        write_report(folder, _report(self, networks, verified, say))


def _expected(
    settings: CompileSettings, networks: list[WrittenNetwork], pictures: PictureList | None, say: Say
) -> dict[str, Expected]:
    """What engines must find in a few pictures; nothing where networks are not verified."""
    from deploycc.workflows.smoke import expected_of, pictures_of_row, smoke_pictures

    if not settings.verify:
        return {}
    spec, row = networks[0].compiled.detector.input, networks[0].row
    shown = smoke_pictures(spec, pictures) if row is None else pictures_of_row(row, spec, pictures, say)
    return expected_of(networks, shown, say)


def _networks(compilation: Compilation, folder: Path, say: Say) -> list[WrittenNetwork]:
    from deploycc.workflows.networks import run_passes, write_network

    start, target, settings = compilation.start, compilation.target, compilation.settings
    written = []
    for precision in settings.precisions or target.precisions:
        keep_fp32 = settings.keep_fp32 if precision == "fp16" else ()
        compiled, row = _run_passes(compilation, precision, keep_fp32, say)
        say(f"{precision} writing the network")
        written.append(write_network(compiled, target, folder, "compiled", row))
        if start.original is not None:
            compiled = run_passes(
                start.original,
                target,
                precision,
                detection=settings.detection,
                keep_fp32=keep_fp32,
                say=prefixed(say, "original network"),
            )
            written.append(write_network(compiled, target, folder, "original"))
    return written


def _run_passes(
    compilation: Compilation, precision: Precision, keep_fp32: tuple[str, ...], say: Say
) -> tuple[Compiled, CompiledRow | None]:
    """Compile for one precision, as the gate plan says: one network, or several in a row."""
    from deploycc.workflows.networks import run_passes
    from deploycc.workflows.row_networks import run_row_passes

    detector, target, plan = compilation.start.detector, compilation.target, compilation.gate_plan
    settings, prune = compilation.settings, compilation.start.prune
    if plan is not None and plan.staged:
        return run_row_passes(
            detector,
            target,
            precision,
            plan,
            detection=settings.detection,
            keep_fp32=keep_fp32,
            prune=prune,
            dump_to=settings.dump_to,
            say=say,
        )
    compiled = run_passes(
        detector,
        target,
        precision,
        detection=settings.detection,
        keep_fp32=keep_fp32,
        prune=prune,
        gate_plan=() if plan is None else plan.layers,
        dump_to=settings.dump_to,
        say=say,
    )
    return compiled, None


def _start(start: Start, written: WrittenNetwork) -> Detector:
    """Return the detector that the pipeline of a network started from."""
    return start.original if written.network.variant == "original" and start.original is not None else start.detector


def _measurement(settings: CompileSettings) -> Measurement:
    from deploycc.documents.plan import QUICK, Measurement
    from deploycc.timing.machine import usable_cores

    threads = settings.threads or usable_cores()
    return QUICK.model_copy(update={"threads": threads}) if settings.quick else Measurement(threads=threads)


def _report(
    compilation: Compilation,
    networks: Sequence[WrittenNetwork],
    verified: tuple[VerificationRecord, ...],
    say: Say,
) -> CompileReport:
    from deploycc.documents.compile import CompileReport
    from deploycc.documents.document import this_tool
    from deploycc.workflows.precision import compare
    from deploycc.workflows.predict import predicted_latencies
    from deploycc.workflows.records import detector_record, source_record, target_record

    start, target = compilation.start, compilation.target
    pictures, settings = compilation.pictures, compilation.settings
    comparison = None
    if pictures is not None and any(network.network.precision == "fp16" for network in networks):
        comparison = compare(start.detector, target, pictures, settings.keep_fp32, start.prune, say)
    return CompileReport(
        tool=this_tool(),
        command=settings.command,
        source=source_record(start.shown),
        detector=detector_record(start.shown),
        target=target_record(target),
        prunings=start.shown.prunings,
        accuracy=compilation.accuracy,
        networks=tuple(network.record for network in networks),
        verified=verified,
        predictions=predicted_latencies(networks, target),
        comparison=comparison,
    )
