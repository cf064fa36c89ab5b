"""``contract.json``: what an application must know to feed the engines of a folder and to read what they answer.

Everything that it names lies beside it: priors and variances as ``.npy`` and as a C header, and decoders that were
generated from it. Engines are not named by digest, because they may be built later: ``build.json`` does that.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from deploycc.documents.compile import InputRecord
from deploycc.documents.document import Count, Document, NoteRecord, Record, Sha256, read_document
from deploycc.documents.folder import ListedFile
from deploycc.documents.plan import EngineName, FileName, Identified, Tensor, check_unique
from deploycc.documents.source import SourceRecord

NO_PRIORS = (
    "final detections: the network applies its own priors and suppression, so an application needs no priors, no "
    "variances and no NMS; it only unpacks"
)
HOW_TO_RUN_A_ROW = (
    "run the first engine on the picture and copy its decision to the host: one number, the place in `second` of the "
    "engine to run next; bind that engine's inputs to the first engine's outputs of the same names (and to the "
    "picture, if it reads it): they stay on the device. Its outputs are the network's. No engine waits inside for the "
    "host, so each may be a CUDA graph; load all of them once"
)
Meaning = Literal["locations", "scores", "boxes", "classes", "count", "rows", "other"]


class ResizeRule(Record):
    """How a picture becomes as large as the input: what `deploycc.detector.pictures.resize` does.

    Attributes:
        method: bilinear interpolation.
        centres: of pixels lie at (i + 0.5) * source / target - 0.5, held inside the picture.
        antialias: nothing is smoothed before a picture is made smaller.
        keep_aspect_ratio: the picture is stretched.
        rounding: to whole grey levels, halves upwards, before mean and scale.
        grey: weights of red, green and blue where the input has one channel, rounded to whole grey levels.
    """

    method: Literal["bilinear"] = "bilinear"
    centres: Literal["half-pixel"] = "half-pixel"
    antialias: Literal[False] = False
    keep_aspect_ratio: Literal[False] = False
    rounding: Literal["nearest"] = "nearest"
    grey: tuple[float, float, float] = (0.299, 0.587, 0.114)


class InputContract(InputRecord):
    """The picture tensor: ``(pixel - mean) * scale`` of pixels 0..255, channels in the order of ``colour``.

    Attributes:
        type: of its elements.
        layout: of its dimensions.
        resize: how a picture of another size is prepared.
    """

    type: Literal["float32"] = "float32"
    layout: Literal["NCHW"] = "NCHW"
    resize: ResizeRule = ResizeRule()


class OutputContract(Record):
    """A tensor that an engine answers with.

    Attributes:
        name: of the tensor.
        shape: its dimensions; None for one that depends on the picture.
        type: of its elements, as NumPy spells it.
        meaning: what it holds: ``locations`` (box offsets) and ``scores`` of raw heads; ``boxes``, ``scores``,
            ``classes``, ``count`` or ``rows`` of detections; ``other``.
        text: the same in words.
    """

    name: str
    shape: tuple[Count | None, ...]
    type: str
    meaning: Meaning
    text: str


class DroppedPriors(Record):
    """Priors of the trained network that the compiled one does not have, because they can never give a detection.

    Attributes:
        trained: priors before.
        kept: priors that are left, which are the rows of the outputs.
        rows: .npy file, int64 [kept]: for each row of the outputs its row in the trained network.
        reason: why the others were dropped.
    """

    trained: Count
    kept: Count
    rows: FileName
    reason: str


class HeadsContract(Record):
    """How boxes follow from raw heads (`deploycc.detector.SsdHeads`).

    Attributes:
        locations, scores: outputs.
        activation: what the network has already applied to the scores; None where that is not known. The application
            applies nothing.
        classes: with the background, if there is one.
        background: its index, or None.
        box_coding, variance_encoded, y_first, clip: how offsets become boxes.
        formula: the same in words.
        prior_count: rows of the outputs.
        priors: .npy file, float32 [P, 4]: xmin ymin xmax ymax, 0..1 of the picture.
        variances: .npy file, float32 [P, 4], in the order x y w h.
        header: both in C.
        dropped: priors of the trained network that are gone; None where all are left.
    """

    locations: str
    scores: str
    activation: Literal["softmax", "sigmoid"] | None
    classes: Count
    background: int | None
    box_coding: Literal["center_size", "corner", "corner_size"]
    variance_encoded: bool
    y_first: bool
    clip: bool
    formula: str
    prior_count: Count
    priors: FileName
    variances: FileName
    header: FileName
    dropped: DroppedPriors | None = None


class DetectionsContract(Record):
    """Outputs of a network that decodes and suppresses itself (`deploycc.detector.DetectionOutputs`).

    Attributes:
        boxes, scores, classes, count, layout: outputs, as there.
        text: what is left to the application, in words.
    """

    boxes: str
    scores: str
    classes: str
    count: str | None
    layout: Literal["columns", "rows"]
    text: str = NO_PRIORS


class NmsContract(Record):
    """Suppression (`deploycc.detector.Nms`): the application's with raw heads, else what the network does itself."""

    score_threshold: float
    iou_threshold: float
    top_k: int
    keep_top_k: int


class SmokeContract(Record):
    """Pictures that an engine must see right before it is used.

    Attributes:
        pictures: .npy file, uint8 [N, height, width, 3], red first, as large as the input.
        score_threshold: of ``detections``.
        outputs: raw outputs of the FP32 network by name, .npy files of float32 [N, elements]; empty where the network
            decodes itself.
        detections: what the FP32 network detects, per picture: class, score, xmin ymin xmax ymax in 0..1.
    """

    pictures: FileName
    score_threshold: float
    outputs: dict[str, FileName]
    detections: tuple[tuple[tuple[int, float, float, float, float, float], ...], ...]


