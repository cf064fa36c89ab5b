"""Bundles, verified by the agent that also does it on the board: there is one reader of them."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from deploycc.agent_host.temporary import temporary_folder
from deploycc.agent_host.zipapp import FOLDER_NAME, link_agent
from deploycc.documents.bundle import BundleManifest
from deploycc.errors import ArtefactError, DeployError


@dataclass(frozen=True)
class VerifiedBundle:
    """A bundle whose every byte is as it was signed.

    Attributes:
        path: the tar, or the folder that it was unpacked into.
        digest: SHA-256 of its manifest.
        manifest: what it holds.
    """

    path: Path
    digest: str
    manifest: BundleManifest


def verify_signed(path: Path, key: Path, *, root: Path | None = None) -> VerifiedBundle:
    """Check a bundle's signature and every byte of it.

    Args:
        path: the tar, or the folder that it was unpacked into.
        key: public key (PEM).
        root: of the file system that it is to go into, whose TensorRT and release it must fit; None: any.

    Raises:
        ArtefactError: ``bundle-refused``.
        DeployError: ``agent-stopped``.
    """
    with temporary_folder() as folder:
        link_agent(folder / FOLDER_NAME)
        out = folder / "out.json"
        where = ["--any-machine"] if root is None else ["--root", str(root.resolve())]
        command = [sys.executable, "-I", "-S", str(folder / FOLDER_NAME), "verify", str(path.absolute())]
        done = subprocess.run(
            [*command, "--key", str(key.absolute()), "--out", str(out), *where],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        if not out.is_file():
            raise DeployError(
                "agent-stopped",
                f"the agent ended with code {done.returncode} and without a result",
                context={"bundle": path, "command": "verify"},
                note=" | ".join(done.stderr.splitlines()[-5:]) or None,
            )
        answer = json.loads(out.read_text(encoding="utf-8"))
    if answer["status"] != "verified":
        raise ArtefactError(
            "bundle-refused",
            "the bundle is refused",
            context={"bundle": path, "key": key},
            note=answer["reason"],
            hint=answer["hint"],
        )
    return VerifiedBundle(path, answer["digest"], BundleManifest.model_validate_json(json.dumps(answer["manifest"])))
