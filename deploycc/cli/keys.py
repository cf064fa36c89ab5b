"""``deploycc keys NAME``: a pair of keys for signing bundles."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from deploycc.cli.options import argument
from deploycc.terminal import console


def command(name: Annotated[Path, argument("NAME", "NAME.key and NAME.pub are written; nothing is replaced.")]) -> None:
    """Make a pair of Ed25519 keys.

    NAME.key signs bundles: keep it to yourself. Boards verify with NAME.pub. OpenSSL reads both.
    """
    from deploycc.bundle.keys import make_keys

    private, public = name.with_name(f"{name.name}.key"), name.with_name(f"{name.name}.pub")
    make_keys(private, public)
    console.wrote(private, public, answer=True)
