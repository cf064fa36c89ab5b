"""Times and runs an engine where only TensorRT's C++ API is: by ``time_engine.cpp``, which the board compiles.

That is DRIVE PX 2, whose TensorRT has no Python API for its processor, and whose trtexec, where there is one, takes no
input and times no copies. Written from the API's documentation: no board has compiled or run it yet.
"""

import os
import pkgutil
import shutil
import subprocess
from typing import Any, BinaryIO, Dict, List

from . import fields, processes, programs, timing
from .outcome import Failed, NotPossible
from .progress import say

SOURCE = "time_engine.cpp"
UNCONFIRMED = "timed by a program that was compiled here against TensorRT {}; no board has confirmed that way yet"
_FLAGS = ["-std=c++11", "-O1"]
_CUDA = "/usr/local/cuda"  # where compilers do not look by themselves
_PLACES = [
    "-I" + _CUDA + "/include",
    "-I" + _CUDA + "/targets/aarch64-linux/include",
    "-L" + _CUDA + "/lib64",
    "-L" + _CUDA + "/targets/aarch64-linux/lib",
    "-Wl,-rpath," + _CUDA + "/lib64",
]
_LIBRARIES = ["-lnvinfer", "-lcudart"]
_LONGEST_MESSAGE = 1 << 16


