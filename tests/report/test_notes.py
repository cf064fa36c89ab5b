from __future__ import annotations

import sample_reports

from deploycc.report.notes import gather_notes


def test_one_entry_a_reason_with_every_node_once() -> None:
    report = sample_reports.compiled()
    twice = sample_reports.compiled(networks=(report.networks[0], report.networks[0]))

    (note,) = gather_notes(twice)

    assert (note.code, note.reason, note.nodes) == ("int64-cast", "INT64 shape", ("r1", "r2"))
