"""The detector: a graph with everything needed to feed it and to read its outputs.

Importers make a `Detector`, passes return a changed one, the engine and evaluation read it. The graph is an
onnx-graphsurgeon graph with static shapes and batch 1; there is no second representation of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

import deploycc.graph.pickling  # noqa: F401 - lets detectors travel to other processes
from deploycc.errors import ModelError, Note

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs

    from deploycc.documents.pruning import PruningRecord
    from deploycc.graph.gates.metadata import DescribedGate

BoxCoding = Literal["center_size", "corner", "corner_size"]
Colour = Literal["BGR", "RGB", "GRAY"]


@dataclass(frozen=True)
class InputSpec:
    """The picture tensor: float32, NCHW, batch 1, ``(pixel - mean) * scale`` with pixels in 0..255.

    Attributes:
        name: graph input.
        height, width: pixels.
        colour: channel order of the tensor; the channel count follows from it.
        mean: one value per channel, in tensor channel order, pixel units.
        scale: one value per channel, in tensor channel order.
        assumed: whether mean, scale or colour is a stated default that no file confirms.
    """

    name: str
    height: int
    width: int
    colour: Colour = "BGR"
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    scale: tuple[float, ...] = (1.0, 1.0, 1.0)
    assumed: bool = False

    def __post_init__(self) -> None:
        """Refuse a preparation after which all pictures are the same, or none is finite.

        Raises:
            ModelError: ``input-preparation``.
        """
        with np.errstate(all="ignore"):
            mean, scale = np.array(self.mean, np.float32)[:, None], np.array(self.scale, np.float32)
            black, white = -mean * scale, (np.float32(255) - mean) * scale
        if not (np.isfinite(black) & np.isfinite(white) & (black != white)).all():
            raise ModelError(
                "input-preparation",
                "with this mean and scale black and white become the same FP32 number, or one that is not finite",
                context={"input": self.name, "mean": self.mean, "scale": self.scale},
                hint="check `mean` and `scale`: pixels become (pixel - mean) * scale",
            )

    @property
    def channels(self) -> int:
        """Return the number of channels."""
        return 1 if self.colour == "GRAY" else 3

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Return the shape of the tensor, NCHW."""
        return (1, self.channels, self.height, self.width)


@dataclass(frozen=True)
class Nms:
    """Non-maximum suppression as Caffe's DetectionOutput defines it.

    Attributes:
        score_threshold: boxes with a lower or equal score are dropped before suppression.
        iou_threshold: a box that overlaps a kept box of its class by more is dropped.
        top_k: candidates kept per class before suppression, by score; -1 keeps all.
        keep_top_k: detections kept per picture after suppression, over all classes; -1 keeps all.
    """

    score_threshold: float = 0.01
    iou_threshold: float = 0.45
    top_k: int = 400
    keep_top_k: int = 200


@dataclass(frozen=True, eq=False)
class SsdHeads:
    """Raw SSD outputs and the data for decoding them into boxes (Liu et al., SSD, 2016, section 2.2).

    Attributes:
        locations: graph output of P x 4 elements, shape [1, P*4] or [1, P, 4]: box offsets.
        scores: graph output of P x classes elements, shape [1, P*C] or [1, P, C]: activated scores.
        priors: [P, 4] float32, xmin ymin xmax ymax, 0..1 of the picture.
        variances: [P, 4] float32, in the order of the offsets x y w h.
        classes: C, including the background if there is one.
        background: index of the background class, or None.
        box_coding: how offsets refer to priors.
        variance_encoded: offsets are already multiplied by the variances (Caffe: variance_encoded_in_target).
        y_first: offsets are ordered y x h w (TensorFlow) instead of x y w h.
        clip: decoded boxes are clipped to the picture.
        trained_priors: how many priors the trained network has, if some were dropped; else None.
        trained_rows: [P] int64: for each prior its row among those; None if none was dropped.
    """

    locations: str
    scores: str
    priors: NDArray[np.float32]
    variances: NDArray[np.float32]
    classes: int
    background: int | None = 0
    box_coding: BoxCoding = "center_size"
    variance_encoded: bool = False
    y_first: bool = False
    clip: bool = False
    trained_priors: int | None = None
    trained_rows: NDArray[np.int64] | None = None


