"""Networks timed on a device, for costs and comparisons that decide something about it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from deploycc.errors import MeasureError
from deploycc.progress import Say, quiet

if TYPE_CHECKING:
    import onnx
    import onnx_graphsurgeon as gs
    from pydantic import JsonValue

    from deploycc.agent_host.devices import Device
    from deploycc.detector import Detector
    from deploycc.documents.costs import Machine
    from deploycc.passes.options import Precision
    from deploycc.target import Target
    from deploycc.timing.effort import Effort
    from deploycc.timing.profile_layers import TimedLayer
    from deploycc.timing.timer import Timer

Key = TypeVar("Key", bound=Hashable)
Array = NDArray[np.float64]

_PICTURES = 8
_CALLS_S = 0.25  # for each network on noise
_LEAST_S, _MOST_S = 0.1, 2.0  # for each network on each picture
_NETWORK = "network"
_PROGRAMS = ("trtexec", "tensorRT_optimization")  # builders that are programs of NVIDIA's
_TURNS = 2  # of a program for each network and picture: it starts anew each time, and then takes many samples
_MOST_TURNS = 8
_MORE_STARTS = 3  # that tell how long one takes
_PROFILES = 2  # of an engine that holds many networks


class DeviceTimer:
    """Builds networks on a device and times them there; see `deploycc.timing.timer.Timer`.

    Attributes:
        machine: the device, as it is set now.
        most_pictures: a measurement on each picture takes seconds.
        builds: whether engines are built, which are then kept and built only once.
    """

    most_pictures = _PICTURES

    def __init__(self, device: Device, target: Target, machine: Machine, folder: Path, say: Say = quiet) -> None:
        """Start without a network.

        Args:
            device: that measures.
            target: what the device is.
            machine: see `device_machine`.
            folder: an empty one, for networks.
            say: progress.
        """
        self.machine = machine
        self.builds = target.builder != "onnxruntime"
        self._device, self._target, self._folder, self._say = device, target, folder, say
        self._is_program = target.builder in _PROGRAMS
        self._written = self._pictures = 0
        self._folders: dict[tuple[str, ...], Path] = {}

    def load(self, model: onnx.ModelProto, context: Mapping[str, object]) -> Path:
        """Write a network as the target's builder reads it, and return its folder; see `Timer.load`.

        Of networks that are the same there is one folder, and one engine.
        """
        from deploycc.passes import CHECK, FIT, LOWER, run
        from deploycc.passes.for_target import options_for

        options = options_for(self._target, precision=self.machine.precision, detection="raw")
        compiled = run(_as_detector(model), options, LOWER + FIT + CHECK)
        refused = [note for note in compiled.notes if note.code == "parser-refuses"]
        if refused:
            raise MeasureError(
                "device-network-refused",
                "a network that is to be timed does not run on the device",
                context={"device": self._device.name, **context},
                note=f"the parser of target {self._target.name} would refuse it: {refused[0].reason}",
            )
        self._written += 1
        folder = self._folder / f"{self._written}"
        folder.mkdir()
        digests = _write(compiled.detector, self._target, self.machine.precision, options.typed, folder)
        known = self._folders.setdefault(digests, folder)
        if known != folder:
            shutil.rmtree(folder)
        return known

    def load_stages(self, models: Iterable[onnx.ModelProto], decision: str, context: Mapping[str, object]) -> None:
        """Return nothing: a device times one engine after the other, each by itself; see `Timer.load_stages`."""

    def time_calls(self, networks: Sequence[Path], rounds: int, *, most_calls: int = 20) -> list[tuple[float, ...]]:
        """Time networks on noise: at least eight samples of each, medians of blocks; see `Timer.time_calls`.

        A program of NVIDIA's starts anew for each block, so with one of them networks are timed one after the other.
        """
        [times] = self._time(networks, [], _CALLS_S, 1)
        return [tuple(blocks) for blocks in times]

    def time_small(
        self, models: Sequence[tuple[onnx.ModelProto, Mapping[str, object]]], rounds: int
    ) -> list[tuple[float, ...]]:
        """Time small networks; see `Timer.time_small`.

        trtexec builds one engine of all of them and profiles it, unless its profile does not name all of them: then it
        builds one of each that is missing.
        """
        from deploycc.timing.side_by_side import joined, times_of_parts

        samples: list[tuple[float, ...]] = [()] * len(models)
        if self._target.builder == "trtexec" and models:
            together = self.load(joined([model for model, _ in models]), models[0][1])
            rows = [times_of_parts(profile, len(models)) for profile in self.profile(together, _PROFILES)]
            samples = [tuple(ms for ms in column if ms > 0) for column in zip(*rows, strict=True)]
        missing = [number for number, times in enumerate(samples) if not times]
        alone = self.time_calls([self.load(*models[number]) for number in missing], rounds)
        for number, times in zip(missing, alone, strict=True):
            samples[number] = times
        return samples

    def effort(self, network: Path) -> Effort:
        """Build a network, and start it once and several times, to find out how long each takes."""
        from deploycc.timing.effort import Effort

        seconds = []
        for turns in (1, 1, 1 + _MORE_STARTS):
            begin = time.monotonic()
            self._time([network], [], _CALLS_S, turns)
            seconds.append(time.monotonic() - begin)
        first_s, again_s, several_s = seconds
        start_s = max(0.0, several_s - again_s) / _MORE_STARTS
        starts = self.most_pictures * _TURNS if self._is_program else None
        return Effort(max(0.0, first_s - again_s), max(0.0, again_s - start_s), start_s, starts)

    def time_pictures(
        self,
        networks: Mapping[Key, Path],
        pictures: Sequence[NDArray[np.float32]],
        *,
        seconds: float,
        least_rounds: int,
        most_rounds: int,
        warm_up: int,
        say: Say = quiet,
    ) -> dict[Key, Array]:
        """Time networks, a round being a block of calls on one picture; see `Timer.time_pictures`.

        Blocks, not numbers of rounds, give a device that is far away enough samples; ``seconds`` are shared out. A
        program of NVIDIA's starts anew for each block: it takes as few as are asked for, and two at least.
        """
        share_s = min(max(seconds / (len(networks) * len(pictures)), _LEAST_S), _MOST_S)
        files = []
        for picture in pictures:
            self._pictures += 1
            files.append(self._folder / f"picture-{self._pictures}.npy")
            np.save(files[-1], picture)
        turns = min(max(least_rounds, _TURNS), _MOST_TURNS)
        times = self._time(list(networks.values()), files, share_s, turns)
        rounds = min(len(blocks) for row in times for blocks in row)
        return {key: np.array([row[number][:rounds] for row in times]).T for number, key in enumerate(networks)}

    def profile(self, network: Path, profiles: int) -> list[list[TimedLayer]]:
        """Build a network and profile it; see `deploycc.timing.timer.Profiler`."""
        from deploycc.agent_host.network_times import profile_network

        self._plan(network, _CALLS_S)
        return profile_network(self._device, network, profiles, self._check_settings)

    def _time(
        self, networks: Sequence[Path], pictures: Sequence[Path], seconds: float, turns: int
    ) -> list[list[list[float]]]:
        """Return the median of each block, by picture and network; a program takes so many turns with each."""
        from deploycc.agent_host.network_times import MOST_NETWORKS, time_networks

        rounds = turns if self._is_program else None
        different = list(dict.fromkeys(networks))
        times: list[dict[Path, list[float]]] = [{} for _ in range(max(1, len(pictures)))]
        for start in range(0, len(different), MOST_NETWORKS):
            self._say(f"timing networks on {self._device.name}", start, len(different))
            batch = different[start : start + MOST_NETWORKS]
            for folder in batch:
                self._plan(folder, seconds)
            part = time_networks(self._device, batch, pictures, self._check_settings, rounds=rounds, keep=self.builds)
            for row, blocks in zip(times, part, strict=True):
                row |= dict(zip(batch, blocks, strict=True))
        return [[row[folder] for folder in networks] for row in times]

    def _plan(self, folder: Path, seconds: float) -> None:
        """Write the plan of one network's engine."""
        from deploycc.documents.document import read_document
        from deploycc.documents.plan import BuildPlan, Measurement

        plan = read_document(folder, BuildPlan)
        measurement = Measurement(
            warmup_s=0.05, min_duration_s=seconds, min_samples=10, quick=True, threads=self.machine.threads
        )
        plan.model_copy(update={"measurement": measurement}).write(folder / plan.FILE_NAME)

    def _check_settings(self, environment: Mapping[str, JsonValue]) -> None:
        now = device_machine(self._device, self._target, self.machine.threads, environment)
        if now != self.machine:
            raise MeasureError(
                "device-settings-changed",
                "the device was set otherwise while it measured",
                context={"before": self.machine.describe(), "now": now.describe()},
                hint="set its power mode and clocks once, and run the command again",
            )


