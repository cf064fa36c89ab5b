"""Verification of Ed25519 signatures (RFC 8032), and public keys in the form that OpenSSL writes.

The board may have neither a library for it nor an `openssl` that knows Ed25519 (from 1.1.1; Ubuntu 16.04 has 1.0.2).
Nothing here is secret, so the time that it takes may depend on the values.
"""

import base64
import binascii
import hashlib
from typing import Any, Tuple

from . import files
from .outcome import Failed

KEY_BYTES = 32
SIGNATURE_BYTES = 64

_P = 2**255 - 19
_ORDER = 2**252 + 27742317777372353535851937790883648493
_D = -121665 * pow(121666, _P - 2, _P) % _P
_ROOT_OF_MINUS_1 = pow(2, (_P - 1) // 4, _P)
_MOST_KEY_FILE_BYTES = 1 << 16
_DER_PREFIX = bytes.fromhex("302a300506032b6570032100")  # SubjectPublicKeyInfo of Ed25519 (RFC 8410)
_PEM_BEGIN = b"-----BEGIN PUBLIC KEY-----"
_PEM_END = b"-----END PUBLIC KEY-----"

# A point is (X, Y, Z, T) with x = X/Z, y = Y/Z and x*y = T/Z.
_Point = Tuple[int, int, int, int]
_NEUTRAL = (0, 1, 1, 0)


def read_public_key(path: str) -> bytes:
    """Return the 32 bytes of a public key from its PEM file.

    Raises:
        Failed: the file cannot be read, or holds something else.
    """
    text = files.read_bytes(path, _MOST_KEY_FILE_BYTES).strip()
    wrong = Failed("{} is not the PEM file of an Ed25519 public key".format(path), hint="`deploycc keys` makes one")
    if not (text.startswith(_PEM_BEGIN) and text.endswith(_PEM_END)):
        raise wrong
    try:
        data = base64.b64decode(b"".join(text[len(_PEM_BEGIN) : -len(_PEM_END)].split()), validate=True)
    except binascii.Error as error:
        raise wrong from error
    if len(data) != len(_DER_PREFIX) + KEY_BYTES or not data.startswith(_DER_PREFIX):
        raise wrong
    return data[len(_DER_PREFIX) :]


def is_signed(key: bytes, message: bytes, signature: bytes) -> bool:
    """Return whether a signature of a message was made with the private half of a key.

    Args:
        key: 32 bytes.
        message: the signed bytes.
        signature: 64 bytes; of any other length it is wrong.
    """
    if len(key) != KEY_BYTES or len(signature) != SIGNATURE_BYTES:
        return False
    public = _decoded(key)
    scalar = int.from_bytes(signature[32:], "little")
    if public is None or scalar >= _ORDER:  # a larger one would be a second signature of the same message
        return False
    digest = hashlib.sha512(signature[:32] + key + message).digest()
    challenge = int.from_bytes(digest, "little") % _ORDER
    negated = (_P - public[0], public[1], 1, _P - public[3])
    return _encoded(_sum_of_products(scalar, _BASE, challenge, negated)) == signature[:32]


def _add(a: "_Point", b: "_Point") -> "_Point":
    """Return the sum of two points (RFC 8032, 5.1.4)."""
    low = (a[1] - a[0]) * (b[1] - b[0]) % _P
    high = (a[1] + a[0]) * (b[1] + b[0]) % _P
    both = 2 * a[3] * b[3] * _D % _P
    scale = 2 * a[2] * b[2] % _P
    e, f, g, h = high - low, scale - both, scale + both, high + low
    return (e * f % _P, g * h % _P, f * g % _P, e * h % _P)


def _doubled(a: "_Point") -> "_Point":
    """Return twice a point (RFC 8032, 5.1.4)."""
    x2, y2, z2 = a[0] * a[0] % _P, a[1] * a[1] % _P, 2 * a[2] * a[2] % _P
    h = x2 + y2
    e = h - (a[0] + a[1]) * (a[0] + a[1])
    g = x2 - y2
    f = z2 + g
    return (e * f % _P, g * h % _P, f * g % _P, e * h % _P)


def _sum_of_products(first: int, a: "_Point", second: int, b: "_Point") -> "_Point":
    """Return ``first * a + second * b``, both at once from the highest bit down."""
    addends = (None, a, b, _add(a, b))
    total = _NEUTRAL  # type: _Point
    for bit in range(max(first.bit_length(), second.bit_length()) - 1, -1, -1):
        total = _doubled(total)
        addend = addends[(first >> bit & 1) + 2 * (second >> bit & 1)]
        if addend is not None:
            total = _add(total, addend)
    return total


def _encoded(point: "_Point") -> bytes:
    inverse = pow(point[2], _P - 2, _P)
    x, y = point[0] * inverse % _P, point[1] * inverse % _P
    return (y | (x & 1) << 255).to_bytes(KEY_BYTES, "little")


def _decoded(data: bytes) -> "Any":
    """Return the point that 32 bytes encode; None where they encode none (RFC 8032, 5.1.3)."""
    number = int.from_bytes(data, "little")
    y, sign = number & ((1 << 255) - 1), number >> 255
    if y >= _P:
        return None
    u, v = (y * y - 1) % _P, (_D * y * y + 1) % _P
    x = u * pow(v, 3, _P) * pow(u * pow(v, 7, _P), (_P - 5) // 8, _P) % _P
    if v * x * x % _P != u:
        x = x * _ROOT_OF_MINUS_1 % _P
    if v * x * x % _P != u or (x == 0 and sign):
        return None
    if x & 1 != sign:
        x = _P - x
    return (x, y, 1, x * y % _P)


_BASE = _decoded((4 * pow(5, _P - 2, _P) % _P).to_bytes(KEY_BYTES, "little"))
