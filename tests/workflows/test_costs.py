"""Each target has one source of costs; this machine's times are never those of another."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from graph_text import network
from numpy.typing import NDArray

from deploycc.cli import main
from deploycc.detector import InputSpec
from deploycc.detector.file import save
from deploycc.pruning import kept_counts
from deploycc.target import load
from deploycc.timing.convolutions import Costs
from deploycc.workflows.costs import cost_sources
from deploycc.workflows.report import read_report

CHAIN = """<ir_version: 8, opset_import: ["": 13]>
g (float[1,3,32,32] x, float[64,3,3,3] w1, float[80,64,3,3] w2, float[4,80,1,1] w3) => (float[1,4,32,32] y) {
  [conv1] c1 = Conv <pads = [1,1,1,1]> (x, w1)
  [relu1] r1 = Relu (c1)
  [conv2] c2 = Conv <pads = [1,1,1,1]> (r1, w2)
  [relu2] r2 = Relu (c2)
  [conv3] y = Conv (r2, w3)
}"""


def test_targets_of_one_gpu_and_stack_share_a_prediction_and_none_takes_this_machines_times() -> None:
    names = ["x86-rtx", "jetson-tx2-jp461", "x86-cpu", "jetson-xavier-jp512", "jetson-tx2-jp46"]
    sources = cost_sources([load(name) for name in names])
    alike = [tuple(target.name for target in source.targets) for source in sources]
    assert alike == [
        ("x86-cpu",),
        ("jetson-tx2-jp461", "jetson-tx2-jp46"),
        ("jetson-xavier-jp512",),
        ("x86-rtx",),
    ]
    assert [source.measured for source in sources] == [True, False, False, False]
    assert [source.predicted is not None for source in sources] == [False, True, True, False]
    assert "jetson-tx2-jp461 fp16" in sources[1].describe()
    assert "multiples of 32" in sources[3].describe()


def test_each_of_several_targets_is_pruned_by_its_own_costs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The CPU's clock prefers multiples of 1; on the TX2 whole tiles cost the same as part of one."""
    model, out = tmp_path / "chain.onnx", tmp_path / "out"
    save(replace(network(CHAIN), input=InputSpec("x", 32, 32)), model)

    def pretended(
        graph: object, groups: object, candidates: Iterable[str], reference: str, timer: object, say: object
    ) -> dict[str, NDArray[np.float64]]:
        return {name: np.full(6, 0.5 if name == "1" else 1.0) for name in candidates}

    monkeypatch.setattr(kept_counts, "relative_times", pretended)
    monkeypatch.setattr(Costs, "measure", lambda *arguments: None)
    monkeypatch.setattr(Costs, "samples_ms", lambda *arguments: (1.0,))
    targets = ["x86-cpu", "jetson-tx2-jp461", "x86-rtx"]
    command = ["compile", str(model), "--by", "l1", "--below", "0.1", "--scope", "both", "--no-build", "--no-verify"]
    named = [option for target in targets for option in ("-t", target)]
    assert main([*command, *named, "-p", "fp32", "-o", str(out)]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "x86-cpu: numbers of kernels follow times measured on this machine" in said
    assert "jetson-tx2-jp461: numbers of kernels follow predicted times: jetson-tx2-jp461 fp16" in said
    assert "x86-rtx: no times are measured or predicted" in said
    kept, sources = {}, {}
    for target in targets:
        (record,) = read_report(out / target).compiled.prunings
        kept[target] = {layer.name: layer.kernels[1] for layer in record.layers}
        sources[target] = (record.round_to, record.times, record.timed_on)
    assert (kept["x86-cpu"]["conv1"], kept["x86-cpu"]["conv2"]) == (58, 72)
    assert (kept["x86-rtx"]["conv1"], kept["x86-rtx"]["conv2"]) == (64, 80)
    assert kept["jetson-tx2-jp461"] not in (kept["x86-cpu"], kept["x86-rtx"])
    assert sources["x86-cpu"][:2] == ("auto", "measured")
    assert sources["jetson-tx2-jp461"][:2] == ("auto", "predicted")
    assert sources["x86-rtx"] == (32, "measured", None)
