"""Output folders with contracts of small heads, and the generated decoders run on outputs."""

from __future__ import annotations

import importlib.util
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from deploycc.detector import DetectionOutputs, Detector, InputSpec, Nms, Source, SsdHeads
from deploycc.documents.contract import InputContract, IntegrationContract, NetworkContract, NmsContract
from deploycc.documents.document import this_tool
from deploycc.documents.plan import Network, Tensor
from deploycc.documents.source import SourceRecord
from deploycc.errors import Note
from deploycc.evaluation.nms import Detections
from deploycc.files import sha256_of
from deploycc.integration.contract_files import ContractNetwork, Expected, write_contract

Tensors = Mapping[str, NDArray[Any]]

LABELS = (("fp32", "compiled"), ("fp32", "original"), ("fp16", "compiled"), ("fp16", "original"))
SPEC = InputSpec("data", 4, 5)
NMS = Nms(0.2, 0.45, 20, 12)
SANITIZERS = ("-fsanitize=address,undefined,float-cast-overflow", "-fno-sanitize-recover=all")
_TYPES = {"float32": "float", "int32": "std::int32_t", "int64": "std::int64_t"}


def random_heads(seed: int, priors: int = 40, **fields: Any) -> SsdHeads:
    """Heads with boxes of the picture as priors, and variances that differ."""
    random = np.random.default_rng(seed)
    low = random.uniform(0, 0.7, (priors, 2))
    boxes = np.concatenate([low, low + random.uniform(0.05, 0.3, (priors, 2))], axis=1).astype(np.float32)
    variances = random.uniform(0.1, 0.3, (priors, 4)).astype(np.float32)
    return SsdHeads("loc", "conf", boxes, variances, **{"classes": 4, **fields})


def head_detector(heads: SsdHeads, spec: InputSpec = SPEC, nms: Nms = NMS) -> Detector:
    """A detector whose graph only has the outputs that heads name; the scores are those of a softmax."""
    count = len(heads.priors)
    logits = gs.Variable("logits", np.float32, [1, count, heads.classes])
    loc = gs.Variable(heads.locations, np.float32, [1, count * 4])
    conf = gs.Variable(heads.scores, np.float32, [1, count, heads.classes])
    graph = gs.Graph([gs.Node("Softmax", "activate", {"axis": 2}, [logits], [conf])], [logits], [loc, conf])
    return Detector(graph, spec, Source(("test",), "0" * 64, "onnx"), heads, nms, class_names=("none", 'a "b"', "c"))


def plan_entry(detector: Detector) -> dict[str, object]:
    """What a plan says of the network of `head_detector`."""
    shape = list(detector.input.shape)
    return {
        "precision": "fp32",
        "variant": "compiled",
        "input": {"name": detector.input.name, "shape": shape},
        "outputs": ["loc", "conf"],
    }


def unpacking_detector(outputs: DetectionOutputs, rows: int | None, kind: type = np.int32) -> Detector:
    """A detector that decodes itself; ``rows`` is None where that depends on the picture."""
    size = [rows if rows is not None else "n"]
    if outputs.layout == "rows":
        tensors = [gs.Variable(outputs.boxes, np.float32, [1, 1, *size, 7])]
    else:
        tensors = [
            gs.Variable(outputs.boxes, np.float32, [*size, 4]),
            gs.Variable(outputs.scores, np.float32, size),
            gs.Variable(outputs.classes, kind, size),
        ]
        tensors += [] if outputs.count is None else [gs.Variable(outputs.count, np.int32, [1, 1])]
    graph = gs.Graph([], [gs.Variable("data", np.float32, [1, 3, 4, 5])], tensors)
    return Detector(graph, SPEC, Source(("test",), "0" * 64, "onnx"), None, NMS, outputs)


