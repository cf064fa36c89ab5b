"""Do two journeys of a newcomer end as the README says, with its own commands?

1. An own Caffe SSD becomes engines on a Jetson TX2, measured there, and an application's pictures are detected there.
2. An own Caffe SSD becomes a bundle for DRIVE PX 2, which is verified, installed into an unpacked root file system,
   listed, replaced by a second one and rolled back; the board then finds its engines.

Every command is a line of the README. Replaced are the names of its example: the model, the target, folders and
the Python of the board. The boards are simulated (`tests/helpers/simulated_board`). The model is a real one
(`DEPLOYCC_ASSETS`): Caffe's own layers, trained on 20 classes.

    python tests/benchmarks/check_journeys.py [--only 1|2] [--keep FOLDER]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "helpers"))

from real_models import ASSETS  # noqa: E402
from simulated_board import board as simulated  # noqa: E402
from simulated_board.board import Board  # noqa: E402

from deploycc.documents.build import read_build_result  # noqa: E402
from deploycc.documents.detections import read_detection_report  # noqa: E402

README = (ROOT / "README.md").read_text(encoding="utf-8")
MODEL = "voc21_ssd_mnv1_075_bvlc"
TX2, PX2 = "jetson-tx2-jp461", "drive-px2-igpu"
DESCRIPTION = """class_names = [
  "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
  "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
]

