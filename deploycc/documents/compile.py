"""``compile.json``: what the compiler did to a network, and what it built from it.

Figures stand in groups, and each group states its evidence: counts of nodes, parameters and MACs are read off the
graph and therefore ``predicted``; times and numeric differences are ``measured`` on the machine that compiled.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, JsonValue

from deploycc.documents.build import BuiltEngine
from deploycc.documents.document import Count, Document, Evidence, NoteRecord, Record, Seconds, Sha256, read_document
from deploycc.documents.plan import Identified
from deploycc.documents.pruning import PruningRecord
from deploycc.documents.source import SourceRecord

Share = Annotated[float, Field(ge=0, le=1)]
NotNegative = Annotated[float, Field(ge=0)]

COUNTED = Evidence(kind="predicted", source="counted from the graph; nothing was run")
"""Evidence of every count of nodes, parameters and MACs."""


class InputRecord(Record):
    """The picture tensor (`deploycc.detector.InputSpec`): ``(pixel - mean) * scale``, NCHW."""

    name: str
    shape: tuple[int, int, int, int]
    colour: Literal["BGR", "RGB", "GRAY"]
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    assumed: bool


class DetectorRecord(Record):
    """What the importer recognised.

    Attributes:
        heads: ``ssd`` raw SSD heads with priors, ``in-graph`` decoded inside the graph, ``opaque`` not recognised.
        classes: number of classes, background included; None where unknown.
        class_names: one a class, background included; empty where unknown.
        priors: number of prior boxes, or None.
        notes: what the importer decided.
    """

    name: str
    input: InputRecord
    heads: Literal["ssd", "in-graph", "opaque"]
    classes: Count | None = None
    class_names: tuple[str, ...] = ()
    priors: Count | None = None
    notes: tuple[NoteRecord, ...] = ()


class TargetRecord(Record):
    """The board and its software (`deploycc.target.Target`)."""

    name: str
    title: str
    tier: Literal["measured", "built", "planned"]
    runtime: str
    runtime_version: str | None = None
    unconfirmed: tuple[str, ...] = ()


class SizeRecord(Record):
    """Size of a network (`deploycc.graph.cost.Cost`)."""

    nodes: Count
    params: Count
    macs: Count


_SKIPPING = ("lower_gates", "split_at_decision")  # passes that change something where work can be skipped


class StepRecord(Record):
    """One pass (`deploycc.passes.runner.Step`); ``seconds`` is measured on the machine that compiled."""

    name: str
    seconds: Seconds
    changed: bool
    before: SizeRecord
    after: SizeRecord
    notes: tuple[NoteRecord, ...] = ()


class PartRecord(Record):
    """A part of a network: ``back-end`` (the feature trunk) or ``front-end`` (the detection layers on top)."""

    name: str
    macs: Count
    params: Count


class SecondFile(Record):
    """The file of a second network of a row."""

    file: str
    sha256: Sha256
    size_bytes: Count


class NetworkRecord(Identified):
    """One optimised network file, or those of networks in a row.

    Attributes:
        file: name in the output folder; of a row that of the first network.
        sha256, size_bytes: of that file.
        second: of a row, one per second network. Counts are those of the first network and the last of these then,
            which holds every kernel: the worst case.
        source_sha256: digest of the trained files it was made from.
        options: what the passes were told.
        steps: the passes, in order.
        parts: split of the optimised network; empty where the heads are unknown.
        counts: evidence of every node, parameter and MAC count in `steps` and `parts`.
    """

    file: str
    sha256: Sha256
    size_bytes: Count
    second: tuple[SecondFile, ...] = ()
    source_sha256: Sha256
    options: dict[str, JsonValue] = Field(default_factory=dict)
    steps: tuple[StepRecord, ...] = ()
    parts: tuple[PartRecord, ...] = ()
    counts: Evidence = COUNTED

    @property
    def files(self) -> dict[str, str]:
        """The SHA-256 of every file, by name."""
        return {self.file: self.sha256} | {each.file: each.sha256 for each in self.second}

    @property
    def skips_work(self) -> bool:
        """Whether pictures may skip work: counts are those of a picture that skips none."""
        return any(step.changed and step.name in _SKIPPING for step in self.steps)


class OutputError(Record):
    """Difference of one output tensor from the reference, over all pictures.

    Attributes:
        tensor: graph output.
        max_abs_error: largest absolute difference of an element.
        relative_rms_error: root mean square of the difference over that of the reference.
        reference_max_abs: largest magnitude in the reference, the scale that the errors are read against.
    """

    tensor: str
    max_abs_error: NotNegative
    relative_rms_error: NotNegative
    reference_max_abs: NotNegative


class LayerError(Record):
    """Difference of one layer's output, fields as in `OutputError`; worst first.

    Attributes:
        node, op: the layer.
        overflowed: elements that are finite in the reference and infinite or NaN here.
        fp32: the layer was kept in FP32.
    """

    node: str
    op: str
    max_abs_error: NotNegative
    relative_rms_error: NotNegative
    overflowed: Count = 0
    fp32: bool = False


class DetectionDifference(Record):
    """Difference of the decoded, suppressed detections, over all pictures.

    Attributes:
        score_threshold: detections with a lower score are left out of the comparison on both sides.
        match_iou: two detections of one class match from this IoU on.
        reference, other: detections in the reference and in the compared network.
        matched: pairs.
        max_score_difference: over the pairs; None without pairs.
        min_iou: over the pairs; None without pairs.
    """

    score_threshold: Share
    match_iou: Share
    reference: Count
    other: Count
    matched: Count
    max_score_difference: NotNegative | None = None
    min_iou: Share | None = None


class PrecisionComparison(Record):
    """How far one precision is from another on real pictures.

    Attributes:
        evidence: ``measured``, with the runtime and machine that ran both.
        reference, other: precisions.
        pictures: number of pictures.
        picture_source: folder or files they came from.
        outputs: one an output tensor.
        layers: the layers that lose most, worst first.
        detections: None where the detector cannot be decoded.
    """

    evidence: Evidence
    reference: str = "fp32"
    other: str = "fp16"
    pictures: Annotated[int, Field(ge=1)]
    picture_source: str
    outputs: tuple[OutputError, ...]
    layers: tuple[LayerError, ...] = ()
    detections: DetectionDifference | None = None


class AccuracyRecord(Identified):
    """Accuracy of one network on annotated pictures, in FP32 with ONNX Runtime on the machine that compiled.

    Attributes:
        evidence: ``measured``, with what ran it.
        data: the annotated pictures, as the user wrote them.
        pictures: how many.
        map50, map50_11point: VOC mean average precision at IoU 0.5, by area and by eleven points.
        coco_map: COCO mean average precision, IoU 0.50 to 0.95; None where it is not defined.
    """

    evidence: Evidence
    data: str
    pictures: Count
    map50: Share
    map50_11point: Share
    coco_map: Share | None


class VerificationRecord(Identified):
    """A written network, read back and compared on seeded pictures in ONNX Runtime.

    Attributes:
        against: what it was compared with: the trained ``file``, the network after ``import``, or the network after
            pruning (``pruned``).
        reason: why the file itself was not run, as the end of a sentence; None if it was, or if it is not ONNX.
        pictures, tensors: how many were compared; no tensor if the network has none in common with its reference.
        largest_difference: over the largest magnitude of the output that differs most.
        tolerance: from where on it would have been refused.
        seconds: on the machine that compiled.
    """

    against: Literal["file", "import", "pruned"]
    reason: str | None = None
    pictures: Count
    tensors: Count
    largest_difference: NotNegative
    tolerance: NotNegative
    seconds: Seconds


class PredictedLatency(Identified):
    """Predicted time of one network (`deploycc.documents.prediction.TargetPrediction` has the launches).

    Attributes:
        evidence: ``predicted``, with the constants and the measurements behind them.
        ms, low_ms, high_ms: with the interval that holds the measured time in 90 % of cases.
        remarks: why the interval is wide.
    """

    evidence: Evidence
    ms: NotNegative
    low_ms: NotNegative
    high_ms: NotNegative
    remarks: tuple[str, ...] = ()


class CompileReport(Document):
    """The whole file.

    Attributes:
        command: the command line that made it, shell-quoted.
        source, detector, target: what was compiled, and for what.
        prunings: what was removed from the trained network, first to last.
        accuracy: one per variant that was scored.
        networks: one per precision and variant.
        verified: one per network that was compared with what it was compiled from.
        plan_sha256: of ``plan.json`` beside it, which names the same networks.
        contract_sha256: of ``contract.json`` beside it; None in files of version 0.1.
        comparison: FP16 against FP32, or None.
        engines: likewise.
        predictions: likewise, where the target has constants of prediction.
        next_command: what builds and measures on the board; None where everything was done here.
    """

    FILE_NAME: ClassVar[str] = "compile.json"

    command: str | None = None
    source: SourceRecord
    detector: DetectorRecord
    target: TargetRecord
    prunings: tuple[PruningRecord, ...] = ()
    accuracy: tuple[AccuracyRecord, ...] = ()
    networks: tuple[NetworkRecord, ...]
    verified: tuple[VerificationRecord, ...] = ()
    plan_sha256: Sha256 | None = None
    contract_sha256: Sha256 | None = None
    comparison: PrecisionComparison | None = None
    engines: tuple[BuiltEngine, ...] = ()
    predictions: tuple[PredictedLatency, ...] = ()
    next_command: str | None = None


def read_compile_report(path: Path) -> CompileReport:
    """Read ``compile.json``, given itself or its folder.

    Raises:
        ArtefactError: missing or not a valid file of this schema.
    """
    return read_document(path, CompileReport)
