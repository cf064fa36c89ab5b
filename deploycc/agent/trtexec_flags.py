"""Which TensorRT release's trtexec knows which flag; only flags that the agent uses.

Source: samples/common/sampleOptions.cpp on the release branches of github.com/NVIDIA/TensorRT: 6.0, 7.0, 7.1, 7.2, 8.0,
8.2, 8.4, 8.5, 8.6, 9.3, 10.0, 10.3, 10.7, 10.13, 10.16, 11.0 and 11.1.
"""

from typing import Any

RELEASES = {
    "--onnx": ((6, 0), None),
    "--deploy": ((6, 0), (8, 6)),
    "--model": ((6, 0), (8, 6)),
    "--output": ((6, 0), (8, 6)),
    "--batch": ((6, 0), (8, 6)),
    "--saveEngine": ((6, 0), None),
    "--loadEngine": ((6, 0), None),
    "--device": ((6, 0), None),
    "--explicitBatch": ((6, 0), (9, 3)),
    "--buildOnly": ((6, 0), (9, 3)),
    "--skipInference": ((8, 6), None),
    "--workspace": ((6, 0), (9, 3)),
    "--memPoolSize": ((8, 4), None),
    "--fp16": ((6, 0), (10, 16)),
    "--noTF32": ((7, 1), None),
    "--stronglyTyped": ((9, 3), None),
    "--precisionConstraints": ((8, 2), (10, 16)),
    "--layerPrecisions": ((8, 4), (10, 16)),
    "--profilingVerbosity": ((8, 2), None),
    "--iterations": ((6, 0), None),
    "--avgRuns": ((6, 0), None),
    "--duration": ((6, 0), None),
    "--warmUp": ((6, 0), None),
    "--exportTimes": ((6, 0), None),
    "--exportOutput": ((6, 0), None),
    "--exportProfile": ((6, 0), None),
    "--dumpProfile": ((6, 0), None),
    "--exportLayerInfo": ((8, 2), None),
    "--exposeDMA": ((7, 0), None),
    "--useSpinWait": ((6, 0), None),
    "--includeDataTransfers": ((11, 0), None),
    "--noCudaGraph": ((11, 0), None),
    "--timingCacheFile": ((8, 0), None),
    "--shapes": ((6, 0), None),
    "--loadInputs": ((6, 0), None),
}  # flag -> first and last release; the last is None where the newest of them still has the flag


def knows(version: "Any", flag: str) -> bool:
    """Whether the trtexec of a release, such as ``(8, 2)``, knows a flag (``--onnx``)."""
    first, last = RELEASES[flag]
    return bool(version[:2] >= first and (last is None or version[:2] <= last))
