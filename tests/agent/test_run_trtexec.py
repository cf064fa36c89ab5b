"""trtexec: what it exports, in every spelling, and running it."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from deploycc.agent import programs, run_trtexec, stack
from deploycc.agent.outcome import Failed, NotPossible

OLD = {"h2d": "in", "d2h": "out", "H2d": "In", "D2h": "Out"}  # copies up to TensorRT 7.2


def query(start: float, release: str = "8.2") -> dict[str, float]:
    """One query as a release exports it: 0.5 ms in, 8 ms computing after a gap of 0.1 ms, 0.25 ms out."""
    times = {
        "startH2dMs": start,
        "endH2dMs": start + 0.5,
        "startComputeMs": start + 0.6,
        "endComputeMs": start + 8.6,
        "startD2hMs": start + 8.6,
        "endD2hMs": start + 8.85,
        "h2dMs": 0.5,
        "computeMs": 8.0,
        "d2hMs": 0.25,
        "latencyMs": 8.75,
    }
    if release in ("7.1", "8.2", "8.5"):
        times |= {"startEnqMs": start, "endEnqMs": start + 0.1}
    if release != "8.5":
        times["endToEndMs"] = 8.85
    if release.startswith("7"):
        for new, old in OLD.items():
            times = {key.replace(new, old): value for key, value in times.items()}
    return times


@pytest.mark.parametrize("release", ["7.0", "7.1", "8.2", "8.5"])
def test_every_spelling_gives_the_same_samples(release: str) -> None:
    result = run_trtexec.read_times([query(1000.0, release), query(1010.0, release)], 500.0, False)
    assert result["samples_ms"] == [8.75, 8.75]
    assert result["start_offsets_s"] == pytest.approx([0.0, 0.01], rel=0, abs=1e-12)
    assert result["duration_s"] == pytest.approx(0.01885, rel=0, abs=1e-9)


def test_the_warmup_is_dropped_where_it_is_exported() -> None:
    records = [query(start) for start in (0.0, 480.0, 499.5, 510.0, 520.0)]
    result = run_trtexec.read_times(records, 500.0, True)
    assert result["warmup_samples"] == 2  # 499.5 computes from 500.1 on: trtexec's own report counts it
    assert result["start_offsets_s"] == pytest.approx([0.0, 0.0105, 0.0205], rel=0, abs=1e-9)
    kept = run_trtexec.read_times(records, 500.0, False)
    assert len(kept["samples_ms"]) == 5


@pytest.mark.parametrize(
    ("records", "said"),
    [
        ([], "no query"),
        ([query(1.0)], "no query"),
        ([{"computeMs": 1}], "not as documented"),
        ([3], "not as documented"),
    ],
)
def test_times_that_cannot_be_used(records: list[Any], said: str) -> None:
    with pytest.raises(Failed, match=said):
        run_trtexec.read_times(records, 500.0, True)


def test_layer_times() -> None:
    rows = [{"count": 9}, {"name": "a", "timeMs": 27.0, "averageMs": 3.0, "percentage": 75.0}]
    rows += [{"name": "b", "timeMs": 9.0, "averageMs": 1.0, "percentage": 25.0}]
    layers, means = run_trtexec.read_profile(rows)
    assert means
    assert [(layer["name"], layer["median_ms"], layer["share"]) for layer in layers] == [
        ("a", 3.0, 0.75),
        ("b", 1.0, 0.25),
    ]
    newer = [rows[0], *({**row, "medianMs": 2.0} for row in rows[1:])]
    layers, means = run_trtexec.read_profile(newer)
    assert not means
    assert [layer["median_ms"] for layer in layers] == [2.0, 2.0]


@pytest.mark.parametrize("rows", [[{"name": "a"}], 3, [3], None])
def test_layer_times_that_cannot_be_used(rows: Any) -> None:
    with pytest.raises(Failed, match="not as documented"):
        run_trtexec.read_profile(rows)


@pytest.mark.parametrize("installed", [None, "8.2.1", "8.2.1-1+cuda10.2", "8.2.5-1"])
def test_the_plans_release_is_taken(installed: str | None) -> None:
    stack.check_version("8.2.1", installed)


@pytest.mark.parametrize("installed", ["8.0.1-1+cuda10.2", "8.20.1", "10.3.0"])
def test_another_release_is_refused(installed: str) -> None:
    with pytest.raises(NotPossible, match=r"plan is for TensorRT 8\.2\.1"):
        stack.check_version("8.2.1", installed)


def test_a_failing_program_is_quoted(capsys: pytest.CaptureFixture[str]) -> None:
    script = "print('[I] fine'); print('[E] no memory'); print('FAILED'); raise SystemExit(3)"
    with pytest.raises(Failed, match=r"ended with code 3: \[E\] no memory"):
        programs.run([sys.executable, "-c", script], ".", {})
    assert "[I] fine" in capsys.readouterr().err


def test_variables_and_folder_reach_the_program(tmp_path: Any) -> None:
    script = "import os; open('seen', 'w').write(os.environ['CUDA_VISIBLE_DEVICES'])"
    programs.run([sys.executable, "-c", script], str(tmp_path), {"CUDA_VISIBLE_DEVICES": "1"})
    assert (tmp_path / "seen").read_text() == "1"


def test_layer_times_of_a_board() -> None:
    """As TensorRT 8.0 to 8.2 export them: no medians, layers without time, several names in one."""
    rows: list[dict[str, Any]] = [
        {"count": 625},
        {"name": "Reformatting CopyNode for Input Tensor 0 to Conv_8", "timeMs": 0, "averageMs": 0, "percentage": 0},
        {"name": "Conv_171 + Relu_172 || Conv_178", "timeMs": 1009.24, "averageMs": 1.61478, "percentage": 33.1504},
        {"name": "639 copy", "timeMs": 4.81315, "averageMs": 0.00770104, "percentage": 0.158097},
    ]
    layers, means = run_trtexec.read_profile(rows)
    assert means
    assert [layer["median_ms"] for layer in layers] == [0.0, 1.61478, 0.00770104]
    assert layers[1]["name"] == "Conv_171 + Relu_172 || Conv_178"


def test_what_a_program_prints_cannot_move_the_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    script = (
        r"import sys; sys.stdout.buffer.write(b'[I] layer \x1b[2J\x1b]0;t\x07 \xff \xc2\x9b\r\n' + b'no end ' * 20000)"
    )
    programs.run([sys.executable, "-c", script], ".", {})
    shown = capsys.readouterr().err
    assert shown.splitlines()[0] == r"[I] layer \x1b[2J\x1b]0;t\x07 \xff \x9b"
    assert shown.replace("\n", "").isprintable()


def test_a_line_that_comes_again_and_again_is_shown_once(capsys: pytest.CaptureFixture[str]) -> None:
    """TensorRT 7 warns once per query."""
    script = "print('[I] start\\n' + 'WARNING: Explicit batch network detected\\n' * 5000 + '[I] end')"
    programs.run([sys.executable, "-c", script], ".", {})
    assert capsys.readouterr().err.splitlines() == [
        "[I] start", "WARNING: Explicit batch network detected", "(the same line 4999 more times)", "[I] end",
    ]  # fmt: skip


@pytest.mark.parametrize("value", [float("nan"), -1.0, "1", None, True, 2**70])
def test_times_that_are_no_times_are_refused(value: Any) -> None:
    with pytest.raises(Failed, match="not as documented"):
        run_trtexec.read_times([{**query(1.0), "computeMs": value}], 0.0, False)
    with pytest.raises(Failed, match="not as documented"):
        run_trtexec.read_profile([{"name": "a", "averageMs": value}])


def test_a_program_that_is_killed_says_so() -> None:
    script = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    with pytest.raises(Failed, match="was killed by signal 9") as caught:
        programs.run([sys.executable, "-c", script], ".", {})
    assert "memory runs out" in str(caught.value.hint)


def test_a_program_that_says_it_failed_has_failed() -> None:
    script = "print('[E] no engine'); print('&&&& FAILED TensorRT.trtexec # x')"
    with pytest.raises(Failed, match=r"\[E\] no engine"):
        programs.run([sys.executable, "-c", script], ".", {})
