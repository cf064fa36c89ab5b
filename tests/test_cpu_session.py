"""One way to set up ONNX Runtime."""

from __future__ import annotations

import ast
import time
from pathlib import Path

import numpy as np
import onnx
import pytest

import deploycc
from deploycc.cpu_session import open_session
from deploycc.errors import MeasureError

PACKAGE = Path(deploycc.__file__).parent


def product(op: str = "MatMul") -> onnx.ModelProto:
    text = f'<ir_version: 7, opset_import: ["" : 13]> g (float[300,300] x) => (float[300,300] y) {{ y = {op} (x, x) }}'
    return onnx.parser.parse_model(text)


def test_a_network_runs_and_leaves_no_thread_spinning() -> None:
    session = open_session(product(), 2, {"network": "g"})
    x = np.eye(300, dtype=np.float32)
    np.testing.assert_array_equal(session.run(None, {"x": x})[0], x)
    start = time.process_time()
    time.sleep(0.05)
    assert time.process_time() - start < 0.02


def test_a_refusal_names_the_network_and_the_operator() -> None:
    with pytest.raises(MeasureError) as caught:
        open_session(product("NoSuchOperator"), 1, {"network": "g"})
    assert caught.value.code == "onnxruntime-refuses"
    assert caught.value.context == {"network": "g"}
    assert "NoSuchOperator" in (caught.value.note or "")


def test_no_other_module_sets_up_a_session() -> None:
    """The agent apart, which imports nothing of the package."""
    callers = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("InferenceSession", "SessionOptions"))
    }
    assert callers == {"cpu_session.py", "agent/run_onnxruntime.py"}
