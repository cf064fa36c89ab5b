"""Mutated models through `inspect` or `compile`; exits 1 where one is neither refused with a diagnosis nor compiled.

Every model is made from a seed and its number, so that `--only NUMBER` repeats one. A worker process with a limit on
its memory imports and compiles them; one that hangs or dies is replaced.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import queue
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deploycc.detector import Detector

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "helpers"))

LIMIT_CPU_S = 20  # processor time, because a loaded machine is not a hang
LIMIT_S = 10 * LIMIT_CPU_S
LIMIT_BYTES = 3 << 30
FAULTS = ("traceback", "hang", "memory", "died", "not finite in silence")


def main() -> int:
    """Mutate, run, count and list what went wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=2000, help="how many (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 2) - 1))
    parser.add_argument("--only", type=int, nargs="*", help="numbers of models to repeat, with what they say")
    parser.add_argument("--format", choices=("caffe", "onnx"), help="mutate only these")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="folder that receives the models that went wrong")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work()
        return 0
    from model_mutations import Mutations

    numbers: queue.Queue[int] = queue.Queue()
    for number in options.only or range(options.models):
        numbers.put(number)
    counts: Counter[str] = Counter()
    faults: list[str] = []
    start = time.perf_counter()
    lock = threading.Lock()
    with tempfile.TemporaryDirectory() as folder:
        mutations = Mutations(options.seed, options.format)

        def drain(place: Path) -> None:
            worker = Worker()
            with contextlib.suppress(queue.Empty):
                while True:
                    number = numbers.get_nowait()
                    shutil.rmtree(place, ignore_errors=True)
                    place.mkdir(parents=True)
                    model, kind = mutations.write(number, place)
                    outcome, said = worker.run(model, number)
                    with lock:
                        counts[outcome] += 1
                        if options.only:
                            sys.stdout.write(f"{number} {kind}: {outcome}\n{said}\n")
                        elif outcome in FAULTS:
                            faults.append(
                                f"{number} {kind}: {outcome}: {said.strip().splitlines()[-1] if said else ''}"
                            )
                            sys.stdout.write(f"{faults[-1][:300]}\n")
                            sys.stdout.flush()
                    if options.keep and outcome in FAULTS:
                        shutil.copytree(place, options.keep / str(number), dirs_exist_ok=True)
            worker.stop()

        threads = [threading.Thread(target=drain, args=(Path(folder, str(index)),)) for index in range(options.workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for outcome, count in sorted(counts.items()):
        sys.stdout.write(f"{outcome}: {count}\n")
    sys.stdout.write(f"{sum(counts.values())} models, {time.perf_counter() - start:.0f} s\n")
    return 1 if any(counts[outcome] for outcome in FAULTS) else 0


class Worker:
    """A process that takes models, one after the other; a new one is started after each that hangs or dies."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def run(self, model: Path, number: int) -> tuple[str, str]:
        """Return the outcome for one model, and what was said."""
        if self._process is None:
            command = [sys.executable, __file__, "--worker"]
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            )
            assert self._process.stdout is not None
            self._process.stdout.readline()  # the worker's imports do not count
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps({"model": str(model), "inspect": number % 8 == 0}) + "\n")
        process.stdin.flush()
        timer = threading.Timer(LIMIT_S, process.kill)
        timer.start()
        start = time.perf_counter()
        line = process.stdout.readline()
        timer.cancel()
        if not line:
            process.wait()
            self._process = None
            slow = process.returncode == -signal.SIGXCPU or time.perf_counter() - start >= LIMIT_S
            return ("hang" if slow else "died"), f"status {process.returncode}"
        answer = json.loads(line)
        if answer["outcome"] == "memory":
            self.stop()
        return answer["outcome"], answer["said"]

    def stop(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def work() -> None:
    """Answer each line of stdin, a model, with a line of stdout, its outcome."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # libraries write to the real stdout
    import onnxruntime  # noqa: F401 - loaded before the limit, as everything that is not the model's

    from deploycc import passes  # noqa: F401

    in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (in_use + LIMIT_BYTES, in_use + LIMIT_BYTES))
    answers.write("ready\n")
    answers.flush()
    for line in sys.stdin:
        task = json.loads(line)
        resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time()) + LIMIT_CPU_S + 1, resource.RLIM_INFINITY))
        outcome, said = _outcome(Path(task["model"]), task["inspect"])
        answers.write(json.dumps({"outcome": outcome, "said": said[-4000:]}) + "\n")
        answers.flush()


def _outcome(model: Path, inspect: bool) -> tuple[str, str]:
    """Return what became of a model, and what was said."""
    from deploycc.errors import DeployError

    try:
        return _inspected(model) if inspect else _compiled(model)
    except DeployError as error:
        return "refused", error.render()
    except MemoryError:
        return "memory", traceback.format_exc()
    except Exception:  # what a user would see as a bug
        said = traceback.format_exc()
        return ("memory" if re.search("bad.?alloc|Failed to allocate", said) else "traceback"), said


def _load(model: Path) -> Detector:
    from deploycc.workflows.load import load

    weights = model.with_suffix(".caffemodel")
    if model.suffix == ".prototxt":
        return load(model, random_weights=None if weights.exists() else 0)
    return load(model, mean=0, scale=1)


def _inspected(model: Path) -> tuple[str, str]:
    from deploycc.workflows.inspect import inspect_detector

    inspect_detector(_load(model))
    return "inspected", ""


def _compiled(model: Path) -> tuple[str, str]:
    from deploycc import target
    from deploycc.workflows.compile import compile_targets
    from deploycc.workflows.compile_outputs import Refused
    from deploycc.workflows.compile_settings import CompileSettings

    detector, output = _load(model), model.parent / "out"
    results = compile_targets(detector, [target.load("x86-cpu")], output, CompileSettings(build=False))
    for result in results:
        if isinstance(result, Refused):
            return "refused", result.error.render()
    if not _finite(next(output.rglob("network-*.onnx"))):
        return "not finite in silence", ""
    return "compiled", ""


def _finite(network: Path) -> bool:
    """Return whether the outputs for a picture of noise are finite."""
    import numpy as np
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4
    settings.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(network), settings, providers=["CPUExecutionProvider"])
    feeds: dict[str, Any] = {
        tensor.name: np.random.default_rng(0).uniform(0, 255, tensor.shape).astype(np.float32)
        for tensor in session.get_inputs()
    }
    return all(np.isfinite(values).all() for values in session.run(None, feeds))


if __name__ == "__main__":
    sys.exit(main())
