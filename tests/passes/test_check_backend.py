"""Refusals of the parser reach the user as notes; the network stays."""

from __future__ import annotations

from graph_text import network

from deploycc.graph.text import to_text
from deploycc.parsers.support import Contract, refusals
from deploycc.passes.check_backend import check_backend
from deploycc.passes.options import Options


def test_every_refusal_is_a_note() -> None:
    source = network('<ir_version: 6, opset_import: ["": 11]> g (float[4] x) => (float[4] y) { [odd] y = Det (x) }')
    contract = Contract("tensorrt-onnx", version=(7, 1), max_opset=11, max_ir=6, int64=False)
    before = to_text(source.graph)
    result = check_backend(source, Options(contract))
    assert not result.changed
    assert to_text(result.detector.graph) == before
    expected = refusals(source.graph, contract)
    assert [note.node for note in result.notes] == [refusal.node for refusal in expected] == ["odd"]
    assert {note.code for note in result.notes} == {"parser-refuses"}
    assert result.notes[0].reason.startswith("Det: ")


def test_the_first_release_is_named() -> None:
    text = """<ir_version: 6, opset_import: ["": 11]>
    g (float[1,4] x) => (float[1,4] y) { [hot] i = NonZero (x) f = Cast <to = 1> (i) m = ReduceMax (f) y = Add (x, m) }"""
    contract = Contract("tensorrt-onnx", version=(7, 1), max_opset=11, max_ir=6, int64=True)
    (note,) = [note for note in check_backend(network(text), Options(contract)).notes if note.node == "hot"]
    assert "(supported since TensorRT 8.5)" in note.reason


def test_an_accepted_network_has_no_notes() -> None:
    text = '<ir_version: 6, opset_import: ["": 11]> g (float[1,4] x) => (float[1,4] y) { y = Relu (x) }'
    contract = Contract("tensorrt-onnx", version=(8, 2, 1), max_opset=13, max_ir=7, int64=False)
    assert check_backend(network(text), Options(contract)).notes == ()
