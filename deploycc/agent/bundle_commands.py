"""The agent's commands on bundles: ``verify``, ``install``, ``list``, ``rollback``, ``gc``, ``prepare``.

Other commands load this module too, and a zipapp compiles it each time: the work imports what it needs itself.
"""

import json
import sys
from typing import Any

from .progress import say

NAMES = ("verify", "install", "list", "rollback", "gc", "prepare")


def add_to(commands: "Any") -> None:
    """Add them to a command line."""
    verify = commands.add_parser("verify", help="check a bundle: every byte, its signature, and this board")
    verify.add_argument("--any-machine", action="store_true", help="do not ask whether it is for this machine")
    verify.add_argument("--out", metavar="FILE", help="also write the manifest, or the refusal, as JSON")
    install = commands.add_parser("install", help="verify a bundle and make it the current release")
    for command in (verify, install):
        command.add_argument("bundle", metavar="BUNDLE", help="the file, or the folder that it was unpacked into")
        command.add_argument("--key", required=True, metavar="PUB", help="public key that must have signed it (PEM)")
    list_ = commands.add_parser("list", help="print the installed releases as JSON")
    rollback = commands.add_parser("rollback", help="make the previous release the current one")
    gc = commands.add_parser("gc", help="remove all releases but the current and the previous one")
    prepare = commands.add_parser("prepare", help="print the folder with engines for this board; build them if need be")
    for command in (verify, install, list_, rollback, gc, prepare):
        command.add_argument("--root", default="/", metavar="DIR", help="root file system (default: /)")


def run(given: "Any") -> int:
    """Run one of them and return the exit code.

    Raises:
        Failed: it was refused.
        OSError: a file cannot be read or written.
    """
    from . import ed25519, first_boot, releases

    if given.command == "verify":
        return _verify(given)
    if given.command == "prepare":
        sys.stdout.write(first_boot.prepare(given.root) + "\n")
        return 0
    installed = releases.Releases(given.root, changes=given.command != "list")
    try:
        if given.command == "list":
            json.dump(installed.rows(), sys.stdout, indent=1, sort_keys=True)
            sys.stdout.write("\n")
        elif given.command == "install":
            key = ed25519.read_public_key(given.key)
            done = installed.install(given.bundle, key, lambda found: _check_board(found, given.root))
            say("installed {} {} as {}".format(done.manifest["name"], done.manifest["version"], done.digest[:16]))
        elif given.command == "rollback":
            say("{} is the current release again".format(installed.rollback()[:16]))
        else:
            for digest in installed.collect():
                say("removed {}".format(digest[:16]))
    finally:
        installed.close()
    return 0


def _verify(given: "Any") -> int:
    from . import bundle, ed25519, files
    from .outcome import Failed

    try:
        key = ed25519.read_public_key(given.key)
        checked = bundle.read(
            given.bundle, key, lambda found: None if given.any_machine else _check_board(found, given.root)
        )
    except Failed as error:
        if given.out is None:
            raise
        files.write_answer({"status": "refused", "reason": error.reason, "hint": error.hint}, given.out)
        return 1
    manifest = checked.manifest
    if given.out is not None:
        answer = {"status": "verified", "digest": checked.digest, "manifest": manifest}
        files.write_answer(answer, given.out)
    say(
        "verified: {} {} for {}, {} files, {:.1f} MB".format(
            manifest["name"],
            manifest["version"],
            manifest["target"],
            len(manifest["files"]),
            checked.size_bytes() / 1e6,
        )
    )
    return 0


def _check_board(found: "Any", root: str) -> None:
    from . import bundle_fit

    for remark in bundle_fit.check(found.manifest, bundle_fit.board_facts(root, found.manifest["runtime"])):
        say(remark + "; `agent.pyz prepare` builds it here")
