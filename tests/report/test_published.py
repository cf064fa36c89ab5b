from __future__ import annotations

import pytest
import sample_reports

from deploycc.documents.compile import CompileReport, SizeRecord, TargetRecord
from deploycc.report.published import published_latency


def _report(target: str, macs: int, params: int) -> CompileReport:
    report = sample_reports.compiled()
    size = SizeRecord(nodes=10, params=params, macs=macs)
    steps = tuple(step.model_copy(update={"before": size, "after": size}) for step in report.networks[0].steps)
    return sample_reports.compiled(
        networks=(report.networks[0].model_copy(update={"steps": steps}),),
        target=TargetRecord(name=target, title=target, tier="planned", runtime="tensorrt"),
    )


@pytest.mark.parametrize(
    ("target", "macs", "params", "latency_ms"),
    [
        ("jetson-tx2-jp461", 31_374_000_000, 26_285_000, 157.1),
        ("drive-px2-dgpu", 1_176_000_000, 5_531_000, 24.6),
        ("drive-px2-igpu", 1_300_000_000, 5_700_000, 67.4),
        ("jetson-orin-jp62", 31_374_000_000, 26_285_000, None),
        ("jetson-tx2-jp461", 1_148_000_000, 5_783_000, None),  # MobileNet-SSD, which the paper did not measure
    ],
)
def test_only_the_papers_networks_on_its_boards(target: str, macs: int, params: int, latency_ms: float | None) -> None:
    found = published_latency(_report(target, macs, params))

    assert (found and found.latency_ms) == latency_ms
