"""What a target's builder cannot be told. That the agent can say the rest: tests/agent/test_trtexec_commands.py."""

from __future__ import annotations

from typing import Any

import pytest

from deploycc.documents.plan import Board, Network, Tensor
from deploycc.engine import limits
from deploycc.errors import TargetError


def board(version: str | None, builder: str = "trtexec") -> Board:
    return Board(name="board", architecture="aarch64", runtime="tensorrt", runtime_version=version, builder=builder)


def network(precision: str = "fp32", typed: bool = False, caffe: bool = False, **changes: Any) -> Network:
    fields: dict[str, Any] = {
        "file": "net.prototxt" if caffe else "net.onnx",
        "sha256": "a" * 64,
        "precision": precision,
        "typed": typed,
        "input": Tensor(name="data", shape=(1, 3, 300, 300)),
        "outputs": ("loc", "conf"),
    }
    if caffe:
        fields |= {"format": "caffe", "weights_file": "net.caffemodel", "weights_sha256": "b" * 64}
    return Network(**{**fields, **changes})


@pytest.mark.parametrize(
    ("of", "described", "code", "said"),
    [
        (board("5.1.6"), network(), "trtexec-too-old", "TensorRT 6.0"),
        (board("10.0"), network(caffe=True), "caffe-parser-removed", "8.6"),
        (board("8.6"), network("fp16", typed=True), "typed-network-too-new", "9.0"),
        (board("11.0"), network("fp16"), "fp16-flag-removed", "TensorRT 11"),
        (board("8.2.1"), network("fp16", keep_fp32=("conv1",)), "layer-precision-too-old", "conv1"),
        (board("8.5.2"), network("fp16", keep_fp32=("conv:0",)), "layer-name-not-spellable", "conv:0"),
        (board("8.5.2"), network(input=Tensor(name="a,b", shape=(1, 3, 4, 4))), "input-name-not-spellable", "a,b"),
        (board("7.0"), network(input=Tensor(name="a:0", shape=(1, 3, 4, 4))), "input-name-not-spellable", "7.1"),
        (board(None, "tensorRT_optimization"), network(), "builder-needs-caffe", "Caffe"),
        (
            board(None, "tensorRT_optimization"),
            network("fp16", caffe=True, keep_fp32=("a",)),
            "layer-precision-too-old",
            "build FP32",
        ),
        (
            board(None, "tensorRT_optimization"),
            network(caffe=True, outputs=("a,b",)),
            "output-name-not-spellable",
            "--outputBlobs",
        ),
    ],
)
def test_what_cannot_be_said(of: Board, described: Network, code: str, said: str) -> None:
    with pytest.raises(TargetError) as caught:
        limits.check(of, described)
    assert caught.value.code == code
    assert said in caught.value.render()


def refused(of: Board, described: Network) -> bool:
    try:
        limits.check(of, described)
    except TargetError:
        return True
    return False


def test_a_release_that_is_read_on_the_board_is_judged_there() -> None:
    assert [refused(board(release), network("fp16")) for release in (None, "11.0")] == [False, True]


def test_names_that_can_be_said() -> None:
    """A colon parts names in an option: it matters only where this option is needed."""
    tensor = Tensor(name="image:0", shape=(1, 3, 4, 4))
    assert [refused(board(release), network(input=tensor)) for release in ("8.2.1", "7.0")] == [False, True]
    kept = ("conv:0",)
    assert [refused(board("8.5.2"), network(each, keep_fp32=kept)) for each in ("fp32", "fp16")] == [False, True]