def build_program(folder: str) -> str:
    """Compile the program into a folder, unless it is there, and return its path.

    Raises:
        NotPossible: there is no compiler, or it does not find TensorRT and CUDA.
    """
    source, program = os.path.join(folder, SOURCE), os.path.join(folder, "time_engine")
    if os.path.exists(program):
        return program
    compiler = shutil.which("g++") or shutil.which("c++")
    if compiler is None:
        raise NotPossible(
            "timing an engine of this TensorRT takes a C++ compiler, and this board has none", "apt-get install g++"
        )
    with open(source, "wb") as file:
        file.write(pkgutil.get_data(__package__, SOURCE) or b"")
    say("compile the timing program with {}".format(compiler))
    command = [compiler, *_FLAGS, source, "-o", program, *_PLACES, *_LIBRARIES]
    try:
        child = processes.Child(command, False, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    except OSError as error:
        raise NotPossible("{} does not start: {}".format(compiler, error.strerror)) from error
    try:
        text = b"".join(iter(lambda: child.stdout.read(_LONGEST_MESSAGE), b"")).decode("utf-8", "replace")
        code = child.wait()
    finally:
        child.end()
        child.stdout.close()
    if code != 0:
        for line in text.splitlines():
            say(line)
        errors = [line.strip() for line in text.splitlines() if "error" in line or "cannot find" in line]
        raise NotPossible(
            "the timing program does not compile here: {}".format((errors or text.splitlines() or ["no message"])[0]),
            "it needs NvInfer.h (libnvinfer-dev) and CUDA's headers under /usr/local/cuda",
        )
    return program


def measure(
    engine: str, picture: "Any", limits: "Dict[str, Any]", variables: "Dict[str, str]", folder: str
) -> "Dict[str, Any]":
    """Compile the program and time an engine with it.

    Args:
        engine: path of it.
        picture: the input, a NumPy array.
        limits: the plan's measurement.
        variables: that choose the GPU.
        folder: an empty one to work in.

    Returns:
        the fields of `timing.Stopwatch.result` and ``layers``; ``capability`` and ``device`` of the GPU; ``version`` of
        TensorRT.

    Raises:
        NotPossible: the program cannot be made here.
        Failed: the engine does not load or run, or the result is not as documented.
    """
    program = build_program(folder)
    data, result = os.path.join(folder, "input.raw"), os.path.join(folder, "result.txt")
    with open(data, "wb") as file:
        file.write(picture.tobytes())
    numbers = [repr(limits["warmup_s"]), repr(limits["min_duration_s"]), str(limits["min_samples"])]
    programs.run([program, engine, data, result, *numbers], folder, variables)
    with open(result, encoding="utf-8", errors="replace") as lines:
        return read_result([line.rstrip("\n").split("\t") for line in lines])


def answer(engine: str, tensor: "Any", variables: "Dict[str, str]", folder: str) -> "Dict[str, Any]":
    """Compile the program, run an engine on an input tensor with it and return the outputs by name.

    Args:
        engine: path of it.
        tensor: the input, a NumPy array.
        variables: that choose the GPU.
        folder: an empty one to work in.

    Raises:
        NotPossible: the program cannot be made here.
        Failed: the engine does not load or run, or what was written is not as documented.
    """
    program = build_program(folder)
    data, result = os.path.join(folder, "input.raw"), os.path.join(folder, "outputs.raw")
    with open(data, "wb") as file:
        file.write(tensor.tobytes())
    programs.run([program, engine, data, result], folder, variables)
    with open(result, "rb") as file:
        return read_outputs(file)


def read_outputs(file: "BinaryIO") -> "Dict[str, Any]":
    """Turn what the program wrote of an engine's answer into arrays of one dimension by name.

    Raises:
        Failed: it is not as documented.
    """
    import numpy

    outputs = {}
    for line in iter(lambda: file.readline(_LONGEST_MESSAGE), b""):
        parts = line.decode("utf-8", "replace").rstrip("\n").rsplit("\t", 2)
        if len(parts) != 3 or parts[1] not in _TYPES or not parts[2].isdigit():
            raise Failed("the timing program's outputs are not as documented")
        data = file.read(int(parts[2]))
        if len(data) != int(parts[2]) or len(data) % _TYPES[parts[1]]:
            raise Failed("the timing program's outputs are not as documented: {} is not whole".format(parts[0]))
        outputs[parts[0]] = numpy.frombuffer(data, parts[1])
    return outputs


_TYPES = {"float32": 4, "float16": 2, "int32": 4, "int8": 1}  # bytes of an element
_VERSION = fields.text(r"\d{1,3}\.\d{1,3}\.\d{1,3}")
_CAPABILITY = fields.text(r"\d{1,2}\.\d")


def read_result(rows: "List[List[str]]") -> "Dict[str, Any]":
    """Turn the program's lines, split at tabs, into what `measure` returns.

    Raises:
        Failed: they are not as documented.
    """
    starts, latencies = [], []  # type: List[int], List[int]
    layers = []  # type: List[Dict[str, Any]]
    facts = {}  # type: Dict[str, Any]
    try:
        for row in rows:
            kind = row[0]
            if kind == "tensorrt":
                facts["version"] = _VERSION(row[1], kind)
            elif kind == "device":
                facts["capability"], facts["device"] = _CAPABILITY(row[1], kind), fields.text(most=256)(row[2], kind)
            elif kind == "warmup":
                facts["warmup_samples"], facts["warmup_s"] = int(row[1]), int(row[2]) / 1e9
            elif kind == "sample":
                starts.append(int(row[1]))
                latencies.append(int(row[2]))
            elif kind == "layer":
                name = fields.text(most=1 << 16)("\t".join(row[2:]), kind)
                layers.append({"name": name, "op": "", "median_ms": max(0.0, float(row[1]))})
    except (IndexError, ValueError, fields.Wrong) as error:
        raise Failed("the timing program's result is not as documented: {}".format(error)) from error
    if len(facts) < 5 or not starts or min(latencies) <= 0 or starts != sorted(starts):
        raise Failed("the timing program's result is not as documented: it is not whole")
    facts.update(
        samples_ms=[latency / 1e6 for latency in latencies],
        start_offsets_s=[(start - starts[0]) / 1e9 for start in starts],
        blocks=[len(starts)],
        duration_s=(starts[-1] + latencies[-1] - starts[0]) / 1e9,
        layers=timing.with_shares(layers),
    )
    return facts
