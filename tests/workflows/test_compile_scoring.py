"""The original network is scored once, whatever the number of targets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from graph_text import network

from deploycc.documents.compile import AccuracyRecord
from deploycc.documents.document import Evidence
from deploycc.workflows import compile as compiling
from deploycc.workflows import scoring
from deploycc.workflows.compile_networks import Start

TINY = """<ir_version: 8, opset_import: ["": 13]>
tiny (float[1, 3, 8, 8] x) => (float[1, 3, 8, 8] y) { y = Relu (x) }"""


def test_what_was_scored_before_is_not_scored_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def score(networks: Mapping[str, object], *more: Any) -> tuple[AccuracyRecord, ...]:
        asked.append(list(networks))
        return tuple(
            AccuracyRecord(
                precision="fp32",
                variant=variant,  # type: ignore[arg-type]
                evidence=Evidence(kind="measured", source="test"),
                data="generated:1:2",
                pictures=2,
                map50=len(asked) / 10,
                map50_11point=0.5,
                coco_map=0.5,
            )
            for variant in networks
        )

    monkeypatch.setattr(scoring, "score_variants", score)
    detector = network(TINY)
    job = Start(detector, None, detector, detector)
    dataset: Any = None
    first = compiling._score(job, None, dataset, (), (), print)
    second = compiling._score(job, None, dataset, (), first, print)
    assert asked == [["compiled", "original"], ["compiled"]]
    assert [(record.variant, record.map50) for record in second] == [("compiled", 0.2), ("original", 0.1)]
    alone = Start(detector, None, None, detector)
    assert [record.variant for record in compiling._score(alone, None, dataset, (), first, print)] == ["compiled"]
