"""The part of TensorRT 10's Python API that builds and runs engines, with ONNX Runtime underneath."""

from __future__ import annotations

import json
import sys
from enum import Enum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
from pycuda import driver

sys.path.append(str(Path(__file__).resolve().parents[4]))
from simulated_board.engines import OnnxEngine, pack, unpack

__version__ = "10.16.1"
float32 = SimpleNamespace(name="FLOAT")


class ILogger:
    """Takes messages."""

    ERROR, INTERNAL_ERROR, WARNING = range(3)

    def __init__(self) -> None:
        self.quiet = True


class TensorIOMode(Enum):
    """Direction of a tensor."""

    INPUT, OUTPUT = 1, 2


class NetworkDefinitionCreationFlag(int, Enum):
    """Flags of a network."""

    STRONGLY_TYPED = 1


class BuilderFlag(Enum):
    """Flags of a build."""

    FP16, TF32, OBEY_PRECISION_CONSTRAINTS = range(3)


class ProfilingVerbosity(Enum):
    """How much an engine tells of its layers."""

    LAYER_NAMES_ONLY, DETAILED, NONE = range(3)


class LayerInformationFormat(Enum):
    """How it tells it."""

    ONELINE, JSON = range(2)


class IProfiler:
    """Is told how long each layer takes."""

    def __init__(self) -> None:
        self.ready = True


class MemoryPoolType(Enum):
    """Kinds of memory."""

    WORKSPACE = 0


def init_libnvinfer_plugins(logger: ILogger, namespace: str) -> bool:
    """Register plugins."""
    return True


def nptype(dtype: Any) -> Any:
    """Return NumPy's type of a tensor's, which is the same here."""
    return dtype


class _Network:
    def __init__(self) -> None:
        self.data = b""
        self._nodes: list[Any] = []

    def read(self, data: bytes) -> None:
        self.data, self._nodes = data, list(onnx.load_from_string(data).graph.node)

    @property
    def num_layers(self) -> int:
        return len(self._nodes)

    def get_layer(self, index: int) -> Any:
        node = self._nodes[index]
        output = SimpleNamespace(dtype=float32)
        kind = SimpleNamespace(name=node.op_type.upper())
        return SimpleNamespace(
            name=node.name, type=kind, num_outputs=len(node.output), get_output=lambda _: output, precision=None
        )


class OnnxParser:
    """Reads a network; one that ONNX Runtime refuses is refused."""

    def __init__(self, network: _Network, logger: ILogger) -> None:
        self._network, self._error = network, ""

    def parse(self, data: bytes) -> bool:
        """Read it, and return whether it can be built."""
        try:
            OnnxEngine(data, None)
        except Exception as error:
            self._error = str(error)
            return False
        self._network.read(data)
        return True

    @property
    def num_errors(self) -> int:
        """How many errors there are."""
        return 1 if self._error else 0

    def get_error(self, index: int) -> Any:
        """Return an error."""
        return SimpleNamespace(desc=lambda: self._error, node=lambda: -1)


class _Cache:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def serialize(self) -> bytes:
        return self._data + b"timed "


class _Config:
    profiling_verbosity = ProfilingVerbosity.LAYER_NAMES_ONLY

    def set_flag(self, flag: BuilderFlag) -> None: ...

    def clear_flag(self, flag: BuilderFlag) -> None: ...

    def set_memory_pool_limit(self, pool: MemoryPoolType, size: int) -> None: ...

    def create_timing_cache(self, data: bytes) -> _Cache:
        return _Cache(data)

    def set_timing_cache(self, cache: _Cache, ignore_mismatch: bool) -> bool:
        return True


class Builder:
    """Builds engines."""

    def __init__(self, logger: ILogger) -> None:
        self.logger = logger

    def create_network(self, flags: int) -> _Network:
        """Return an empty network."""
        return _Network()

    def create_builder_config(self) -> _Config:
        """Return a configuration."""
        return _Config()

    def build_serialized_network(self, network: _Network, config: _Config) -> bytes:
        """Return an engine's bytes."""
        detailed = config.profiling_verbosity == ProfilingVerbosity.DETAILED
        return pack({"release": __version__, "kind": "onnx", "detailed": detailed}, network.data)


class _Context:
    def __init__(self, engine: _Engine) -> None:
        self._engine, self._addresses = engine, dict[str, int]()
        self.profiler: Any = None

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self._engine.tensors[name][2]

    def set_tensor_address(self, name: str, address: int) -> None:
        self._addresses[name] = address

    def execute_async_v3(self, stream: int) -> bool:
        runner = self._engine.runner
        feed = {
            name: driver.MEMORY[self._addresses[name]].view(kind).reshape(shape)
            for name, kind, shape in runner.inputs()
        }
        for (name, *_), values in zip(runner.outputs(), runner.run(feed), strict=True):
            driver.MEMORY[self._addresses[name]][:] = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
        for name in self._engine.nodes if self.profiler is not None else ():
            self.profiler.report_layer_time(name, 0.25)
        return True


class _Engine:
    def __init__(self, network: bytes, detailed: bool) -> None:
        self.runner = OnnxEngine(network, None)
        nodes = [node.name for node in onnx.load_from_string(network).graph.node]
        self.nodes = {f"__myl_Fused_myl0_{place}": name for place, name in enumerate(nodes)}
        self._detailed = detailed
        self._inputs = {name for name, *_ in self.runner.inputs()}
        self.tensors = {tensor[0]: tensor for tensor in (*self.runner.inputs(), *self.runner.outputs())}
        self.num_io_tensors = len(self.tensors)

    def get_tensor_name(self, index: int) -> str:
        return list(self.tensors)[index]

    def get_tensor_dtype(self, name: str) -> Any:
        return self.tensors[name][1]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name in self._inputs else TensorIOMode.OUTPUT

    def create_engine_inspector(self) -> Any:
        rows = [{"Name": name, "Metadata": f"[ONNX Layer: {node}]"} for name, node in self.nodes.items()]
        text = json.dumps({"Layers": rows if self._detailed else list(self.nodes)})
        return SimpleNamespace(get_engine_information=lambda form: text)

    def create_execution_context(self) -> _Context:
        return _Context(self)


class Runtime:
    """Loads engines."""

    def __init__(self, logger: ILogger) -> None:
        self._logger = logger

    def deserialize_cuda_engine(self, data: bytes) -> _Engine | None:
        """Return an engine; None where the bytes are not one of this release."""
        facts, network = unpack(data)
        return None if facts is None or facts["release"] != __version__ else _Engine(network, facts["detailed"])
