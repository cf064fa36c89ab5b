"""``deploycc package DIR --key KEY -o BUNDLE``: a compiled folder as a signed bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from deploycc.cli.options import option, switch
from deploycc.cli.shared_options import OutputFolder
from deploycc.terminal import console


def command(
    folder: OutputFolder,
    key: Annotated[Path, option("KEY", "Ed25519 private key (PEM), as `keys` makes it.")],
    output: Annotated[Path, option("BUNDLE", "The bundle: a signed tar.", "--output", "-o")],
    name: Annotated[str | None, option("NAME", "Name of the bundle; default: the detector's and the target's.")] = None,
    bundle_version: Annotated[str | None, option("VERSION", "Its version; default: 0+ and a digest.")] = None,
    build_on_device: Annotated[
        bool, switch("--build-on-device", "Permit the board to build engines that do not fit it, or are not there.")
    ] = False,
    notice: Annotated[
        list[Path] | None, option("FILE", "A licence or notice that goes with it. May be given again.")
    ] = None,
    deb: Annotated[Path | None, option("FILE", "Also write a Debian package that installs the bundle.")] = None,
    maintainer: Annotated[str | None, option("'NAME <MAIL>'", "Of the Debian package.")] = None,
    copytarget: Annotated[Path | None, option("FILE", "Also write a manifest for CopyTarget of DRIVE OS.")] = None,
) -> None:
    """Pack a compiled folder into a signed bundle.

    It holds engines or networks, the agent, the report, licences, a bill of materials and the provenance. The same
    folder and options always give the same bytes. `agent.pyz install` takes it on a board, or into an image.
    """
    from deploycc.files import check_writable
    from deploycc.workflows.package import package
    from deploycc.workflows.package_contents import PackageSettings

    notices = tuple(notice or ())
    check_writable(output, deb, copytarget, inputs=[key, *notices])
    settings = PackageSettings(name, bundle_version, build_on_device, notices, deb, copytarget, maintainer)
    with console.progress("package") as say:
        say("signing")
        packaged = package(folder, key, output, settings)
    manifest = packaged.manifest
    facts = f"{len(manifest.files)} files, {manifest.size_bytes() / 1e6:.1f} MB, {packaged.digest[:16]}"
    console.say(f"{manifest.name} {manifest.version}", [facts])
    console.wrote(*packaged.files, answer=True)
