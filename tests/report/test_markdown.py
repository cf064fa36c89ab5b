from __future__ import annotations

import sample_reports
from golden_files import assert_golden
from sample_reports import latency, run, samples, unmeasured

from deploycc.documents.latency import LayerTime
from deploycc.report.markdown import render_markdown


def test_a_measured_report() -> None:
    report = latency(run(samples()), unmeasured(), environment={"cpu_governor": "schedutil", "gpu": None})

    assert_golden("report_measured.md", render_markdown(sample_reports.compiled(), report))


def test_a_board_that_is_not_here() -> None:
    assert_golden("report_board.md", render_markdown(sample_reports.compiled_for_board(), None))


def test_names_cannot_change_the_structure() -> None:
    hostile = "a|b\n# c `d` <script>x</script> [e](f) *g* \\\x1b[31m\u202e"
    layer = LayerTime(name=hostile, op="Conv", median_ms=1.0, share=1.0)
    text = render_markdown(
        sample_reports.compiled(command="echo '```' && rm\x1b[2J"), latency(run(samples(), layers=(layer,)))
    )
    row = next(line for line in text.splitlines() if line.startswith("| a"))

    assert row.startswith(r"| a\|b \# c \`d\` &lt;script&gt;x&lt;/script&gt; \[e\](f) \*g\* \\ \[31m  | Conv |")
    assert "<script>" not in text
    assert "````console\necho '```' && rm\N{REPLACEMENT CHARACTER}[2J\n````" in text
    assert text.replace("\n", "").isprintable()


def test_a_layer_whose_name_names_no_node_is_shown_by_its_nodes() -> None:
    rows = [("__myl_ConvRelu_myl0_1", ("conv1", "relu1")), ("pool + copy", ())]
    layers = tuple(LayerTime(name=name, op="", nodes=nodes, median_ms=1.0, share=0.5) for name, nodes in rows)
    text = render_markdown(sample_reports.compiled(), latency(run(samples(), layers=layers)))
    assert "| conv1 + relu1 |" in text
    assert "| pool + copy |" in text
    assert "myl" not in text
