"""Profiles by several workers are those of one process, to the last bit."""

from __future__ import annotations

import multiprocessing
import pickle
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from gated_networks import Spelling, gated

from deploycc.detector import Detector, InputSpec
from deploycc.detector.picture_list import PictureList
from deploycc.errors import DeviceError, MeasureError, PictureError
from deploycc.utilisation import shards
from deploycc.utilisation.measure import measure_utilisation
from deploycc.utilisation.probe import Probe, layers_to_probe

COUNT = 21  # the last shard is not full


def detector(gates: bool) -> Detector:
    found = replace(gated(Spelling(group="gather", layout="after-activation"), seed=3), input=InputSpec("x", 6, 6))
    if gates:
        return found
    from deploycc.graph.gates.fixed import without_gates
    from deploycc.graph.gates.search import find_gates

    return replace(found, graph=without_gates(found.graph, find_gates(found.graph, found.gates)), gates=())


def drawn(count: int = COUNT) -> PictureList:
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (count, 6, 6, 3), np.uint8)
    return PictureList("drawn", tuple(map(str, range(count))), "a" * 64, lambda number: pictures[number])


@pytest.fixture(scope="module")
def processes() -> Iterator[Executor]:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as executor:
        yield executor


@pytest.mark.parametrize("gates", [True, False], ids=["gates", "activations"])
def test_shards_add_up_to_the_same_profile(gates: bool, processes: Executor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "_MOST_WAITING", 2)
    found = detector(gates)
    whole, _ = measure_utilisation(found, drawn())
    done: list[int | None] = []
    parts, _ = measure_utilisation(
        found, drawn(), executor=processes, say=lambda what, number=None, of=None: done.append(number)
    )
    assert parts.to_json() == whole.to_json()
    assert done == list(range(COUNT + 1))


def test_what_is_wrong_with_a_picture_comes_from_the_worker_as_it_is(processes: Executor) -> None:
    found = detector(True)
    found.graph.nodes[0].inputs[1].values[:] = np.nan
    with pytest.raises(MeasureError) as here:
        measure_utilisation(found, drawn(3))
    with pytest.raises(MeasureError) as there:
        measure_utilisation(found, drawn(3), executor=processes)
    assert there.value.render() == here.value.render()


def test_shards_that_wait_are_dropped_when_a_picture_cannot_be_read() -> None:
    pictures = drawn()
    kept: list[Future[object]] = []

    class Waiting(Executor):
        def submit(self, *arguments: object, **_: object) -> Future[object]:  # type: ignore[override]
            kept.append(Future())
            return kept[-1]

    def read(number: int) -> np.ndarray:
        if number == 12:
            raise PictureError("picture-unreadable", "the picture cannot be read")
        return pictures.read(number)

    with pytest.raises(PictureError):
        measure_utilisation(detector(True), replace(pictures, read=read), executor=Waiting())
    assert [future.cancelled() for future in kept] == [True]


def test_a_worker_that_is_killed_is_said() -> None:
    class Killed(ThreadPoolExecutor):
        def submit(self, *_: object, **__: object) -> Future[object]:  # type: ignore[override]
            from concurrent.futures.process import BrokenProcessPool

            future: Future[object] = Future()
            future.set_exception(BrokenProcessPool("terminated abruptly"))
            return future

    with pytest.raises(MeasureError) as caught:
        measure_utilisation(detector(True), drawn(3), executor=Killed(1))
    assert caught.value.code == "worker-lost"


def test_errors_and_probes_come_whole_out_of_another_process() -> None:
    error = DeviceError("code", "it failed", context={"file": "a"}, note="why", hint="what")
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), again.render(), again.args) == (DeviceError, error.render(), error.args)
    found = detector(True)
    probe = Probe(found, layers_to_probe(found))
    picture = np.full(found.input.shape, 0.5, np.float32)
    copied = pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(probe))))
    for one, other in zip(probe.read(picture, ""), copied.read(picture, ""), strict=True):
        np.testing.assert_array_equal(one.used, other.used)
        np.testing.assert_array_equal(one.squares, other.squares)
