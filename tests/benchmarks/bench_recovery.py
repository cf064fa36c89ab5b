"""What pruning costs in accuracy, and how much refitting without labels brings back; exits 1 where a goal is missed.

``lkam``: a gated detector pruned at 5 %, its gates folded by least squares: at least 20 % of the back-end's MACs gone,
at most one point of mAP50 lost, with and without refitting. ``voc21``: the curve of `deploycc prune-curve` on the
pictures of voc100. Profile and refit see one half of them, without labels; accuracy is stated on the other half, and on
all.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "helpers"))
from real_models import add_assets_option

LEAST_SAVED, MOST_LOST = 0.20, 0.01


def deploycc(*arguments: str) -> str:
    """Standard output of a command."""
    done = subprocess.run([sys.executable, "-m", "deploycc", *arguments], stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


def facts(*arguments: str) -> Any:
    return json.loads(deploycc(*arguments, "--json"))


def accuracy(model: str, data: str) -> float:
    return float(facts("evaluate", model, "--data", data)["map50_area"])


def lkam(model: str, data: str, calibration: str, folder: Path) -> bool:
    """Prune at 5 % and print a row for each way; whether every goal is met."""
    profile = str(folder / "profile.json")
    deploycc("profile", model, "--data", calibration, "-o", profile)
    gated, met = accuracy(model, data), True
    print(f"{model} on {data}: mAP50 {100 * gated:.2f}; calibrated on {calibration}")
    for more in ([], ["--reconstruct", "--data", calibration]):
        out = str(folder / "pruned.onnx")
        command = ["prune", model, "--profile", profile, "--below", "0.05", "--coefficient", "least-squares"]
        before, after = facts(*command, "--round-to", "1", "-o", out, *more)["sizes"]["back-end"]["macs"]
        saved, own = 1 - after / before, accuracy(out, data)
        met &= saved >= LEAST_SAVED and gated - own <= MOST_LOST
        how = "refitted" if more else "as trained"
        print(f"  {how:10}  back-end MACs -{saved:.1%}  mAP50 {100 * own:.2f} ({100 * (own - gated):+.2f})", flush=True)
    return met


def voc21(assets: Path, below: str, by: str, output: Path, folder: Path) -> None:
    """Split voc100 into halves, one picture here, one there, and measure the curve."""
    for name in ("JPEGImages", "Annotations"):
        (folder / name).symlink_to((assets / "voc100" / name).resolve())
    lists = folder / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    names = sorted(path.stem for path in (folder / "Annotations").glob("*.xml"))
    (lists / "first.txt").write_text("\n".join(names[0::2]), encoding="utf-8")
    (lists / "second.txt").write_text("\n".join(names[1::2]), encoding="utf-8")
    trained = str(assets / "voc21_ssd_mobilenet" / "voc21_ssd_mnv1_075.prototxt")
    model = [trained, "--mean", "128", "--scale", "0.0078125", "--colour", "RGB"]
    profile, first = str(folder / "profile.json"), f"voc:{folder}@first"
    deploycc("profile", *model, "--data", first, "-o", profile)
    data = ["--data", f"voc:{folder}@second", "--data", f"voc:{folder}", "--calibrate", first]
    print(
        deploycc(
            "prune-curve",
            *model,
            "--profile",
            profile,
            *data,
            "--by",
            by,
            "--below",
            below,
            "--round-to",
            "1",
            "-o",
            str(output),
        )
    )


def main() -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", default=["lkam", "voc21"], help="lkam, voc21")
    parser.add_argument("--model", default="street_ssd_lkam")
    parser.add_argument("--data", default="generated:2:500")
    parser.add_argument("--calibration", default="generated:11:200")
    parser.add_argument("--by", default="utilisation,l1")
    parser.add_argument("--below", default="0.1,0.15,0.2,0.25,0.3")
    parser.add_argument("--output", type=Path, default=Path("voc21-curve"), help="folder of the curve")
    add_assets_option(parser)
    given = parser.parse_args()
    met = True
    with tempfile.TemporaryDirectory() as folder:
        if "lkam" in given.what:
            met = lkam(given.model, given.data, given.calibration, Path(folder))
        if "voc21" in given.what:
            voc21(given.assets, given.below, given.by, given.output, Path(folder))
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
