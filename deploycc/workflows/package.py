"""A compiled folder as a signed bundle, and as the packages that images take."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deploycc.documents.bundle import SIGNATURE, BundleManifest
from deploycc.errors import InputError
from deploycc.files import replacing
from deploycc.workflows.package_contents import PackageSettings, contents

if TYPE_CHECKING:
    from deploycc.bundle.tar import Entry

_NAME = re.compile(r"[a-z0-9][a-z0-9.+-]{1,99}")
_VERSION = re.compile(r"[0-9][0-9A-Za-z.+~-]{0,99}")
_MAINTAINER = re.compile(r"[^<>\n]+ <[^<>@\s]+@[^<>@\s]+>")


@dataclass(frozen=True)
class Packaged:
    """A bundle that was written.

    Attributes:
        manifest: what it holds.
        digest: SHA-256 of ``manifest.json``: its identity.
        files: the bundle, then what else was asked for.
    """

    manifest: BundleManifest
    digest: str
    files: tuple[Path, ...]


def package(folder: str | Path, key: str | Path, out: str | Path, settings: PackageSettings | None = None) -> Packaged:
    """Write the files of an output folder as a signed bundle. The same files and settings give the same bytes.

    Args:
        folder: output folder of `deploycc compile`, with what a board added to it.
        key: Ed25519 private key (PEM).
        out: the bundle, a tar.
        settings: None: the defaults.

    Raises:
        ArtefactError: the folder is not an output folder, or its files do not belong together;
            ``bundle-without-engine``, ``bundle-incomplete``, ``bundle-file-name``; a file cannot be written.
        InputError: ``key-unusable``, ``bundle-name``, ``bundle-version``, ``deb-maintainer``, ``deb-architecture``.
        DeployError: ``package-extra-missing``.
    """
    from deploycc.agent_host.temporary import temporary_folder
    from deploycc.bundle.keys import public_pem, read_private_key
    from deploycc.bundle.tar import Entry, write_tar
    from deploycc.documents.plan import read_plan
    from deploycc.workflows.report import read_report

    folder, key, out = Path(folder), Path(key), Path(out)
    settings = settings or PackageSettings()
    private = read_private_key(key)
    report, plan = read_report(folder), read_plan(folder)
    _check_settings(settings)
    with temporary_folder() as scratch:
        parts, manifest = contents(report, plan, private, settings, scratch)
        text = manifest.to_json().encode("utf-8")
        entries = [Entry(manifest.FILE_NAME, text), Entry(SIGNATURE, private.sign(text)), *parts]
        with _written(out) as partial, partial.open("wb") as file:
            write_tar(file, entries)
        digest = hashlib.sha256(text).hexdigest()
        more = _forms(settings, manifest, digest, entries, public_pem(private))
    return Packaged(manifest, digest, (out, *more))


def _check_settings(settings: PackageSettings) -> None:
    if settings.name is not None and not _NAME.fullmatch(settings.name):
        raise InputError(
            "bundle-name",
            f"a bundle cannot be called {settings.name}",
            hint="lower-case letters, digits, `.`, `+` and `-`, at least two: it is a Debian package's name, too",
        )
    if settings.version is not None and not _VERSION.fullmatch(settings.version):
        raise InputError(
            "bundle-version",
            f"{settings.version} is not a version",
            hint="a digit first, then letters, digits, `.`, `+`, `~` and `-`: 1.2.0",
        )
    if settings.deb is not None and not _MAINTAINER.fullmatch(settings.maintainer or ""):
        raise InputError(
            "deb-maintainer",
            "a Debian package names its maintainer, with a mail address",
            hint="`maintainer=Jane Doe <jane@example.org>`",
        )


def _forms(
    settings: PackageSettings, manifest: BundleManifest, digest: str, entries: Sequence[Entry], public_key: bytes
) -> list[Path]:
    """Write the forms in which images take a bundle."""
    from deploycc.bundle import deb
    from deploycc.bundle.copy_target import copy_target_manifest

    written = []
    if settings.deb is not None:
        notice = next(entry.content for entry in entries if entry.name == "NOTICE")
        assert isinstance(notice, bytes)
        described = deb.Package(
            manifest.name,
            manifest.version,
            manifest.architecture,
            manifest.target,
            settings.maintainer or "",
            f"Copyright (c) the authors of deploycc, and whoever trained the network.\n\n{notice.decode()}",
        )
        with _written(settings.deb) as partial:
            deb.write_deb(partial, described, entries, public_key)
        written.append(settings.deb)
    if settings.copytarget is not None:
        with _written(settings.copytarget) as partial:
            partial.write_text(copy_target_manifest(manifest, digest), encoding="ascii")
        written.append(settings.copytarget)
    return written


@contextmanager
def _written(path: Path) -> Iterator[Path]:
    with replacing(path) as partial:
        yield partial
        partial.chmod(0o644)
