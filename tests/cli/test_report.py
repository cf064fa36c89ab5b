from __future__ import annotations

import json
from pathlib import Path

import pytest
import sample_reports
from sample_reports import latency, run, samples, unmeasured

from deploycc.cli import main
from deploycc.documents.compile import CompileReport
from deploycc.documents.latency import LatencyReport


def _folder(path: Path, *documents: CompileReport | LatencyReport) -> str:
    path.mkdir()
    for document in documents:
        (path / document.FILE_NAME).write_text(document.to_json(), encoding="utf-8")
    return str(path)


@pytest.fixture
def base(tmp_path: Path) -> str:
    return _folder(tmp_path / "base", latency(run(samples(seed=1))))


@pytest.fixture
def slower(tmp_path: Path) -> str:
    return _folder(tmp_path / "slower", latency(run(samples(seed=2, median_ms=10.6))))


def test_show_prints_the_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = _folder(tmp_path / "o", sample_reports.compiled(), latency(run(samples()), unmeasured()))

    assert main(["report", "show", folder]) == 0

    told = capsys.readouterr()
    (row,) = [line for line in told.out.splitlines() if line.startswith("fp32") and "VALID" in line]
    assert row.split()[0] == "fp32"
    assert float(row.split()[1]) == pytest.approx(10, rel=0.01, abs=0)
    assert "fold_constants" in told.out
    assert "fp16: NOT MEASURED: no FP16 convolution on this CPU" in told.err


def test_show_prints_json_with_statistics_and_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = _folder(tmp_path / "o", sample_reports.compiled(), latency())

    assert main(["report", "show", folder, "--json"]) == 0

    value = json.loads(capsys.readouterr().out)
    assert value["compile"]["schema"] == 1
    (told,) = value["latency"]["runs"]
    assert told["verdict"]["status"] == "VALID"
    assert told["provenance"] == "measured"
    assert told["statistics"]["samples"] == 1200


def test_show_of_a_board_names_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "show", _folder(tmp_path / "o", sample_reports.compiled_for_board())]) == 0

    told = capsys.readouterr()
    assert "deploycc bench out --on nvidia@tx2" in told.err
    assert "not-possible" in told.out


def test_show_writes_full_reports(tmp_path: Path, base: str) -> None:
    folder = _folder(tmp_path / "o", sample_reports.compiled(), latency())
    page, text = tmp_path / "r.html", tmp_path / "r.md"

    assert main(["report", "show", folder, "--html", str(page), "--markdown", str(text)]) == 0
    assert page.read_text().startswith("<!DOCTYPE html>")
    assert text.read_text().startswith("# tiny")
    assert main(["report", "show", base, "--html", str(tmp_path / "no.html")]) == 1  # no compile.json
    assert main(["report", "show", folder, "--html", str(tmp_path / "missing" / "r.html")]) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "o", "r.html", "r.md"]


def test_compare_tells_the_verdict(base: str, slower: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "compare", base, slower]) == 0
    assert "slower (" in capsys.readouterr().out

    assert main(["report", "compare", slower, base, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"][0]["change"]["direction"] == "faster"

    assert main(["report", "compare", base, base]) == 0
    assert "not significant" in capsys.readouterr().out


def test_compare_warns_of_different_targets(tmp_path: Path, base: str, capsys: pytest.CaptureFixture[str]) -> None:
    other = _folder(tmp_path / "other", latency(target="x86-rtx"))

    assert main(["report", "compare", base, other]) == 0
    assert "different targets: x86-cpu and x86-rtx" in capsys.readouterr().err


def test_a_missed_gate_exits_with_3_and_the_figures(base: str, slower: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "check", base, slower, "--max-regression", "5%"]) == 3

    told = capsys.readouterr()
    assert "error[latency-regression]: fp32: median" in told.err
    assert "% slower" in told.err


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["{base}", "{slower}", "--max-regression", "10"], 0),
        (["{slower}", "{base}", "--max-regression", "0%"], 0),
        (["{base}", "--budget-ms", "20"], 0),
        (["{base}", "--budget-ms", "10"], 3),
        (["{base}", "{slower}", "--max-regression", "10%", "--budget-ms", "11"], 3),  # the budget is B's
        (["{base}"], 2),
        (["{base}", "--max-regression", "5%"], 2),
        (["{base}", "{slower}"], 2),
        (["{base}", "{slower}", "--max-regression", "lots"], 2),
        (["{base}", "{slower}", "--max-regression", "nan"], 2),
        (["{base}", "--budget-ms", "-1"], 2),
        (["{base}/nothing", "--budget-ms", "10"], 1),
    ],
)
def test_exit_codes_of_check(base: str, slower: str, arguments: list[str], status: int) -> None:
    assert main(["report", "check", *(argument.format(base=base, slower=slower) for argument in arguments)]) == status


def test_a_gate_on_a_quick_run_needs_consent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    quick = _folder(tmp_path / "quick", latency(quick=True))

    assert main(["report", "check", quick, "--budget-ms", "20"]) == 1
    assert "measured with --quick" in capsys.readouterr().err
    assert main(["report", "check", quick, "--budget-ms", "20", "--accept-invalid"]) == 0


def test_a_folder_without_artefacts_is_diagnosed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "show", str(tmp_path)]) == 1
    assert "error[artefact-missing]" in capsys.readouterr().err


def test_a_table_of_folders_and_of_folders_in_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pair = sample_reports.runs_in_turns(samples(1200, median_ms=8.0, seed=1), samples(1200, seed=2), blocks=12)
    (tmp_path / "out").mkdir()
    for name in ("a", "b"):
        _folder(tmp_path / "out" / name, sample_reports.compiled_beside_original(), latency(*pair))
    page = tmp_path / "t.html"
    assert main(["report", "table", str(tmp_path / "out"), "--html", str(page), "--published"]) == 0
    told = capsys.readouterr()
    assert "tiny_ssd (out/b)" in told.out
    assert "faster" not in told.out
    assert " -20." in told.out or " -19." in told.out
    assert "1869.3" in told.out
    assert "n.s." in told.err
    assert page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert main(["report", "table", str(tmp_path / "out" / "a"), "--json"]) == 0
    [row] = json.loads(capsys.readouterr().out)
    assert row["networks"]["pruned"]["change"]["direction"] == "faster"
    assert main(["report", "table", str(tmp_path)]) == 1
