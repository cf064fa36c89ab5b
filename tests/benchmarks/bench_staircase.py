"""Kernel counts chosen by profiles of a few engines, on made-up boards whose staircases are known.

Networks with seeded weights lose their smallest filters; how many stay is chosen as ``prune --device --budget`` does it.
Times are launches and whole tiles of 32, 48 or 64 kernels, inputs read 8 or 32 at once, with noise of 2 %; a share of
them is disturbed: 1.5 to 3 times as long, in one profile (``once``) or in all profiles of an engine (``always``). The
best time is exact: no staircase falls, so fewer kernels never take longer than more.

Wanted: within 2 % of the best time, with at most 12 engines. Also shown: kernels that stay although l1 would remove
them, of those that cost nothing.

``goals``: 0.8 of the time at the least loss, by fitted staircases and by the true ones. Wanted: what the fitted ones
choose takes the goal's time within 2 %, and loses no more than the true ones lose for a goal of 2 % less.

Takes about 10 minutes; nothing is timed, so another load is fine.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "helpers"))
import onnx_graphsurgeon as gs
from planted_stairs import PlantedBoard
from pruned_networks import import_seeded
from real_models import add_assets_option

from deploycc.graph.channels.labels import channel_groups
from deploycc.passes import DROP_DEAD, FOLD, run
from deploycc.pruning.candidate_networks import MOST_NETWORKS, choose_by_profiles, time_networks
from deploycc.pruning.count_options import STEP, CountOptions, State
from deploycc.pruning.decide import by_norm, kept
from deploycc.pruning.goal_search import GoalSearch
from deploycc.pruning.stair_parts import LayerTimes, stair_parts
from deploycc.pruning.worth import ShareOfLayer
from deploycc.timing.staircase import Staircases
from deploycc.workflows.prune import cpu_options

NETWORKS = ("vgg_ssd300_voc_deploy", "squeezenet_ssd_voc_deploy", "MobileNetSSD_voc_deploy", "pva_ssd")
WIDTHS, STEPS = (32, 48, 64), (8, 32)
DISTURBANCES = ((0.0, "once"), (0.2, "once"), (0.2, "always"))
BELOW, GOAL, CLOSE = 0.3, 0.8, 0.02


def _graph(assets: Path, name: str) -> gs.Graph:
    return run(import_seeded(assets, name), cpu_options(), FOLD + DROP_DEAD).detector.graph


def options_of(assets: Path, name: str) -> CountOptions:
    graph = _graph(assets, name)
    groups = channel_groups(graph)
    choice = by_norm(graph, groups, BELOW, groups.layers)
    return CountOptions(graph, groups, choice, groups.of_kernels(choice.kernels) - set(groups.pins), groups.layers)


def kernels(options: CountOptions, state: State) -> int:
    return sum(of.kept[option] - of.kept[0] for of, option in zip(options.bundles, state, strict=True))


def study(options: CountOptions, name: str, seeds: int) -> bool:
    met = True
    for width in WIDTHS:
        for step in STEPS:
            for disturbed, how in DISTURBANCES:
                worst, engines, stay, free = 0.0, 0, 0, 0
                for seed in range(seeds):
                    always = how == "always"
                    board = PlantedBoard(options, width, step, disturbed=disturbed, persistent=always, seed=seed)
                    state, best = choose_by_profiles(options, board).state, board.best()
                    worst = max(worst, board.total_ms(state) / board.total_ms(best) - 1)
                    engines = max(engines, len(board.engines))
                    stay, free = stay + kernels(options, state), free + kernels(options, best)
                saved = 1 - board.total_ms(best) / board.total_ms(options.everything())
                met &= (ok := worst <= CLOSE and engines <= MOST_NETWORKS)
                print(
                    f"{name:28} {width:4} {step:4}  {disturbed:4.0%} {how:6}  best saves {saved:5.1%}  chosen + "
                    f"{worst:5.2%}  engines {engines:2}  kernels {stay / seeds:5.0f} of {free / seeds:5.0f}"
                    f"{'' if ok else '   MISSED'}",
                    flush=True,
                )
    return met


def goals(assets: Path, name: str, seeds: int) -> bool:
    graph = _graph(assets, name)
    groups = channel_groups(graph)
    every = by_norm(graph, groups, 1.0, groups.layers)
    able, worth, met = groups.free.tolist(), ShareOfLayer(every.use), True
    options = CountOptions(graph, groups, every, able, groups.layers)

    def search(times: LayerTimes) -> GoalSearch:
        return GoalSearch(groups, worth, able, groups.layers, stair_parts(graph, options, times), STEP)

    for width in WIDTHS:
        for disturbed, how in DISTURBANCES:
            off, more, engines = 0.0, -1.0, 0
            for seed in range(seeds):
                board = PlantedBoard(options, width, disturbed=disturbed, persistent=how == "always", seed=seed)
                fitted, true = search(Staircases(time_networks(options, board))), search(board)
                gone = fitted.least_loss(GOAL * fitted.full_cost)
                state = tuple(of.kept.index(kept(groups, of.bundle.layers[0], gone)) for of in options.bundles)
                took = board.total_ms(state) / board.total_ms(options.everything())
                best = true.loss_of(true.least_loss((GOAL - CLOSE * GOAL) * true.full_cost))
                off = max(off, abs(took / GOAL - 1))
                more = max(more, fitted.loss_of(gone) / best - 1)
                engines = max(engines, len(board.engines))
            met &= (ok := off <= CLOSE and more <= 0 and engines <= MOST_NETWORKS)
            print(
                f"{name:28} {width:4}    8  {disturbed:4.0%} {how:6}  goal {GOAL:.0%} off by {off:5.2%}  loss {more:+6.1%}  "
                f"engines {engines:2}{'' if ok else '   MISSED'}",
                flush=True,
            )
    return met


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_assets_option(parser)
    parser.add_argument("--seeds", type=int, default=3, help="boards of each kind; the worst of them is shown")
    parser.add_argument("--goals", action="store_true", help="goals of latency alone")
    parser.add_argument("networks", nargs="*", default=NETWORKS, help="names; default: all four")
    given = parser.parse_args()
    print(f"{'network':28} tile step  disturbed     worst of {given.seeds} boards; at most + {CLOSE:.0%} wanted")
    met = [goals(given.assets, name, given.seeds) for name in given.networks]
    if not given.goals:
        met += [study(options_of(given.assets, name), name, given.seeds) for name in given.networks]
    sys.exit(0 if all(met) else 1)


if __name__ == "__main__":
    main()
