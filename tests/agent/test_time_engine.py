"""The compiled timing program: what it writes, and boards that cannot compile it. Simulated boards run it."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
import pytest

from deploycc.agent import time_engine
from deploycc.agent.outcome import Failed, NotPossible

ROWS = [
    ["tensorrt", "4.0.2"],
    ["device", "6.1", "DRIVE PX 2 AutoChauffeur"],
    ["warmup", "3", "30000000"],
    ["sample", "5000000000", "8250000"],
    ["sample", "5008300000", "8750000"],
    ["layer", "6.000000", "conv1 + relu\t1"],
    ["layer", "2.000000", "conv2"],
]


def test_a_result_is_read() -> None:
    result = time_engine.read_result(ROWS)
    assert result["samples_ms"] == [8.25, 8.75]
    assert result["start_offsets_s"] == pytest.approx([0.0, 0.0083], rel=0, abs=1e-12)
    assert result["duration_s"] == pytest.approx(0.01705, rel=0, abs=1e-12)
    assert (result["blocks"], result["warmup_samples"], result["warmup_s"]) == ([2], 3, 0.03)
    assert (result["version"], result["capability"], result["device"]) == ("4.0.2", "6.1", "DRIVE PX 2 AutoChauffeur")
    assert [(layer["name"], layer["share"]) for layer in result["layers"]] == [
        ("conv1 + relu\t1", 0.75),
        ("conv2", 0.25),
    ]


@pytest.mark.parametrize(
    "rows",
    [
        [],
        ROWS[1:],
        ROWS[:3],
        [*ROWS, ["sample", "1", "1"]],
        [*ROWS, ["sample", "6000000000", "0"]],
        [*ROWS, ["sample", "6000000000"]],
        [*ROWS, ["layer", "fast", "conv3"]],
        [["tensorrt", "4.0.2\x1b[2J"], *ROWS[1:]],
    ],
)
def test_a_result_that_is_not_as_documented_is_refused(rows: list[list[str]]) -> None:
    with pytest.raises(Failed, match="not as documented"):
        time_engine.read_result(rows)


def test_outputs_are_read() -> None:
    values = [np.float32([1, -0.5]), np.float16([3]), np.int32([7])]
    written = [f"b\t{n}\t{v.dtype}\t{v.nbytes}\n".encode() + v.tobytes() for n, v in enumerate(values)]
    read = time_engine.read_outputs(io.BytesIO(b"".join(written)))
    assert {name: array.tolist() for name, array in read.items()} == {"b\t0": [1, -0.5], "b\t1": [3], "b\t2": [7]}
    for data in (written[0][:-1], b"loc\tfloat64\t8\n" + bytes(8), b"loc\tfloat32\n", b"loc\tint32\t3\n" + bytes(3)):
        with pytest.raises(Failed, match="not as documented"):
            time_engine.read_outputs(io.BytesIO(data))


def test_a_board_without_a_compiler_or_headers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotPossible, match="this board has none") as caught:
        time_engine.build_program(str(tmp_path))
    assert caught.value.hint == "apt-get install g++"
    compiler = tmp_path / "g++"
    compiler.write_text(
        "#!/bin/sh\necho 'time_engine.cpp:18:10: fatal error: NvInfer.h: No such file or directory'\nexit 1\n"
    )
    compiler.chmod(0o755)
    with pytest.raises(NotPossible, match=r"does not compile here: .*NvInfer\.h: No such file") as caught:
        time_engine.build_program(str(tmp_path))
    assert "libnvinfer-dev" in str(caught.value.hint)
    assert (tmp_path / "time_engine.cpp").read_bytes() == Path(time_engine.__file__).with_suffix(".cpp").read_bytes()
    assert shutil.which("g++") == str(compiler)
