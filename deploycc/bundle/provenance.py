"""How the files of a bundle were made: an in-toto statement with SLSA provenance, in a signed DSSE envelope.

https://in-toto.io/Statement/v1, https://slsa.dev/provenance/v1, https://github.com/secure-systems-lab/dsse
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from deploycc.bundle.keys import key_id
from deploycc.documents.bundle import BundledFile, ChainLink

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

FILE_NAME = "provenance.intoto.jsonl"
PAYLOAD_TYPE = "application/vnd.in-toto+json"


def signed_provenance(
    key: Ed25519PrivateKey,
    files: Sequence[BundledFile],
    chain: Sequence[ChainLink],
    *,
    command: str | None,
    target: str,
    tool_version: str,
) -> str:
    """Return the envelope as one line of JSON.

    Args:
        key: signs it.
        files: what was made.
        chain: what it was made from, first to last.
        command: the command line of the compilation; None where it was not recorded.
        target: the board that was compiled for.
        tool_version: of the deploycc that compiled.
    """
    statement: dict[str, Any] = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": file.name, "digest": {"sha256": file.sha256}} for file in files],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": "urn:deploycc:compile:1",
                "externalParameters": {"command": command, "target": target},
                "resolvedDependencies": [
                    {"name": link.name, "digest": {"sha256": link.sha256}, "annotations": {"role": link.what}}
                    for link in chain
                    if link.sha256 is not None
                ],
            },
            "runDetails": {"builder": {"id": "urn:deploycc", "version": {"deploycc": tool_version}}},
        },
    }
    payload = json.dumps(statement, sort_keys=True, separators=(",", ":")).encode("ascii")
    envelope = {
        "payloadType": PAYLOAD_TYPE,
        "payload": base64.b64encode(payload).decode("ascii"),
        "signatures": [
            {"keyid": key_id(key), "sig": base64.b64encode(key.sign(signed_bytes(payload))).decode("ascii")}
        ],
    }
    return json.dumps(envelope, sort_keys=True, separators=(",", ":")) + "\n"


def signed_bytes(payload: bytes) -> bytes:
    """Return what DSSE signs of a payload: its type and itself, each after its length."""
    kind = PAYLOAD_TYPE.encode("ascii")
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)
