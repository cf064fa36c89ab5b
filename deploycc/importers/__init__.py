"""Import a trained file as a `Detector`; the suffix selects the importer."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING

from deploycc.detector import Colour, Detector
from deploycc.errors import ModelError

if TYPE_CHECKING:
    from deploycc.importers.description import Description

CAFFE = (".prototxt", ".caffemodel")
ONNX = (".onnx",)


def load(
    path: str | Path,
    *,
    weights: Path | None = None,
    random_weights: int | None = None,
    describe: Path | None = None,
    mean: tuple[float, ...] | None = None,
    scale: tuple[float, ...] | None = None,
    colour: Colour | None = None,
) -> Detector:
    """Read a trained detector.

    Args:
        path: ``.onnx``, ``.prototxt``, or ``.caffemodel`` beside a prototxt of the same name.
        weights: Caffe weights; default: the prototxt's name with ``.caffemodel``.
        random_weights: seed for random weights, for a prototxt without trained ones.
        describe: detector description; default: ``NAME.detector.toml`` beside the model, if it exists.
        mean: pixel mean, one value or one per channel in the order of ``colour``; overrides the description.
        scale: factor applied after the mean is subtracted, in the same form.
        colour: channel order the network expects.

    Raises:
        ModelError: the suffix is unknown, or the importer or the description raises it.
    """
    from deploycc.importers.described_detector import describe_results
    from deploycc.importers.description import Description, find_description, read_description

    _silence_graphsurgeon()
    model = Path(path)
    file = describe or find_description(model)
    description = read_description(file) if file else Description()
    overrides = {"mean": mean, "scale": scale, "colour": colour}
    overrides = {key: value for key, value in overrides.items() if value is not None}
    description = description.model_copy(update={"input": description.input.model_copy(update=overrides)})
    detector = _read(model, weights, random_weights, description)
    if file is not None:
        detector = describe_results(detector, description)
    return detector


def _read(model: Path, weights: Path | None, random_weights: int | None, description: Description) -> Detector:
    suffix = model.suffix.lower()
    if suffix in ONNX:
        from deploycc.importers import onnx_file

        if weights is not None or random_weights is not None:
            parameter = "weights" if weights is not None else "random_weights"
            raise ModelError(
                "onnx-has-weights",
                f"`{parameter}` is for Caffe; {model.name} holds its own weights",
                context={"file": model},
            )
        return onnx_file.load(model, description)
    if suffix in CAFFE:
        return _read_caffe(model, weights, random_weights, description)
    if model.is_dir():
        raise ModelError(
            "model-is-a-folder",
            f"{model} is a folder without a compiled network",
            context={"file": model},
            hint="give the model's own file",
        )
    close = difflib.get_close_matches(suffix, (*ONNX, *CAFFE), n=1)
    raise ModelError(
        "unknown-format",
        f"the suffix of {model.name} is not supported",
        context={"file": model},
        note=f"supported: {', '.join((*CAFFE, *ONNX))}",
        hint=f"did you mean {model.stem}{close[0]}?" if close else None,
    )


def _read_caffe(model: Path, weights: Path | None, random_weights: int | None, description: Description) -> Detector:
    from deploycc.importers import caffe
    from deploycc.importers.described_detector import describe_known_heads

    picture = description.input
    detector = caffe.load(
        model, weights, random_weights=random_weights, mean=picture.mean, scale=picture.scale, colour=picture.colour
    )
    return describe_known_heads(detector, description)


def _silence_graphsurgeon() -> None:
    """Stop its logger from printing to stdout, and the ONNX Runtime sessions that it opens from printing to stderr.

    Standard output carries only what programs may parse; what its sessions refuse stays unfolded.
    """
    import onnx_graphsurgeon as gs
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)
    gs.logger.G_LOGGER.severity = gs.logger.G_LOGGER.ERROR
