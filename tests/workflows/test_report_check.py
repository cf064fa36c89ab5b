"""Checks over whole output folders: every limit, every target, the outcome that decides, and what CI reads."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
import sample_reports
from sample_reports import latency, run, samples

from deploycc.cli import main
from deploycc.documents.compile import AccuracyRecord, CompileReport
from deploycc.documents.document import Evidence
from deploycc.documents.latency import LatencyReport
from deploycc.errors import EXIT_BUDGET, EXIT_DIAGNOSED, EXIT_UNDECIDED, InputError
from deploycc.workflows.report_check import Limits, check_reports, junit_xml, worst


def folder(path: Path, *documents: CompileReport | LatencyReport) -> Path:
    path.mkdir(parents=True)
    for document in documents:
        (path / document.FILE_NAME).write_text(document.to_json(), encoding="utf-8")
    return path


def compiled(map50: float = 0.7, data: str = "voc:d") -> CompileReport:
    score = AccuracyRecord(
        precision="fp32",
        evidence=Evidence(kind="measured", source="this machine"),
        data=data,
        pictures=10,
        map50=map50,
        map50_11point=map50,
        coco_map=None,
    )
    return sample_reports.compiled(accuracy=(score,))


def grown(report: CompileReport, factor: float) -> CompileReport:
    """The same report with more MACs and a larger engine."""
    [network, *others] = report.networks
    last = network.steps[-1]
    size = last.after.model_copy(update={"macs": int(last.after.macs * factor)})
    steps = (*network.steps[:-1], last.model_copy(update={"after": size}))
    engines = tuple(
        each.model_copy(update={"size_bytes": each.size_bytes and int(each.size_bytes * factor)})
        for each in report.engines
    )
    networks = (network.model_copy(update={"steps": steps}), *others)
    return report.model_copy(update={"networks": networks, "engines": engines})


@pytest.mark.parametrize(
    ("limits", "candidate", "code"),
    [
        (Limits(macs=0.05), grown(compiled(), 1.04), None),
        (Limits(macs=0.05), grown(compiled(), 1.06), "macs-growth"),
        (Limits(engine_size=0.05), grown(compiled(), 1.04), None),
        (Limits(engine_size=0.05), grown(compiled(), 1.06), "engine-growth"),
        (Limits(accuracy_loss=1.0), compiled(0.691), None),
        (Limits(accuracy_loss=1.0), compiled(0.689), "accuracy-loss"),
        (Limits(accuracy_loss=1.0), compiled(data="voc:other"), "report-nothing-to-compare"),
    ],
)
def test_a_limit_is_held_to_the_figure(
    tmp_path: Path, limits: Limits, candidate: CompileReport, code: str | None
) -> None:
    pair = folder(tmp_path / "a", compiled()), folder(tmp_path / "b", candidate)
    [checked] = check_reports(*pair, limits)
    [outcome] = checked.outcomes
    assert (outcome.error and outcome.error.code) == code


@pytest.fixture
def targets(tmp_path: Path) -> tuple[Path, Path]:
    """Two folders of two targets: one regressed, one was measured beside other programs."""
    for name, candidate in (
        ("board", latency(run(samples(seed=2, median_ms=10.9)))),
        ("desk", latency(run(samples(seed=3, median_ms=10.9), environment_after={"cpus_busy_with_others": 3.0}))),
    ):
        folder(tmp_path / "a" / name, latency(run(samples(seed=1))))
        folder(tmp_path / "b" / name, candidate)
    return tmp_path / "a", tmp_path / "b"


def test_every_target_is_checked_and_the_worst_outcome_decides(
    targets: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outcomes = [each for checked in check_reports(*targets, Limits(regression=0.05)) for each in checked.outcomes]
    assert [(each.target, each.result) for each in outcomes] == [("board", "missed"), ("desk", "undecided")]
    assert worst(outcomes) is outcomes[0].error
    assert worst(outcomes[1:]) is outcomes[1].error
    junit = tmp_path / "junit.xml"
    command = ["report", "check", *map(str, targets), "--max-regression", "5%", "--junit", str(junit)]
    assert main(command) == EXIT_BUDGET
    said = capsys.readouterr()
    assert said.out.count("x86-cpu against x86-cpu") == 2
    assert "error[latency-regression]" in said.err
    assert "error[regression-undecided]" in said.err
    suites = ElementTree.fromstring(junit.read_text(encoding="utf-8")).findall("testsuite")
    assert [(suite.get("name"), suite.get("failures"), suite.get("skipped")) for suite in suites] == [
        ("board", "1", "0"),
        ("desk", "0", "1"),
    ]
    assert suites[0].findall("testcase/failure")[0].get("type") == "latency-regression"


def test_the_exit_status_says_what_could_not_be_told(targets: tuple[Path, Path]) -> None:
    (desk_a, desk_b) = (side / "desk" for side in targets)
    assert main(["report", "check", str(desk_a), str(desk_b), "--max-regression", "5%"]) == EXIT_UNDECIDED
    assert main(["report", "check", str(desk_a), str(desk_b), "--max-regression", "20%"]) == 0
    assert main(["report", "check", str(desk_a), str(desk_b), "--max-macs", "5%"]) == EXIT_DIAGNOSED  # no compile.json


def test_a_target_that_is_gone_is_named(targets: tuple[Path, Path]) -> None:
    for path in (targets[1] / "desk").iterdir():
        path.unlink()
    (targets[1] / "desk").rmdir()
    folder(targets[1] / "other", latency())
    with pytest.raises(InputError, match="no folder for desk"):
        list(check_reports(*targets, Limits(regression=0.05)))


def test_junit_xml_escapes_what_files_say(tmp_path: Path) -> None:
    pair = folder(tmp_path / "a <&> b", latency()), folder(tmp_path / "c", latency(target="x\"'<y>"))
    [checked] = check_reports(*pair, Limits(regression=0.0))
    root = ElementTree.fromstring(junit_xml(checked.outcomes))
    assert root.find("testsuite/testcase/error") is not None
