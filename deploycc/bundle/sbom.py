"""The parts of a bundle as a CycloneDX bill of materials (`cyclonedx-python-lib`)."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from deploycc.documents.bundle import BundledFile, ChainLink
from deploycc.errors import DeployError

FILE_NAME = "sbom.cdx.json"

_AGENT = "agent.pyz"
_NETWORKS = (".onnx", ".prototxt", ".caffemodel", ".engine", ".bin")
_TRAINED = ("trained file", "pruned file")


def bill_of_materials(
    name: str,
    version: str,
    tool_version: str,
    files: Sequence[BundledFile],
    chain: Sequence[ChainLink],
    needs: Sequence[tuple[str, str]],
) -> str:
    """Return the bill of materials as JSON. The same parts always give the same text: it holds no time.

    Args:
        name: of the bundle.
        version: of the bundle.
        tool_version: of the deploycc that the agent belongs to.
        files: in the bundle.
        chain: artefacts from the trained files on, which are not in the bundle themselves.
        needs: what the board must have, by name and version; it is not in the bundle either.

    Raises:
        DeployError: ``package-extra-missing``.
    """
    try:
        from cyclonedx.contrib.license.factories import LicenseFactory
        from cyclonedx.model import HashAlgorithm, HashType, Property
        from cyclonedx.model.bom import Bom
        from cyclonedx.model.component import Component, ComponentType
        from cyclonedx.output.json import JsonV1Dot6
    except ImportError:
        raise DeployError(
            "package-extra-missing",
            "the bill of materials needs cyclonedx-python-lib, which is not installed",
            hint="python3 -m pip install 'cyclonedx-python-lib>=11'",
        ) from None

    licence = LicenseFactory().make_from_string("Apache-2.0")
    trained = [
        Component(
            name=link.name,
            type=ComponentType.MACHINE_LEARNING_MODEL,
            bom_ref=f"trained:{number}",
            hashes=[HashType(alg=HashAlgorithm.SHA_256, content=link.sha256)],
            properties=[Property(name="deploycc:role", value=f"{link.what}, not in the bundle")],
        )
        for number, link in enumerate(chain)
        if link.what in _TRAINED and link.sha256 is not None
    ]
    parts = []
    made_of_trained = []
    for file in files:
        is_network = file.name.endswith(_NETWORKS)
        is_agent = file.name == _AGENT
        kind = ComponentType.FILE
        if is_network:
            kind = ComponentType.MACHINE_LEARNING_MODEL
        elif is_agent:
            kind = ComponentType.APPLICATION
        part = Component(
            name=file.name,
            type=kind,
            version=tool_version if is_agent else None,
            bom_ref=f"file:{file.name}",
            licenses=[licence] if is_agent else None,
            hashes=[HashType(alg=HashAlgorithm.SHA_256, content=file.sha256)],
        )
        parts.append(part)
        if is_network:
            made_of_trained.append(part)
    bom = Bom(serial_number=uuid.uuid5(uuid.NAMESPACE_OID, " ".join(file.sha256 for file in files)))
    bom.metadata.timestamp = None  # type: ignore[assignment]  # optional in the format; it would differ every time
    bom.metadata.component = Component(
        name=name,
        type=ComponentType.FIRMWARE,
        version=version,
        bom_ref="bundle",
        properties=[Property(name=f"deploycc:needs:{what}", value=which) for what, which in needs],
    )
    bom.components.update([*trained, *parts])
    bom.register_dependency(bom.metadata.component, parts)
    for part in made_of_trained:
        bom.register_dependency(part, trained)
    return JsonV1Dot6(bom).output_as_string(indent=1) + "\n"
