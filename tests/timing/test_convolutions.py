"""Times of convolutions: measured once, kept in a strict file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import onnxruntime as ort
import pytest
from graph_text import network

from deploycc.documents.costs import Convolution, CostTable, Machine
from deploycc.documents.document import read_document
from deploycc.errors import ArtefactError
from deploycc.graph.cost import node_macs
from deploycc.timing.convolutions import Costs, convolution_of, own_share, single_convolution
from deploycc.timing.machine import this_machine

SMALL = Convolution(
    inputs=4, kernels=6, groups=1, kernel=(3, 2), stride=(2, 1), dilation=(1, 1), pads=(1, 0, 1, 1), size=(8, 7)
)


def test_a_node_is_read_and_run_as_it_is() -> None:
    text = (
        '<ir_version: 8, opset_import: ["": 13]>\n'
        "g (float[1,4,8,7] x, float[6,4,3,2] w) => (float[1,6,n,m] y) {\n"
        "y = Conv <strides = [2,1], pads = [1,0,1,1]> (x, w)\n}"
    )
    node = network(text).graph.nodes[0]
    assert convolution_of(node) == SMALL
    model = single_convolution(SMALL)
    onnx.checker.check_model(model, full_check=True)
    result = ort.InferenceSession(model.SerializeToString()).run(None, {"x": np.zeros((1, 16, 8, 7), np.float32)})
    assert list(result[0].shape) == [1, 16, *node.outputs[0].shape[2:]]


def test_narrowing() -> None:
    assert SMALL.narrowed(3, 5).model_dump(include={"inputs", "kernels", "groups"}) == {
        "inputs": 3, "kernels": 5, "groups": 1,
    }  # fmt: skip
    depthwise = SMALL.model_copy(update={"inputs": 6, "groups": 6})
    assert depthwise.narrowed(5, 5).groups == 5
    onnx.checker.check_model(single_convolution(depthwise.narrowed(5, 5)), full_check=True)


@pytest.mark.parametrize("dilation", [1, 2])
def test_neighbours_are_counted_by_their_multiply_accumulates(dilation: int) -> None:
    convolution = SMALL.model_copy(update={"dilation": (dilation, dilation), "pads": (1, 2, 3, 0)})
    for each in (convolution, convolution.model_copy(update={"inputs": 6, "groups": 6})):
        graph = gs.import_onnx(onnx.shape_inference.infer_shapes(single_convolution(each)))
        before, own, after = (node_macs(node) for node in graph.nodes if node.op == "Conv")
        assert own_share(each) == pytest.approx(own / (before + own + after), rel=1e-12, abs=0)


def test_nothing_is_measured_twice_and_the_file_keeps_it(tmp_path: Path) -> None:
    machine = this_machine(1)
    costs = Costs(machine, rounds=2)
    costs.measure([SMALL, SMALL.narrowed(4, 8), SMALL])
    table = costs.table()
    assert [timing.convolution for timing in table.timings] == [SMALL, SMALL.narrowed(4, 8)]
    assert all(len(timing.samples_ms) == 2 and min(timing.samples_ms) > 0 for timing in table.timings)
    assert (table.evidence.kind, table.machine.onnxruntime) == ("measured", ort.__version__)
    table.write(tmp_path / "c.json")
    again = Costs(machine, read_document(tmp_path / "c.json", CostTable), rounds=2)
    again.measure([SMALL])
    assert again.table() == table
    assert again.time_ms(SMALL) == np.median(table.timings[0].samples_ms)


def test_a_table_of_another_machine_is_refused() -> None:
    table = Costs(Machine(processor="other", onnxruntime="1", threads=1)).table()
    with pytest.raises(ArtefactError) as raised:
        Costs(this_machine(1), table)
    assert raised.value.code == "costs-other-machine"


def test_a_convolution_stands_there_once(tmp_path: Path) -> None:
    costs = Costs(this_machine(1), rounds=1)
    costs.measure([SMALL])
    table = costs.table()
    text = table.model_copy(update={"timings": table.timings * 2}).to_json()
    (tmp_path / "c.json").write_text(text, encoding="utf-8")
    with pytest.raises(ArtefactError) as raised:
        read_document(tmp_path / "c.json", CostTable)
    assert "twice" in str(raised.value.note)