@dataclass(frozen=True)
class DetectionOutputs:
    """Graph outputs of a detector that decodes and suppresses inside the graph.

    Attributes:
        boxes: [N, 4] or [1, N, 4] float, xmin ymin xmax ymax, 0..1 of the picture.
        scores: [N] or [1, N] float.
        classes: [N] or [1, N] integer class index, numbered like the scores (background included).
        count: number of valid rows, [1] or [1, 1] integer; None if every row is valid.
        layout: ``columns`` as above, or ``rows``: the three names are one tensor of [1, 1, N, 7] float rows, as Caffe's
            DetectionOutput and the NMS_TRT plugin write them: image, class (-1: unused row), score, four corners.
    """

    boxes: str
    scores: str
    classes: str
    count: str | None = None
    layout: Literal["columns", "rows"] = "columns"


@dataclass(frozen=True)
class Source:
    """The trained files a detector came from.

    Attributes:
        files: paths as the user gave them, topology first.
        sha256: digest over the files' bytes, in that order (hexadecimal).
        format: importer name: ``caffe`` or ``onnx``.
        random_weights: seed of random weights; None if the weights are trained.
        file_sha256: of each file, in the same order; empty in a description of an older version.
    """

    files: tuple[str, ...]
    sha256: str
    format: str
    random_weights: int | None = None
    file_sha256: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Detector:
    """A network with its input and its outputs.

    Attributes:
        graph: onnx-graphsurgeon graph, static shapes, batch 1. Its outputs are the heads' tensors (raw), the
            detection tensors (decoded in the graph), or anything (opaque: `heads` and `detections` are None).
        input: the picture tensor.
        heads: raw SSD heads, or None.
        nms: suppression parameters; used only if the detector needs suppression.
        detections: outputs of in-graph decoding, set by the pass that lowers it.
        class_names: one name per class, background included; empty if unknown.
        source: the trained files.
        notes: decisions of the importer, and what it did not recognise.
        gates: kernel gates as the file describes them; `deploycc.graph.gates.search` proves them.
        prunings: records of everything pruned from the trained network so far, in order.
    """

    graph: gs.Graph
    input: InputSpec
    source: Source
    heads: SsdHeads | None = None
    nms: Nms = field(default_factory=Nms)
    detections: DetectionOutputs | None = None
    class_names: tuple[str, ...] = ()
    notes: tuple[Note, ...] = ()
    gates: tuple[DescribedGate, ...] = ()
    prunings: tuple[PruningRecord, ...] = ()

    @property
    def name(self) -> str:
        """Return the network's name."""
        return str(self.graph.name or "network")

    @property
    def detection_outputs(self) -> tuple[str, ...]:
        """Return the graph outputs that hold the detections: raw heads, or decoded; none if the network is opaque."""
        if self.detections is not None:
            parts = (self.detections.boxes, self.detections.scores, self.detections.classes, self.detections.count)
            return tuple(dict.fromkeys(name for name in parts if name is not None))
        return () if self.heads is None else (self.heads.locations, self.heads.scores)

    @property
    def extra_outputs(self) -> tuple[str, ...]:
        """Return the graph outputs besides the detections (masks, landmarks); none if the network is opaque."""
        known = self.detection_outputs
        return tuple(tensor.name for tensor in self.graph.outputs if known and tensor.name not in known)

    def class_name(self, index: int) -> str:
        """Return the name of a class, or its number if names are unknown."""
        return self.class_names[index] if 0 <= index < len(self.class_names) else str(index)
