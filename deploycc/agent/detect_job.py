"""What engines detect in pictures, on the machine that runs them."""

import os
import tempfile
from typing import Any, Dict, List, Optional

from . import answers, bench_job, contract_file, decoding, files, plan_file, run_trtexec, smoke, steady
from .outcome import Failed, NotPossible, fields_of
from .progress import say
from .scratch import Scratch

FILE_NAME = "engine-detections.json"
SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png")
_SAY_EVERY_S = 5.0
_HINT = "bring them as one .npy file: uint8 [N, height, width, 3], red first"


def detect(
    plan_path: str, source: str, only: "Optional[str]" = None, program: "Optional[str]" = None
) -> "List[Dict[str, Any]]":
    """Run the engines of a plan on pictures, in this process.

    Args:
        plan_path: the plan; contract, engines and ``build.json`` lie beside it.
        source: a folder of pictures, where Python has Pillow or OpenCV, or a .npy file.
        only: a precision; None: every engine.
        program: path of trtexec; None: look for it.

    Returns:
        One element of ``runs`` in ``engine-detections.json`` per engine of the compiled network.

    Raises:
        Failed: the plan, the contract or the pictures cannot be used.
    """
    plan = plan_file.read_plan(plan_path)
    folder = os.path.dirname(os.path.abspath(plan_path))
    contract = contract_file.read_contract(folder)
    if contract is None:
        raise Failed("there is no {} beside the plan".format(contract_file.FILE_NAME), hint="compile again")
    engines = [each for each in plan["engines"] if only in (None, each["precision"]) and each["variant"] == "compiled"]
    if not engines:
        raise Failed("the plan has no {} engine".format(only))
    pictures = _pictures(source)
    return [_detect_with(plan, folder, contract, engine, pictures, program) for engine in engines]


def _detect_with(
    plan: "Dict[str, Any]",
    folder: str,
    contract: "Dict[str, Any]",
    engine: "Dict[str, Any]",
    pictures: "Any",
    program: "Optional[str]",
) -> "Dict[str, Any]":
    row = {
        "precision": engine["precision"],
        "variant": engine["variant"],
        "status": "detected",
        "reason": None,
        "hint": None,
        "engine_sha256": None,
        "pictures": [],
    }  # type: Dict[str, Any]
    network = plan_file.network_of(plan, engine)
    try:
        built = bench_job.check_engine(engine, folder)
        described = contract_file.network_of(contract, network)
        if described is None or described["decoding"] == "unknown":
            raise NotPossible("nothing says how the outputs of {} are read".format(engine["file"]))
        tables = contract_file.tables_of(contract, described, folder)
        paths = [files.inside(folder, part["file"]) for part in plan_file.engine_parts(engine)]
        with Scratch(tempfile.gettempdir()) as scratch:
            in_program = plan["target"]["builder"] in plan_file.PROGRAMS
            board = run_trtexec.Board(plan, scratch.path, program) if in_program else None
            if in_program:
                say("{}: {} pictures, with a program that starts anew for each".format(engine["file"], len(pictures)))
            said_s = steady.now()
            with answers.of(plan, network, paths, board)() as answer:
                for name, picture in pictures:
                    if steady.now() - said_s > _SAY_EVERY_S:
                        said_s = steady.now()
                        say("{}: {} of {} pictures".format(engine["file"], len(row["pictures"]), len(pictures)))
                    outputs = answer(decoding.prepare(contract["input"], picture))
                    smoke.check_finite(described, outputs)
                    found = contract_file.detections(contract, described, tables, outputs)
                    row["pictures"].append(_picture(name, picture, found))
        row["engine_sha256"] = built["sha256"]
    except (NotPossible, Failed) as error:
        row.update({key: value for key, value in fields_of(error).items() if key in row})
        row["pictures"] = []
        say("{}: {}".format(engine["file"], error.reason))
        return row
    total = sum(len(each["detections"]) for each in row["pictures"])
    say("{}: {} detections in {} pictures".format(engine["file"], total, len(row["pictures"])))
    return row


def _picture(name: str, picture: "Any", found: "Any") -> "Dict[str, Any]":
    import numpy

    boxes, scores, classes = found
    kept = [i for i in range(len(scores)) if numpy.isfinite(scores[i]) and numpy.isfinite(boxes[i]).all()]
    rows = [[int(classes[i]), float(scores[i])] + [float(value) for value in boxes[i]] for i in kept]
    return {"name": name, "width": int(picture.shape[1]), "height": int(picture.shape[0]), "detections": rows}


def _pictures(source: str) -> "Any":
    """Return (name, pixels) of each picture."""
    try:
        import numpy
    except ImportError as error:
        raise Failed("Python has no NumPy here, which the decoding needs") from error
    if os.path.isdir(source):
        names = sorted(name for name in os.listdir(source) if name.lower().endswith(SUFFIXES))
        if not names:
            raise Failed("there are no pictures in {}".format(source))
        read = _reader(numpy)
        return _Lazily([(name, os.path.join(source, name)) for name in names], read)
    try:
        stack = numpy.load(source, mmap_mode="r", allow_pickle=False)  # it may be larger than the memory
    except (OSError, ValueError) as error:
        raise Failed("cannot read the pictures {}: {}".format(source, error)) from error
    if stack.dtype != numpy.uint8 or stack.ndim != 4 or stack.shape[3] != 3:
        raise Failed("{} holds {} {}".format(source, stack.dtype, stack.shape), hint=_HINT)
    return [("{:04d}".format(number), stack[number]) for number in range(len(stack))]


class _Lazily:
    """Pictures that are read one at a time, as often as they are asked for."""

    def __init__(self, listed: "Any", read: "Any") -> None:
        self._listed = listed
        self._read = read

    def __len__(self) -> int:
        return len(self._listed)

    def __iter__(self) -> "Any":
        for name, path in self._listed:
            yield name, self._read(path)


def _reader(numpy: "Any") -> "Any":
    """Return a function from a path to pixels, upright, red first."""
    try:
        from PIL import Image, ImageOps
    except ImportError:
        return _opencv_reader()

    def read(path: str) -> "Any":
        try:
            with Image.open(path) as image:
                return numpy.asarray(ImageOps.exif_transpose(image).convert("RGB"))
        except (OSError, ValueError, SyntaxError) as error:
            raise Failed("cannot read the picture {}: {}".format(path, error)) from error

    return read


def _opencv_reader() -> "Any":
    try:
        import cv2
    except ImportError as error:
        raise Failed("Python has neither Pillow nor OpenCV here to read pictures", hint=_HINT) from error

    def read(path: str) -> "Any":
        picture = cv2.imread(path, cv2.IMREAD_COLOR)
        if picture is None:
            raise Failed("cannot read the picture {}".format(path))
        return picture[:, :, ::-1]

    return read
