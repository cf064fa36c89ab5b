"""Output folders as `compile` writes them for a board, and what the board adds to one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import sample_reports
from small_networks import SOURCE, plan_folder

from deploycc import target
from deploycc.documents.build import BuildResult
from deploycc.documents.compile import TargetRecord
from deploycc.documents.document import Tool
from deploycc.documents.latency import EngineFile, LatencyReport, Run
from deploycc.documents.output_folder import ON_BOARD
from deploycc.documents.plan import read_plan
from deploycc.files import sha256_of
from deploycc.workflows.output_folder import write_report
from deploycc.workflows.staging import staged_folder

BOARD = "jetson-tx2-jp461"
TX2 = {"board_model": "NVIDIA Jetson TX2", "cpus_online": 4, "load_1min": 0.1}
PC = {"cpu_model": "PC", "cpus_online": 8, "load_1min": 0.2}


def compiled_folder(folder: Path, *labels: str, networks: Mapping[str, Any] | None = None) -> Path:
    """Write an output folder for a board that is not here: nothing built, nothing measured.

    Each label has a network of a few bytes that nothing could read, unless real ones are given.
    """
    with staged_folder(folder) as staged:
        networks = networks or {label: label.encode() for label in labels or ("fp32",)}
        plan = plan_folder(staged, target.load(BOARD), networks)
        report = sample_reports.compiled_for_board()
        [record] = report.networks
        records = tuple(
            record.model_copy(
                update={
                    **{name: getattr(network, name) for name in ("file", "sha256", "precision", "variant")},
                    "source_sha256": SOURCE,
                }
            )
            for network in plan.networks
        )
        source = report.source.model_copy(update={"sha256": SOURCE})
        build = built(staged, {}, PC)
        board = TargetRecord(**{**report.target.model_dump(), "name": BOARD})
        changes: dict[str, Any] = {"networks": records, "engines": build.engines, "source": source, "target": board}
        changes["next_command"] = ON_BOARD
        build.write(staged / build.FILE_NAME)
        write_report(staged, report.model_copy(update=changes))
        for page in ("report.md", "report.html"):  # drawing takes longer than all the rest
            (staged / page).write_text("drawn before", encoding="utf-8")
    return folder


def built(folder: Path, engines: dict[str, bytes], environment: dict[str, Any]) -> BuildResult:
    """Write engines, by label, into a plan's folder, and return what was built; the others are not possible."""
    plan = read_plan(folder)
    rows = []
    for engine in plan.engines:
        row: dict[str, Any] = {
            **{name: getattr(engine, name) for name in ("file", "precision", "variant", "network_sha256")},
            "builder": "trtexec",
            "status": "not-possible",
            "reason": "the target is aarch64, and this machine is x86_64",
        }
        if engine.label in engines:
            (folder / engine.file).write_bytes(engines[engine.label])
            size = len(engines[engine.label])
            row.update(status="built", reason=None, sha256=sha256_of(folder / engine.file), size_bytes=size)
        rows.append(row)
    return BuildResult(
        tool=Tool(deploycc="0.1.0", agent="1"),
        target=BOARD,
        plan_sha256=sha256_of(folder / plan.FILE_NAME),
        environment=environment,
        engines=tuple(rows),
    )


def measured(folder: Path, build: BuildResult, environment: dict[str, Any], *labels: str) -> LatencyReport:
    """Return the latency of engines that were built; the others are not possible."""
    runs = []
    for engine in build.engines:
        if engine.label in labels:
            file = EngineFile(file=engine.file, sha256=engine.sha256, runtime="tensorrt", runtime_version="8.2.1")
            run = sample_reports.run(sample_reports.samples(20), engine=file, device=BOARD)
        else:
            run = Run(precision="fp32", device=BOARD, status="not-possible", reason="not built: no GPU")
        names = {name: getattr(engine, name) for name in ("precision", "variant", "network_sha256")}
        runs.append(run.model_copy(update=names))
    return sample_reports.latency(
        *runs, target=BOARD, environment=environment, plan_sha256=sha256_of(folder / "plan.json")
    )


def come_back(folder: Path, engines: dict[str, bytes]) -> Path:
    """Put into an output folder what a board built and measured there, as its agent does."""
    build = built(folder, engines, TX2)
    build.write(folder / build.FILE_NAME)
    latency = measured(folder, build, TX2, *engines)
    latency.write(folder / latency.FILE_NAME)
    return folder
