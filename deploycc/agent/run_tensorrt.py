"""Times an engine through TensorRT's or TensorRT-RTX's Python API and pycuda, copies of input and output included.

Tensors are named from TensorRT 8.5 on; before, they are bindings with an index. Written from the API's documentation;
no machine with a GPU has run it yet.
"""

import collections
from typing import Any, Callable, Dict, List, Optional

from . import gpu, layer_profiler, stack
from .build_tensorrt import import_tensorrt
from .outcome import Failed, NotPossible
from .picture import make_input
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
        picture = make_input(self._plan, network["input"], self._input_file)
        prepared = _prepare(self._trt, self._cuda, engine, picture)
        run_once = prepared[1]  # type: Callable[[], None]
        return run_once

    def answer(self, network: "Dict[str, Any]", engine: str) -> "Callable[[Any], Dict[str, Any]]":
        """Load an engine and return a function from an input tensor to copies of its outputs by name.

        Raises:
            Failed: the engine does not load; from the function: it does not run.
        """
        import numpy

        tensors, run_once = _prepare(
            self._trt, self._cuda, engine, numpy.zeros(tuple(network["input"]["shape"]), numpy.float32)
        )

        def run(tensor: "Any") -> "Dict[str, Any]":
            for host in tensors.inputs:
                _fill(host, tensor)
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

        picture = make_input(self._plan, network["input"], self._input_file)
        _, run_once = _prepare(self._trt, self._cuda, engine_path, picture, watch)
        return layer_profiler.layer_times(profiler, run_once, nodes)


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


Tensors = collections.namedtuple("Tensors", "inputs outputs")  # host memory; of outputs with their names


def _prepare(
    trt: "Any", cuda: "Any", engine_path: str, picture: "Any", watch: "Callable[[Any, Any], None]" = lambda *_: None
) -> "Any":
    """Load the engine and place its tensors; return them, and a function that runs one picture.

    ``watch`` is called with the engine and its context before anything runs.
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
    stream = cuda.Stream()
    tensors = _named if hasattr(engine, "num_io_tensors") else _indexed
    context = engine.create_execution_context()
    watch(engine, context)
    copies_in, enqueue, copies_out, names = tensors(trt, cuda, engine, context, picture)

    def run_once() -> None:
        for device, host in copies_in:
            cuda.memcpy_htod_async(device, host, stream)
        if not enqueue(stream.handle):
            raise Failed("the engine does not run: " + (messages[-1] if messages else "TensorRT gives no reason"))
        for host, device in copies_out:
            cuda.memcpy_dtoh_async(host, device, stream)
        stream.synchronize()

    outputs = [(name, host) for name, (host, _) in zip(names, copies_out)]  # noqa: B905 - Python 3.5
    return Tensors([host for _, host in copies_in], outputs), run_once


def _named(trt: "Any", cuda: "Any", engine: "Any", context: "Any", picture: "Any") -> "Any":
    """Place the tensors of an engine, from TensorRT 8.5 on.

    Returns:
        (device, host) of each input, a function that enqueues the engine on a stream, (host, device) of each output,
        the outputs' names.
    """
    copies_in, copies_out, names = [], [], []
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        host, device = _place(
            cuda, context.get_tensor_shape(name), trt.nptype(engine.get_tensor_dtype(name)), "tensor " + name
        )
        context.set_tensor_address(name, int(device))
        if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT:
            _fill(host, picture)
            copies_in.append((device, host))
        else:
            copies_out.append((host, device))
            names.append(name)
    return copies_in, context.execute_async_v3, copies_out, names


def _indexed(trt: "Any", cuda: "Any", engine: "Any", context: "Any", picture: "Any") -> "Any":
    """Place the bindings of an engine, before TensorRT 8.5; see `_named`."""
    copies_in, copies_out, addresses, names = [], [], [], []
    for index in range(engine.num_bindings):
        host, device = _place(
            cuda,
            context.get_binding_shape(index),
            trt.nptype(engine.get_binding_dtype(index)),
            "binding {}".format(index),
        )
        addresses.append(int(device))
        if engine.binding_is_input(index):
            _fill(host, picture)
            copies_in.append((device, host))
        else:
            copies_out.append((host, device))
            names.append(engine.get_binding_name(index))

    def enqueue(stream: int) -> bool:
        # with an explicit batch, as the builder makes every network; the other call would take the batch apart
        return bool(context.execute_async_v2(addresses, stream))

    return copies_in, enqueue, copies_out, names


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
