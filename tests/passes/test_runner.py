"""Running passes: the original stays, every step is recorded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from deploycc import importers
from deploycc.detector import Detector
from deploycc.errors import Note, TargetError
from deploycc.graph.text import to_text
from deploycc.parsers.support import Contract
from deploycc.passes import DROP_DEAD, FOLD, PIPELINE, Options, Result, run
from deploycc.passes.for_target import options_for
from deploycc.target import load

TINY = Path(__file__).parents[1] / "models" / "tiny_ssd.prototxt"
ANYTHING = Options(contract=Contract("onnxruntime"))


@pytest.fixture
def detector() -> Detector:
    return importers.load(TINY, random_weights=1)


def test_the_original_stays_as_it_is(detector: Detector) -> None:
    before = to_text(detector.graph)
    compiled = run(detector, ANYTHING, PIPELINE)
    assert to_text(detector.graph) == before
    assert to_text(compiled.detector.graph) != before


def test_every_pass_is_recorded_with_its_cost_and_notes(detector: Detector) -> None:
    def drop_last_node(detector: Detector, options: Options) -> Result:
        """A pass that changes the count."""
        detector.graph.nodes.pop()
        return Result(detector, changed=True, notes=(Note("x", "dropped", "for the test"),))

    def look(detector: Detector, options: Options) -> Result:
        """A pass that changes nothing."""
        return Result(detector, changed=False)

    seen: list[str] = []
    compiled = run(detector, ANYTHING, [look, drop_last_node], before_each=seen.append)
    assert seen == ["look", "drop_last_node"]
    first, second = compiled.steps
    assert not first.changed
    assert first.before == first.after == second.before
    assert second.after.nodes == second.before.nodes - 1
    assert compiled.notes[-1] == Note("x", "dropped", "for the test")


def test_dumps_hold_the_text_after_each_pass(detector: Detector, tmp_path: Path) -> None:
    compiled = run(detector, ANYTHING, PIPELINE, dump_to=tmp_path)
    names = [f"{number:02d}_{step.__name__}.txt" for number, step in enumerate(PIPELINE)]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert (tmp_path / names[-1]).read_text(encoding="utf-8") == to_text(compiled.detector.graph)


def test_every_pass_says_in_its_docstring_what_it_does() -> None:
    assert all(step.__doc__ for step in PIPELINE)


def test_options_follow_the_target() -> None:
    tx2 = options_for(load("jetson-tx2-jp461"), precision="fp16")
    assert (tx2.detection, tx2.typed, tx2.contract.version) == ("efficient-nms", False, (8, 2, 1))
    rtx = options_for(load("x86-rtx"), precision="fp16")
    assert (rtx.detection, rtx.typed) == ("raw", True)


def test_options_only_narrow_what_the_target_allows() -> None:
    assert options_for(load("jetson-tx2-jp461"), detection="raw").detection == "raw"
    with pytest.raises(TargetError, match="cannot run the detection lowering 'onnx-nms'"):
        options_for(load("x86-rtx"), detection="onnx-nms")
    with pytest.raises(TargetError, match="1:64"):
        options_for(load("drive-px2-dgpu"), precision="fp16")


def test_pipeline_gives_the_same_network_twice(detector: Detector) -> None:
    options = replace(ANYTHING, detection="onnx-nms")
    assert to_text(run(detector, options, PIPELINE).detector.graph) == to_text(
        run(detector, options, PIPELINE).detector.graph
    )


def test_folding_reads_no_options(detector: Detector) -> None:
    """`inspect` folds once for all targets."""
    unread: Options = object()  # type: ignore[assignment]
    text = to_text(run(detector, unread, FOLD + DROP_DEAD).detector.graph)
    assert text == to_text(run(detector, ANYTHING, FOLD + DROP_DEAD).detector.graph)