def contract_folder(
    folder: Path, detectors: Sequence[Detector], notes: tuple[Note, ...] = (), expected: Expected | None = None
) -> IntegrationContract:
    """Write a folder whose networks are these detectors, by the labels above; the networks are no real ones."""
    first = detectors[0]
    spec = first.input
    networks = []
    for (precision, variant), detector in zip(LABELS, detectors, strict=False):
        file = folder / f"network-{precision}-{variant}.onnx"
        file.write_bytes(file.name.encode())
        network = Network(
            precision=precision,  # type: ignore[arg-type]
            variant=variant,  # type: ignore[arg-type]
            file=file.name,
            sha256=sha256_of(file),
            typed=False,
            input=Tensor(name=spec.name, shape=spec.shape),
            outputs=tuple(tensor.name for tensor in detector.graph.outputs),
        )
        networks.append(ContractNetwork(network, f"engine-{precision}-{variant}.engine", detector, notes, expected))
    described = {"name": spec.name, "shape": spec.shape, "colour": spec.colour, "mean": spec.mean, "scale": spec.scale}
    frame = IntegrationContract.model_construct(
        tool=this_tool(),
        detector="tiny",
        target="x86-cpu",
        runtime="onnxruntime",
        runtime_version=None,
        source=SourceRecord(files=("test",), sha256="0" * 64, format="onnx"),
        trained_files=(),
        input=InputContract(**described, assumed=False),
        class_names=first.class_names,
        nms=NmsContract(**{name: getattr(first.nms, name) for name in NmsContract.model_fields}),
        networks=(),
        files=(),
    )
    return write_contract(folder, frame, networks)


def random_outputs(network: NetworkContract, seed: int, *, wild: bool = False) -> dict[str, NDArray[Any]]:
    """Outputs of a network's shapes: many equal scores, boxes that overlap; ``wild``: NaN, infinities, huge numbers."""
    random = np.random.default_rng(seed)
    outputs: dict[str, NDArray[Any]] = {}
    count = int(random.integers(0, 9))
    for output in network.outputs:
        shape = tuple(count if size is None else size for size in output.shape)
        values = random.normal(size=shape)
        if output.meaning == "scores":
            values = np.round(random.uniform(0, 1, shape), 2)
        elif output.meaning in ("boxes", "rows"):
            values = random.uniform(0, 1, shape)
        if output.meaning == "rows":
            values[..., 1] = random.integers(-1, 3, shape[:-1])
        elif output.meaning in ("classes", "count"):
            values = random.integers(0, 3, shape)
        if wild and output.type == "float32":
            odd = np.array([np.nan, np.inf, -np.inf, 3e38, -3e38, 1e-40, 89.0, -1e9])
            values = np.where(random.random(shape) < 0.3, random.choice(odd, shape), values)
        elif wild:
            values = random.choice([-(2**31), -1, 0, 1, 5, 2**31 - 1], shape)
        outputs[output.name] = values.astype(output.type)
    return outputs


def python_decoder(folder: Path, network: NetworkContract) -> Any:
    """Return the generated module."""
    assert network.python is not None
    spec = importlib.util.spec_from_file_location(Path(network.python).stem, folder / network.python)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass(frozen=True)
