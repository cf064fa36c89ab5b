"""Building and measuring with NVIDIA's programs: the command lines, and the files that trtexec exports."""

import os
import re
from typing import Any, Dict, List, Optional

from . import (
    environment,
    fields,
    files,
    gpu,
    layer_information,
    plan_file,
    programs,
    stack,
    time_engine,
    timing,
    timing_cache,
    trtexec_commands,
)
from .outcome import Failed, NotPossible
from .picture import make_input, make_inputs


class Board:
    """The program that a plan's engines are built with, and what is known of the machine it is on.

    Attributes:
        name: of the program.
        version: TensorRT's release as numbers, read from trtexec or from the installed package.
    """

    def __init__(
        self, plan: "Dict[str, Any]", scratch: str, program: "Optional[str]", like: "Optional[Board]" = None
    ) -> None:
        """Find the program and its release.

        Args:
            plan: the plan.
            scratch: an empty folder, which the program runs in.
            program: where the user says that it is; None: look for it.
            like: one for the same program, which knows its release: asking for it starts the program.

        Raises:
            NotPossible: it is not here, or TensorRT or the GPU is another one than the plan's.
            Failed: nothing tells the release.
        """
        self._plan = plan
        self._board = plan["target"]
        self._scratch = scratch
        self.name = self._builder = self._board["builder"]
        self._program = programs.find(self._builder, program)
        self._is_trtexec = self._builder == "trtexec"
        self._layers = []  # type: List[Dict[str, Any]]
        self._found = like._found if like is not None else self._release()  # type: Optional[str]
        stack.check_version(self._board["runtime_version"], self._found)
        stack.check_gpu(self._board, gpu.devices())
        self.version = stack.numbers(self._found or self._board["runtime_version"])
        if self._is_trtexec and self.version is None:
            raise Failed(
                "neither trtexec, nor an installed package, nor the plan tells TensorRT's release",
                hint="give runtime_version in the target's file and compile again",
            )

    def _release(self) -> "Optional[str]":
        """TensorRT's release as the program or an installed package tells it; None where nothing does."""
        read = programs.read_release(self._program, self._scratch) if self._is_trtexec else None
        return ".".join(map(str, read)) if read else environment.tensorrt_library()

    def build(self, network: "Dict[str, Any]", paths: "Dict[str, str]") -> "Dict[str, Any]":
        """Build an engine.

        Args:
            network: of the plan.
            paths: of its files.

        Returns:
            ``path`` of the engine, and fields of the row in ``build.json``.

        Raises:
            NotPossible: trtexec found another GPU than the plan's.
            Failed: the program cannot be told what the network needs, or fails.
        """
        if self._is_trtexec:
            arguments = trtexec_commands.build_arguments(self.version, self._board, network, paths)
            cached = timing_cache.place(self.version, self._driver_capability() or self._board["compute_capability"])
            timing_cache.take(cached, self._file(trtexec_commands.TIMING_CACHE))
            log = self._run(arguments, {})
            timing_cache.keep(self._file(trtexec_commands.TIMING_CACHE), cached)
            if log.engine_does_not_load():
                raise Failed("trtexec does not load what it built: " + log.cause(), log.node())
        else:
            arguments = trtexec_commands.tensorrt_optimization_arguments(network, paths)
            log = self._run(arguments, trtexec_commands.tensorrt_optimization_environment(self._board))
        facts = {"path": self._file(trtexec_commands.ENGINE), "layers": []}  # type: Dict[str, Any]
        facts.update(self._seen(log))
        return facts

    def time(
        self,
        network: "Dict[str, Any]",
        built: "Dict[str, Any]",
        engine_path: str,
        input_file: "Optional[str]",
    ) -> "Dict[str, Any]":
        """Time an engine.

        Args:
            network: that it was built from.
            built: its row in ``build.json``.
            engine_path: the engine.
            input_file: the picture tensor; None: seeded random values.

        Returns:
            the fields of `timing.Stopwatch.result`, what ran, and as ``reason`` what differs from the plan.

        Raises:
            NotPossible: the program found another GPU than the plan's, or cannot be made here.
            Failed: the engine was built elsewhere, trtexec fails, or its files are not as documented.
        """
        stack.check_built_here(built, self._found, self._driver_capability())
        if not self._is_trtexec:
            return self._time_by_compiled_program(engine_path, make_input(self._plan, network["input"], input_file))
        measure = trtexec_commands.measure_arguments(self.version, self._plan, network, engine_path)
        self._write_inputs(network, make_inputs(self._plan, network, input_file))
        log = self._run(measure, {})
        result = read_times(
            files.read_json(self._file(trtexec_commands.TIMES)),
            self._plan["measurement"]["warmup_s"] * 1e3,
            trtexec_commands.warmup_in_times(self.version),
        )
        seen = self._seen(log)
        result["reason"] = seen["reason"]
        result["device"] = log.device or self._device()
        result["runtime_version"] = seen["builder_version"]
        return result

    def answer(self, network: "Dict[str, Any]", engine_path: str, given: "Dict[str, Any]") -> "Dict[str, Any]":
        """Run an engine on inputs, arrays of NumPy's by name, and return its outputs by name.

        What goes wrong in between says nothing about the engine: it was loaded when it was built.

        Raises:
            NotPossible: the program writes no outputs, does not end well, or cannot be made here.
            Failed: the engine answers with NaN or infinity.
        """
        if not self._is_trtexec:
            variables = trtexec_commands.tensorrt_optimization_environment(self._board)
            try:
                return time_engine.answer(engine_path, given[network["input"]["name"]], variables, self._scratch)
            except Failed as error:
                raise NotPossible("nothing showed what the engine answers: " + error.reason) from error
        path = self._file(trtexec_commands.OUTPUT)
        files.remove(path)
        self._write_inputs(network, given)
        try:
            self._run(trtexec_commands.answer_arguments(self.version, self._plan, network, engine_path), {})
            if os.path.isfile(path) and has_no_numbers(path):
                raise NotFinite("the engine answers with NaN or infinity")
            return read_outputs(files.read_json(path))
        except NotFinite:
            raise
        except Failed as error:
            raise NotPossible("trtexec did not show what the engine answers: " + error.reason) from error

    def profile(self, network: "Dict[str, Any]", engine_path: str) -> "Dict[str, Any]":
        """Time the layers of an engine that was timed before; the ``remark`` is None, or says what the times are.

        Raises:
            Failed: trtexec fails, or its files are not as documented.
        """
        if not self._is_trtexec:
            return {"layers": self._layers, "remark": "layer times are means"}
        information = self._file(trtexec_commands.LAYER_INFORMATION)
        files.remove(information)
        self._run(trtexec_commands.profile_arguments(self.version, self._plan, network, engine_path), {})
        layers, means = read_profile(files.read_json(self._file(trtexec_commands.PROFILE)))
        nodes = layer_information.read_nodes(information)
        for layer in layers:
            if layer["name"] in nodes:
                layer["nodes"] = nodes[layer["name"]]
        remark = "layer times are means: trtexec before TensorRT 8.4 exports no medians" if means else None
        return {"layers": layers, "remark": remark}

    def _time_by_compiled_program(self, engine_path: str, picture: "Any") -> "Dict[str, Any]":
        """Time an engine that ``tensorRT_optimization`` built, which itself keeps no samples."""
        variables = trtexec_commands.tensorrt_optimization_environment(self._board)
        result = time_engine.measure(engine_path, picture, self._plan["measurement"], variables, self._scratch)
        version, capability, self._layers = (result.pop(name) for name in ("version", "capability", "layers"))
        stack.check_gpu(self._board, [{"name": result["device"], "compute_capability": capability}], logged=True)
        result["runtime_version"] = version
        result["reason"] = time_engine.UNCONFIRMED.format(version)
        return result

    def _write_inputs(self, network: "Dict[str, Any]", given: "Dict[str, Any]") -> None:
        for number, tensor in enumerate(plan_file.inputs_of(network)):
            with open(self._file(trtexec_commands.input_file(number)), "wb") as file:
                file.write(given[tensor["name"]].tobytes())

    def _run(self, arguments: "List[str]", variables: "Dict[str, str]") -> "Any":
        return programs.run([self._program, *arguments], self._scratch, variables)

    def _file(self, name: str) -> str:
        return os.path.join(self._scratch, name)

    def _device(self) -> str:
        ordinal = self._board["cuda_device"] or 0
        found = gpu.devices()
        return str(found[ordinal]["name"]) if ordinal < len(found) else "GPU"

    def _seen(self, log: "Any") -> "Dict[str, Any]":
        """Return release and GPU as the program or the driver tells them, and what differs from the plan.

        Raises:
            NotPossible: the GPU is another one than the plan's.
        """
        capability = log.compute_capability
        if capability is not None:
            stack.check_gpu(self._board, [{"name": log.device or "GPU", "compute_capability": capability}], logged=True)
        version, planned = self._found, self._board["runtime_version"]
        if log.version is not None:
            version = ".".join(map(str, log.version))
        remark = None
        if version is None:
            remark = "nothing on this board tells TensorRT's release; the plan is for {}".format(planned)
        elif planned is not None and stack.numbers(version)[:3] != stack.numbers(planned)[:3]:
            remark = "this board has TensorRT {}, and the plan names {}".format(version, planned)
        return {
            "builder_version": version or planned,
            "compute_capability": capability or self._driver_capability() or self._board["compute_capability"],
            "reason": remark,
        }

    def _driver_capability(self) -> "Optional[str]":
        ordinal = self._board["cuda_device"] or 0
        found = gpu.devices()
        return str(found[ordinal]["compute_capability"]) if ordinal < len(found) else None


