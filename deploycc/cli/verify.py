"""``deploycc verify BUNDLE --key PUB``: whether a bundle or a folder is as it was made."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from deploycc.cli.options import argument, option, switch
from deploycc.terminal import console


def command(
    bundle: Annotated[Path, argument("BUNDLE|DIR", "A bundle, unpacked or not; or an output folder, without --key.")],
    key: Annotated[Path | None, option("PUB", "Public key that must have signed the bundle (PEM).")] = None,
    root: Annotated[Path | None, option("DIR", "Root file system that it must fit: TensorRT, release.")] = None,
    as_json: Annotated[bool, switch("--json", "Print the manifest as JSON.")] = False,
) -> None:
    """Check a bundle: signature, bytes and digests.

    Every byte is compared with what was signed, and every digest that a document names with the file that it names. Of
    an output folder the digests are followed. The exit status is 1 where anything was changed.
    """
    from deploycc.report.chain import chain_table
    from deploycc.workflows.verify_bundle import is_output_folder, verify_bundle, verify_folder

    if is_output_folder(bundle):
        verify_folder(bundle)
        console.say(str(bundle), ["its files belong together; nobody signed them"])
        return
    with console.progress("verify") as say:
        say("reading")
        verified = verify_bundle(bundle, key, root)
    manifest = verified.manifest
    if as_json:
        console.print_json({"digest": verified.digest, **manifest.model_dump(mode="json", by_alias=True)})
        return
    what = f"{len(manifest.files)} files, {manifest.size_bytes() / 1e6:.1f} MB, signed and unchanged"
    console.say(f"{manifest.name} {manifest.version} for {manifest.target}", [what])
    console.tables(chain_table(manifest.chain))