@contextmanager
def device_timer(name: str, target: Target, threads: int = 0, say: Say = quiet) -> Iterator[DeviceTimer]:
    """Yield what times networks on a device.

    Args:
        name: as `deploycc.workflows.devices.choose_device` takes it; not this machine.
        target: what the device is.
        threads: CPU threads of ONNX Runtime there; 0: as many as CPUs run there.
        say: progress.

    Raises:
        DeviceError: there is no such device, it is of another target, or it cannot be used.
    """
    from deploycc.agent_host.temporary import temporary_folder
    from deploycc.workflows.attach import connected
    from deploycc.workflows.devices import choose_device

    device = choose_device(name, target.name)
    assert device is not None
    say(f"connecting to {device.name}")
    with connected(device) as board:
        environment = board.ask({"ask": "probe"})["environment"]
    machine = device_machine(device, target, threads or int(environment["cpus_online"] or 1), environment)
    with temporary_folder() as folder:
        yield DeviceTimer(device, target, machine, folder, say)


@contextmanager
def timer_on(name: str | None, target: Target, threads: int, say: Say) -> Iterator[Timer]:
    """Yield what times networks on a device, or on this machine.

    Args:
        name: as `deploycc.workflows.devices.choose_device` takes it.
        target: what is planned for.
        threads: CPU threads of ONNX Runtime; 0: all cores.
        say: progress.

    Raises:
        InputError: ``too-many-threads``.
        DeviceError: there is no such device, it is of another target, or it cannot be used.
    """
    from deploycc.timing.machine import check_threads, this_machine, usable_cores
    from deploycc.timing.timer import LocalTimer
    from deploycc.workflows.devices import is_remote

    if name is not None and is_remote(name):
        with device_timer(name, target, threads, say) as timer:
            yield timer
        return
    check_threads(threads)
    yield LocalTimer(this_machine(threads or usable_cores()))


