"""The first pictures of an engine: it must find in them what the FP32 network finds.

Builders can write engines that answer with zeros or NaN and say nothing: FP16 engines of TensorRT 8.2.1 on a TX2 were
reported to detect nothing. A folder ships a few pictures and what the FP32 network computed of them
(``smoke`` in ``contract.json``); an engine that fails is not put in its place.
"""

from typing import Any, Callable, Dict, List, Optional

from . import contract_file, decoding
from .outcome import Failed, NotPossible
from .progress import say

_MATCH_IOU = 0.5
_MATCHED_SHARE = 0.5
_MOST_DIFFERENCE = {"fp32": 0.02, "fp16": 0.25}  # root mean square over that of the reference: grossly wrong is above
_HINT = "build it in FP32, or keep layers in FP32: deploycc compile --keep-fp32 LAYER,..."


def check(
    plan: "Dict[str, Any]",
    network: "Dict[str, Any]",
    folder: str,
    answering: "Callable[[], Any]",
) -> "Optional[Dict[str, Any]]":
    """Run an engine on the pictures of its folder; returns what ``build.json`` says of it.

    Args:
        plan: the plan.
        network: the plan's, that the engine was built from.
        folder: of the plan.
        answering: returns a context manager; entered, it is a function from an input tensor to outputs by name.

    Returns:
        None where the folder has no such pictures.

    Raises:
        Failed: the engine does not find what it should, or what the folder ships cannot be used.
    """
    contract = contract_file.read_contract(folder)
    if contract is None:
        return None
    described = contract_file.network_of(contract, network)
    if described is None or described["smoke"] is None:
        return None
    try:
        import numpy
    except ImportError:
        return _not_run("Python has no NumPy here")
    smoke = described["smoke"]
    pictures = contract_file.array_of(contract, folder, smoke["pictures"], (None, None, None, 3), "u")
    expected = sum(len(found) for found in smoke["detections"])
    tables = contract_file.tables_of(contract, described, folder)
    say("run {} pictures that came with the folder".format(len(pictures)))
    try:
        with answering() as answer:
            outputs = [answer(decoding.prepare(contract["input"], picture)) for picture in pictures]
    except NotPossible as error:
        return _not_run(error.reason)
    for found in outputs:
        check_finite(described, found)
    difference = _difference(numpy, contract, folder, smoke, outputs)
    detections = [_likely(contract_file.detections(contract, described, tables, found), smoke) for found in outputs]
    detected = sum(len(scores) for _, scores, _ in detections)
    if expected and not detected:
        raise Failed(
            "the engine detects nothing in {} pictures in which the FP32 network detects {} objects".format(
                len(pictures), expected
            ),
            hint=_HINT,
        )
    limit = _MOST_DIFFERENCE[network["precision"]]
    if difference is not None and difference[0] > limit:
        raise Failed(
            "the engine's output {} differs from the FP32 network's by {:.0%}; more than {:.0%} is wrong".format(
                difference[1], difference[0], limit
            ),
            hint=_HINT,
        )
    matched = sum(map(_matched, smoke["detections"], detections))
    if matched < _MATCHED_SHARE * expected:
        raise Failed(
            "the engine finds {} of the {} objects that the FP32 network detects".format(matched, expected), hint=_HINT
        )
    return {
        "status": "passed",
        "reason": None,
        "pictures": len(pictures),
        "expected": expected,
        "detected": detected,
        "matched": matched,
        "largest_difference": None if difference is None else difference[0],
    }


def _not_run(reason: str) -> "Dict[str, Any]":
    say("the pictures that came with the folder are not run: " + reason)
    empty = {"pictures": 0, "expected": 0, "detected": 0, "matched": 0, "largest_difference": None}
    return dict(empty, status="not-run", reason=reason)


def check_finite(described: "Dict[str, Any]", outputs: "Dict[str, Any]") -> None:
    """Refuse raw heads with NaN or infinity: they give no detections, as if there were nothing to see.

    Args:
        described: the network, as the contract says.
        outputs: of its engine for one picture, by name.

    Raises:
        Failed: an output is not finite.
    """
    import numpy

    for name, values in sorted(outputs.items()) if described["decoding"] == "host" else ():
        if not numpy.isfinite(numpy.asarray(values, numpy.float64)).all():  # plugins leave rows that they do not fill
            raise Failed("the engine answers with NaN or infinity in {}".format(name), hint=_HINT)


def inputs(folder: str) -> "List[str]":
    """Return the names of the files in a folder that `check` reads; none where it has no contract.

    Raises:
        Failed: the contract cannot be used, or was changed.
    """
    contract = contract_file.read_contract(folder)
    if contract is None:
        return []
    names = {contract_file.FILE_NAME}
    for network in contract["networks"]:
        if network["smoke"] is not None:
            names |= {network["smoke"]["pictures"], *network["smoke"]["outputs"].values()}
        if network["heads"] is not None:
            names |= {network["heads"]["priors"], network["heads"]["variances"]}
    return sorted(names)


def _difference(
    numpy: "Any", contract: "Dict[str, Any]", folder: str, smoke: "Dict[str, Any]", outputs: "Any"
) -> "Any":
    """Return the largest relative difference of raw outputs and its output; None where none are shipped."""
    worst = None
    for name, file in sorted(smoke["outputs"].items()):
        got = numpy.stack([numpy.asarray(found[name], numpy.float64).reshape(-1) for found in outputs])
        reference = contract_file.array_of(contract, folder, file, got.shape, "f").astype(numpy.float64)
        scale = numpy.sqrt(numpy.mean(reference**2))
        share = float(numpy.sqrt(numpy.mean((got - reference) ** 2)) / max(scale, 1e-30))
        if worst is None or share > worst[0]:
            worst = share, name
    return worst


def _likely(found: "Any", smoke: "Dict[str, Any]") -> "Any":
    boxes, scores, classes = found
    kept = scores >= smoke["score_threshold"]
    return boxes[kept], scores[kept], classes[kept]


def _matched(expected: "Any", found: "Any") -> int:
    """How many of the expected detections (class, score, four corners) overlap one of their class."""
    boxes, _, classes = found
    free, count = list(range(len(boxes))), 0
    for row in expected:
        near = [i for i in free if classes[i] == row[0] and _iou(boxes[i], row[2:]) >= _MATCH_IOU]
        if near:
            free.remove(near[0])
            count += 1
    return count


def _iou(one: "Any", other: "Any") -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return float(width * height / (sum(areas) - width * height))
