"""From the trained file to the report: the digests that name each artefact, and whether they still fit together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from deploycc.documents.build import BuiltEngine
from deploycc.documents.bundle import ChainLink
from deploycc.documents.compile import CompileReport, NetworkRecord
from deploycc.documents.latency import LatencyReport
from deploycc.report.table import Table


@dataclass(frozen=True)
class Link:
    """One artefact.

    Attributes:
        what: ``trained file``, ``pruned file``, ``network`` or ``engine``; ``trained files`` together.
        name: files, with their precision where there is one.
        sha256: None where the file does not exist here.
    """

    what: str
    name: str
    sha256: str | None


def links(report: CompileReport, latency: LatencyReport | None) -> tuple[Link, ...]:
    """Return the artefacts in the order they were made."""
    found = _sources(report)
    found += [
        Link("network", f"{name} ({network.label})", sha256)
        for network in report.networks
        for name, sha256 in network.files.items()
    ]
    found += [
        Link("engine", f"{name if engine.status == 'built' else engine.status} ({engine.label})", sha256)
        for engine in report.engines
        for name, sha256 in engine.files.items()
    ]
    built = {sha256 for engine in report.engines for sha256 in engine.digests}
    for run in latency.runs if latency else ():
        for number, sha256 in enumerate(run.engine.digests if run.engine else ()):
            if run.engine and sha256 not in built:
                name = run.engine.file if number == 0 else f"second engine {number - 1}"
                found.append(Link("engine", f"{name} ({run.label}), built where it ran", sha256))
    return tuple(found)


def _sources(report: CompileReport) -> list[Link]:
    """Trained files, each by itself, and the files that prunings made of them."""
    sources = [record.source for record in report.prunings]
    if not sources or sources[-1] != report.source:
        sources.append(report.source)
    found = []
    for number, source in enumerate(sources):
        what = "trained file" if number == 0 else "pruned file"
        if source.file_sha256:
            found += [Link(what, *pair) for pair in zip(source.files, source.file_sha256, strict=True)]
        else:  # an older version did not record them one by one
            found.append(Link(f"{what}s", ", ".join(source.files), source.sha256))
    return found


def _made_of(engine: BuiltEngine, network: NetworkRecord) -> bool:
    second = tuple(each.network_sha256 for each in engine.second)
    planned = tuple(each.sha256 for each in network.second) if engine.status == "built" else ()
    return (engine.network_sha256, second) == (network.sha256, planned)


def chain_table(chain: Iterable[ChainLink]) -> Table:
    """One row per artefact of a bundle, from the trained files to the engines."""
    rows = tuple((link.what, link.name, link.sha256 or "-") for link in chain)
    return Table("", ("artefact", "name", "SHA-256"), rows)


def breaks(report: CompileReport, latency: LatencyReport | None) -> tuple[str, ...]:
    """Return what does not fit together: figures that belong to another network, engine or target."""
    found = []
    networks = {network.label: network for network in report.networks}
    engines = {engine.label: engine for engine in report.engines if engine.sha256}
    for network in report.networks:
        trained = report.prunings[0].source if report.prunings else report.source
        made_from = trained if network.variant == "original" else report.source
        if network.source_sha256 != made_from.sha256:
            found.append(f"network {network.file} was made from other trained files")
    for engine in report.engines:
        network_here = networks.get(engine.label)
        if network_here is None or not _made_of(engine, network_here):
            found.append(f"the {engine.label} engine was built from another network")
    if latency is None:
        return tuple(found)
    if latency.target != report.target.name:
        found.append(f"the latency was measured for target {latency.target}, not {report.target.name}")
    for run in latency.runs:
        if not run.has_times:
            continue
        network_here, engine_here = networks.get(run.label), engines.get(run.label)
        if network_here is None or (run.network_sha256 and run.network_sha256 != network_here.sha256):
            found.append(f"the {run.label} latency was measured on another network")
        elif engine_here and run.engine and run.engine.sha256 and run.engine.digests != engine_here.digests:
            found.append(f"the {run.label} latency was measured on another engine than the one built here")
    return tuple(found)
