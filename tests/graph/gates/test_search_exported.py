"""The gates that the training part exports are found, with its metadata and without, before the passes and after."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

torch = pytest.importorskip("torch", reason="PyTorch, of the extra train, is not installed")

from lkam_run import small_config, small_gates  # noqa: E402

from deploycc import importers, target  # noqa: E402
from deploycc.detector import Source  # noqa: E402
from deploycc.graph.gates.search import search_gates  # noqa: E402
from deploycc.lkam.checkpoint import build_model  # noqa: E402
from deploycc.lkam.export import to_model  # noqa: E402
from deploycc.lkam.insert import gated_convs  # noqa: E402
from deploycc.passes import PIPELINE, run  # noqa: E402
from deploycc.passes.for_target import options_for  # noqa: E402


@pytest.mark.parametrize(
    ("granularity", "place", "described"),
    [("kernel", "conv", True), ("block", "norm", False), ("nested", "conv", False), ("nested", "norm", True)],
)
def test_every_exported_gate_is_found(granularity: str, place: str, described: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    gates = small_gates(granularity=granularity, place=place, patterns=("backend.[12].*.conv",))
    model = build_model(small_config(gates=gates)).eval()
    modules = dict(gated_convs(model))
    classes = ("car", "truck", "bus", "person", "cyclist", "sign")
    source = Source(("c.pt",), "0" * 64, "pytorch")
    path = tmp_path / "small.onnx"
    onnx.save(to_model(model, classes, source, "small", gates_metadata=described), str(path))
    detector = importers.load(path)
    fp32 = run(detector, options_for(target.load("x86-cpu"), detection="raw"), PIPELINE).detector
    fp16 = run(detector, options_for(target.load("x86-rtx"), detection="raw", precision="fp16"), PIPELINE).detector
    for each in (detector, fp32, fp16):
        found, notes = search_gates(each.graph, each.gates)
        assert notes == ()
        assert len(found) == len(modules)
        for gate, module in zip(found, modules.values(), strict=True):
            assert gate.source == ("metadata" if described else "structure")
            units = module.gate.units
            # of two units the first is always on: then nothing in the arithmetic tells nested from group
            expected = granularity if described or units > 2 or granularity != "nested" else "block"
            assert (gate.kernels, gate.units, gate.granularity) == (module.gate.kernels, units, expected)
            assert gate.unit_of == tuple(module.gate.get_buffer("unit_of").tolist())
            assert gate.threshold == pytest.approx(0.5, rel=0, abs=1e-3)  # FP16 rounds a trained one
            assert gate.place == ("after-bias" if place == "norm" else "before-batchnorm")
