"""Whether a bundle is as it was signed, and whether the files in it belong together."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from deploycc.documents.bundle import BundleManifest
from deploycc.errors import ArtefactError, InputError

if TYPE_CHECKING:
    from deploycc.agent_host.bundles import VerifiedBundle


def verify_bundle(path: Path, key: Path | None, root: Path | None = None) -> VerifiedBundle:
    """Check a bundle: its signature, every byte, and the digests that its documents name.

    Args:
        path: the tar, or the folder that it was unpacked into.
        key: the public key that must have signed it (PEM); None is refused.
        root: of the file system that it is to go into, whose TensorRT and release it must fit; None: any.

    Raises:
        ArtefactError: ``bundle-refused``; ``chain-broken``: a figure, a count or a digest was changed before it was
            signed, and the file and the link are named; a document in it cannot be used.
        InputError: ``bundle-without-key``.
        DeployError: ``agent-stopped``.
    """
    if key is None:
        raise InputError(
            "bundle-without-key",
            "a bundle is verified with the public key of whoever signed it",
            context={"bundle": path},
            hint="`key=PUB`",
        )
    from deploycc.agent_host.bundles import verify_signed
    from deploycc.agent_host.temporary import temporary_folder
    from deploycc.workflows.chain import check_chain

    verified = verify_signed(path, key, root=root)
    model = verified.manifest.plan.rpartition("/")[0] + "/"
    named = verified.manifest.digests().items()
    # the agent lies outside the folder, and may be of a later version than the one that the folder lists
    inside = {name.removeprefix(model): sha256 for name, sha256 in named if name.startswith(model)}
    with temporary_folder() as folder:
        documents = Path(folder, "documents")
        documents.mkdir()
        for name, content in _documents(verified, model):
            (documents / name).write_bytes(content)
        check_chain(documents, differs=lambda name, sha256: inside.get(name, sha256) != sha256)
    return verified


def verify_folder(folder: Path) -> None:
    """Check the digests of an output folder, which nobody signed.

    Raises:
        ArtefactError: it is not an output folder, a document in it was changed, or its files do not belong together.
    """
    from deploycc.workflows.report import read_report

    read_report(folder)


def is_output_folder(path: Path) -> bool:
    """Return whether a path is a folder that no bundle was unpacked into."""
    return path.is_dir() and not (path / BundleManifest.FILE_NAME).exists()


def _documents(verified: VerifiedBundle, model: str) -> Iterator[tuple[str, bytes]]:
    """Yield the names, in their folder, and the bytes of the JSON files that were an output folder's.

    Raises:
        ArtefactError: ``bundle-refused``: the bundle changed since it was verified.
    """
    for file in verified.manifest.files:
        name = file.name.removeprefix(model)
        if file.name.startswith(model) and name.endswith(".json") and "/" not in name:
            content = _read(verified.path, file.name)
            if hashlib.sha256(content).hexdigest() != file.sha256:
                raise ArtefactError(
                    "bundle-refused",
                    "the bundle is refused",
                    context={"bundle": verified.path},
                    note=f"{file.name} changed",
                )
            yield name, content


def _read(bundle: Path, name: str) -> bytes:
    if bundle.is_dir():
        return (bundle / name).read_bytes()
    with tarfile.open(bundle, "r:") as archive:
        file = archive.extractfile(name)
        assert file is not None
        return file.read()
