"""Times an engine through TensorRT's or TensorRT-RTX's Python API and pycuda, copies of input and output included.

Tensors are named from TensorRT 8.5 on; before, they are bindings with an index. Written from the API's documentation;
no machine with a GPU has run it yet.
"""

import collections
from typing import Any, Callable, Dict, List, Optional

from . import gpu, layer_profiler, plan_file, row, stack
from .build_tensorrt import import_tensorrt
from .outcome import Failed, NotPossible
from .picture import make_inputs
from .trt_log import make_logger


class Runner:
    """Runs engines on one picture tensor, in one CUDA context that exists while this is entered."""

    def __init__(self, plan: "Dict[str, Any]", input_file: "Optional[str]") -> None:
        """Find the plan's GPU and the libraries.

        Raises:
            NotPossible: no GPU, or a library is missing.
        """
        self._plan = plan
        self._input_file = input_file
        board = plan["target"]
        found = gpu.devices()
        self._ordinal = board["cuda_device"] or 0
        if len(found) <= self._ordinal:
            raise NotPossible(
                "the engine runs on an NVIDIA GPU, and this machine has none"
                if not found
                else "this machine has no CUDA device {}".format(self._ordinal),
                "copy this folder to the target and run there: python3 agent.pyz bench plan.json",
            )
        stack.check_gpu(board, found)
        self._device = found[self._ordinal]["name"]
        self._trt = _runtime(board["runtime"])
        stack.check_version(board["runtime_version"], self._trt.__version__)
        try:
            import pycuda.driver as cuda
        except ImportError as error:
            raise NotPossible(
                "Python cannot import pycuda here: {}".format(error), "python3 -m pip install 'pycuda>=2024.1'"
            ) from error
        self._cuda = cuda
        self._context = None  # type: Any

    def __enter__(self) -> "Runner":
        """Make the context current."""
        self._cuda.init()
        self._context = self._cuda.Device(self._ordinal).make_context()
        return self

    def __exit__(self, *error: "Any") -> None:
        """Leave the context."""
        self._context.pop()

    def prepare(self, network: "Dict[str, Any]", engine: str) -> "Callable[[], None]":
        """Load an engine and return a function that runs one picture; the engine lives as long as the function.

        Raises:
            Failed: the engine does not load, or the input cannot be used; from the function: it does not run.
        """
        prepared = _prepare(self._trt, self._cuda, engine, self._picture(network))
        run_once = prepared[1]  # type: Callable[[], None]
        return run_once

    def prepare_row(self, network: "Dict[str, Any]", engines: "List[str]", tensors: "List[Any]") -> "Callable[[], int]":
        """Load engines in a row and return a function that runs the next picture and says which second one ran.

        Tensors that are handed over stay on the device; only the decision is copied to the host in between.

        Raises:
            Failed: as for `prepare`.
        """
        run = _prepare_row(self._trt, self._cuda, network, engines, tensors[0])
        return row.stream(run, tensors, network["row"]["shares"])

    def answer(self, network: "Dict[str, Any]", engine: str) -> "Callable[[Dict[str, Any]], Dict[str, Any]]":
        """Load an engine and return a function from inputs to copies of its outputs, by name.

        Raises:
            Failed: the engine does not load; from the function: it does not run.
        """
        import numpy

        empty = {
            tensor["name"]: numpy.zeros(tuple(tensor["shape"]), numpy.float32)
            for tensor in plan_file.inputs_of(network)
        }
        tensors, run_once = _prepare(self._trt, self._cuda, engine, empty)

        def run(given: "Dict[str, Any]") -> "Dict[str, Any]":
            for name, host in tensors.inputs:
                _fill(host, given[name])
            run_once()
            return {name: numpy.array(host) for name, host in tensors.outputs}

        return run

    def describe(self, network: "Dict[str, Any]", engine: str) -> "Dict[str, Any]":
        """Profile the layers of an engine in a context of its own; say what ran it."""
        described = {"layers": [], "device": self._device, "runtime_version": self._trt.__version__}  # type: Dict[str, Any]
        if hasattr(self._trt, "IProfiler"):
            try:
                with self:
                    described["layers"] = self._layers(network, engine)
            except Exception as error:  # pycuda's and TensorRT's share no class; samples count without layers too
                described["reason"] = "no layer times: {}".format(error or type(error).__name__)
        return described

    def _layers(self, network: "Dict[str, Any]", engine_path: str) -> "List[Dict[str, Any]]":
        profiler, nodes = layer_profiler.make_profiler(self._trt), {}  # type: Any, Dict[str, List[str]]

        def watch(engine: "Any", context: "Any") -> None:
            context.profiler = profiler
            nodes.update(layer_profiler.nodes_of(self._trt, engine))

        _, run_once = _prepare(self._trt, self._cuda, engine_path, self._picture(network), watch)
        return layer_profiler.layer_times(profiler, run_once, nodes)

    def _picture(self, network: "Dict[str, Any]") -> "Dict[str, Any]":
        return make_inputs(self._plan, network, self._input_file)


