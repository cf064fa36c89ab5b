"""Is every changed or hostile bundle refused, and does one release work wherever installing is killed?

Goals: every one of 500 random single-byte changes and of 100 hostile archives is refused, on the host and by the agent,
and nothing is written outside; after each of 200 kills of `install` and `rollback` the current release is whole; two
checkouts under other clocks and umasks make the same bytes; verifying 200 MB takes less than 1.5 s; the Debian tools
that are installed accept the packages.

    python tests/benchmarks/check_bundles.py [--only changes|hostile|kills|same|time|tools] [--seed N]
"""

from __future__ import annotations

import argparse
import collections
import hashlib
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "helpers"))

from bundles import board_bundle, board_folder, keys  # noqa: E402
from crafted_bundles import crafted  # noqa: E402

from deploycc.agent import bundle, ed25519, releases  # noqa: E402
from deploycc.agent.outcome import Failed  # noqa: E402
from deploycc.agent_host.bundles import verify_signed  # noqa: E402
from deploycc.agent_host.zipapp import write_agent  # noqa: E402
from deploycc.errors import ArtefactError  # noqa: E402
from deploycc.workflows.package import package  # noqa: E402
from deploycc.workflows.package_contents import PackageSettings  # noqa: E402

MAINTAINER = "Jane Doe <jane@example.org>"
MOST_VERIFY_S = 1.5
CALLS = frozenset({"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.symlink", "os.chmod", "shutil.rmtree"})


