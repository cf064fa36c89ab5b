"""Times an engine through TensorRT's or TensorRT-RTX's Python API and pycuda, copies of input and output included.

Uses tensors by name (TensorRT 8.5 and later). Written from the API's documentation; no machine with a GPU
has run it yet.
"""

from typing import Any, Callable, Dict, Optional

from . import gpu
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
        self._device = found[self._ordinal]["name"]
        self._trt = _runtime(board["runtime"])
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
        return _prepare(self._trt, self._cuda, engine, picture)

    def describe(self, network: "Dict[str, Any]", engine: str) -> "Dict[str, Any]":
        """Say what ran an engine; TensorRT's Python API gives no layer times."""
        return {"layers": [], "device": self._device, "runtime_version": self._trt.__version__}


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


def _prepare(trt: "Any", cuda: "Any", engine_path: str, picture: "Any") -> "Callable[[], None]":
    """Load the engine, place its tensors, and return a function that runs one picture."""
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
    context, stream = engine.create_execution_context(), cuda.Stream()
    uploads, downloads = [], []
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        dtype = trt.nptype(engine.get_tensor_dtype(name))
        host = cuda.pagelocked_empty(tuple(context.get_tensor_shape(name)), dtype)
        device = cuda.mem_alloc(host.nbytes)
        context.set_tensor_address(name, int(device))
        if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT:
            host[...] = picture
            uploads.append((device, host))
        else:
            downloads.append((host, device))

    def run_once() -> None:
        for device, host in uploads:
            cuda.memcpy_htod_async(device, host, stream)
        if not context.execute_async_v3(stream.handle):
            raise Failed("the engine does not run: " + (messages[-1] if messages else "TensorRT gives no reason"))
        for host, device in downloads:
            cuda.memcpy_dtoh_async(host, device, stream)
        stream.synchronize()

    return run_once
