"""Which bundles a board refuses, before its TensorRT sees an engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from deploycc.agent import bundle_fit
from deploycc.agent.outcome import Failed

ENGINE = {"file": "model/engine-fp32.engine", "builder_version": "8.2.1", "compute_capability": "6.2", "l4t": "32.7.1"}
MANIFEST = {
    "architecture": "aarch64",
    "runtime": "tensorrt",
    "runtime_version": "8.2.1",
    "compute_capability": "6.2",
    "build_on_device": False,
    "engines": [ENGINE],
}
TX2 = {
    "architecture": "aarch64",
    "runtime_version": "8.2.1-1+cuda10.2",
    "gpus": [{"ordinal": 0, "name": "NVIDIA Tegra X2", "compute_capability": "6.2"}],
    "l4t": "32.7.1",
}
UNKNOWN = {"architecture": None, "runtime_version": None, "gpus": [], "l4t": None}


def manifest(**changes: Any) -> dict[str, Any]:
    return {**MANIFEST, **changes}


def test_it_fits_its_board_and_one_of_which_nothing_is_known() -> None:
    assert bundle_fit.check(MANIFEST, TX2) == []
    assert bundle_fit.check(MANIFEST, UNKNOWN) == []


@pytest.mark.parametrize(
    ("board", "reason"),
    [
        ({"architecture": "x86_64"}, "the bundle is for aarch64, and this machine is x86_64"),
        ({"runtime_version": "8.0.1-1+cuda10.2"}, "for TensorRT 8.2.1, and this board has 8.0.1-1"),
        ({"runtime_version": "8.2.2-1"}, "built with TensorRT 8.2.1, and this machine has 8.2.2-1"),
        ({"l4t": "32.7.3"}, "built under L4T 32.7.1, and this board has 32.7.3"),
        (
            {"gpus": [{"compute_capability": "7.2", "name": "Xavier"}]},
            "for a GPU of compute capability 6.2, and this board has 7.2",
        ),
    ],
)
def test_another_board_is_refused_and_both_are_named(board: dict[str, Any], reason: str) -> None:
    with pytest.raises(Failed, match=reason.replace("+", r"\+")):
        bundle_fit.check(MANIFEST, {**TX2, **board})


def test_with_permission_another_patch_or_release_builds_its_own() -> None:
    for board in ({"l4t": "32.7.3"}, {"runtime_version": "8.2.2-1"}):
        [remark] = bundle_fit.check(manifest(build_on_device=True), {**TX2, **board})
        assert remark.startswith("model/engine-fp32.engine: the engine was built")
    with pytest.raises(Failed, match=r"for TensorRT 8\.2\.1"):  # the network was written for another parser
        bundle_fit.check(manifest(build_on_device=True), {**TX2, "runtime_version": "8.0.1"})


def test_no_engine_and_no_permission() -> None:
    with pytest.raises(Failed, match="holds no engine"):
        bundle_fit.check(manifest(engines=[]), TX2)
    assert bundle_fit.check(manifest(engines=[], build_on_device=True), TX2) == []


def test_onnx_runtime_reads_networks_of_any_version() -> None:
    changes = {"runtime": "onnxruntime", "runtime_version": None, "compute_capability": None}
    assert bundle_fit.check(manifest(**changes), {**TX2, "runtime_version": "1.2", "l4t": "36.4"}) == []


def test_a_root_file_system_tells_its_release(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/nv_tegra_release").write_text("# R32 (release), REVISION: 7.1, GCID: 1, BOARD: t186ref\n")
    (tmp_path / "var/lib/dpkg").mkdir(parents=True)
    (tmp_path / "var/lib/dpkg/status").write_text(
        "Package: libnvinfer8\nStatus: install ok installed\nArchitecture: arm64\nVersion: 8.2.1-1+cuda10.2\n"
        "Maintainer: N <n@example.org>\nDescription: x\n\n"
    )
    facts = bundle_fit.board_facts(str(tmp_path), "tensorrt")
    assert facts["l4t"] == "32.7.1"
    assert facts["runtime_version"] in ("8.2.1-1+cuda10.2", None)  # None where there is no dpkg-query
    assert (facts["architecture"], facts["gpus"]) == (None, [])  # of the host, not of the board