class Place:
    """A folder with keys, three bundles, the agent, and a root file system with something beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        first, self.public = board_bundle(folder, engine=os.urandom(1 << 20))
        self.private = self.public.with_suffix(".key")
        self.stranger, _ = keys(folder, "stranger")
        self.bundles = [first.files[0]]
        for number in (2, 3):
            out = board_folder(folder / f"out{number}", engine=os.urandom(1 << 20))
            self.bundles += package(out, self.private, folder / f"bundle{number}.tar").files
        self.agent = folder / "agent.pyz"
        write_agent(self.agent)
        self.outside = folder / "outside"
        self.root = self.outside / "root"
        self.root.mkdir(parents=True)
        (self.outside / "mine").write_text("mine")

    def command(self, *arguments: str | Path) -> list[str]:
        return [sys.executable, "-I", "-S", str(self.agent), *map(str, arguments), "--root", str(self.root)]

    def install(self, path: Path) -> list[str]:
        return self.command("install", path, "--key", self.public)

    def tree(self) -> dict[str, str]:
        """Digest of everything outside and inside the root, but for what installing makes for itself."""
        found = {}
        for path in sorted(self.outside.rglob("*")):
            if path.name not in ("var", "lib", "deploycc", "releases"):
                content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
                found[str(path)] = hashlib.sha256(content).hexdigest()
        return found


def refused(place: Place, attempts: Iterable[tuple[str, bytes]]) -> list[str]:
    """Return which bundles the host or the agent took, or left traces of.

    The host starts the agent to verify; the agent's installation runs in this process, and in one of its own for every
    tenth bundle.
    """
    wrong = []
    key = ed25519.read_public_key(str(place.public))
    path = place.folder / "attempt.tar"
    before = place.tree()
    for number, (what, data) in enumerate(attempts):
        path.write_bytes(data)
        try:
            verify_signed(path, place.public)
            wrong.append(f"{what}: verified by the host")
        except ArtefactError:
            pass
        installed = releases.Releases(str(place.root))
        try:
            installed.install(str(path), key, lambda found: None)
            wrong.append(f"{what}: installed by the agent")
        except Failed:
            pass
        finally:
            installed.close()
        if number % 10 == 0:
            done = subprocess.run(place.install(path), capture_output=True, text=True, check=False)
            if done.returncode != 1 or not done.stderr.startswith("error: "):
                wrong.append(f"{what}: the agent ended with {done.returncode}: {done.stderr[-200:]}")
        if place.tree() != before:
            wrong.append(f"{what}: something was written")
            before = place.tree()
    return wrong


def check_changes(place: Place, chosen: random.Random) -> list[str]:
    good = place.bundles[0].read_bytes()

    def changes() -> Iterable[tuple[str, bytes]]:
        for _ in range(500):
            at, bit = chosen.randrange(len(good)), chosen.randrange(8)
            data = bytearray(good)
            data[at] ^= 1 << bit
            yield f"bit {bit} of byte {at}", bytes(data)

    return refused(place, changes())


def check_hostile(place: Place, chosen: random.Random) -> list[str]:
    attempts = list(crafted(place.bundles[0], place.private, place.stranger))
    print(f"  {len(attempts)} archives")
    return refused(place, attempts)


def check_kills(place: Place, chosen: random.Random) -> list[str]:
    """Kill install and rollback, half of them at a random moment, half at a random call; then look at `current`."""
    key = ed25519.read_public_key(str(place.public))
    for path in place.bundles[:2]:
        subprocess.run(place.install(path), check=True, capture_output=True)
    known = {bundle.read(str(path), key).digest for path in place.bundles}
    start = time.perf_counter()
    subprocess.run(place.install(place.bundles[2]), check=True, capture_output=True)
    longest_s = time.perf_counter() - start
    current = place.root / releases.BASE / releases.CURRENT
    wrong, killed, held = [], 0, collections.Counter[str]()
    for number in range(200):
        if number % 4 == 0:
            subprocess.run(place.command("gc"), check=True, capture_output=True)
        before = current.resolve().name
        is_rollback = number % 3 == 2
        if number % 2:
            command = place.command("rollback") if is_rollback else place.install(place.bundles[number % 3])
            with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
                time.sleep(chosen.uniform(0.2, 1.1) * longest_s)
                process.kill()
                killed += process.wait() < 0
        else:
            chosen_call = chosen.randint(1, 40 if is_rollback else 80)
            arguments = (place, None if is_rollback else place.bundles[number % 3], chosen_call)
            forked = multiprocessing.get_context("fork").Process(target=_change, args=arguments)
            forked.start()
            forked.join()
            killed += forked.exitcode == -signal.SIGKILL
        try:
            digest = bundle.read(str(current.resolve()), key).digest
            if digest not in known or current.resolve().name != digest:
                wrong.append(f"kill {number}: {digest} is current")
            held["the same" if digest == before else "another"] += 1
            previous = releases.Releases(str(place.root), changes=False).digest_of(releases.PREVIOUS)
            if (
                previous == digest
                or bundle.read(str(current.resolve().with_name(str(previous))), key).digest != previous
            ):
                wrong.append(f"kill {number}: nothing to roll back to")
        except Exception as error:
            wrong.append(f"kill {number}: {error!r}")
    print(f"  {killed} of 200 ended by the kill; the current release was {dict(held)} release afterwards")
    done = subprocess.run(place.install(place.bundles[0]), capture_output=True, text=True, check=False)
    if done.returncode:
        wrong.append(f"nothing can be installed afterwards: {done.stderr}")
    left = [path.name for path in (place.root / releases.BASE / "releases").iterdir() if path.name.startswith(".")]
    return wrong + [f"{name} was left" for name in left]


def _change(place: Place, path: Path | None, kill_at: int) -> None:
    """Install a bundle, or roll back where there is none, in this process, which ends itself at one of its calls."""
    done = 0

    def count(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal done
        if event in CALLS and any(str(place.root) in str(argument) for argument in arguments[:2]):
            done += 1
            if done == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    installed = releases.Releases(str(place.root))
    if path is None:
        installed.rollback()
    else:
        installed.install(str(path), ed25519.read_public_key(str(place.public)), lambda found: None)


def check_same(place: Place, chosen: random.Random) -> list[str]:
    """Two checkouts in two folders, with other clocks, time zones and umasks."""
    made = []
    for name, umask, environment, clock in (
        ("here", "022", {"TZ": "UTC"}, []),
        ("elsewhere", "077", {"TZ": "Asia/Tokyo", "LC_ALL": "C"}, ["faketime", "2031-05-06 07:08:09"]),
    ):
        folder = place.folder / name / "a checkout"
        folder.mkdir(parents=True)
        for part in ("deploycc", "targets"):
            shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "LICENSE", folder)
        shutil.copytree(place.folder / "out", folder / "out")
        if clock and shutil.which(clock[0]) is None:
            print("  faketime is not installed: one clock only")
            clock = []
        forms = ["--deb", "b.deb", "--maintainer", MAINTAINER, "--copytarget", "b.yaml"]
        command = [
            *clock,
            sys.executable,
            "-m",
            "deploycc",
            "package",
            "out",
            "--key",
            place.private,
            "-o",
            "b.tar",
            *forms,
        ]
        subprocess.run(
            ["sh", "-c", f'umask {umask}; exec "$@"', "sh", *map(str, command)],
            cwd=folder,
            env={**os.environ, **environment, "PYTHONPATH": str(folder)},
            check=True,
            capture_output=True,
        )
        made.append({form: (folder / form).read_bytes() for form in ("b.tar", "b.deb", "b.yaml")})
    return [f"{form} differs" for form in made[0] if made[0][form] != made[1][form]]


def check_time(place: Place, chosen: random.Random) -> list[str]:
    folder = board_folder(place.folder / "large", engine=os.urandom(200_000_000))
    package(folder, place.private, place.folder / "large.tar")
    times = {}
    for what, command in (
        ("deploycc verify", [sys.executable, "-m", "deploycc", "verify"]),
        ("agent.pyz verify", [sys.executable, "-I", "-S", str(place.agent), "verify", "--any-machine"]),
    ):
        runs = []
        for _ in range(5):
            start = time.perf_counter()
            arguments = [*command, str(place.folder / "large.tar"), "--key", str(place.public)]
            subprocess.run(arguments, check=True, capture_output=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
            runs.append(time.perf_counter() - start)
        times[what] = min(runs)
        print(f"  {what} of 200 MB: {min(runs):.2f} s, at most {max(runs):.2f} s in 5 runs")
    return [f"{what} took {seconds:.2f} s" for what, seconds in times.items() if seconds > MOST_VERIFY_S]


def check_tools(place: Place, chosen: random.Random) -> list[str]:
    """What Debian's tools say of the packages; those that are not installed are passed over."""
    deb = place.folder / "detector.deb"
    settings = PackageSettings(name="detector", version="1.2.0", deb=deb, maintainer=MAINTAINER)
    package(place.folder / "out", place.private, place.folder / "detector.tar", settings)
    unpacked = place.folder / "unpacked"
    unpacked.mkdir()
    subprocess.run(["tar", "-xf", place.folder / "detector.tar", "-C", unpacked], check=True)
    mender, raucb = place.folder / "a.mender", place.folder / "a.raucb"
    wrong = []
    for name, commands in {
        "dpkg-deb": [["dpkg-deb", "--info", deb], ["dpkg-deb", "--contents", deb]],
        "lintian": [["lintian", "--fail-on", "error", "--allow-root", deb]],
        "mender-artifact": [
            [
                "mender-artifact",
                "write",
                "module-image",
                "-T",
                "deb",
                "-n",
                "d-1",
                "-t",
                "tx2",
                "-f",
                deb,
                "-o",
                mender,
            ],
            ["mender-artifact", "validate", mender],
        ],
        "rauc": _rauc(place, unpacked, raucb),
    }.items():
        if shutil.which(name) is None:
            print(f"  {name} is not installed")
            continue
        for command in commands:
            done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
            if done.returncode:
                wrong.append(f"{' '.join(map(str, command))}: {done.stdout[-1500:]}{done.stderr[-1500:]}")
        print(f"  {name}: {'refused' if any(line.startswith(name) for line in wrong) else 'accepted'}")
    return wrong


