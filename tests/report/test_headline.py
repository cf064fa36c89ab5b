from __future__ import annotations

import sample_reports
from sample_reports import latency, run, samples, unmeasured

from deploycc.report.headline import headline, key_figures
from deploycc.report.verdict import assess


def test_a_measured_report_states_its_latency() -> None:
    report = latency(run(samples()), unmeasured())
    head = headline(sample_reports.compiled(), assess(report))

    assert head.status == "VALID"
    assert head.sentences[0].startswith("fp32 has a median latency of 9.9")
    assert head.sentences[1] == "fp16 was not measured: no FP16 convolution on this CPU."
    assert head.command is None
    assert head.label == "VALID"


def test_the_verdict_counts_warnings() -> None:
    report = latency(environment={"cpu_governor": "schedutil"})
    head = headline(sample_reports.compiled(), assess(report))

    assert head.status == "VALID"
    assert head.label == "VALID, with warnings"
    assert "1 warning on this measurement" in head.sentences[0]


def test_a_quick_report_is_not_valid() -> None:
    head = headline(sample_reports.compiled(), assess(latency(quick=True)))

    assert head.status == "INVALID"
    assert "Not a valid measurement: measured with `quick`" in head.sentences[0]


def test_an_absent_board_has_no_latency_but_a_command() -> None:
    board = sample_reports.compiled_for_board()
    head = headline(board, ())

    assert head.status == "NOT MEASURED"
    assert head.command == board.next_command
    assert "its engines are built on the board" in " ".join(head.sentences)
    assert not any("ms" in figure.value for figure in key_figures(board, ()))


def test_every_figure_has_its_provenance() -> None:
    figures = {figure.label: figure for figure in key_figures(sample_reports.compiled(), assess(latency()))}

    assert figures["latency fp32, median"].provenance == "measured"
    assert figures["latency fp32, median"].source == "Test CPU"
    assert figures["MACs per picture"].provenance == "predicted"
    assert figures["MACs per picture"].value == "661.55 M"
    assert figures["MACs per picture"].detail == "-5.5% from 700.00 M"
    assert figures["engine fp32"].provenance == "measured"
