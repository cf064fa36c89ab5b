"""The picture tensor, with NumPy and without."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploycc.agent import picture
from deploycc.agent.outcome import Failed

SHAPE = (1, 3, 5, 7)
PLAN: dict[str, Any] = {"measurement": {"seed": 7}}
TENSOR: dict[str, Any] = {"name": "x", "shape": list(SHAPE)}


@pytest.fixture(params=["numpy", "plain"])
def reader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "plain":
        monkeypatch.setitem(sys.modules, "numpy", None)
    return str(request.param)


def floats(made: Any) -> np.ndarray:
    return np.frombuffer(made.tobytes(), np.float32).reshape(SHAPE)


def test_seeded_values_are_the_same_without_numpy(reader: str) -> None:
    expected = np.random.RandomState(7).standard_normal(SHAPE).astype(np.float32)
    np.testing.assert_array_equal(floats(picture.make_input(PLAN, TENSOR, None)), expected)
    other = {"measurement": {"seed": (1 << 32) - 1}}
    assert not np.array_equal(floats(picture.make_input(other, TENSOR, None)), expected)


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", "u1", ">i2", "<i8"])
def test_a_given_input_is_used(tmp_path: Path, reader: str, dtype: str) -> None:
    value = (100 * np.random.default_rng(3).random(SHAPE)).astype(dtype)
    np.save(tmp_path / "x.npy", value)
    made = floats(picture.make_input(PLAN, TENSOR, str(tmp_path / "x.npy")))
    np.testing.assert_array_equal(made, value.astype(np.float32))


def test_what_cannot_be_read_is_said(tmp_path: Path, reader: str) -> None:
    file = tmp_path / "x.npy"
    for content, said in (
        (np.zeros(SHAPE[1:]), r"shape \(3, 5, 7\), the network takes \(1, 3, 5, 7\)"),
        (np.array(["a"]), "cannot read the input|has shape"),
        (b"no array", "cannot read the input"),
        (b"", "cannot read the input"),
        (b"\x93NUMPY\x01\x00" + b"(" * 200, "cannot read the input"),
    ):
        if isinstance(content, bytes):
            file.write_bytes(content)
        else:
            np.save(file, content)
        with pytest.raises(Failed, match=said):
            picture.make_input(PLAN, TENSOR, str(file))
    np.save(file, np.zeros(SHAPE, np.float32))
    file.write_bytes(file.read_bytes()[:-4])  # cut short
    with pytest.raises(Failed, match="cannot read the input"):
        picture.make_input(PLAN, TENSOR, str(file))


def test_a_pipe_keeps_nobody_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.npy")
    with pytest.raises(Failed, match="not an ordinary file"):
        picture.make_input(PLAN, TENSOR, str(tmp_path / "x.npy"))


def test_only_numpy_reads_some_arrays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    value = np.asfortranarray(np.random.default_rng(0).random(SHAPE)).astype(np.float16)
    np.save(tmp_path / "x.npy", value)
    np.testing.assert_array_equal(
        floats(picture.make_input(PLAN, TENSOR, str(tmp_path / "x.npy"))), value.astype(np.float32)
    )
    monkeypatch.setitem(sys.modules, "numpy", None)
    with pytest.raises(Failed, match="without NumPy only"):
        picture.make_input(PLAN, TENSOR, str(tmp_path / "x.npy"))
