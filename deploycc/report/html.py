"""Render the report as a self-contained HTML file: styles, plots and text are inside."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from deploycc.documents.compile import CompileReport, NetworkRecord
from deploycc.documents.contract import IntegrationContract
from deploycc.documents.latency import LatencyReport
from deploycc.documents.pruning import PruningRecord
from deploycc.report import plots
from deploycc.report.against_original import against_original
from deploycc.report.chain import breaks, links
from deploycc.report.contract import contract_tables
from deploycc.report.environment import flatten
from deploycc.report.headline import headline, key_figures
from deploycc.report.notes import gather_notes
from deploycc.report.page import page_template
from deploycc.report.pruning import gates_table, layers_table, parts_table, refitted_table, remarks, stays_table
from deploycc.report.row import row_tables
from deploycc.report.stats import CONFIDENCE
from deploycc.report.table import Table, number_columns
from deploycc.report.telemetry import Watched, watched
from deploycc.report.verdict import Assessment, assess

TEMPLATE = "report.html.j2"


@dataclass(frozen=True)
class _RunSection:
    """A measured run with its plots."""

    item: Assessment
    distribution: Markup
    over_time: Markup
    watched: Watched | None
    layers: Markup | None


@dataclass(frozen=True)
class _NetworkSection:
    """A network with its plot, which is None if no pass ran."""

    network: NetworkRecord
    passes: Markup | None


@dataclass(frozen=True)
class _NumberedTable:
    """A table with the information which columns are numeric."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: tuple[bool, ...]

    @classmethod
    def of(cls, table: Table) -> _NumberedTable:
        return cls(table.title, table.columns, table.rows, number_columns(table))


def render_html(
    report: CompileReport, latency: LatencyReport | None, contract: IntegrationContract | None = None
) -> str:
    """Return the page.

    Names, notes and reasons come from untrusted files: the template escapes all of them. Only the plots, which
    matplotlib has escaped, are inserted unchanged.
    """
    runs = assess(latency) if latency else ()
    measured = [_run_section(item) for item in runs if item.summary]
    return page_template(TEMPLATE).render(
        report=report,
        latency=latency,
        runs=runs,
        headline=headline(report, runs),
        figures=key_figures(report, runs),
        measured=measured,
        rows_of_networks=[_NumberedTable.of(table) for table in row_tables(latency)] if latency else [],
        networks=[_network_section(network) for network in report.networks],
        notes=gather_notes(report),
        links=links(report, latency),
        breaks=breaks(report, latency),
        sides=against_original(report, latency),
        pruning_tables=lambda record: _pruning_tables(record, report.detector.name),
        pruning_remarks=lambda record: remarks(record, report.detector.name, explained=True),
        contract=[_NumberedTable.of(table) for table in contract_tables(contract)] if contract else [],
        facts=_facts(latency) if latency and measured else [],  # without a run the environment is not the target's
        confidence=CONFIDENCE,
        top_layers=plots.TOP_LAYERS,
        max_dots=plots.MAX_DOTS,
    )


def _pruning_tables(record: PruningRecord, network: str) -> list[_NumberedTable]:
    tables = (
        parts_table(record),
        layers_table(record, network),
        gates_table(record),
        refitted_table(record),
        stays_table(record),
    )
    return [_NumberedTable.of(table) for table in tables if table is not None]


def _run_section(item: Assessment) -> _RunSection:
    assert item.summary is not None
    return _RunSection(
        item,
        Markup(plots.distribution(item.run, item.summary)),
        Markup(plots.over_time(item.run, item.summary)),
        watched(item.run),
        Markup(plots.layer_bars(item.run)) if item.run.layers else None,
    )


def _network_section(network: NetworkRecord) -> _NetworkSection:
    return _NetworkSection(network, Markup(plots.size_over_passes(network)) if network.steps else None)


def _facts(latency: LatencyReport) -> list[tuple[str, object, dict[str, object]]]:
    """Return rows of the environment: key, value before the runs, and the value after each run that changed it."""
    after = {run.label: flatten(run.environment_after) for run in latency.runs}
    return [
        (
            key,
            value,
            {name: facts[key] for name, facts in after.items() if key in facts and facts[key] != value},
        )
        for key, value in flatten(latency.environment).items()
    ]