def device_machine(device: Device, target: Target, threads: int, environment: Mapping[str, JsonValue]) -> Machine:
    """Return what times that are measured on a device depend on.

    Args:
        device: that measures.
        target: what it is.
        threads: CPU threads of ONNX Runtime.
        environment: what the device says of itself.
    """
    from deploycc.documents.costs import Machine

    def told(key: str) -> str | None:
        value = environment.get(key)
        return None if value is None else f"{value}"

    precision: Precision = "fp16" if "fp16" in target.precisions else "fp32"
    settings = {
        "device": device.name,
        "precision": precision,
        "power_mode": told("nvpmodel"),
        "clocks": _clocks(environment),
    }
    if target.runtime == "onnxruntime":
        release = told("version_onnxruntime")
        machine = Machine(processor=told("cpu_model") or target.name, onnxruntime=release, threads=threads)
        return machine.model_copy(update=settings)
    release = told("tensorrt_library") or told("version_tensorrt") or target.runtime_version or "of a release not told"
    processor = told("gpu") or told("board_model") or target.name
    machine = Machine(processor=processor, onnxruntime=None, threads=1, runtime=f"{target.runtime} {release}")
    return machine.model_copy(update=settings)


def _clocks(environment: Mapping[str, JsonValue]) -> str | None:
    """Say how clocks are set; the clock of the moment is not part of that."""
    low, high = environment.get("gpu_clock_min_mhz"), environment.get("gpu_clock_max_mhz")
    parts = [] if low is None or high is None else [f"GPU {low} to {high} MHz"]
    for words, key in (("GPU", "gpu_governor"), ("CPU", "cpu_governor")):
        if environment.get(key) is not None:
            parts.append(f"{words} governor {environment[key]}")
    if environment.get("emc_cap_hz"):
        parts.append(f"EMC at most {environment['emc_cap_hz']} Hz")
    if environment.get("jetson_clocks"):
        parts.append("fixed by jetson_clocks")
    return ", ".join(parts) or None


