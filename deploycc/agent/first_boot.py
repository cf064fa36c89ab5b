"""The engines of the current release on this board: those of the bundle where they fit, else built here and kept."""

import hashlib
import json
import os
import shutil
from typing import Any, Dict, List, Optional, Tuple

from . import bundle_fit, files, releases
from .outcome import Failed
from .progress import say


def prepare(root: str = "/") -> str:
    """Return the folder that holds engines of the current release which run on this board.

    It is the release's own where all its engines fit. Else they are built, which the manifest must permit, and kept
    below ``engines/<digest>/<board>``: the next call finds them, and so does a rollback. Another board, or the same
    one with another TensorRT or release, gets engines of its own.

    Raises:
        Failed: nothing is installed, the release is for another board, or building fails.
    """
    found, _ = _find(root)
    if found is not None:
        return found
    installed = releases.Releases(root)  # so that no two processes build the same engine
    try:
        found, missing = _find(root)  # which another process may have built meanwhile
        return _built(*missing) if found is None else found
    finally:
        installed.close()


def _find(root: str) -> "Tuple[Optional[str], Any]":
    """Return the folder with engines; None where there is none yet, with the plan and the folder to build them in.

    Raises:
        Failed: nothing is installed, or the release is for another board.
    """
    installed = releases.Releases(root, changes=False)
    digest = installed.digest_of(releases.CURRENT)
    if digest is None:
        raise Failed("nothing is installed below {}".format(installed.base), hint="agent.pyz install BUNDLE")
    manifest = installed.manifest(digest)
    facts = bundle_fit.board_facts("/", manifest["runtime"])
    remarks = bundle_fit.check(manifest, facts)
    plan = os.path.join(installed.path(digest), manifest["plan"])
    if manifest["engines"] and not remarks:
        return os.path.dirname(plan), None
    final = os.path.join(installed.base, releases.ENGINES, digest, _board(facts))
    return (final, None) if _are_whole(final) else (None, (plan, final, remarks))


def _built(plan: str, final: str, remarks: "List[str]") -> str:
    """Build the engines of a plan into a folder that appears when they are on the disk, and return it.

    Raises:
        Failed: one was not built.
    """
    from . import build_file, jobs, seal

    for remark in remarks:
        say(remark)
    partial = final + files.PARTIAL
    shutil.rmtree(partial, ignore_errors=True)
    shutil.rmtree(final, ignore_errors=True)
    os.makedirs(partial)
    for name in _inputs(plan):
        os.makedirs(os.path.dirname(os.path.join(partial, name)), exist_ok=True)
        shutil.copyfile(os.path.join(os.path.dirname(plan), name), os.path.join(partial, name))
    result = seal.sealed(jobs.build_all(os.path.join(partial, os.path.basename(plan)), variant="compiled"))
    files.write_json(result, os.path.join(partial, build_file.FILE_NAME))
    failed = [row for row in result["engines"] if row["status"] != "built"]
    if failed:
        shutil.rmtree(partial)
        raise Failed("{} was not built: {}".format(failed[0]["file"], failed[0]["reason"]), hint=failed[0]["hint"])
    _to_disk(partial)
    os.rename(partial, final)
    for folder in (os.path.dirname(final), os.path.dirname(os.path.dirname(final))):
        os.chmod(folder, 0o755)
    return final


def _board(facts: "Dict[str, Any]") -> str:
    """Return a name for what an engine depends on: the board, its TensorRT, its GPUs and its release."""
    text = json.dumps(facts, sort_keys=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:16]


def _are_whole(folder: str) -> bool:
    from . import build_file, plan_file

    try:
        rows = files.read_json(os.path.join(folder, build_file.FILE_NAME))["engines"]
        return all(
            files.sha256_of(os.path.join(folder, part["file"])) == part["sha256"]
            for row in rows
            if row["status"] == "built"
            for part in plan_file.engine_parts(row)
        )
    except (Failed, KeyError, TypeError):
        return False


def _inputs(plan: str) -> "Any":
    """Return the names of the plan, and beside it of the networks that it names and of what the smoke test reads."""
    from . import plan_file, smoke

    networks = plan_file.read_plan(plan)["networks"]
    parts = [part for network in networks for part in plan_file.parts_of(network)]
    named = [part[key] for part in parts for key in ("file", "weights_file")]
    smoking = smoke.inputs(os.path.dirname(plan))
    return [os.path.basename(plan), *sorted({name for name in named if name is not None}), *smoking]


def _to_disk(folder: str) -> None:
    """Force a folder to the disk; programs of other users may read it, whatever the umask says."""
    for place, _, names in os.walk(folder):
        os.chmod(place, 0o755)
        for name in names:
            os.chmod(os.path.join(place, name), 0o644)
        for name in [*names, "."]:
            handle = os.open(os.path.join(place, name), os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