def read_times(records: "Any", warmup_ms: float, warmup_included: bool) -> "Dict[str, Any]":
    """Turn trtexec's ``--exportTimes`` into samples.

    Args:
        records: one object per query. Copies are called ``in`` and ``out`` up to TensorRT 7.2, later ``h2d`` and
            ``d2h``.
        warmup_ms: how long the warm-up lasted.
        warmup_included: the records hold the warm-up; those whose computation starts within it are dropped, as
            trtexec's own report does.

    Returns:
        the fields of `timing.Stopwatch.result`. A sample is copy in, computation and copy out.

    Raises:
        Failed: fields are missing or are not times, or nothing is left.
    """
    kept, dropped = [], 0
    try:
        for record in _objects(records):
            if warmup_included and _milliseconds(record, "startComputeMs") < warmup_ms:
                dropped += 1
                continue
            start = _milliseconds(record, "startH2dMs", "startInMs")
            latency = (
                _milliseconds(record, "h2dMs", "inMs")
                + _milliseconds(record, "computeMs")
                + _milliseconds(record, "d2hMs", "outMs")
            )
            if latency <= 0:
                raise fields.Wrong("latency", "must be above 0")
            kept.append((start, _milliseconds(record, "endD2hMs", "endOutMs"), latency))
    except fields.Wrong as error:
        raise Failed("trtexec's times are not as documented: {}".format(error)) from error
    if not kept:
        raise Failed("trtexec's times hold no query after the warm-up of {:g} ms".format(warmup_ms))
    first = kept[0][0]
    if any(start < first for start, _, _ in kept) or kept[-1][1] < first:
        raise Failed("trtexec's times are not as documented: queries are not in order")
    return {
        "samples_ms": [latency for _, _, latency in kept],
        "start_offsets_s": [(start - first) / 1e3 for start, _, _ in kept],
        "blocks": [len(kept)],
        "duration_s": (kept[-1][1] - first) / 1e3,
        "warmup_samples": dropped,
        "warmup_s": warmup_ms / 1e3,
    }


