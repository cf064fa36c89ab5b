"""One way to set up ONNX Runtime."""

from __future__ import annotations

import ast
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

import deploycc
from deploycc.agent import run_onnxruntime
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


def test_a_thread_that_waits_gives_its_core_to_others_soon() -> None:
    options = open_session(product(), 2, {"network": "g"}).get_session_options()
    assert options.get_session_config_entry("session.intra_op.spin_duration_us") == "100"


def test_the_agent_says_the_same() -> None:
    ours = open_session(product(), 2, {"network": "g"}).get_session_options()
    agents = run_onnxruntime._options(ort, 2)
    for entry in ("session.force_spinning_stop", "session.intra_op.spin_duration_us"):
        assert agents.get_session_config_entry(entry) == ours.get_session_config_entry(entry)
    assert agents.intra_op_num_threads == ours.intra_op_num_threads == 2


def test_a_refusal_names_the_network_and_the_operator() -> None:
    with pytest.raises(MeasureError) as caught:
        open_session(product("NoSuchOperator"), 1, {"network": "g"})
    assert caught.value.code == "onnxruntime-refuses"
    assert caught.value.context == {"network": "g"}
    assert "NoSuchOperator" in (caught.value.note or "")


def test_no_other_module_sets_up_a_session() -> None:
    """The agent apart, which imports nothing of the package."""
    classes = ("InferenceSession", "SessionOptions")
    sources = {path: path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py")}
    callers = {
        path.relative_to(PACKAGE).as_posix()
        for path, source in sources.items()
        if any(name in source for name in classes)  # reading every tree takes seconds
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(classes)
    }
    assert callers == {"cpu_session.py", "agent/run_onnxruntime.py"}
