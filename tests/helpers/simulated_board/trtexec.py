"""trtexec of a release: it refuses flags that this release does not know, and writes that release's files.

Settings lie beside the program, in ``trtexec.json``:

    release       of TensorRT: which flags it knows and how it writes its files
    banner        what its first and last line say of the release
    device        name and compute capability of the GPU
    capability
    behaviour     work, or what goes wrong: refuse, memory, parse, crash, garbage, empty, throttle, kill (its parent),
                  hang (half an engine, deaf to SIGTERM), hang_measuring, fp16_zeros (FP16 engines answer with zeros)
    times         onnxruntime; or the milliseconds that every picture takes; or stairs:WIDTH:SHARE: each convolution
                  takes whole tiles of WIDTH kernels, and a SHARE of a profile's layers 1.5 to 3 times as long
    build_s       how long a build takes
    longest_s     at most so long for pictures, whatever --duration says; null: as long as it says
    packages      where ONNX Runtime and NumPy are
    load          files of the board and what they say while an engine runs

It keeps its calls in ``calls.jsonl`` and its last input in ``input`` beside itself.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import sys
import time
from pathlib import Path
from typing import Any

from simulated_board.engines import OnnxEngine, layer_times, pack, stair_times, unpack

FLAGS = Path(__file__).parent / "trtexec_flags.txt"
_INCLUDES_WARMUP = (8, 4)  # and older: --exportTimes holds every query
_WARMUP_QUERIES = 5  # of constant times
_METADATA = (8, 6)  # and newer: layer information lists the nodes of a layer
_MYELIN = (10, 0)  # and newer: merged layers are named after none of their nodes
_REFUSALS = {
    "refuse": ("Error[10]: [optimizer.cpp::computeCosts::1855] Error Code 10: Internal Error (conv1: could not find any"
               " implementation for node conv1.)", "Engine could not be created from network", "Building engine failed"),
    "memory": ("Error[1]: [defaultAllocator.cpp::allocate::20] Error Code 1: Cuda Runtime (out of memory)",
               "Error[2]: [virtualMemoryBuffer.cpp::resizePhysical::140] Error Code 2: OutOfMemory (no further information)",
               "Engine could not be created from network", "Building engine failed"),
    "parse": ("[TRT] ModelImporter.cpp:773: While parsing node number 2 [Frobnicate -> \"y\"]:",
              "[TRT] ModelImporter.cpp:774: --- Begin node ---", '[TRT] ModelImporter.cpp:775: name: "frob"\nop_type: "Frobnicate"',
              "[TRT] ModelImporter.cpp:776: --- End node ---",
              "[TRT] ModelImporter.cpp:779: ERROR: builtin_op_importers.cpp:4870 In function importFallbackPluginImporter:"
              " Plugin not found", "Failed to parse onnx file", "Parsing model failed", "Network set up failed"),
}  # fmt: skip


def known_flags(release: tuple[int, ...]) -> set[str]:
    """Return the flags of a release; one that no list covers has those of the nearest older one."""
    rows = [line.split() for line in FLAGS.read_text().splitlines() if not line.startswith("#")]
    numbers = lambda text: tuple(map(int, text.split(".")))  # noqa: E731
    listed = sorted({numbers(text) for row in rows for text in row[1:]})
    nearest = max(number for number in listed if number <= release[:2])
    return {flag for flag, first, last in rows if numbers(first) <= nearest <= numbers(last)}


class Refused(Exception):
    """It ends with errors."""


class Program:
    def __init__(self, path: str, arguments: list[str]) -> None:
        self.folder = Path(path).resolve().parent
        self.settings = json.loads((self.folder / "trtexec.json").read_text())
        self.release = tuple(map(int, self.settings["release"].split(".")))
        self.arguments = arguments
        self.banner = "TensorRT.trtexec" + self.settings["banner"] + " # " + " ".join([path, *arguments])
        self.flags: dict[str, str] = {}

    def say(self, text: str, level: str = "I") -> None:
        stamp = time.strftime("[%m/%d/%Y-%H:%M:%S] ") if self.release >= (7, 2) else ""
        sys.stdout.write(f"{stamp}[{level}] {text}\n")
        sys.stdout.flush()

    def run(self) -> int:
        sys.stdout.write(f"&&&& RUNNING {self.banner}\n")
        try:
            self._read_flags()
            self._work()
        except Refused as refused:
            for line in refused.args:
                self.say(line, "E")
            sys.stdout.write(f"&&&& FAILED {self.banner}\n")
            return 1
        sys.stdout.write(f"&&&& PASSED {self.banner}\n")
        return 0

    def _read_flags(self) -> None:
        if self.arguments == ["--version"]:  # no option of trtexec
            raise Refused("Model missing or format not recognized")
        known = known_flags(self.release)
        for argument in self.arguments:
            flag, _, value = argument.partition("=")
            if flag not in known:
                raise Refused(f"Unknown option: {flag} {value}".strip())
            if flag in self.flags and flag not in ("--output", "--loadInputs"):
                raise Refused(f"Option given twice: {flag}")
            self.flags[flag] = value
        with (self.folder / "calls.jsonl").open("a") as log:
            log.write(json.dumps(self.arguments) + "\n")

    def _work(self) -> None:
        behaviour = self.settings["behaviour"]
        self.say(f"Selected Device: {self.settings['device']}")
        self.say(f"Compute Capability: {self.settings['capability']}")
        if behaviour == "garbage":
            sys.stdout.flush()
            sys.stdout.buffer.write(b"\x1b[2J\xff\xfe\x00[E] \x07&&&& nothing\n" + os.urandom(64) + b"\n")
            sys.stdout.buffer.flush()
        if behaviour == "crash":
            sys.stdout.flush()
            os.kill(os.getpid(), signal.SIGSEGV)
        if behaviour == "kill":
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(5)
        if behaviour == "hang_measuring":
            (self.folder / "pid").write_text(str(os.getpid()))
            time.sleep(60)
        if "--loadEngine" in self.flags:
            self._infer()
        elif "--onnx" in self.flags or "--deploy" in self.flags:
            self._build(behaviour)
        else:
            raise Refused("Model missing or format not recognized")

    def _build(self, behaviour: str) -> None:
        if behaviour in _REFUSALS:
            raise Refused(*_REFUSALS[behaviour], "Engine set up failed")
        if behaviour == "hang":
            Path(self.flags["--saveEngine"]).write_bytes(b"half")
            (self.folder / "pid").write_text(str(os.getpid()))
            sys.stdout.write("building\n")
            sys.stdout.flush()
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            time.sleep(60)
        if "--onnx" in self.flags and "--shapes" in self.flags:
            raise Refused("Static model does not take explicit shapes since the shape of inference tensors will be"
                          " determined by the model itself", "Network And Config setup failed")  # fmt: skip
        if (7, 0) > self.release >= (6, 0) and "--onnx" in self.flags and "--explicitBatch" not in self.flags:
            raise Refused("Network must be explicit batch")
        time.sleep(self.settings["build_s"])
        network = Path(self.flags.get("--onnx") or self.flags["--deploy"]).read_bytes()
        facts = {"release": self.settings["release"], "capability": self.settings["capability"], "kind": "onnx"}
        facts["detailed"] = self.flags.get("--profilingVerbosity") == "detailed"
        facts["zeros"] = behaviour == "fp16_zeros" and "--fp16" in self.flags
        if behaviour != "empty":
            Path(self.flags["--saveEngine"]).write_bytes(pack(facts, network))
        if "--timingCacheFile" in self.flags:
            with Path(self.flags["--timingCacheFile"]).open("ab") as cache:
                cache.write(b"timed ")
        self.say("Engine built in {:g} sec.".format(self.settings["build_s"]))

    def _infer(self) -> None:
        engine = Path(self.flags["--loadEngine"])
        facts, network = unpack(engine.read_bytes())
        if facts is None or facts["release"] != self.settings["release"]:
            raise Refused("Error[1]: [stdArchiveReader.cpp::stdArchiveReaderInitCommon::47] Error Code 1: Serialization"
                          " (Version tag does not match)", "Engine deserialization failed", "Engine set up failed")  # fmt: skip
        if facts["capability"] != self.settings["capability"]:
            raise Refused("Error[6]: The engine plan file is generated on an incompatible device", "Engine"
                          " deserialization failed", "Engine set up failed")  # fmt: skip
        if (8, 0) <= self.release < (8, 4) and "--shapes" not in self.flags and "--batch" not in self.flags:
            raise Refused("Error[3]: [executionContext.cpp::enqueue::276] Error Code 3: Internal Error (Parameter check"
                          " failed at: runtime/api/executionContext.cpp::enqueue::276)", "Error occurred during inference")  # fmt: skip
        data = None
        if "--loadInputs" in self.flags:
            pairs = [each.rpartition(":") for each in self.flags["--loadInputs"].split(",")]
            data = {name.strip("'"): Path(file).read_bytes() for name, _, file in pairs}
            (self.folder / "input").write_bytes(b"".join(data.values()))
        if self.settings["times"] == "onnxruntime":
            import hashlib

            sys.path.append(self.settings["packages"])
            if "--exportOutput" in self.flags:
                self._write_outputs(OnnxEngine(network, data), facts["zeros"])
                return
            layers = self.folder / f"layers-{hashlib.sha256(network).hexdigest()}.json"
            if "--exportProfile" in self.flags and layers.exists():  # from the run before: loading a runtime takes long
                self._write_profile(json.loads(layers.read_text()), facts)
                return
            runner = OnnxEngine(network, data)
            found = None if data is None else sum(map(len, data.values()))
            if found is not None and found != runner.input_bytes:
                raise Refused(f"The size of the input is {runner.input_bytes}, and the file has {found}")
            if "--exportTimes" in self.flags:
                self._write_times(self._timed(runner.run_once))
            layers.write_text(json.dumps(layer_times(network, data)))
            if "--exportProfile" in self.flags:
                self._write_profile(json.loads(layers.read_text()), facts)
            return
        layers = [("conv1 + relu1", 6.0), ("conv2", 2.0)]
        if str(self.settings["times"]).startswith("stairs:"):
            layers, constant = self._stairs(network)
        else:
            constant = float(self.settings["times"])
        if "--exportTimes" in self.flags:
            warmup, step = float(self.flags["--warmUp"]), constant + 1.0
            count = int(self.flags["--iterations"]) + _WARMUP_QUERIES
            starts = [warmup + (number - _WARMUP_QUERIES) * step for number in range(count)]
            self._write_times([(start, constant) for start in starts])
        if "--exportProfile" in self.flags:
            self._write_profile(layers, facts)

    def _stairs(self, network: bytes) -> tuple[list[tuple[str, float]], float]:
        """Return the layers of a profile, some of them disturbed, and the milliseconds of an undisturbed picture."""
        sys.path.append(self.settings["packages"])
        _, width, share = self.settings["times"].split(":")
        exact = stair_times(network, int(width))
        chance = random.Random(len((self.folder / "calls.jsonl").read_text().splitlines()))
        layers = [
            (name, ms * chance.gauss(1, 0.02) * (chance.uniform(1.5, 3) if chance.random() < float(share) else 1))
            for name, ms in exact
        ]
        return layers, sum(ms for _, ms in exact)

    def _timed(self, run_once: Any) -> list[tuple[float, float]]:
        """Return start and latency of every query, in milliseconds."""
        warmup_s = float(self.flags.get("--warmUp") or 200) / 1e3
        seconds = warmup_s + float(self.flags.get("--duration") or 3)
        if self.settings["longest_s"] is not None:
            seconds = min(seconds, warmup_s + self.settings["longest_s"])
        least = int(self.flags.get("--iterations") or 10)
        load, throttles = self.settings["load"], self.settings["behaviour"] == "throttle"
        idle = {path: Path(path).read_text() for path in load["throttled" if throttles else "busy"]} if load else {}
        self.say("Starting inference")
        begin, queries = time.perf_counter(), list[tuple[float, float]]()
        try:
            _write(load["busy"] if load else {})
            while True:
                start = time.perf_counter()
                if throttles and start - begin > seconds / 2:
                    _write(load["throttled"])
                    throttles = False
                run_once()
                end = time.perf_counter()
                queries.append(((start - begin) * 1e3, (end - start) * 1e3))
                counted = sum(1 for at, _ in queries if at >= warmup_s * 1e3) if len(queries) % 16 == 0 else 0
                if counted >= least and end - begin >= seconds:
                    break
        finally:
            _write({path: text for path, text in idle.items() if not path.endswith("_event_cnt")})
        self.say(f"Throughput: {len(queries) / (end - begin):g} qps")
        return queries

    def _write_times(self, queries: list[tuple[float, float]]) -> None:
        """Write --exportTimes with the names of this release: 1/18 of a query is copying in, as much copying out."""
        warmup = float(self.flags.get("--warmUp") or 200)
        rows = []
        for start, latency in queries:
            if self.release[:2] > _INCLUDES_WARMUP and start + latency / 18 < warmup:
                continue
            copied, end = start + latency / 18, start + latency
            row = {"startEnqMs": start, "endEnqMs": copied} if self.release >= (7, 1) else {}
            h2d, d2h = ("H2d", "D2h") if self.release >= (8, 0) else ("In", "Out")
            row |= {f"start{h2d}Ms": start, f"end{h2d}Ms": copied}
            row |= {"startComputeMs": copied, "endComputeMs": end - latency / 18}
            row |= {f"start{d2h}Ms": end - latency / 18, f"end{d2h}Ms": end}
            row |= {f"{h2d.lower()}Ms": latency / 18, "computeMs": latency * 8 / 9, f"{d2h.lower()}Ms": latency / 18}
            row["latencyMs"] = latency
            if self.release < (8, 4):
                row["endToEndMs"] = latency
            rows.append({name: float(f"{value:.6g}") for name, value in row.items()})
        Path(self.flags["--exportTimes"]).write_text(json.dumps(rows))

    def _write_outputs(self, runner: OnnxEngine, zeros: bool) -> None:
        """Write --exportOutput (sampleReporting.cpp): dimensions and values of each output in one list."""
        records = []
        for (name, _, shape), values in zip(runner.outputs(), runner.run_once(), strict=True):
            flat = values.reshape(-1).astype(float)
            numbers = [0.0] * flat.size if zeros else [float(f"{value:.6g}") for value in flat.tolist()]
            records.append({"name": name, "dimensions": "x".join(map(str, shape)), "values": numbers})
        Path(self.flags["--exportOutput"]).write_text(json.dumps(records))

    def _write_profile(self, layers: list[tuple[str, float]], facts: dict[str, Any]) -> None:
        nodes = [() if name.startswith("Reformatting ") else tuple(name.split(" + ")) for name, _ in layers]
        if self.release >= _MYELIN:
            layers = [
                (_myelin_name(of, place), ms) for place, (of, (_, ms)) in enumerate(zip(nodes, layers, strict=True))
            ]
        if "--exportLayerInfo" in self.flags:
            self._write_layer_information([name for name, _ in layers], nodes, facts["detailed"])
        count, total = 50, sum(milliseconds for _, milliseconds in layers)
        rows: list[dict[str, Any]] = [{"count": count}]
        for name, milliseconds in layers:
            row = {"name": name, "timeMs": count * milliseconds, "averageMs": milliseconds}
            if self.release >= (8, 4):
                row["medianMs"] = milliseconds
            rows.append({**row, "percentage": 100 * milliseconds / total})
        Path(self.flags["--exportProfile"]).write_text(json.dumps(rows))

    def _write_layer_information(self, names: list[str], nodes: list[tuple[str, ...]], detailed: bool) -> None:
        """Write --exportLayerInfo: names only, unless the engine was built with detailed verbosity."""
        rows: list[Any] = names
        if detailed:
            rows = [{"Name": name, "LayerType": "kgen", "Inputs": [], "Outputs": []} for name in names]
            for row, of in zip(rows, nodes, strict=True):
                if self.release >= _METADATA:
                    row["Metadata"] = "\x1f".join(f"[ONNX Layer: {node}]" for node in of)
        Path(self.flags["--exportLayerInfo"]).write_text(json.dumps({"Layers": rows, "Bindings": []}))


def _myelin_name(nodes: tuple[str, ...], place: int) -> str:
    """Return how TensorRT 10 names a layer: after the kinds of its nodes, and not after the nodes."""
    kinds = [re.sub("[^A-Za-z]", "", node.rpartition("/")[2])[:4].title() for node in nodes]
    return f"__myl_{''.join(kinds)}_myl0_{place}"


def _write(files: dict[str, str]) -> None:
    for path, text in files.items():
        Path(path).write_text(text)


def main(path: str, arguments: list[str]) -> int:
    """Run the program of this path."""
    return Program(path, arguments).run()
