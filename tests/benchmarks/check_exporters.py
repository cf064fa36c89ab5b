"""Do files as exporters write them come through without a description, with the detections of the original program?

    python tests/benchmarks/check_exporters.py [--only TEXT] [--keep FOLDER]

Needs torch, torchvision and onnxscript (the newer exporter) beside this package; weights are seeded, nothing is
downloaded. Prints a line per file: what was recognised, how many detections of three pictures differ from the program
that was exported (in PyTorch; TensorFlow's style in ONNX Runtime), and which targets accept the network. Exits 1 if
any file is not recognised or any detection differs. torchvision's whole SSD cannot be exported by the newer exporter:
``torch.export`` refuses its suppression, whose number of boxes depends on the picture.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

try:
    import exported_detectors as programs
    import torch
except ImportError as reason:
    sys.exit(f"needs torch, torchvision and onnxscript: {reason}")
from exported_detectors import Found, Picture, Raw

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "helpers"))
from real_models import ASSETS

import deploycc
from deploycc import target as shipped
from deploycc.detector import Detector
from deploycc.detector.pictures import find_pictures, read_picture, resize
from deploycc.evaluation.detect import OnnxRuntimeDetector
from deploycc.evaluation.nms import suppress
from deploycc.scenes.scene import draw_scene
from deploycc.workflows.inspect import inspect_detector

BOXES = 1e-4  # of the picture: how far a box may lie from the program's
SCORES = 1e-4


@dataclass(frozen=True)
class Case:
    """One exported file.

    Attributes:
        name: what it is.
        size: side of the picture.
        write: writes the file.
        program: what the program finds in a picture of that size.
        labels: added to our class numbers to get the program's.
    """

    name: str
    size: int
    write: Callable[[Path], None]
    program: Callable[[Path, Picture], Found | Raw]
    labels: int = 0


def tensor(picture: Picture) -> torch.Tensor:
    """The picture as [1, 3, H, W], 0..1."""
    return torch.from_numpy(picture.transpose(2, 0, 1)[None].astype(np.float32) / np.float32(255))


def cases() -> list[Case]:
    """Every file, fast ones first."""
    found = []
    for style, make in (("mmdetection", programs.MmdetectionStyle), ("RetinaFace", programs.RetinaFaceStyle)):
        for dynamo in (False, True) if style == "RetinaFace" else (False,):
            found.append(_styled(style, cache(make), dynamo))
    found.append(Case("TensorFlow style, tf2onnx", 96, programs.tensorflow_style, _tensorflow))
    for name, size in (("ssdlite320_mobilenet_v3_large", 320), ("ssd300_vgg16", 300)):
        made = cache(lambda name=name: programs.torchvision_ssd(name))
        for whole, dynamo in ((False, False), (False, True), (True, False)):
            found.append(_torchvision(name, size, made, whole, dynamo))
    return found


def _styled(style: str, make: Callable[[], torch.nn.Module], dynamo: bool) -> Case:
    def write(path: Path) -> None:
        programs.export(make().eval(), 96, path, dynamo=dynamo)

    def program(path: Path, picture: Picture) -> Found | Raw:
        with torch.no_grad():
            first, second, *_ = (value.numpy() for value in make()((tensor(picture) - 0.5) / 0.5))
        if style == "RetinaFace":
            return first[0], second[0]
        return first[:, :4] / 96, first[:, 4], second

    return Case(f"{style} style, {_exporter(dynamo)}", 96, write, program)


def _torchvision(name: str, size: int, made: Callable[[], torch.nn.Module], whole: bool, dynamo: bool) -> Case:
    def wrapped() -> torch.nn.Module:
        return programs.Whole(made()) if whole else programs.WithoutTransform(made())

    def write(path: Path) -> None:
        programs.export(wrapped(), size, path, dynamo=dynamo)

    def program(path: Path, picture: Picture) -> Found | Raw:
        with torch.no_grad():
            if not whole:
                boxes, scores = wrapped()((tensor(picture) - 0.5) / 0.5)
                return boxes[0].numpy() / size, scores[0].numpy()
            boxes, labels, scores = wrapped()(tensor(picture))
        return boxes.numpy() / size, scores.numpy(), labels.numpy()

    return Case(f"{name}, {'whole' if whole else 'no transform'}, {_exporter(dynamo)}", size, write, program)


def _exporter(dynamo: bool) -> str:
    return "dynamo" if dynamo else "TorchScript"


def _tensorflow(path: Path, picture: Picture) -> Found | Raw:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    boxes, scores, labels = session.run(None, {"pixels": picture[None]})
    return boxes[:, [1, 0, 3, 2]], scores, labels.astype(np.int64)


def differing(case: Case, path: Path, detector: Detector, pictures: list[Picture]) -> tuple[int, int]:
    """How many detections the program gives, and how many have no equal on the other side."""
    compiled = OnnxRuntimeDetector(detector)
    given = different = 0
    for picture in pictures:
        small = resize(picture, case.size, case.size)
        theirs, ours = case.program(path, small), compiled.detect(small)
        if len(theirs) == 2:
            assert detector.heads is not None
            kept = suppress(*theirs, detector.nms, detector.heads.background)
            theirs = kept.boxes, kept.scores, kept.classes
        mine = ours.boxes, ours.scores, ours.classes + case.labels
        if np.ptp(theirs[1]) < SCORES:
            raise SystemExit(f"{case.name}: the program scores everything alike, so this would show nothing")
        given += len(theirs[1])
        different += unmatched(mine, theirs) + unmatched(theirs, mine)
    return given, different


def unmatched(first: Found, second: Found) -> int:
    """How many detections of the first have no equal among the second."""
    count = 0
    for box, score, label in zip(*first, strict=True):
        equal = (second[2] == label) & (np.abs(second[1] - score) <= SCORES)
        count += not (equal & (np.abs(second[0] - box).max(axis=1, initial=0) <= BOXES)).any()
    return count


def show(case: Case, folder: Path, pictures: list[Picture]) -> bool:
    """Print the line of one file; whether all is well."""
    path = folder / f"{case.name.replace(', ', '-').replace(' ', '_')}.onnx"
    start = time.perf_counter()
    if not path.exists():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            case.write(path.with_suffix(".partial"))
        path.with_suffix(".partial").replace(path)
    written = time.perf_counter()
    detector = deploycc.load(path)
    if detector.heads is None:
        print(f"{case.name:55} not recognised")
        for note in detector.notes:
            print(f"    {note.node}: {note.reason}")
        return False
    given, different = differing(case, path, detector, pictures)
    targets = [shipped.load(name) for name in shipped.names()]
    refused = {answer.target.name: len(answer.refused) for answer in inspect_detector(detector, targets).targets}
    accepts = [name for name, count in refused.items() if not count]
    extra = f", {', '.join(detector.extra_outputs)} kept" if detector.extra_outputs else ""
    print(
        f"{case.name:55} {len(detector.heads.priors):5} priors{extra}; {different} of {given} detections differ; "
        f"{len(accepts)} of {len(refused)} targets accept it; "
        f"exported in {written - start:.0f} s, checked in {time.perf_counter() - written:.0f} s"
    )
    for name, count in refused.items():
        if count:
            print(f"    {name} refuses {count} nodes")
    return different == 0 and given > 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="TEXT", help="only files whose name holds this")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the files, and use those that are there")
    options = parser.parse_args()
    if (ASSETS / "test_images").is_dir():
        pictures = [read_picture(path) for path in find_pictures(ASSETS / "test_images")[:3]]
    else:
        pictures = [draw_scene(3, index, 320).pixels for index in range(3)]
    chosen = [case for case in cases() if options.only in case.name]
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        results = [show(case, folder, pictures) for case in chosen]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
