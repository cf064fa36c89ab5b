"""Reports to test with: small, complete, from a seed."""

from __future__ import annotations

from typing import Any

import numpy as np

from deploycc.documents.build import BuiltEngine
from deploycc.documents.compile import (
    CompileReport,
    DetectionDifference,
    DetectorRecord,
    InputRecord,
    LayerError,
    NetworkRecord,
    OutputError,
    PartRecord,
    PrecisionComparison,
    SizeRecord,
    StepRecord,
    TargetRecord,
)
from deploycc.documents.document import Evidence, NoteRecord, Tool
from deploycc.documents.latency import EngineFile, LatencyReport, LayerTime, Run
from deploycc.documents.pruning import FoldedGateRecord, PrunedLayer, PrunedPart, PruningRecord
from deploycc.documents.source import SourceRecord

TRAINED, NETWORK, ENGINE = "a" * 64, "b" * 64, "c" * 64


def samples(count: int = 1200, median_ms: float = 10.0, noise: float = 0.03, seed: int = 0) -> tuple[float, ...]:
    """Log-normal latencies, rounded as the agent rounds them."""
    random = np.random.default_rng(seed)
    return tuple(float(value) for value in np.round(median_ms * np.exp(noise * random.standard_normal(count)), 6))


def run(samples_ms: tuple[float, ...], **changes: Any) -> Run:
    """A measured run of one picture after the other."""
    starts = np.concatenate([[0.0], np.cumsum(samples_ms)[:-1]]) / 1000
    fields: dict[str, Any] = {
        "precision": "fp32",
        "engine": EngineFile(file="engine.fp32.onnx", sha256=ENGINE, runtime="onnxruntime", runtime_version="1.31.1"),
        "network_sha256": NETWORK,
        "device": "Test CPU",
        "status": "measured",
        "threads": 2,
        "warmup_samples": 50,
        "warmup_s": 0.5,
        "duration_s": float(sum(samples_ms)) / 1000,
        "samples_ms": samples_ms,
        "start_offsets_s": tuple(float(start) for start in starts),
        "layers": tuple(
            LayerTime(name=f"conv{number}", op="Conv", median_ms=2.0 / 2**number, share=0.5 / 2**number)
            for number in range(25)
        ),
    }
    return Run(**{**fields, **changes})