def _runtime(name: str) -> "Any":
    if name != "tensorrt-rtx":
        return import_tensorrt()
    try:
        import tensorrt_rtx
    except (ImportError, OSError) as error:
        raise NotPossible(
            "Python cannot import tensorrt_rtx here: {}".format(error),
            "python3 -m pip install tensorrt-rtx-cu12==1.7.1.116",
        ) from error
    return tensorrt_rtx


Tensors = collections.namedtuple("Tensors", "inputs outputs")  # host memory, each with its name
Placed = collections.namedtuple("Placed", "inputs enqueue outputs messages")
"""An engine whose tensors are placed: (name, device, host) of each, a function that enqueues it on a stream, and what
TensorRT says. Inputs that lie on the device already are not listed."""


def _prepare(
    trt: "Any",
    cuda: "Any",
    engine_path: str,
    given: "Dict[str, Any]",
    watch: "Callable[[Any, Any], None]" = lambda *_: None,
) -> "Any":
    """Load the engine and place its tensors; return them, and a function that runs one picture.

    ``given`` holds the inputs by name. ``watch`` is called with the engine and its context before anything runs.
    """
    stream = cuda.Stream()
    placed = _load(trt, cuda, engine_path, given, {}, watch)

    def run_once() -> None:
        for _, device, host in placed.inputs:
            cuda.memcpy_htod_async(device, host, stream)
        _enqueue(placed, stream)
        for _, device, host in placed.outputs:
            cuda.memcpy_dtoh_async(host, device, stream)
        stream.synchronize()

    inputs = [(name, host) for name, _, host in placed.inputs]
    return Tensors(inputs, [(name, host) for name, _, host in placed.outputs]), run_once


def _prepare_row(
    trt: "Any", cuda: "Any", network: "Dict[str, Any]", engine_paths: "List[str]", picture: "Any"
) -> "Callable[[Any], int]":
    """Load engines in a row; return a function that runs a picture and returns the number of the second one."""
    stream = cuda.Stream()
    first = _load(trt, cuda, engine_paths[0], {network["input"]["name"]: picture}, {})
    there = {name: (device, host) for name, device, host in [*first.inputs, *first.outputs]}
    second = [_load(trt, cuda, path, {}, there) for path in engine_paths[1:]]
    decisions = [(device, host) for name, device, host in first.outputs if name == network["row"]["decision"]]
    if not decisions:
        raise Failed("the first engine has no output {}".format(network["row"]["decision"]), hint="build it again")
    decision_on_device, decision = decisions[0]

    def run(tensor: "Any") -> int:
        for _, device, host in first.inputs:
            _fill(host, tensor)
            cuda.memcpy_htod_async(device, host, stream)
        _enqueue(first, stream)
        cuda.memcpy_dtoh_async(decision, decision_on_device, stream)
        stream.synchronize()
        number = row.decided(decision, len(second))
        _enqueue(second[number], stream)
        for _, device, host in second[number].outputs:
            cuda.memcpy_dtoh_async(host, device, stream)
        stream.synchronize()
        return number

    return run


def _enqueue(placed: Placed, stream: "Any") -> None:
    if not placed.enqueue(stream.handle):
        messages = placed.messages
        raise Failed("the engine does not run: " + (messages[-1] if messages else "TensorRT gives no reason"))