class SecondContract(Record):
    """A second network of a row and its engine.

    Attributes:
        file, sha256: the network.
        engine: file of its engine, once it is built.
        reads: its inputs: tensors of the first engine, by the same names, or the picture.
    """

    file: FileName
    sha256: Sha256
    engine: EngineName
    reads: tuple[str, ...]


class RowContract(Record):
    """How an application runs engines in a row: the first, then the one of ``second`` that it decides on.

    Attributes:
        decision: output of the first engine, int32 [1]: the place in ``second`` of the engine to start.
        handed: its other outputs, float32, which second engines read where they lie.
        second: ascending numbers of kernels; all have the same outputs.
        shares: of the pictures that need each; empty where that is not known.
        text: the same in words.
    """

    decision: str
    handed: tuple[Tensor, ...]
    second: Annotated[tuple[SecondContract, ...], Field(min_length=2)]
    shares: tuple[float, ...] = ()
    text: str = HOW_TO_RUN_A_ROW


class NetworkContract(Identified):
    """One network of the folder and how its engine's outputs are read.

    Attributes:
        file, sha256: the network.
        weights_file, weights_sha256: the caffemodel of a Caffe network.
        engine: file of its engine, once it is built; ``build.json`` then has its digest.
        outputs: in the network's order.
        decoding: ``host``: the application decodes raw heads; ``network``: it only unpacks detections; ``unknown``.
        heads, detections: how, as far as it is known.
        python, cpp: decoders of these outputs; None where decoding is unknown.
        smoke: what the FP32 network finds in pictures; None where none were run.
        row: engines that follow this one, which decides; outputs are those of each of them. None for a single engine.
        notes: what the compiler dropped or decided about the detection.
    """

    file: FileName
    sha256: Sha256
    weights_file: FileName | None = None
    weights_sha256: Sha256 | None = None
    engine: EngineName
    outputs: tuple[OutputContract, ...]
    decoding: Literal["host", "network", "unknown"]
    heads: HeadsContract | None = None
    detections: DetectionsContract | None = None
    python: FileName | None = None
    cpp: FileName | None = None
    smoke: SmokeContract | None = None
    row: RowContract | None = None
    notes: tuple[NoteRecord, ...] = ()

    @model_validator(mode="after")
    def _is_described(self) -> NetworkContract:
        described = {"host": self.heads is not None, "network": self.detections is not None, "unknown": True}
        if not described[self.decoding]:
            raise ValueError(f"decoding is {self.decoding}, which is not described")
        return self


class TrainedFile(Record):
    """A file that the networks were made from.

    Attributes:
        name: path, as the user gave it.
        sha256: of this file alone.
        role: ``trained``, or ``pruned`` where an earlier run made it of trained ones.
    """

    name: str
    sha256: Sha256
    role: Literal["trained", "pruned"]


class IntegrationContract(Document):
    """The whole file.

    Attributes:
        detector: name of the network.
        target, runtime, runtime_version: what the engines are for.
        source: what was compiled.
        trained_files: each by itself, first to last; empty where an older version did not record them.
        input: the picture tensor of every network.
        class_names: one per class, background included; empty where unknown.
        nms: score and suppression parameters.
        networks: one per precision and variant.
        files: every file that is part of the contract, with its digest.
    """

    FILE_NAME: ClassVar[str] = "contract.json"

    detector: str
    target: str
    runtime: str
    runtime_version: str | None
    source: SourceRecord
    trained_files: tuple[TrainedFile, ...]
    input: InputContract
    class_names: tuple[str, ...]
    nms: NmsContract
    networks: Annotated[tuple[NetworkContract, ...], Field(min_length=1)]
    files: tuple[ListedFile, ...]

    @model_validator(mode="after")
    def _names_are_listed(self) -> IntegrationContract:
        check_unique(self.networks, "networks")
        listed = {file.name for file in self.files}
        if len(listed) < len(self.files):
            raise ValueError("a file is listed twice")
        for network in self.networks:
            named = {network.file, network.weights_file, network.python, network.cpp}
            named |= {second.file for second in (network.row.second if network.row is not None else ())}
            if heads := network.heads:
                named |= {heads.priors, heads.variances, heads.header, *([heads.dropped.rows] if heads.dropped else [])}
            if smoke := network.smoke:
                named |= {smoke.pictures, *smoke.outputs.values()}
            if missing := sorted(filter(None, named - listed)):
                raise ValueError(f"the {network.label} network names {missing[0]}, which is not listed")
        return self

    def network(self, precision: str, variant: str = "compiled") -> NetworkContract | None:
        """Return the network of a precision and variant, or None."""
        return next((each for each in self.networks if (each.precision, each.variant) == (precision, variant)), None)


def read_contract(path: Path) -> IntegrationContract:
    """Read ``contract.json``, given itself or its folder.

    Raises:
        ArtefactError: missing or not a valid file of this schema.
    """
    return read_document(path, IntegrationContract)


def files_for_agent(folder: Path) -> tuple[str, ...]:
    """Return the files that the agent reads to run the pictures of a folder; none where it has no contract.

    Raises:
        ArtefactError: the contract cannot be used.
    """
    if not (folder / IntegrationContract.FILE_NAME).exists():
        return ()
    names = {IntegrationContract.FILE_NAME}
    for network in read_contract(folder).networks:
        if network.smoke is not None:
            names |= {network.smoke.pictures, *network.smoke.outputs.values()}
        if network.heads is not None:
            names |= {network.heads.priors, network.heads.variances}
    return tuple(sorted(names))