[input]
colour = "RGB"
mean = 128
scale = 0.0078125
"""


def lines(heading: str) -> list[str]:
    """Return the commands of a section of the README, in order."""
    _, _, rest = README.partition(f"\n## {heading}\n")
    section, _, _ = rest.partition("\n## ")
    rows = section.splitlines()
    return [row.removeprefix("$ ").strip() for row in rows if row.startswith(("$ ", "    "))]


class Journey:
    """A folder in which a newcomer works, and a board."""

    def __init__(self, folder: Path, target: str) -> None:
        self.folder, self.target = folder / "work", target
        self.folder.mkdir()
        self.board: Board = simulated.make(folder / "board", target, build_s=0.3)
        for suffix in (".prototxt", ".caffemodel"):
            shutil.copy(ASSETS / "voc21_ssd_mobilenet" / f"{MODEL}{suffix}", self.folder)
        (self.folder / f"{MODEL}.detector.toml").write_text(DESCRIPTION)
        shutil.copytree(ASSETS / "test_images", self.folder / "pictures")

    def run(self, command: str, where: Path | None = None) -> str:
        """Run a command, and return what it prints on standard output."""
        print(f"  $ {command}", flush=True)
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        variables = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}
        if where is not None:  # the board has nothing of the host's
            del variables["PYTHONPATH"]
        start = time.perf_counter()
        done = subprocess.run(
            command, shell=True, cwd=where or self.folder, env=variables, capture_output=True, text=True, check=False
        )
        print(f"    {time.perf_counter() - start:.1f} s", flush=True)
        assert done.returncode == 0, (
            f"{command} ended with {done.returncode}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
        )
        return done.stdout

    def compile(self) -> None:
        """Look at the own detector, and compile it for the target: the first section."""
        out = self.target.split("-")[1]
        for command in lines("Your own detector"):
            if command.startswith("deploycc"):
                own = command.replace("street_ssd", f"{MODEL}.prototxt")
                own = own.replace(f"{TX2} -o tx2", f"{self.target} -o {out}")
                said = self.run(own)
                if "inspect" in own:
                    assert "RGB, (pixel - 128) * 0.0078125" in said, "the description was not read"
        self.out = self.folder / out

    def on_the_board(self) -> Path:
        """Build and measure there, with the folder copied there and back: the second section."""
        there = self.board.root / "home" / "nvidia" / self.out.name
        shutil.copytree(self.out, there)
        for command in lines("On the board"):
            if command.startswith("python3 agent.pyz"):
                self.run(command.replace("python3", self.board.python), there)
        return there

    def back(self, there: Path) -> None:
        """Copy the folder back, and look at the report."""
        shutil.copytree(there, self.out, dirs_exist_ok=True)
        assert "`deploycc report show DIR`" in README
        said = self.run(f"deploycc report show {self.out.name}")
        engines = read_build_result(self.out).engines
        assert len(engines) == 2, engines
        for engine in engines:
            assert engine.status == "built", engine.reason
            assert engine.smoke is not None, "the engine saw no picture"
            assert engine.smoke.status == "passed", engine.smoke
            assert engine.smoke.detected > 0
        assert "VALID" in said or "ms" in said, said
        print("    " + next(row for row in said.splitlines() if row.startswith("fp16") and "built" not in row))


def first(folder: Path) -> None:
    """Own Caffe SSD to TX2 engines, and what they detect."""
    journey = Journey(folder, TX2)
    journey.compile()
    there = journey.on_the_board()
    pictures = shutil.copytree(journey.folder / "pictures", there.parent / "pictures")
    assert "`agent.pyz detect plan.json --pictures DIR`" in README
    journey.run(f"{journey.board.python} agent.pyz detect plan.json --pictures {pictures}", there)
    journey.back(there)
    answer = journey.out / "engine-detections.json"
    if not answer.exists():
        shutil.copy(next(there.glob("engine-detections.json")), answer)
    journey.run(f"deploycc detect {journey.out.name} --images pictures -o seen --compare {answer}")
    agreement = read_detection_report(journey.folder / "seen").agreement
    assert agreement is not None
    alone = agreement.only_first + agreement.only_second
    print(f"  {agreement.matched} detections of engine and network agree, {alone} have no partner")
    assert agreement.matched >= 20
    assert alone == 0


def second(folder: Path) -> None:
    """Own Caffe SSD to a PX2 bundle, in an unpacked root file system."""
    journey = Journey(folder, PX2)
    journey.compile()
    journey.back(journey.on_the_board())
    (journey.folder / "targetfs").symlink_to(journey.board.root)
    *steps, rollback = lines("Into an image")
    assert rollback.startswith("python3 px2/agent.pyz rollback"), rollback
    listed = ""
    for command in steps:
        listed = journey.run(command.replace("python3", sys.executable))
    [release] = json.loads(listed)
    assert (release["role"], release["target"]) == ("current", PX2)
    package, verify, install, list_ = steps[1:]
    journey.run(package.replace("px2.tar", "next.tar --bundle-version 2.0.0"))
    journey.run(verify.replace("px2.tar", "next.tar"))
    journey.run(install.replace("px2.tar", "next.tar").replace("python3", sys.executable))
    roles = {
        each["version"]: each["role"] for each in json.loads(journey.run(list_.replace("python3", sys.executable)))
    }
    assert roles == {"2.0.0": "current", release["version"]: "previous"}, roles
    journey.run(rollback.replace("python3", sys.executable))
    roles = {
        each["version"]: each["role"] for each in json.loads(journey.run(list_.replace("python3", sys.executable)))
    }
    assert roles[release["version"]] == "current", roles
    current = journey.board.root / "var/lib/deploycc/current"
    assert "`python3 /var/lib/deploycc/current/agent.pyz prepare`" in README
    engines = journey.run(f"{journey.board.python} {current}/agent.pyz prepare --root {journey.board.root}", current)
    assert (Path(engines.strip()) / "engine-fp32.bin").is_file(), engines


JOURNEYS = {"1": first, "2": second}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--only", choices=list(JOURNEYS))
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="work here, and leave everything there")
    given = parser.parse_args()
    if not ASSETS.is_dir():
        print(f"needs real models: {ASSETS} is missing")
        return 1
    failed = 0
    for number in [given.only] if given.only else list(JOURNEYS):
        print(f"journey {number}: {JOURNEYS[number].__doc__}", flush=True)
        with tempfile.TemporaryDirectory(prefix="journey-") as temporary:
            folder = Path(temporary) if given.keep is None else given.keep / number
            folder.mkdir(parents=True, exist_ok=True)
            try:
                JOURNEYS[number](folder)
            except (AssertionError, OSError, ValueError) as error:
                failed += 1
                print(f"FAILED: {error}", flush=True)
            else:
                print("held", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
