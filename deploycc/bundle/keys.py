"""Ed25519 keys in the PEM files that OpenSSL reads and writes, and signatures made with them."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from deploycc.errors import DeployError, InputError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_MOST_BYTES = 1 << 16


def make_keys(private: Path, public: Path) -> None:
    """Write a new pair of keys; the private one only its owner may read.

    Raises:
        InputError: ``key-exists``: nothing is replaced.
        DeployError: ``package-extra-missing``.
        OSError: a file cannot be written.
    """
    require_library()
    for path in (private, public):
        if path.exists() or path.is_symlink():
            raise InputError(
                "key-exists",
                f"{path.name} is there, and a key is never replaced",
                context={"file": path},
                hint="choose another name; what was signed with the old key needs it for ever",
            )
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ed25519

    key = ed25519.Ed25519PrivateKey.generate()
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    handle = os.open(private, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(secret)
    with public.open("xb") as file:
        file.write(public_pem(key))


def read_private_key(path: Path) -> Ed25519PrivateKey:
    """Read a private key (PKCS #8).

    Raises:
        InputError: ``key-unusable``: the file cannot be read, or holds something else.
        DeployError: ``package-extra-missing``.
    """
    require_library()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ed25519

    try:
        if path.is_file() and path.stat().st_size > _MOST_BYTES:
            raise ValueError("it is too large for a key")
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error).splitlines()[0]
        raise _unusable(path, reason or "it cannot be read") from None
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise _unusable(path, "it is the key of another algorithm")
    return key


def public_pem(key: Ed25519PrivateKey) -> bytes:
    """Return the PEM file of the public half of a key."""
    from cryptography.hazmat.primitives import serialization

    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def key_id(key: Ed25519PrivateKey) -> str:
    """Return the SHA-256 of a public key's 32 bytes, hexadecimal."""
    from cryptography.hazmat.primitives import serialization

    raw = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return hashlib.sha256(raw).hexdigest()


def _unusable(path: Path, reason: str) -> InputError:
    return InputError(
        "key-unusable",
        f"{path.name} is not an Ed25519 private key without a password",
        context={"file": path},
        note=reason,
        hint="`deploycc keys` makes one, and so does `openssl genpkey -algorithm ed25519`",
    )


def require_library() -> None:
    """Check that cryptography is installed.

    Raises:
        DeployError: ``package-extra-missing``.
    """
    try:
        import cryptography  # noqa: F401
    except ImportError:
        raise DeployError(
            "package-extra-missing",
            "signing needs cryptography, which is not installed",
            hint="python3 -m pip install 'cryptography>=42'",
        ) from None
