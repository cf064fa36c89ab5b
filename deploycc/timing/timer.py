"""Where networks are timed: this machine, or whatever else can take turns between them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from deploycc.cpu_session import open_session
from deploycc.documents.costs import Machine
from deploycc.progress import Say, quiet
from deploycc.timing.effort import Effort
from deploycc.timing.turns import time_in_turns, time_short_runs

if TYPE_CHECKING:
    import onnx
    import onnxruntime as ort

    from deploycc.timing.profile_layers import TimedLayer

Key = TypeVar("Key", bound=Hashable)
Tensor = NDArray[np.float32]
Loaded = Any
"""A network that one timer has loaded; only that timer knows what it is."""


class Timer(Protocol):
    """Times networks on one machine.

    Attributes:
        machine: which.
        most_pictures: number of pictures that networks are timed on, at most.
        builds: whether an engine is built for each network, which may take minutes.
    """

    machine: Machine
    most_pictures: int
    builds: bool

    def load(self, model: onnx.ModelProto, context: Mapping[str, object]) -> Loaded:
        """Get a network ready.

        Args:
            model: with static shapes.
            context: of an error, naming the network.

        Raises:
            MeasureError: the runtime refuses it.
        """

    def load_stages(
        self, models: Iterable[onnx.ModelProto], decision: str, context: Mapping[str, object]
    ) -> Sequence[Loaded] | None:
        """Get networks ready that run in a row; see `deploycc.timing.in_a_row.SessionsInARow`.

        Returns:
            What `time_pictures` takes: both in a row as decided, then for each second network the first one and that,
            whatever is decided. None where networks can only be timed apart.

        Raises:
            MeasureError: the runtime refuses one.
        """

    def time_calls(self, networks: Sequence[Loaded], rounds: int, *, most_calls: int = 20) -> list[tuple[float, ...]]:
        """Time networks on seeded noise, in turns; see `deploycc.timing.turns.time_short_runs`.

        Returns:
            For each network its samples in milliseconds.
        """

    def time_small(
        self, models: Sequence[tuple[onnx.ModelProto, Mapping[str, object]]], rounds: int
    ) -> list[tuple[float, ...]]:
        """Load small networks without branches and time them on seeded noise, with as few engines as possible.

        Args:
            models: each with the context of an error, as for `load`.
            rounds: number of samples of each.

        Returns:
            For each network its samples in milliseconds.

        Raises:
            MeasureError: the runtime refuses one.
        """

    def effort(self, network: Loaded) -> Effort | None:
        """Return how long building and starting networks takes, by doing it; None where nothing is built."""

    def time_pictures(
        self,
        networks: Mapping[Key, Loaded],
        pictures: Sequence[Tensor],
        *,
        seconds: float,
        least_rounds: int,
        most_rounds: int,
        warm_up: int,
        say: Say = quiet,
    ) -> dict[Key, NDArray[np.float64]]:
        """Time networks with one input on the same pictures, in turns; see `deploycc.timing.turns.time_in_turns`.

        Returns:
            For each network its times in milliseconds, [rounds, pictures].
        """


class Profiler(Timer, Protocol):
    """Times networks, and tells how long each of their layers takes."""

    def profile(self, network: Loaded, profiles: int) -> list[list[TimedLayer]]:
        """Return for each profile its layers with their times."""


class LocalTimer:
    """Times networks in this process, with ONNX Runtime."""

    most_pictures = 100
    builds = False

    def __init__(self, machine: Machine) -> None:
        """Take the machine's number of threads."""
        self.machine = machine

    def load(self, model: onnx.ModelProto, context: Mapping[str, object]) -> ort.InferenceSession:
        """See `Timer.load`."""
        return open_session(model, self.machine.threads, context)

    def load_stages(
        self, models: Iterable[onnx.ModelProto], decision: str, context: Mapping[str, object]
    ) -> list[Callable[[Tensor], object]]:
        """See `Timer.load_stages`."""
        from deploycc.timing.in_a_row import SessionsInARow

        stages = SessionsInARow(models, decision, self.machine.threads, context)
        return [partial(stages.run, number=number) for number in (None, *range(stages.count))]

    def time_calls(
        self, networks: Sequence[ort.InferenceSession], rounds: int, *, most_calls: int = 20
    ) -> list[tuple[float, ...]]:
        """See `Timer.time_calls`."""
        return time_short_runs([_on_noise(session) for session in networks], rounds, most_calls=most_calls)

    def time_small(
        self, models: Sequence[tuple[onnx.ModelProto, Mapping[str, object]]], rounds: int
    ) -> list[tuple[float, ...]]:
        """See `Timer.time_small`."""
        return self.time_calls([self.load(model, context) for model, context in models], rounds)

    def effort(self, network: ort.InferenceSession) -> None:
        """See `Timer.effort`."""

    def time_pictures(
        self,
        networks: Mapping[Key, ort.InferenceSession | Callable[[Tensor], object]],
        pictures: Sequence[Tensor],
        *,
        seconds: float,
        least_rounds: int,
        most_rounds: int,
        warm_up: int,
        say: Say = quiet,
    ) -> dict[Key, NDArray[np.float64]]:
        """See `Timer.time_pictures`."""
        return time_in_turns(
            {name: _on_picture(session) for name, session in networks.items()},
            pictures,
            most_rounds=most_rounds,
            least_rounds=least_rounds,
            seconds=seconds,
            warm_up=warm_up,
            say=say,
        )


def _on_noise(session: ort.InferenceSession) -> Callable[[], object]:
    generator = np.random.default_rng(0)
    feed = {source.name: generator.standard_normal(source.shape, np.float32) for source in session.get_inputs()}
    return partial(session.run, None, feed)


def _on_picture(session: ort.InferenceSession | Callable[[Tensor], object]) -> Callable[[Tensor], object]:
    if callable(session):  # networks in a row
        return session
    name = session.get_inputs()[0].name
    return lambda picture: session.run(None, {name: picture})
