"""Keys: made once, never replaced, and nothing else taken for one."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_public_key,
)

from deploycc.bundle.keys import make_keys, public_pem, read_private_key
from deploycc.errors import InputError


def test_a_pair(tmp_path: Path) -> None:
    private, public = tmp_path / "a.key", tmp_path / "a.pub"
    make_keys(private, public)
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    key = read_private_key(private)
    assert public.read_bytes() == public_pem(key)
    load_pem_public_key(public.read_bytes()).verify(key.sign(b"text"), b"text")  # type: ignore[union-attr, call-arg]


@pytest.mark.parametrize("there", ["a.key", "a.pub"])
def test_a_key_is_never_replaced(tmp_path: Path, there: str) -> None:
    (tmp_path / there).write_text("mine")
    with pytest.raises(InputError) as caught:
        make_keys(tmp_path / "a.key", tmp_path / "a.pub")
    assert caught.value.code == "key-exists"
    assert [path.name for path in tmp_path.iterdir()] == [there]
    assert (tmp_path / there).read_text() == "mine"


def pem(key: Ed25519PrivateKey | rsa.RSAPrivateKey, password: bytes | None = None) -> bytes:
    how = BestAvailableEncryption(password) if password else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how)


WRONG = {
    "nothing": b"",
    "a public key": public_pem(Ed25519PrivateKey.from_private_bytes(bytes(32))),
    "another algorithm": pem(rsa.generate_private_key(65537, 1024)),
    "a password": pem(Ed25519PrivateKey.from_private_bytes(bytes(32)), b"secret"),
    "too large": bytes(1 << 17),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_not_a_key(tmp_path: Path, what: str) -> None:
    (tmp_path / "wrong").write_bytes(WRONG[what])
    with pytest.raises(InputError) as caught:
        read_private_key(tmp_path / "wrong")
    assert caught.value.code == "key-unusable"
    assert "openssl genpkey" in str(caught.value)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        read_private_key(tmp_path / "nothing")