class CppDecoders:
    """A program around the C++ decoders of a folder."""

    program: Path
    networks: tuple[NetworkContract, ...]

    def decode(self, cases: Sequence[tuple[int, Tensors]]) -> list[Detections]:
        """Return the detections of each (index of a network, outputs); a sanitizer's report fails."""
        data = b"".join(_written(self.networks[index], index, outputs) for index, outputs in cases)
        ran = subprocess.run([self.program], input=data, capture_output=True, check=False)
        assert ran.returncode == 0, ran.stderr.decode(errors="replace")[-4000:]
        assert ran.stderr == b""
        return _read(ran.stdout)

    def prepare(self, picture: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the input tensor of a picture, flat."""
        height, width, _ = picture.shape
        data = np.array([255, width, height], np.int32).tobytes() + picture.tobytes()
        ran = subprocess.run([self.program], input=data, capture_output=True, check=True)
        return np.frombuffer(ran.stdout, np.float32)


def compile_decoders(
    folder: Path, contract: IntegrationContract, program: Path, flags: Sequence[str] = SANITIZERS
) -> CppDecoders:
    """Compile every decoder of a folder into one program."""
    source = program.with_suffix(".cpp")
    source.write_text(_program(contract))
    warnings = ("-std=c++11", "-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Werror")
    command = ["g++", *warnings, *flags, f"-I{folder}", str(source), "-o", str(program)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-4000:]
    return CppDecoders(program, contract.networks)


def _program(contract: IntegrationContract) -> str:
    includes = "".join(f'#include "{name}"\n' for name in dict.fromkeys(n.cpp for n in contract.networks))
    cases = "".join(_case(index, network) for index, network in enumerate(contract.networks))
    spaces = [_space(network) for network in contract.networks]
    size = int(np.prod(contract.input.shape))
    return f"""{includes}#include <cstdio>
template <typename T> bool take(T* to, std::size_t count) {{ return std::fread(to, sizeof(T), count, stdin) == count; }}
template <typename D> void give(const std::vector<D>& found) {{
  std::int32_t count = static_cast<std::int32_t>(found.size());
  std::fwrite(&count, 4, 1, stdout);
  for (const D& each : found) {{
    std::fwrite(&each.label, 4, 1, stdout);
    const float row[] = {{each.score, each.xmin, each.ymin, each.xmax, each.ymax}};
    std::fwrite(row, 4, 5, stdout);
  }}
}}
int main() {{
  std::int32_t which, sizes[4];
  while (take(&which, 1)) {{
    if (which == 255) {{
      take(sizes, 2);
      const std::size_t width = static_cast<std::size_t>(sizes[0]), height = static_cast<std::size_t>(sizes[1]);
      std::vector<unsigned char> picture(3 * width * height);
      std::vector<float> tensor({size});
      take(picture.data(), picture.size());
      {spaces[0]}::prepare(picture.data(), width, height, 3 * width, tensor.data());
      std::fwrite(tensor.data(), 4, tensor.size(), stdout);
    }}
{cases}  }}
}}
"""


def _space(network: NetworkContract) -> str:
    assert network.cpp is not None
    return "deploycc" + network.cpp.removeprefix("decoder").removesuffix(".hpp").replace("-", "_")


def _roles(network: NetworkContract) -> list[str]:
    if network.heads is not None:
        return [network.heads.locations, network.heads.scores]
    found = network.detections
    assert found is not None
    names = [found.boxes] if found.layout == "rows" else [found.boxes, found.scores, found.classes, found.count]
    return [name for name in names if name is not None]


def _case(index: int, network: NetworkContract) -> str:
    types = {output.name: _TYPES[output.type] for output in network.outputs}
    roles = _roles(network)
    lines = [f"    if (which == {index}) {{", f"      take(sizes, {len(roles)});"]
    for number, name in enumerate(roles):
        lines.append(f"      std::vector<{types[name]}> t{number}(static_cast<std::size_t>(sizes[{number}]));")
        lines.append(f"      take(t{number}.data(), t{number}.size());")
    arguments = ", ".join(f"t{number}.data()" for number in range(len(roles)))
    if network.detections is not None and network.detections.layout == "columns" and len(roles) == 3:
        arguments += ", t1.size()"
    return "\n".join([*lines, f"      give({_space(network)}::decode({arguments}));", "    }\n"])


def _written(network: NetworkContract, index: int, outputs: Tensors) -> bytes:
    tensors = [np.ascontiguousarray(outputs[name]) for name in _roles(network)]
    return np.array([index, *(tensor.size for tensor in tensors)], np.int32).tobytes() + b"".join(
        tensor.tobytes() for tensor in tensors
    )


def _read(data: bytes) -> list[Detections]:
    found, at = [], 0
    while at < len(data):
        count = int(np.frombuffer(data, np.int32, 1, at)[0])
        rows = np.frombuffer(data, np.float32, 6 * count, at + 4).reshape(count, 6)
        labels = np.frombuffer(data, np.int32, 6 * count, at + 4).reshape(count, 6)[:, 0]
        found.append(Detections(rows[:, 2:].copy(), rows[:, 1].copy(), labels.astype(np.int64)))
        at += 4 + 24 * count
    return found
