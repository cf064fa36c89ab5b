from __future__ import annotations

from html.parser import HTMLParser

import pytest
import sample_reports
from sample_reports import latency, run, samples, unmeasured

from deploycc.documents.latency import LayerTime
from deploycc.report.html import render_html
from deploycc.report.markdown import render_markdown

VOID = {"meta", "br", "link", "img", "input", "hr"}
LOADING = {"src", "srcset", "data", "poster", "action", "background", "formaction"}


class Page(HTMLParser):
    """Collects the tags and refuses those that do not nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())


@pytest.fixture(scope="module")
def full() -> str:
    """The page of a network with one measured run and one that was not measured."""
    return render_html(sample_reports.compiled(), latency(run(samples()), unmeasured()))


def test_the_page_is_well_formed_and_small(full: str) -> None:
    page = Page(full)

    assert full.startswith("<!DOCTYPE html>")
    assert len(full.encode()) < 500_000
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))


def test_the_page_loads_nothing(full: str) -> None:
    for tag, attrs in Page(full).tags:
        assert tag not in {"script", "link", "iframe", "object", "embed", "img", "base"}
        assert not LOADING & set(attrs)
        assert not any(name.startswith("on") for name in attrs)
        for name in ("href", "xlink:href"):
            assert (attrs.get(name) or "#").startswith("#")
    assert "@import" not in full
    assert "url(http" not in full


def test_the_page_answers_an_engineers_questions(full: str) -> None:
    words = Page(full).words

    for expected in (
        "VALID", "fp32 has a median latency of 9.9", "pictures/s", "measured", "predicted", "Slowest layers", "20 of 25 layers",
        "fold_constants", "back-end", "FP16 against FP32", "8 matched", "Test CPU", "assumed",
        "no FP16 convolution on this CPU", "a" * 64, "b" * 64, "c" * 64,
        "deploycc compile ssd.prototxt ssd.caffemodel --target x86-cpu -o out",
    ):  # fmt: skip
        assert expected in words


def test_an_absent_board_shows_the_command_and_no_latency() -> None:
    words = Page(render_html(sample_reports.compiled_for_board(), None)).words

    assert "NOT MEASURED" in words
    assert "deploycc bench out --on nvidia@tx2" in words
    assert "p99" not in words


def test_the_compiling_machine_is_not_the_boards_environment() -> None:
    report = latency(unmeasured("fp32"), target="jetson-tx2-jp461", environment={"cpu_model": "Workstation"})
    board = sample_reports.compiled_for_board()

    for text in (render_html(board, report), render_markdown(board, report)):
        assert "no FP16 convolution on this CPU" in text
        assert "Workstation" not in text


def test_an_invalid_report_and_a_broken_chain_are_shown() -> None:
    words = Page(render_html(sample_reports.compiled(), latency(quick=True, target="other"))).words

    assert "INVALID" in words
    assert "measured with `quick`" in words
    assert "do not match: the latency was measured for target other" in words


def test_foreign_text_is_escaped() -> None:
    hostile = "</code></style><script>alert(1)</script><img src=x onerror=alert(1)>\"'{{ 7 * 7 }}\x1b[31m\x07\u202e\x9b"
    report = sample_reports.compiled()
    step = report.networks[0].steps[1]
    note = step.notes[0].model_copy(update={"node": hostile, "reason": hostile, "code": hostile})
    network = report.networks[0].model_copy(
        update={"file": hostile, "steps": (step.model_copy(update={"name": hostile, "notes": (note,)}),)}
    )
    hostile_report = sample_reports.compiled(
        networks=(network,),
        command=hostile,
        next_command=hostile,
        source=report.source.model_copy(update={"files": (hostile,), "format": hostile}),
        detector=report.detector.model_copy(update={"name": hostile}),
        target=report.target.model_copy(update={"title": hostile, "unconfirmed": (hostile,)}),
    )
    layer = LayerTime(name=hostile, op=hostile, median_ms=1.0, share=1.0)
    measured = run(samples(), layers=(layer,), device=hostile).model_copy(update={"precision": hostile})
    refused = unmeasured().model_copy(update={"reason": hostile, "hint": hostile})
    text = render_html(
        hostile_report, latency(measured, refused, environment={hostile: hostile, "cpu_governor": hostile})
    )
    page = Page(text)

    assert not {"script", "img"} & {tag for tag, _ in page.tags}
    assert not any("onerror" in attrs for _, attrs in page.tags)
    assert "{{ 7 * 7 }}" in page.words
    assert "<script>alert(1)</script>" in page.words
    assert text.replace("\n", "").isprintable()


def test_the_page_is_the_same_every_time(full: str) -> None:
    assert render_html(sample_reports.compiled(), latency(run(samples()), unmeasured())) == full


def test_many_samples_and_layers_stay_small() -> None:
    layers = tuple(LayerTime(name=f"layer{n}", op="Conv", median_ms=1.0, share=0.0025) for n in range(400))
    text = render_html(sample_reports.compiled(), latency(run(samples(20_000, median_ms=0.5), layers=layers)))

    assert len(text.encode()) < 500_000
