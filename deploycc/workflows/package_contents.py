"""What goes into a bundle: the files of an output folder, what explains them, and the manifest that lists all."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from deploycc.documents.bundle import BundledEngine, BundledFile, BundleManifest, BundleName, ChainLink
from deploycc.errors import ArtefactError
from deploycc.files import path_text, sha256_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from deploycc.bundle.tar import Entry
    from deploycc.documents.compile import CompileReport
    from deploycc.documents.plan import BuildPlan
    from deploycc.workflows.report import Report

MODEL = "model"
"""Folder of a bundle that holds the files of the output folder."""


@dataclass(frozen=True)
class PackageSettings:
    """What `package` is told.

    Attributes:
        name: of the bundle; None: the detector's and the target's.
        version: of the bundle, beginning with a digit; None: made of the digest of ``compile.json``.
        build_on_device: the board may build engines from the networks in the bundle where the engines do not fit it.
        notices: further files that go with it: the licence of the network, for example.
        deb: also write this Debian package.
        copytarget: also write this manifest for CopyTarget.
        maintainer: of the Debian package, ``Name <mail>``.
    """

    name: str | None = None
    version: str | None = None
    build_on_device: bool = False
    notices: tuple[Path, ...] = ()
    deb: Path | None = None
    copytarget: Path | None = None
    maintainer: str | None = None


def contents(
    report: Report, plan: BuildPlan, key: Ed25519PrivateKey, settings: PackageSettings, scratch: Path
) -> tuple[list[Entry], BundleManifest]:
    """Return the files of a bundle in order, and the manifest that lists them.

    Args:
        report: the output folder.
        plan: its build plan.
        key: signs the provenance.
        settings: of the user.
        scratch: empty folder, for files that are made; it must live until they are read.

    Raises:
        ArtefactError: ``bundle-without-engine``, ``bundle-incomplete``, ``bundle-file-name``.
        DeployError: ``package-extra-missing``.
    """
    from deploycc.agent_host.zipapp import FILE_NAME as AGENT
    from deploycc.agent_host.zipapp import write_agent
    from deploycc.bundle import notices, provenance, readme, sbom
    from deploycc.bundle.tar import Entry
    from deploycc.documents.document import this_tool

    compiled = report.compiled
    name = settings.name or _default_name(compiled)
    version = settings.version or f"0+{sha256_of(report.folder / compiled.FILE_NAME)[:12]}"
    model = [Entry(f"{MODEL}/{file}", report.folder / file) for file in _model_files(report.folder, plan)]
    engines = _engines(report.folder)
    if not engines and not settings.build_on_device:
        raise ArtefactError(
            "bundle-without-engine",
            "the folder holds no engine, and the board is not permitted to build one",
            context={"folder": report.folder, "target": report.target},
            note=compiled.next_command and f"engines are built on the board: {compiled.next_command}",
            hint="build and measure on the board and copy the folder back, or permit it: `build_on_device=True`",
        )
    write_agent(scratch / AGENT)
    chain = _chain(report)
    listed_model = [_listed(entry) for entry in model]
    board = plan.target
    facts = {"name": name, "version": version, "target": board.name, "architecture": board.architecture}
    parts = [
        *model,
        Entry(AGENT, scratch / AGENT, executable=True),
        Entry(notices.LICENCE, notices.licence_text().encode("utf-8")),
        Entry(notices.NOTICE, notices.notice_text(name, has_gates=_has_gates(report, plan)).encode("utf-8")),
        *(Entry(f"licences/{path.name}", path) for path in settings.notices),
        Entry(
            readme.FILE_NAME,
            readme.readme(
                **facts, runtime=_runtime(plan), engines=engines, build_on_device=settings.build_on_device
            ).encode("utf-8"),
        ),
        Entry(
            provenance.FILE_NAME,
            provenance.signed_provenance(
                key,
                listed_model,
                chain,
                command=compiled.command,
                target=board.name,
                tool_version=compiled.tool.deploycc,
            ).encode("ascii"),
        ),
    ]
    needs = [
        (what, which)
        for what, which in (("runtime", _runtime(plan)), ("compute-capability", board.compute_capability))
        if which is not None
    ]
    known = {file.name: file for file in listed_model}
    listed = [known.get(entry.name) or _listed(entry) for entry in parts]
    bill = sbom.bill_of_materials(name, version, this_tool().deploycc, listed, chain, needs)
    parts.append(Entry(sbom.FILE_NAME, bill.encode("utf-8")))
    listed.append(_listed(parts[-1]))
    manifest = BundleManifest(
        tool=this_tool(),
        name=name,
        version=version,
        target=board.name,
        architecture=board.architecture,
        runtime=board.runtime,
        runtime_version=board.runtime_version,
        compute_capability=board.compute_capability,
        build_on_device=settings.build_on_device,
        plan=f"{MODEL}/{plan.FILE_NAME}",
        engines=engines,
        chain=chain,
        files=tuple(sorted(listed, key=lambda file: file.name)),
    )
    return sorted(parts, key=lambda entry: entry.name), manifest


def _runtime(plan: BuildPlan) -> str:
    return " ".join(filter(None, (plan.target.runtime, plan.target.runtime_version)))


def _default_name(compiled: CompileReport) -> str:
    text = f"{compiled.detector.name}-{compiled.target.name}".lower()
    return re.sub(r"[^a-z0-9.+]+", "-", text).strip("-.+")[:100]


def _model_files(folder: Path, plan: BuildPlan) -> list[str]:
    """Return what the folder's manifest lists, and the results; the agent comes apart, in its present version.

    Of engines that run in a row all go, or none where one is missing.
    """
    from deploycc.agent_host.zipapp import FILE_NAME as AGENT
    from deploycc.documents.document import read_document
    from deploycc.documents.folder import FolderManifest
    from deploycc.workflows.results import result_files

    listed = read_document(folder, FolderManifest).digests()
    optional = {AGENT, *(name for engine in plan.engines for name in engine.files)}
    lost = sorted(name for name in listed if name not in optional and not (folder / name).is_file())
    if lost:
        raise ArtefactError(
            "bundle-incomplete",
            f"{lost[0]} is not in the folder any more, and {FolderManifest.FILE_NAME} lists it",
            context={"folder": folder, "missing": ", ".join(lost)},
            hint="bring it back, or compile again",
        )
    halves = {name for engine in plan.engines if not _all_there(folder, engine.files) for name in engine.files}
    names = {*listed, *result_files(folder), FolderManifest.FILE_NAME} - {AGENT} - halves
    return sorted(name for name in names if (folder / name).is_file())


def _all_there(folder: Path, names: Iterable[str]) -> bool:
    return all((folder / name).is_file() for name in names)


def _engines(folder: Path) -> tuple[BundledEngine, ...]:
    """Return what each engine of a folder needs of the board."""
    from deploycc.documents.build import BuildResult
    from deploycc.documents.output_folder import read_if_there

    build = read_if_there(folder, BuildResult)
    found = []
    for engine in build.engines if build is not None else ():
        if engine.status == "built" and _all_there(folder, engine.files):
            assert build is not None
            l4t = (build.environment if engine.environment is None else engine.environment).get("l4t")
            found += [
                BundledEngine(
                    file=f"{MODEL}/{name}",
                    builder_version=engine.builder_version,
                    compute_capability=engine.compute_capability,
                    l4t=l4t if isinstance(l4t, str) else None,
                )
                for name in engine.files
            ]
    return tuple(found)


def _chain(report: Report) -> tuple[ChainLink, ...]:
    from deploycc.report.chain import links

    found = links(report.compiled, report.latency)
    return tuple(ChainLink(what=link.what, name=path_text(link.name), sha256=link.sha256) for link in found)


def _listed(entry: Entry) -> BundledFile:
    content = entry.content
    sha256 = hashlib.sha256(content).hexdigest() if isinstance(content, bytes) else sha256_of(content)
    try:
        TypeAdapter(BundleName).validate_python(entry.name)
    except ValidationError:
        raise ArtefactError(
            "bundle-file-name",
            f"{path_text(entry.name)} cannot be the name of a file in a bundle",
            hint="at most 100 letters, digits, `.`, `_`, `+` and `-`, in folders or not: rename it",
        ) from None
    return BundledFile(name=entry.name, sha256=sha256, size_bytes=entry.size, executable=entry.executable)


def _has_gates(report: Report, plan: BuildPlan) -> bool:
    """Return whether a network of the folder has kernel gates, or had some that became constants."""
    import onnx

    from deploycc.detector.file import holds_detector, read_detector
    from deploycc.documents.gates import GateReport
    from deploycc.graph.gates.search import find_gates

    if (
        plan.has_row
        or any(record.gates for record in report.compiled.prunings)
        or (report.folder / GateReport.FILE_NAME).exists()
    ):
        return True
    for network in plan.networks:
        if network.format == "onnx":
            model = onnx.load(report.folder / network.file)
            if holds_detector(model):
                detector = read_detector(model, report.folder / network.file)
                if detector.gates or find_gates(detector.graph, detector.gates):
                    return True
    return False
