"""Does ``prune --device --budget`` find the tiles of a board through SSH, the agent and trtexec?

On a simulated Jetson TX2 whose times are planted: convolutions take launches and whole tiles of 32, 48 or 64 kernels,
and a fifth of the layer times of each profile is 1.5 to 3 times as long. A call whose budget is short is followed by one
that goes on. Wanted: what takes at most 2 % longer than the fewest kernels, with at most 12 engines, none of them built
twice, and nothing left on the board. Takes about three minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "helpers"))
import ssh_server
from graph_text import network
from simulated_board import board as simulated
from simulated_board.engines import stair_times

import deploycc
from deploycc.agent_host import ssh
from deploycc.detector import Detector, InputSpec
from deploycc.documents.costs import CostTable, ProfiledNetwork
from deploycc.documents.document import read_document
from deploycc.graph.export import to_onnx
from deploycc.progress import quiet
from deploycc.pruning.candidate_networks import MOST_NETWORKS
from deploycc.target import load as load_target
from deploycc.workflows.cost_files import read_costs
from deploycc.workflows.device_timer import timer_on
from deploycc.workflows.prune import Pruned, PruneSettings

TARGET = "jetson-tx2-jp461"
WIDTHS = (32, 48, 64)
KERNELS, FEWEST = (
    (96, 160, 160),
    (48, 80, 80),
)  # all; those that l1 leaves, less the few that it may take for a full tile
BELOW = 0.45


def chain(first: int, second: int, third: int) -> Detector:
    """Four convolutions with so many kernels."""
    text = f"""<ir_version: 8, opset_import: ["": 13]>
    g (float[1,3,64,64] x, float[{first},3,3,3] w1, float[{second},{first},3,3] w2, float[{third},{second},3,3] w3,
       float[8,{third},1,1] w4) => (float[1,8,64,64] y) {{
      [conv1] c1 = Conv <pads = [1,1,1,1]> (x, w1)
      [relu1] r1 = Relu (c1)
      [conv2] c2 = Conv <pads = [1,1,1,1]> (r1, w2)
      [relu2] r2 = Relu (c2)
      [conv3] c3 = Conv <pads = [1,1,1,1]> (r2, w3)
      [relu3] r3 = Relu (c3)
      [conv4] y = Conv (r3, w4)
    }}"""
    return replace(network(text), input=InputSpec("x", 64, 64))


def check(width: int, server: ssh_server.Server) -> bool:
    board = simulated.make(Path(f"board {width}").resolve(), TARGET, build_s=0.1, times=f"stairs:{width}:0.2")
    store = Path(f"store {width}").resolve()
    fields = {"url": server.url, "target": TARGET, "python": board.python, "store": str(store), "lock": f"{store}.lock"}
    rows = [f"{key} = {json.dumps(value)}" for key, value in fields.items()]
    Path("devices.toml").write_text("\n".join(["[board]", *rows]) + "\n")
    file = Path(f"costs {width}.json")

    def prune(minutes: float) -> tuple[Pruned, tuple[ProfiledNetwork, ...]]:
        settings = PruneSettings(by="l1", below=BELOW, scope="both", budget_s=60 * minutes)
        with timer_on("board", load_target(TARGET), 0, quiet) as timer:
            pruned = deploycc.prune(chain(*KERNELS), settings, costs=read_costs(file, timer))
        return pruned, read_document(file, CostTable).profiles

    first = len(prune(0.02)[1])
    pruned, profiles = prune(30)
    engines = len(profiles)
    built = {tuple(row.convolution.kernels for row in profile.layers) for profile in profiles}
    took_ms, best_ms = (
        sum(ms for _, ms in stair_times(to_onnx(detector.graph).SerializeToString(), width))
        for detector in (pruned.detector, chain(*FEWEST))
    )
    kept = [layer.kernels[1] for layer in pruned.record.layers]
    left = list((store / "jobs").iterdir())
    ok = took_ms <= 1.02 * best_ms and first < engines <= MOST_NETWORKS and len(built) == engines and not left
    print(
        f"tiles of {width}: kept {kept}, {took_ms / best_ms - 1:+.1%} of the best time, {first} engines and then "
        f"{engines - first} more{'' if ok else '   MISSED'}",
        flush=True,
    )
    return ok


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("widths", nargs="*", type=int, default=WIDTHS, help="of tiles; default: 32, 48 and 64")
    widths = parser.parse_args().widths
    if ssh_server.MISSING:
        sys.exit(f"needs OpenSSH: {ssh_server.MISSING}")
    with tempfile.TemporaryDirectory(prefix="budget-") as folder:
        here = Path.cwd()
        os.chdir(folder)
        Path("sshd").mkdir()
        server, process = ssh_server.start(Path("sshd").resolve())
        os.environ[ssh.PROGRAM] = str(server.ssh)
        try:
            met = [check(width, server) for width in widths]
        finally:
            os.chdir(here)
            process.terminate()
            process.wait()
    sys.exit(0 if all(met) else 1)


if __name__ == "__main__":
    main()
