"""What a goal of latency buys: time per multiply-accumulate on a board, and accuracy on this machine.

``board`` (predicted, nothing runs): networks with seeded weights are pruned by goals of latency for
``jetson-tx2-jp461``, kernels alone and with whole blocks, and by equal shares of every layer in multiples of 16, which
suit x86. Wanted: at least 0.9 of the time saved per multiply-accumulate saved by a goal that saves 20 to 25 % of them,
and more than by equal shares. What keeps time from following is shown: time of launches that no channel shortens, and
what those layers take of time and of multiply-accumulates that have most of the latter. Every goal's row is printed,
with the loss of the choice and the most that could be saved per multiply-accumulate whatever it loses.

``accuracy`` (measured): voc21 on one half of voc100, street_ssd_lkam on generated scenes. Every layer loses an equal
share of its kernels, chosen by a simple criterion (l1, utilisation) and, as many again, by Fisher information, which
are both refitted. The latency of the first is then the goal of two more prunings, by the simple criterion and by Fisher
information, refitted too. The latter, which users are told to choose, must not be less accurate than the better of the
equal shares. Networks are timed in turns. Needs PyTorch.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "helpers"))
from pruned_networks import copy_of, import_seeded
from real_models import add_assets_option

from deploycc.cpu_session import open_session
from deploycc.detector import Detector
from deploycc.graph.channels.groups import ChannelGroups
from deploycc.graph.channels.labels import channel_groups
from deploycc.graph.channels.removal import remove_channels
from deploycc.graph.cost import measure_cost
from deploycc.graph.export import to_onnx
from deploycc.passes import DROP_DEAD, FOLD, run
from deploycc.prediction.narrowing import NarrowedLaunch, narrowed_launches
from deploycc.prediction.network import NetworkPrediction, predict_network
from deploycc.prediction.stacks import Basis, basis_for
from deploycc.pruning.decide import by_norm
from deploycc.pruning.goal_search import GoalSearch, channels_of
from deploycc.pruning.kept_counts import fixed_multiple
from deploycc.pruning.worth import OutputChange, ShareOfLayer
from deploycc.target import load as load_target
from deploycc.timing.machine import usable_cores
from deploycc.timing.turns import time_in_turns
from deploycc.workflows.block_choice import BlockSearch
from deploycc.workflows.fisher import fisher_importance
from deploycc.workflows.goal_choice import GoalInputs, thin
from deploycc.workflows.load import load
from deploycc.workflows.prune import cpu_options

TARGET, PRECISION = "jetson-tx2-jp461", "fp16"
NETWORKS = ("vgg_ssd300_voc_deploy", "squeezenet_ssd_voc_deploy", "MobileNetSSD_voc_deploy", "pva_ssd")
MACS_SAVED, PAYS = 0.22, 0.9
RANGE = (0.20, 0.25)
GOALS = (0.18, 0.20, 0.22)
RATES = (0.1, 0.2, 0.3)
_HALVINGS = 9


@dataclass(frozen=True)
class Saved:
    """Shares of a network's multiply-accumulates and of its predicted time."""

    macs: float
    time: float

    @property
    def pays(self) -> float:
        """Return the time saved per multiply-accumulate saved."""
        return self.time / self.macs

    def __str__(self) -> str:
        """Return all three."""
        return f"MACs {self.macs:6.1%}  time {self.time:6.1%}  pays {self.pays:5.2f}"


def saved(dense: Detector, small: Detector, basis: Basis) -> Saved:
    macs = [measure_cost(network.graph).macs for network in (small, dense)]
    times_ms = [predict_network(network.graph, basis, PRECISION).time.ms for network in (small, dense)]
    return Saved(1 - macs[0] / macs[1], 1 - times_ms[0] / times_ms[1])


def nearest(choose: Callable[[float], frozenset[int]], judge: Callable[[frozenset[int]], Saved]) -> Saved:
    """The choice that saves the wanted share, or slightly more; ``choose`` saves more for larger numbers, 0 to 1."""
    low, high, best = 0.0, 1.0, judge(choose(1.0))
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        made = judge(choose(middle))
        if made.macs >= MACS_SAVED:
            high, best = middle, made
        else:
            low = middle
    return best


def heaviest(predicted: NetworkPrediction) -> str:
    """What the layers take that have half of the multiply-accumulates, the largest first."""
    launches = sorted(predicted.launches, key=lambda launch: -launch.macs)
    macs = np.cumsum([launch.macs for launch in launches]) / predicted.macs
    ms = np.cumsum([launch.time.ms for launch in launches]) / predicted.time.ms
    last = int(np.searchsorted(macs, 0.5))
    return f"the {last + 1} heaviest launches: {macs[last]:.1%} of the MACs in {ms[last]:.1%} of the time"