def _rauc(place: Place, unpacked: Path, out: Path) -> list[list[str | Path]]:
    """A RAUC bundle with the unpacked bundle as an archive for a slot, signed with a certificate of its own."""
    folder = place.folder / "rauc"
    folder.mkdir()
    shutil.copy(place.folder / "detector.tar", folder / "detector.tar")
    (folder / "manifest.raucm").write_text(
        "[update]\ncompatible=tx2\nversion=1.2.0\n\n[bundle]\nformat=verity\n\n[image.detector]\nfilename=detector.tar\n"
    )
    key, certificate = place.folder / "rauc.key", place.folder / "rauc.pem"
    make: list[str | Path] = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=test"]
    return [
        [*make, "-keyout", key, "-out", certificate],
        ["rauc", "bundle", f"--cert={certificate}", f"--key={key}", folder, out],
        ["rauc", "info", f"--keyring={certificate}", out],
    ]


CHECKS: dict[str, Callable[[Place, random.Random], list[str]]] = {
    "changes": check_changes,
    "hostile": check_hostile,
    "kills": check_kills,
    "same": check_same,
    "time": check_time,
    "tools": check_tools,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--only", choices=list(CHECKS))
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    missed = 0
    with tempfile.TemporaryDirectory() as folder:
        for name in [given.only] if given.only else list(CHECKS):
            print(f"{name}:")
            place = Place(Path(folder) / name)
            start = time.perf_counter()
            wrong = CHECKS[name](place, random.Random(given.seed))
            for line in wrong:
                print(f"  {line}")
            print(f"  {'missed' if wrong else 'good'}, {time.perf_counter() - start:.0f} s")
            missed += bool(wrong)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
