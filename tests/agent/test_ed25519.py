"""Ed25519: RFC 8032's vectors, the library's signatures, and what only looks like a signature."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from crafted_bundles import ORDER
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from deploycc.agent import ed25519
from deploycc.agent.outcome import Failed
from deploycc.bundle.keys import make_keys

# RFC 8032, 7.1: public key, message, signature
VECTORS = {
    "TEST 1": (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46b"
        "d25bf5f0595bbe24655141438e7a100b",
    ),
    "TEST 2": (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c"
        "387b2eaeb4302aeeb00d291612bb0c00",
    ),
    "TEST 3": (
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc659"
        "4a7c15e9716ed28dc027beceea1ec40a",
    ),
    "TEST SHA(abc)": (
        "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
        "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
        "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
        "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909351fc9ac90b3ecfdfbc7c66431e030"
        "3dca179c138ac17ad9bef1177331a704",
    ),
}


@pytest.mark.parametrize("name", VECTORS)
def test_vectors_of_the_rfc(name: str) -> None:
    key, message, signature = map(bytes.fromhex, VECTORS[name])
    assert ed25519.is_signed(key, message, signature)
    assert not ed25519.is_signed(key, message + b"\0", signature)


def test_it_agrees_with_the_library() -> None:
    chosen = random.Random(8032)
    for size in range(12):
        private = Ed25519PrivateKey.from_private_bytes(chosen.randbytes(32))
        key = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        message = chosen.randbytes(size * 37)
        signature = private.sign(message)
        assert ed25519.is_signed(key, message, signature)
        bit = chosen.randrange(512)
        changed = bytes(byte ^ (1 << bit % 8 if at == bit // 8 else 0) for at, byte in enumerate(signature))
        assert not ed25519.is_signed(key, message, changed)


def test_a_second_signature_of_a_message_is_refused() -> None:
    """S + L satisfies the equation as well; without the limit anybody could make it from S."""
    key, message, signature = map(bytes.fromhex, VECTORS["TEST 3"])
    scalar = int.from_bytes(signature[32:], "little") + ORDER
    assert not ed25519.is_signed(key, message, signature[:32] + scalar.to_bytes(32, "little"))


@pytest.mark.parametrize(
    "key",
    [
        (2**255 - 19).to_bytes(32, "little"),  # y as large as the field
        (2).to_bytes(32, "little"),  # no point of the curve has this y
        (1 | 1 << 255).to_bytes(32, "little"),  # x = 0 with a sign
        b"short",
    ],
)
def test_what_is_no_key_verifies_nothing(key: bytes) -> None:
    assert not ed25519.is_signed(key, b"", bytes(64))


@pytest.mark.parametrize("size", [0, 63, 65])
def test_a_signature_of_another_length(size: int) -> None:
    key, message, signature = map(bytes.fromhex, VECTORS["TEST 1"])
    assert not ed25519.is_signed(key, message, (signature + b"\0")[:size])


def test_public_keys_as_files(tmp_path: Path) -> None:
    make_keys(tmp_path / "a.key", tmp_path / "a.pub")
    key = ed25519.read_public_key(str(tmp_path / "a.pub"))
    private = (tmp_path / "a.key").read_bytes()
    assert len(key) == 32
    wrong = [private, b"", b"x" * 32, (tmp_path / "a.pub").read_bytes().replace(b"MCow", b"MCox"), bytes(1 << 17)]
    for content in wrong:
        (tmp_path / "wrong").write_bytes(content)
        with pytest.raises(Failed):
            ed25519.read_public_key(str(tmp_path / "wrong"))
    with pytest.raises(Failed, match="cannot read"):
        ed25519.read_public_key(str(tmp_path / "nothing"))
