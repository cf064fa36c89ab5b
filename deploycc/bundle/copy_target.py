"""A manifest for NVIDIA's CopyTarget (DRIVE OS 5.1 and later), which copies an unpacked bundle into a root file system.

It does what `agent.pyz install` does: the files go to ``releases/<digest>``, and ``current`` leads there. CopyTarget
takes every folder and every file by itself, and YAML's JSON subset keeps quoting simple.
"""

from __future__ import annotations

import json

from deploycc.documents.bundle import SIGNATURE, BundleManifest

BASE = "/var/lib/deploycc"


def copy_target_manifest(manifest: BundleManifest, digest: str) -> str:
    """Return the YAML.

    Args:
        manifest: of the bundle; sources are relative to the folder that it was unpacked into.
        digest: SHA-256 of ``manifest.json``.
    """
    release = f"{BASE}/releases/{digest}"
    modes = {BundleManifest.FILE_NAME: "0644", SIGNATURE: "0644"}
    modes.update((file.name, "0755" if file.executable else "0644") for file in manifest.files)
    folders = {name.rpartition("/")[0] for name in modes if "/" in name}
    parents = [f"{BASE}/", f"{BASE}/releases/", f"{release}/", *(f"{release}/{name}/" for name in sorted(folders))]
    lines = ["version: '1.4'", "fileList:"]
    for folder in parents:
        lines += _item(folder, None, "0755")
    for name, mode in sorted(modes.items()):
        lines += _item(f"{release}/{name}", name, mode)
    lines += [*_item(f"{BASE}/current", f"releases/{digest}", None), "      create_symlink: true"]
    return "\n".join(lines) + "\n"


def _item(destination: str, source: str | None, mode: str | None) -> list[str]:
    lines = [f"    - destination: {json.dumps(destination)}"]
    if source is not None:
        lines += ["      source:", f"          pdk_sdk_installed_path: {json.dumps(source)}"]
    if mode is not None:
        lines.append(f"      perm: {mode}")
    return [*lines, "      owner: root", "      group: root"]
