"""Times an engine through TensorRT's or TensorRT-RTX's Python API and pycuda, copies of input and output included.

Uses tensors by name (TensorRT 8.5 and later). Written from the API's documentation; no machine with a GPU
has run it yet.
"""

from typing import Any, Dict, Optional

from . import gpu, timing
from .build_tensorrt import import_tensorrt
from .outcome import Failed, NotPossible
from .run_onnxruntime import make_input
from .trt_log import make_logger


def measure(
    plan: "Dict[str, Any]", network: "Dict[str, Any]", engine_path: str, input_file: "Optional[str]"
) -> "Dict[str, Any]":
    """Time an engine.

    Raises:
        NotPossible: no GPU, or a library is missing.
        Failed: the engine does not load or does not run.
    """
    board, limits = plan["target"], plan["measurement"]
    found = gpu.devices()
    ordinal = board["cuda_device"] or 0
    if len(found) <= ordinal:
        raise NotPossible(
            "the engine runs on an NVIDIA GPU, and this machine has none"
            if not found
            else "this machine has no CUDA device {}".format(ordinal),
            "copy this folder to the target and run there: python3 agent.pyz bench plan.json",
        )
    trt = _runtime(board["runtime"])
    try:
        import pycuda.driver as cuda
    except ImportError as error:
        raise NotPossible(
            "Python cannot import pycuda here: {}".format(error), "python3 -m pip install 'deploycc[cuda]'"
        ) from error
    cuda.init()
    context = cuda.Device(ordinal).make_context()
    try:
        run_once = _prepare(trt, cuda, engine_path, make_input(plan, network["input"], input_file))
        result = timing.measure(run_once, limits["warmup_s"], limits["min_duration_s"], limits["min_samples"])
    finally:
        context.pop()
    result["layers"] = []
    result["device"] = found[ordinal]["name"]
    result["runtime_version"] = trt.__version__
    return result


def _runtime(name: str) -> "Any":
    if name != "tensorrt-rtx":
        return import_tensorrt()
    try:
        import tensorrt_rtx
    except (ImportError, OSError) as error:
        raise NotPossible(
            "Python cannot import tensorrt_rtx here: {}".format(error), "python3 -m pip install 'deploycc[rtx]'"
        ) from error
    return tensorrt_rtx


def _prepare(trt: "Any", cuda: "Any", engine_path: str, picture: "Any") -> "Any":
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