def _as_detector(model: onnx.ModelProto) -> Detector:
    """Return a network without anything that a detector knows besides."""
    import onnx_graphsurgeon as gs

    from deploycc.detector import Detector, InputSpec, Source

    graph = gs.import_onnx(model)
    graph.name = _NETWORK  # networks that differ in nothing else are the same
    for number, node in enumerate(graph.nodes):
        node.name = node.name or f"node_{number}"
    if len(graph.inputs) > 1:
        _join_inputs(graph)
    tensor = graph.inputs[0]
    spec = InputSpec(tensor.name, tensor.shape[-2], tensor.shape[-1])
    return Detector(graph=graph, input=spec, source=Source(files=(), sha256="0" * 64, format="onnx"))


def _join_inputs(graph: gs.Graph) -> None:
    """Let a network read all its inputs from one, because a plan has one picture tensor."""
    import math

    import onnx_graphsurgeon as gs

    sizes = [math.prod(tensor.shape) for tensor in graph.inputs]
    joined = gs.Variable("joined", np.float32, [1, sum(sizes), 1, 1])
    ends = np.cumsum([0, *sizes])
    for number, tensor in enumerate(graph.inputs):
        part = gs.Variable(f"part_{number}", np.float32, [1, sizes[number], 1, 1])
        bounds = [
            gs.Constant(f"part_{number}_{name}", np.array([value], np.int64))
            for name, value in (("from", ends[number]), ("to", ends[number + 1]), ("axis", 1))
        ]
        shape = gs.Constant(f"part_{number}_shape", np.array(tensor.shape, np.int64))
        graph.nodes += [
            gs.Node("Slice", f"slice_{number}", inputs=[joined, *bounds], outputs=[part]),
            gs.Node("Reshape", f"reshape_{number}", inputs=[part, shape], outputs=[tensor]),
        ]
    graph.inputs = [joined]
    graph.toposort()


def _write(detector: Detector, target: Target, precision: Precision, typed: bool, folder: Path) -> tuple[str, ...]:
    """Write a network and its plan; return the digests of the network's files."""
    from deploycc.detector.file import save
    from deploycc.documents.plan import Network, Tensor
    from deploycc.engine.plan import make_plan
    from deploycc.files import sha256_of

    file, weights = folder / f"{_NETWORK}.onnx", None
    if target.model_format == "caffe":
        from deploycc.exporters import caffe

        file, weights = folder / f"{_NETWORK}.prototxt", folder / f"{_NETWORK}.caffemodel"
        caffe.save(detector, file, weights)
    else:
        save(detector, file)
    tensor = detector.graph.inputs[0]
    network = Network(
        file=file.name,
        sha256=sha256_of(file),
        weights_file=weights.name if weights else None,
        weights_sha256=sha256_of(weights) if weights else None,
        format=target.model_format,
        precision=precision,
        typed=typed,
        input=Tensor(name=tensor.name, shape=tuple(tensor.shape)),
        outputs=tuple(output.name for output in detector.graph.outputs),
    )
    plan = make_plan(target, [network], source_sha256=detector.source.sha256)
    plan.write(folder / plan.FILE_NAME)
    return network.sha256, network.weights_sha256 or ""