def runs_in_turns(compiled_ms: tuple[float, ...], original_ms: tuple[float, ...], blocks: int) -> tuple[Run, Run]:
    """Runs of both variants, as many samples to a block as divide evenly: A B, B A, ..."""
    variants = (compiled_ms, original_ms)
    sizes = [len(samples_ms) // blocks for samples_ms in variants]
    starts: tuple[list[float], list[float]] = ([], [])
    now_ms = 0.0
    for number in range(blocks):
        for which in (1, 0) if number % 2 else (0, 1):
            for latency_ms in variants[which][number * sizes[which] : (number + 1) * sizes[which]]:
                starts[which].append(now_ms / 1000)
                now_ms += latency_ms
    file = EngineFile(file="engine-original.onnx", sha256="d" * 64, runtime="onnxruntime", runtime_version="1.31.1")
    compiled, original = (
        run(samples_ms, start_offsets_s=tuple(start), blocks=(size,) * blocks)
        for samples_ms, start, size in zip(variants, starts, sizes, strict=True)
    )
    return compiled, original.model_copy(update={"variant": "original", "engine": file, "network_sha256": "e" * 64})


def unmeasured(precision: str = "fp16") -> Run:
    """A run that this machine cannot do."""
    return Run(
        precision=precision,
        device="x86-cpu",
        status="not-possible",
        reason="no FP16 convolution on this CPU",
        hint="use a GPU target",
    )


def latency(*runs: Run, **changes: Any) -> LatencyReport:
    """A report of a quiet machine with fixed clocks."""
    fields: dict[str, Any] = {
        "target": "x86-cpu",
        "tool": Tool(deploycc="0.1.0", agent="1"),
        "quick": False,
        "environment": {"cpu_model": "Test CPU", "cpus_online": 4, "cpu_governor": "performance", "load_1min": 0.1},
        "runs": runs or (run(samples()),),
    }
    return LatencyReport(**{**fields, **changes})


def compiled(**changes: Any) -> CompileReport:
    """A report of a network with one engine."""
    imported = SizeRecord(nodes=120, params=3_350_000, macs=700_000_000)
    folded = SizeRecord(nodes=80, params=3_340_000, macs=661_550_000)
    network = NetworkRecord(
        precision="fp32",
        file="network.fp32.onnx",
        sha256=NETWORK,
        size_bytes=13_400_000,
        source_sha256=TRAINED,
        steps=(
            StepRecord(name="fold_constants", seconds=0.12, changed=True, before=imported, after=folded),
            StepRecord(
                name="check_backend",
                seconds=0.004,
                changed=False,
                before=folded,
                after=folded,
                notes=tuple(NoteRecord(node=name, code="int64-cast", reason="INT64 shape") for name in ("r1", "r2")),
            ),
        ),
        parts=(
            PartRecord(name="back-end", macs=600_000_000, params=2_000_000),
            PartRecord(name="front-end", macs=61_550_000, params=1_340_000),
        ),
    )
    fields: dict[str, Any] = {
        "tool": Tool(deploycc="0.1.0"),
        "command": "deploycc compile ssd.prototxt ssd.caffemodel --target x86-cpu -o out",
        "source": SourceRecord(files=("ssd.prototxt", "ssd.caffemodel"), sha256=TRAINED, format="caffe"),
        "detector": DetectorRecord(
            name="tiny_ssd",
            input=InputRecord(
                name="data",
                shape=(1, 3, 300, 300),
                colour="BGR",
                mean=(104.0, 117.0, 123.0),
                scale=(1.0, 1.0, 1.0),
                assumed=True,
            ),
            heads="ssd",
            classes=21,
            priors=1917,
        ),
        "target": TargetRecord(
            name="x86-cpu", title="x86-64 CPU", tier="measured", runtime="onnxruntime", runtime_version="1.31.1"
        ),
        "networks": (network,),
        "comparison": PrecisionComparison(
            evidence=Evidence(kind="measured", source="ONNX Runtime 1.31.1 on Test CPU"),
            pictures=4,
            picture_source="pictures",
            outputs=(
                OutputError(tensor="boxes", max_abs_error=2.1e-3, relative_rms_error=4e-4, reference_max_abs=1.02),
            ),
            layers=(LayerError(node="conv1", op="Conv", max_abs_error=0.5, relative_rms_error=0.1, overflowed=3),),
            detections=DetectionDifference(
                score_threshold=0.3,
                match_iou=0.5,
                reference=9,
                other=9,
                matched=8,
                max_score_difference=0.0012,
                min_iou=0.993,
            ),
        ),
        "engines": (
            BuiltEngine(
                precision="fp32",
                network_sha256=NETWORK,
                status="built",
                builder="onnxruntime",
                builder_version="1.31.1",
                file="engine.fp32.onnx",
                sha256=ENGINE,
                size_bytes=13_500_000,
                build_seconds=0.31,
            ),
        ),
    }
    return CompileReport(**{**fields, **changes})


def pruning(**changes: Any) -> PruningRecord:
    """A pruning of that network's trained files."""
    layer = PrunedLayer(
        name="conv1",
        op="Conv",
        kernels=(64, 48),
        macs=(400_000_000, 300_000_000),
        params=(1_000_000, 750_000),
        useless=17,
        kept_for_multiple=1,
        dropped_for_multiple=0,
        multiple=16,
        decided_with=None,
        predicted_ms=None,
    )
    fields: dict[str, Any] = {
        "source": compiled().source,
        "criterion": "utilisation",
        "useless": "used in less than 0.05 of all cases",
        "below": 0.05,
        "scope": "back-end",
        "coefficient": "mean",
        "round_to": 16,
        "profile_sha256": "9" * 64,
        "relative_times": {},
        "timed_on": None,
        "parts": (
            PrunedPart(name="back-end", macs=(800_000_000, 600_000_000), params=(2_250_000, 2_000_000)),
            PrunedPart(name="total", macs=(900_000_000, 661_550_000), params=(4_000_000, 3_340_000)),
        ),
        "layers": (layer,),
        "gates": (FoldedGateRecord(layer="conv1", place="after-bias", macs=38_450_000, response_error={"mean": 0.01}),),
        "reconstruction": None,
        "stays": (NoteRecord(node="conv2", code="channel-shared", reason="its kernel 3 holds the same channel"),),
        "not_analysed": (),
    }
    return PruningRecord(**{**fields, **changes})


def compiled_beside_original(**changes: Any) -> CompileReport:
    """A pruned network, its original, and an engine of each."""
    report = compiled()
    [network], [engine] = report.networks, report.engines
    before = SizeRecord(nodes=100, params=4_000_000, macs=900_000_000)
    step = network.steps[0].model_copy(update={"before": before, "after": before, "changed": False})
    original = {"variant": "original", "sha256": "e" * 64, "file": "network-original.onnx", "steps": (step,)}
    file = {"network_sha256": "e" * 64, "sha256": "d" * 64, "file": "engine-original.onnx", "size_bytes": 18_000_000}
    fields: dict[str, Any] = {
        "networks": (network, network.model_copy(update=original)),
        "engines": (engine, engine.model_copy(update={"variant": "original", **file})),
        "prunings": (pruning(),),
    }
    return compiled(**{**fields, **changes})


def compiled_for_board() -> CompileReport:
    """A report for a board that is not here: nothing built, nothing measured."""
    report = compiled()
    return compiled(
        target=TargetRecord(
            name="jetson-tx2-jp461", title="Jetson TX2", tier="planned", runtime="tensorrt", runtime_version="8.2.1"
        ),
        engines=(
            BuiltEngine(
                precision="fp32",
                network_sha256=report.networks[0].sha256,
                status="not-possible",
                builder="trtexec",
                file="engine.fp32.engine",
                reason="its engines are built on the board",
            ),
        ),
        next_command="deploycc bench out --on nvidia@tx2",
    )