def _load(
    trt: "Any",
    cuda: "Any",
    engine_path: str,
    given: "Dict[str, Any]",
    there: "Dict[str, Any]",
    watch: "Callable[[Any, Any], None]" = lambda *_: None,
) -> Placed:
    """Load an engine and place its tensors.

    Args:
        trt: TensorRT.
        cuda: pycuda's driver.
        engine_path: the engine.
        given: inputs by name.
        there: inputs that lie on the device, by name: their place, and host memory of the same shape and type.
        watch: see `_prepare`.
    """
    messages = []  # type: Any
    logger = make_logger(trt, messages)
    trt.init_libnvinfer_plugins(logger, "")  # an engine may hold EfficientNMS_TRT and its like
    runtime = trt.Runtime(logger)
    with open(engine_path, "rb") as file:
        engine = runtime.deserialize_cuda_engine(file.read())
    if engine is None:
        raise Failed(
            "the engine does not load: " + (messages[-1] if messages else "TensorRT gives no reason"),
            hint="an engine runs only on the GPU and the TensorRT it was built for; build it again here",
        )
    context = engine.create_execution_context()
    watch(engine, context)
    place = _named if hasattr(engine, "num_io_tensors") else _indexed
    inputs, enqueue, outputs = place(trt, cuda, engine, context, given, there)
    return Placed(inputs, enqueue, outputs, messages)


def _named(
    trt: "Any", cuda: "Any", engine: "Any", context: "Any", given: "Dict[str, Any]", there: "Dict[str, Any]"
) -> "Any":
    """Place the tensors of an engine, from TensorRT 8.5 on.

    Returns:
        (name, device, host) of each input that is given, a function that enqueues the engine on a stream, (name,
        device, host) of each output.
    """
    inputs, outputs = [], []
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        is_input = engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT
        shape, dtype = context.get_tensor_shape(name), trt.nptype(engine.get_tensor_dtype(name))
        if is_input and name in there:
            context.set_tensor_address(name, _handed(there, name, shape, dtype))
            continue
        host, device = _place(cuda, shape, dtype, "tensor " + name)
        context.set_tensor_address(name, int(device))
        if is_input:
            _fill(host, _given(given, name))
            inputs.append((name, device, host))
        else:
            outputs.append((name, device, host))
    return inputs, context.execute_async_v3, outputs


def _indexed(
    trt: "Any", cuda: "Any", engine: "Any", context: "Any", given: "Dict[str, Any]", there: "Dict[str, Any]"
) -> "Any":
    """Place the bindings of an engine, before TensorRT 8.5; see `_named`."""
    inputs, outputs, addresses = [], [], []
    for index in range(engine.num_bindings):
        name, is_input = engine.get_binding_name(index), engine.binding_is_input(index)
        shape, dtype = context.get_binding_shape(index), trt.nptype(engine.get_binding_dtype(index))
        if is_input and name in there:
            addresses.append(_handed(there, name, shape, dtype))
            continue
        host, device = _place(cuda, shape, dtype, "binding {}".format(index))
        addresses.append(int(device))
        if is_input:
            _fill(host, _given(given, name))
            inputs.append((name, device, host))
        else:
            outputs.append((name, device, host))

    def enqueue(stream: int) -> bool:
        # with an explicit batch, as the builder makes every network; the other call would take the batch apart
        return bool(context.execute_async_v2(addresses, stream))

    return inputs, enqueue, outputs


def _handed(there: "Dict[str, Any]", name: str, shape: "Any", dtype: "Any") -> int:
    """Return the address of a tensor that lies on the device: what another engine wrote must be what this one reads."""
    device, host = there[name]
    if tuple(shape) != host.shape or dtype != host.dtype:
        raise Failed(
            "the second engine reads {} as {} {}, and the first one writes {} {}".format(
                name, dtype, tuple(shape), host.dtype, host.shape
            ),
            hint="build them again",
        )
    return int(device)


def _given(given: "Dict[str, Any]", name: str) -> "Any":
    if name not in given:
        raise Failed("the engine takes an input {}, which the plan does not name".format(name), hint="build it again")
    return given[name]


def _place(cuda: "Any", shape: "Any", dtype: "Any", what: str) -> "Any":
    """Return page-locked memory of the host and memory of the device.

    Raises:
        Failed: the shape is not fixed.
    """
    if any(size < 0 for size in shape):
        raise Failed("the engine does not run: its {} has no fixed shape".format(what))
    host = cuda.pagelocked_empty(tuple(shape), dtype)
    return host, cuda.mem_alloc(host.nbytes)


def _fill(host: "Any", picture: "Any") -> None:
    if host.shape != picture.shape:
        raise Failed("the engine takes an input of shape {}, the plan names {}".format(host.shape, picture.shape))
    host[...] = picture