def any_loss(inputs: GoalInputs, parts: list[NarrowedLaunch], judge: Callable[[frozenset[int]], Saved]) -> Saved | str:
    """The most time per multiply-accumulate that kernels alone save, if no layer loses more than half; a bound."""
    halves = {}
    for name, labels in inputs.groups.layers.items():
        order = np.argsort(inputs.possible.use[name], kind="stable") if name in inputs.possible.use else ()
        halves[name] = tuple(np.asarray(order, int)[: len(labels) // 2].tolist())
    able = inputs.groups.of_kernels(halves)
    search = GoalSearch(inputs.groups, NoLoss(), able & inputs.removable(), inputs.layers, parts, 8, inputs.work())
    best = [judge(search.least_loss(search.full_cost * (1 - goal), 1.0)) for goal in (0.16, 0.2, 0.24)]
    return max((made for made in best if made.macs <= RANGE[1]), key=lambda made: made.pays, default="none")


class NoLoss(OutputChange):
    """Every kernel is worth nothing: only time and multiply-accumulates count."""

    def __init__(self) -> None:
        """Know no kernel."""
        super().__init__({})


def board(assets: Path, networks: list[str]) -> bool:
    basis, met = basis_for(load_target(TARGET), PRECISION), True
    print(
        f"{TARGET} {PRECISION}, predicted; pays = time saved / MACs saved: at least {PAYS} wanted, for goals that save"
    )
    print(f"{RANGE[0]:.0%} to {RANGE[1]:.0%} of the MACs, and more than by equal shares in multiples of 16, as for x86")
    for name in networks:
        dense = run(import_seeded(assets, name), cpu_options(), FOLD + DROP_DEAD).detector
        groups = channel_groups(dense.graph)
        layers = set(groups.layers)
        everything = by_norm(dense.graph, groups, 1.0, layers)
        whole = GoalInputs(dense, dense, groups, everything, layers)

        def parts(inputs: GoalInputs) -> list[NarrowedLaunch]:
            return narrowed_launches(inputs.dense.graph, channels_of(inputs.groups), basis, PRECISION)

        def by_share(strength: float, dense: Detector = dense, groups: ChannelGroups = groups) -> frozenset[int]:
            choice = by_norm(dense.graph, groups, strength, set(groups.layers))
            return fixed_multiple(groups, choice, groups.of_kernels(choice.kernels), set(groups.layers), 16)[0]

        def judge(gone: frozenset[int], inputs: GoalInputs = whole, dense: Detector = dense) -> Saved:
            small = copy_of(inputs.dense)
            remove_channels(small.graph, inputs.groups, gone)  # what the channels hold does not matter here
            return saved(dense, small, basis)

        predicted = predict_network(dense.graph, basis, PRECISION)
        fixed = sum(launch.launch_ms for launch in predicted.launches) + predicted.network_ms
        share = nearest(by_share, judge)
        print(f"{name}: launches {fixed / predicted.time.ms:.1%} of the time; equal shares: {share}")
        print(f"  {heaviest(predicted)}; at any loss: {any_loss(whole, parts(whole), judge)}", flush=True)
        search = BlockSearch(whole, lambda choice: ShareOfLayer(choice.use), parts, 8)
        best = {False: 0.0, True: 0.0}  # kernels alone, and with whole blocks: a user may ask for either
        for goal in GOALS:
            cost = search.cost - goal * predicted.time.ms
            for blocks in (False, True):
                left = search.choose(cost) if blocks else search.without([])

                def solve(part: GoalSearch, cost: float = cost) -> frozenset[int]:
                    return part.least_loss(cost, part.price_of_work(cost))

                inputs, worth = left.inputs, ShareOfLayer(left.inputs.possible.use)
                chosen = thin(inputs, worth, parts(inputs), 8, solve, work=inputs.work())
                made = judge(chosen.going, inputs)
                if RANGE[0] <= made.macs <= RANGE[1]:
                    best[blocks] = max(best[blocks], made.pays)
                whole_ones = "; ".join(" ".join(block.layers) for block in left.blocks)
                print(f"  goal {goal:.0%} {made} loss {left.loss + chosen.loss:5.2f}  {whole_ones}", flush=True)
        ok = max(best.values()) >= PAYS and max(best.values()) > share.pays
        met &= ok
        fate = "" if ok else "   MISSED"
        print(
            f"  best: kernels alone {best[False]:.2f}, with blocks {best[True]:.2f}, equal shares {share.pays:.2f}{fate}"
        )
    return met


def deploycc(*arguments: str) -> str:
    """Standard output of a command."""
    done = subprocess.run([sys.executable, "-m", "deploycc", *arguments], stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


def accuracy_of(model: str, data: str) -> float:
    facts: dict[str, Any] = json.loads(deploycc("evaluate", model, "--data", data, "--json"))
    return float(facts["map50_area"])


def relative_times(paths: list[str], seconds: float) -> list[float]:
    """Median time of each network relative to the first, in turns."""
    sessions = {}
    for path in paths:
        graph = load(path).graph
        tensor = graph.inputs[0]
        feed = {tensor.name: np.random.default_rng(0).standard_normal(tensor.shape, np.float32)}
        session = open_session(to_onnx(graph), usable_cores(), {"network": path})
        sessions[path] = lambda _, session=session, feed=feed: session.run(None, feed)
    times_ms = time_in_turns(sessions, [None], most_rounds=400, least_rounds=20, seconds=seconds)
    return [float(np.median(times_ms[path] / times_ms[paths[0]])) for path in paths]


def as_many_by_fisher(model: str, shares: str, calibration: str, given: list[str], output: str) -> None:
    """Remove as many kernels of each layer as another pruning did, those on which the outputs depend least."""
    detector, removed = load(model), load(shares).prunings[-1].removed
    worths = fisher_importance(detector, calibration).values
    mask = {name: np.argsort(worths[name])[: len(gone)].tolist() for name, gone in removed.items() if name in worths}
    Path(output).with_suffix(".json").write_text(json.dumps(mask), encoding="utf-8")
    listed = ["--mask", str(Path(output).with_suffix(".json")), "--round-to", "1"]
    deploycc("prune", model, *given, *listed, "--reconstruct", "--data", calibration, "-o", output)


def accuracy(
    model: str,
    simple: list[str],
    given: list[str],
    calibration: str,
    data: str,
    rates: list[float],
    folder: Path,
    s: float,
) -> bool:
    """Compare goals with equal shares at the same latency; prints a row per rate.

    Args:
        model: to prune.
        simple: options of the simple criterion.
        given: options that the network needs whatever the criterion.
        calibration: pictures to rank kernels and refit weights on.
        data: to score on.
        rates: shares.
        folder: for networks.
        s: seconds of timing networks in turns.
    """
    met = True
    print(f"{model} on {data}: mAP50 {100 * accuracy_of(model, data):.1f}; refitted on {calibration}")
    refit = ["--reconstruct", "--data", calibration]
    for rate in rates:
        paths = {name: str(folder / f"{name}.onnx") for name in ("shares", "fisher shares", "simple goal", "goal")}
        deploycc("prune", model, *given, *simple, "--below", str(rate), *refit, "-o", paths["shares"])
        wanted = relative_times([model, paths["shares"]], s)[1]
        if wanted > 0.98:
            print(f"  share {rate:g}: takes {wanted:.3f} of the time, which is no goal", flush=True)
            continue
        as_many_by_fisher(model, paths["shares"], calibration, given, paths["fisher shares"])
        speedup = ["--speedup", str(1 / wanted), *refit]
        deploycc("prune", model, *given, *simple, *speedup, "-o", paths["simple goal"])
        deploycc("prune", model, *given, "--by", "fisher", *speedup, "-o", paths["goal"])
        times = dict(zip(paths, relative_times([model, *paths.values()], s)[1:], strict=True))
        maps = {name: accuracy_of(path, data) for name, path in paths.items()}
        near = 0.97 <= times["goal"] / wanted <= 1.03
        good = maps["goal"] >= max(maps["shares"], maps["fisher shares"])
        met &= near and good
        shown = ";  ".join(f"{name} {times[name]:.3f}, {100 * maps[name]:.1f}" for name in paths)
        missed = f"{'' if near else '  TIME MISSED'}{'' if good else '  ACCURACY MISSED'}"
        print(f"  share {rate:g}, goal {wanted:.3f} (time, mAP50):  {shown}{missed}", flush=True)
    return met


def voc_halves(assets: Path, folder: Path) -> Path:
    """Every other picture of voc100 in one list, the rest in another."""
    for name in ("JPEGImages", "Annotations"):
        (folder / name).symlink_to((assets / "voc100" / name).resolve())
    lists = folder / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    names = sorted(path.stem for path in (folder / "Annotations").glob("*.xml"))
    (lists / "first.txt").write_text("\n".join(names[0::2]), encoding="utf-8")
    (lists / "second.txt").write_text("\n".join(names[1::2]), encoding="utf-8")
    return folder


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", default=["board", "voc21", "street"], help="board, voc21, street")
    parser.add_argument("--rates", default=",".join(map(str, RATES)), help="shares that equal pruning removes")
    parser.add_argument("--seconds", type=float, default=30.0, help="of timing networks in turns, each time")
    parser.add_argument("--networks", default=",".join(NETWORKS), help="of board")
    add_assets_option(parser)
    given = parser.parse_args()
    rates = [float(rate) for rate in given.rates.split(",")]
    met = True
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if "board" in given.what:
            met &= board(given.assets, given.networks.split(","))
        if "voc21" in given.what:
            halves = voc_halves(given.assets, folder)
            model = str(given.assets / "voc21_ssd_mobilenet" / "voc21_ssd_mnv1_075_boxes.onnx")
            first, second = (f"voc:{halves}@{part}" for part in ("first", "second"))
            met &= accuracy(model, ["--by", "l1"], [], first, second, rates, folder, given.seconds)
        if "street" in given.what:
            profile = str(folder / "profile.json")
            deploycc("profile", "street_ssd_lkam", "--data", "generated:11:200", "-o", profile)
            needed = ["--profile", profile, "--coefficient", "least-squares"]
            data = ("generated:11:200", "generated:2:300")
            met &= accuracy("street_ssd_lkam", [], needed, *data, rates, folder, given.seconds)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
