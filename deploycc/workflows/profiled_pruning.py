"""Numbers of kernels chosen from profiles of a few whole networks that a device builds, within a budget of time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, cast

import numpy as np

from deploycc.errors import MeasureError
from deploycc.pruning.candidate_networks import MOST_NETWORKS, choose_by_profiles, time_networks
from deploycc.pruning.count_options import STEP, CountOptions, State, tiled_channels
from deploycc.timing.staircase import WIDTHS, NetworkTimes, Staircases

if TYPE_CHECKING:
    from deploycc.detector import Detector
    from deploycc.documents.costs import ProfiledNetwork
    from deploycc.graph.channels.groups import ChannelGroups
    from deploycc.progress import Say
    from deploycc.pruning.candidate_networks import Chosen
    from deploycc.pruning.decide import Choice
    from deploycc.pruning.kept_counts import Rounded
    from deploycc.pruning.stair_parts import StairPart
    from deploycc.timing.convolutions import Costs
    from deploycc.timing.timer import Profiler

ALL, CHOSEN = "all", "profiles"
"""Names of the two networks that are compared at the end: with all kernels, and as chosen."""

_PROFILES = 3  # of each engine: building takes minutes, a profile seconds
_TO_CONFIRM = 2  # engines: with all kernels, and as chosen
_TO_MEET_A_GOAL = 6  # engines: three comparisons with the original


def profiled_counts(
    dense: Detector,
    groups: ChannelGroups,
    choice: Choice,
    removable: Iterable[int],
    layers: Iterable[str],
    costs: Costs,
    spare: Iterable[int],
    budget_s: float,
    say: Say,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[frozenset[int], tuple[Rounded, ...], dict[str, float]]:
    """Choose how many kernels stay; see `deploycc.pruning.candidate_networks`.

    Args:
        dense: as analysed, nothing removed.
        groups: channel groups of its graph.
        choice: the useless kernels, including those of spare groups.
        removable: removable groups.
        layers: names of layers that may lose kernels.
        costs: of the device; profiles of this network that it knows count as networks that were built, and it keeps
            each new one.
        spare: groups that may be removed in addition if the network is then faster.
        budget_s: no network is begun that would end after it, counted from now; one is always built.
        say: told which network is built.
        clock: seconds.

    Returns:
        The groups to remove, the decision for each bundle, and the chosen network's time relative to that with all
        kernels, in turns; empty where the budget was over before.

    Raises:
        MeasureError: ``device-network-refused``; ``profile-unknown-layers``: a profile names none of the convolutions.
    """
    from deploycc.pruning.whole_network import relative_times

    options = CountOptions(dense.graph, groups, choice, removable, layers, spare)
    if not options.bundles:
        return frozenset(), (), {}
    oracle = _Oracle(dense, groups, options, costs, budget_s, _TO_CONFIRM, say, clock)
    chosen = choose_by_profiles(options, oracle.profile, oracle.known(), go_on=oracle.may_go_on)
    going = options.gone(chosen.state)
    ratios: dict[str, float] = {}
    if oracle.has_time_for(_TO_CONFIRM):
        say("comparing the chosen network with all kernels")
        timed = relative_times(dense.graph, groups, {ALL: frozenset(), CHOSEN: going}, ALL, costs.timer, say)
        ratios = {name: float(np.median(rounds)) for name, rounds in timed.items()}
    else:
        say("the budget is over: the chosen network is not compared with all kernels")
    return going, _decided(options, chosen), ratios


def profiled_parts(
    dense: Detector,
    groups: ChannelGroups,
    possible: Choice,
    removable: Iterable[int],
    layers: Iterable[str],
    costs: Costs,
    budget_s: float,
    say: Say,
    clock: Callable[[], float] = time.monotonic,
) -> list[StairPart]:
    """Return the convolutions of a network that is to meet a goal of latency, with staircases fitted to profiles.

    The arguments are those of `profiled_counts`; ``possible`` names every kernel that may go, and of the budget as much
    is left as three comparisons with the original take.

    Raises:
        MeasureError: as `profiled_counts`.
    """
    from deploycc.pruning.stair_parts import stair_parts

    options = CountOptions(dense.graph, groups, possible, removable, layers)
    oracle = _Oracle(dense, groups, options, costs, budget_s, _TO_MEET_A_GOAL, say, clock)
    timed = time_networks(options, oracle.profile, oracle.known(), go_on=oracle.may_go_on)
    return stair_parts(dense.graph, options, Staircases(timed))


class _Oracle:
    """Builds networks on the device and profiles them, as long as the budget lasts."""

    def __init__(
        self,
        dense: Detector,
        groups: ChannelGroups,
        options: CountOptions,
        costs: Costs,
        budget_s: float,
        reserve: int,
        say: Say,
        clock: Callable[[], float],
    ) -> None:
        """Start the budget; time for a reserve of so many networks is left of it in the end."""
        self._reserve = reserve
        self._dense, self._groups, self._options, self._costs = dense, groups, options, costs
        self._budget_s, self._say, self._clock, self._start_s = budget_s, say, clock, clock()
        names = set(options.layers)
        self._profiles = [
            profile
            for profile in costs.profiles
            if profile.source_sha256 == dense.source.sha256 and {row.layer for row in profile.layers} >= names
        ]

    def known(self) -> list[NetworkTimes]:
        """Return what earlier calls measured of this network."""
        return [self._times(profile) for profile in self._profiles]

    def has_time_for(self, networks: int) -> bool:
        """Return whether so many more networks fit into the budget, each as long as the longest so far."""
        longest_s = max((profile.seconds for profile in self._profiles), default=0.0)
        return self._clock() - self._start_s + networks * longest_s <= self._budget_s

    def may_go_on(self) -> bool:
        """Return whether there is time for a network, and afterwards for those that the reserve is for."""
        return self.has_time_for(1 + self._reserve)

    def profile(self, state: State) -> NetworkTimes:
        """Build and profile a network; see `deploycc.pruning.candidate_networks.Oracle`."""
        from deploycc.documents.costs import ProfiledLayer, ProfiledNetwork
        from deploycc.graph.channels.groups import layer_names
        from deploycc.graph.channels.removal import remove_channels
        from deploycc.graph.cost import node_macs
        from deploycc.graph.export import to_onnx
        from deploycc.timing.profile_layers import convolution_times

        begin_s = self._clock()
        what = f"profiling networks on {self._costs.machine.device}, {(begin_s - self._start_s) / 60:.0f} minutes of "
        self._say(f"{what}{self._budget_s / 60:g}", len(self._profiles), MOST_NETWORKS)
        small = self._dense.graph.copy()
        remove_channels(small, self._groups, self._options.gone(state))
        for node, name in layer_names(small.nodes):
            node.name = name  # a runtime names its layers after the nodes
        macs = {node.name: node_macs(node) for node in small.nodes if node.name in self._options.layers}
        timer = cast("Profiler", self._costs.timer)
        profiles = timer.profile(timer.load(to_onnx(small), {"network": small.name}), _PROFILES)
        rows = [convolution_times(profile, macs) for profile in profiles]
        convolutions = dict(zip(self._options.layers, self._options.narrowed(state), strict=True))
        samples = {name: tuple(times[name] for times, _ in rows if times.get(name, 0.0) > 0) for name in macs}
        if not any(samples.values()):
            shown = next((layer.name for profile in profiles for layer in profile), None)
            raise MeasureError(
                "profile-unknown-layers",
                "the profile of a network on the device names none of its convolutions",
                context={"device": self._costs.machine.device, "a layer of the profile": shown or "none at all"},
                note="layers are known by TensorRT's layer information (`Metadata`, since 8.6), else by their names",
                hint="leave out `budget`: then convolutions are timed one by one",
            )
        profile = ProfiledNetwork(
            source_sha256=self._dense.source.sha256,
            layers=tuple(
                ProfiledLayer(layer=name, convolution=convolutions[name], samples_ms=times)
                for name, times in samples.items()
            ),
            others_ms=tuple(others for _, others in rows),
            seconds=self._clock() - begin_s,
        )
        self._profiles.append(profile)
        self._costs.add_profile(profile)
        return self._times(profile)

    def _times(self, profile: ProfiledNetwork) -> NetworkTimes:
        rows = {row.layer: row for row in profile.layers}
        convolutions = [rows[name].convolution for name in self._options.layers]
        times_ms = np.full((len(profile.others_ms), len(self._options.layers)), np.nan)
        for column, name in enumerate(self._options.layers):
            samples = rows[name].samples_ms
            times_ms[: len(samples), column] = samples
        return NetworkTimes(tiled_channels(convolutions), times_ms)


def _decided(options: CountOptions, chosen: Chosen) -> tuple[Rounded, ...]:
    from deploycc.pruning.kept_counts import Rounded

    decided = []
    for of, option, times_ms in zip(options.bundles, chosen.state, chosen.times_ms, strict=True):
        layer = of.bundle.layers[0]
        width = chosen.stairs.width(options.layers.index(layer)) if layer in options.layers else STEP
        shown: dict[int, float] = {}
        for multiple in WIDTHS:
            first = next((number for number, kept in enumerate(of.kept) if kept % multiple == 0), None)
            if first is not None:
                shown[multiple] = float(times_ms[first])
        kept = of.kept[option]
        multiple = next((number for number in (width, 64, 32, 16, STEP) if kept % number == 0), 1)
        decided.append(Rounded(of.bundle.layers, of.kept[-1], of.asked, kept, multiple, tuple(shown.items())))
    return tuple(decided)
