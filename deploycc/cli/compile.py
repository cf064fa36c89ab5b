"""``deploycc compile MODEL --target T -o DIR``: import, passes, plan, build, measure, report, in a row."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from deploycc.cli import complete
from deploycc.cli.model_options import ModelChoice, comma_list, takes_model

if TYPE_CHECKING:
    from deploycc.detector import Detector
    from deploycc.documents.compile import CompileReport
    from deploycc.progress import Say
    from deploycc.target import Target
    from deploycc.workflows.networks import Optimised


@dataclass(frozen=True)
class Settings:
    """How to compile; the options below, resolved."""

    precisions: tuple[str, ...]
    detection: str | None
    keep_fp32: tuple[str, ...]
    images: Path | None
    gate_plan: Path | None
    dump_each: Path | None
    build: bool
    measure: bool
    quick: bool
    threads: int


@takes_model
def command(
    choice: ModelChoice,
    target: Annotated[
        list[str],
        typer.Option(
            "--target",
            "-t",
            metavar="TARGET",
            autocompletion=complete.target,
            help="Target name or .toml file; repeat it for several, each in a folder of its own inside DIR.",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder for everything made.")],
    precision: Annotated[
        Optional[str],  # noqa: UP045 - typer reads the annotation at run time on Python 3.10
        typer.Option("--precision", "-p", metavar="LIST", help="fp32,fp16; default: all that the target does."),
    ] = None,
    detection: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--detection", help="raw, onnx-nms, efficient-nms or nms-plugin; default: the target's best."),
    ] = None,
    keep_fp32: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--keep-fp32", metavar="LAYERS", help="Layers that stay FP32 in the FP16 network, by name."),
    ] = None,
    images: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--images", metavar="DIR", help="Pictures on which FP16 is compared with FP32."),
    ] = None,
    gate_plan: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--gate-plan", metavar="FILE", help="How gates are carried out (`deploycc gates`)."),
    ] = None,
    build: Annotated[bool, typer.Option(help="Build the engines that can be built here.")] = True,
    measure: Annotated[bool, typer.Option(help="Time the engines that can run here.")] = True,
    quick: Annotated[bool, typer.Option("--quick", help="Time for half a second: a smoke test, not valid.")] = False,
    threads: Annotated[int, typer.Option(min=0, help="CPU threads of the runtime; 0: every core.")] = 0,
    dump_each: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--dump-each", metavar="DIR", help="Write the network as ONNX text after every pass."),
    ] = None,
) -> None:
    """Compile a trained SSD detector for one or more targets."""
    from deploycc import target as targets
    from deploycc.cli import console
    from deploycc.timing.machine import check_threads, usable_cores

    if build:
        check_threads(threads)
    settings = Settings(
        precisions=comma_list(precision),
        detection=detection,
        keep_fp32=comma_list(keep_fp32),
        images=images,
        gate_plan=gate_plan,
        dump_each=dump_each,
        build=build,
        measure=measure and build,
        quick=quick,
        threads=threads or usable_cores(),
    )
    chosen = [targets.load(name) for name in target]  # all of them before the first long step
    with console.progress("reading") as say:
        say(choice.model)
        detector = choice.load()
    for note in detector.notes:
        console.note(f"{note.node + ': ' if note.node else ''}{note.reason}")
    for one in chosen:
        if (images or keep_fp32) and "fp16" not in (settings.precisions or one.precisions):
            console.warn(f"{one.name}: --images and --keep-fp32 concern FP16, which is not compiled here")
        folder = output / one.name if len(chosen) > 1 else output
        _compile_one(detector, one, folder, settings)


def _compile_one(detector: Detector, target: Target, output: Path, settings: Settings) -> None:
    from deploycc.cli import console
    from deploycc.documents.plan import QUICK, Measurement
    from deploycc.workflows.networks import write_plan_and_agent
    from deploycc.workflows.output_folder import (
        bench_folder,
        build_folder,
        render_folder,
        summarise_folder,
        write_report,
    )
    from deploycc.workflows.staging import staged_folder

    threads = settings.threads
    timing = QUICK.model_copy(update={"threads": threads}) if settings.quick else Measurement(threads=threads)
    with staged_folder(output) as folder, console.progress(target.name) as say:
        done = _optimise(detector, target, folder, settings, say)
        write_plan_and_agent(folder, target, [one.network for one in done], detector, timing)
        write_report(folder, _report(detector, target, done, settings, say))
        if settings.build:
            build_folder(folder, say)
        if settings.measure:
            bench_folder(folder, say)
        say("writing the report")
        render_folder(folder)
    console.out(str(output))
    console.say(f"{target.name}: {detector.name}", summarise_folder(output))


def _optimise(detector: Detector, target: Target, folder: Path, settings: Settings, say: Say) -> list[Optimised]:
    from deploycc.graph.split import split_heads
    from deploycc.workflows.gates import read_plan_for
    from deploycc.workflows.networks import run_passes, write_network

    heads = detector.heads
    gate_plan = () if settings.gate_plan is None else read_plan_for(settings.gate_plan, detector, target)
    done = []
    for precision in settings.precisions or target.precisions:
        compiled = run_passes(
            detector,
            target,
            precision,  # type: ignore[arg-type]
            detection=settings.detection,  # type: ignore[arg-type]
            keep_fp32=settings.keep_fp32 if precision == "fp16" else (),
            dump_to=settings.dump_each,
            say=say,
            gate_plan=gate_plan,
        )
        graph = compiled.detector.graph
        split = split_heads(graph, heads.locations, heads.scores) if heads else None
        say(f"{precision} writing the network")
        done.append(write_network(compiled, target, folder, split))
    return done


def _report(detector: Detector, target: Target, done: list[Optimised], settings: Settings, say: Say) -> CompileReport:
    from deploycc.documents.compile import CompileReport
    from deploycc.documents.document import this_tool
    from deploycc.workflows.records import detector_record, source_record, target_record

    comparison = None
    if settings.images is not None and any(one.record.precision == "fp16" for one in done):
        from deploycc.workflows.precision import compare

        comparison = compare(detector, target, settings.images, settings.keep_fp32, say)
    return CompileReport(
        tool=this_tool(),
        command=shlex.join(["deploycc", *sys.argv[1:]]),
        source=source_record(detector),
        detector=detector_record(detector),
        target=target_record(target),
        networks=tuple(one.record for one in done),
        comparison=comparison,
    )