class NotFinite(Failed):
    """An engine answers with what is not a number."""


_NOT_A_NUMBER = re.compile(rb"[\[,:\s]-?(nan|inf)", re.IGNORECASE)


def has_no_numbers(path: str) -> bool:
    """Whether a file of outputs, as C++ prints numbers, holds a NaN or an infinity, which JSON has no word for."""
    with open(path, "rb") as file:
        text = file.read()
    return _NOT_A_NUMBER.search(text[text.find(b"values") :] if b"values" in text else b"") is not None


def read_outputs(records: "Any") -> "Dict[str, Any]":
    """Turn trtexec's ``--exportOutput`` into arrays by name: one object per tensor, values in one list.

    Raises:
        Failed: fields are missing, or values are not numbers.
    """
    import numpy

    outputs = {}
    try:
        for record in _objects(records):
            if "name" in record and "values" in record:
                name = fields.text(most=1 << 16)(record["name"], "name")
                outputs[name] = numpy.array(record["values"], numpy.float32).reshape(-1)
    except (fields.Wrong, ValueError, TypeError) as error:
        raise Failed("trtexec's outputs are not as documented: {}".format(error)) from error
    return outputs


_LASTS_MS = fields.number(0.0, 1e9)
_AT_MS = fields.number(-1e12, 1e12)  # counted from whenever trtexec likes


def _objects(records: "Any") -> "List[Dict[str, Any]]":
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise fields.Wrong("", "must be a list of objects")
    return records


def _milliseconds(record: "Dict[str, Any]", name: str, older_name: str = "") -> float:
    if name not in record and older_name in record:
        name = older_name
    check = _AT_MS if name.startswith(("start", "end")) else _LASTS_MS
    return float(check(record.get(name), name))


def read_profile(records: "Any") -> "Any":
    """Turn trtexec's ``--exportProfile`` into layers; second, whether they are means (no ``medianMs`` before 8.4).

    Raises:
        Failed: fields are missing or are not times.
    """
    layers, means = [], False
    try:
        for record in _objects(records):
            if "name" not in record:  # the first element is {"count": N}
                continue
            means = means or "medianMs" not in record
            name = fields.text(most=1 << 16)(record["name"], "name")
            layers.append({"name": name, "op": "", "median_ms": _milliseconds(record, "medianMs", "averageMs")})
    except fields.Wrong as error:
        raise Failed("trtexec's layer times are not as documented: {}".format(error)) from error
    return timing.with_shares(layers), means
