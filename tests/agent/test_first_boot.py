"""Engines of the current release: the bundle's own, or built here once and kept."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from decoder_cases import contract_folder, head_detector, random_heads
from small_networks import conv_model, plan_folder

from deploycc import target
from deploycc.agent import bundle_fit, first_boot, jobs, releases
from deploycc.agent.outcome import Failed
from deploycc.integration.contract_files import Expected

FACTS = {"architecture": "x86_64", "board_model": "PC", "runtime_version": None, "gpus": [], "l4t": None}


@pytest.fixture
def manifest(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the release's manifest says: a network, no engine, and permission to build."""
    values: dict[str, Any] = {
        **{"runtime": "onnxruntime", "architecture": "x86_64", "build_on_device": True, "engines": []},
        **{"plan": "model/plan.json", "runtime_version": None, "compute_capability": None},
    }
    monkeypatch.setattr(releases.Releases, "manifest", lambda self, digest: values)
    return values


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, manifest: dict[str, Any]) -> Path:
    """A root file system with a release for x86-cpu."""
    release = tmp_path / releases.BASE / "releases" / ("a" * 64)
    (release / "model").mkdir(parents=True)
    plan_folder(release / "model", target.load("x86-cpu"), {"fp32": conv_model(), "fp32 original": conv_model()})
    (release.parent.parent / releases.CURRENT).symlink_to("releases/" + "a" * 64)
    monkeypatch.setattr(bundle_fit, "board_facts", lambda root, runtime: dict(FACTS))
    return tmp_path


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Paths of the plans that were built; in this process, and without the builder."""
    seen: list[str] = []

    def build_all(plan: str, variant: str | None = None) -> dict[str, Any]:
        seen.append(plan)
        engine = Path(plan).with_name("engine-fp32.onnx")
        engine.write_bytes(b"engine")
        row = {
            "file": engine.name,
            "status": "built",
            "variant": variant,
            "sha256": hashlib.sha256(b"engine").hexdigest(),
        }
        return {"engines": [row]}

    monkeypatch.setattr(jobs, "build_all", build_all)
    return seen


def test_it_builds_once_and_keeps_the_engines(root: Path, builds: list[str]) -> None:
    folder = first_boot.prepare(str(root))
    assert (Path(folder) / "engine-fp32.onnx").read_bytes() == b"engine"
    assert first_boot.prepare(str(root)) == folder
    assert len(builds) == 1
    assert [path.name for path in Path(folder).parent.iterdir()] == [Path(folder).name]


def test_engines_of_the_first_boot_see_the_pictures_of_the_smoke_test(root: Path, builds: list[str]) -> None:
    model = root / releases.BASE / releases.CURRENT / "model"
    detector = head_detector(random_heads(3))
    pictures = np.zeros((1, 4, 5, 3), np.uint8)
    outputs = {"loc": np.zeros((1, 160), np.float32), "conf": np.zeros((1, 160), np.float32)}
    contract = contract_folder(model, [detector], expected=Expected(pictures, 0.3, outputs, ((),)))
    folder = Path(first_boot.prepare(str(root)))
    smoke = contract.networks[0].smoke
    assert smoke is not None
    for name in ("contract.json", "priors.npy", "variances.npy", smoke.pictures, *smoke.outputs.values()):
        assert (folder / name).read_bytes() == (model / name).read_bytes()


def test_others_find_the_engines_while_somebody_installs(root: Path, builds: list[str]) -> None:
    before = os.umask(0o077)
    try:
        folder = first_boot.prepare(str(root))
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in (Path(folder), *Path(folder).parents[:2])} == {0o755}
    assert {stat.S_IMODE(path.stat().st_mode) for path in Path(folder).iterdir()} == {0o644}
    busy = releases.Releases(str(root))
    try:
        assert first_boot.prepare(str(root)) == folder
        (Path(folder) / "engine-fp32.onnx").write_bytes(b"other")
        with pytest.raises(Failed, match="another process changes"):  # to build is to change
            first_boot.prepare(str(root))
    finally:
        busy.close()


def test_a_damaged_engine_and_another_board_are_built_again(
    root: Path, builds: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = first_boot.prepare(str(root))
    (Path(folder) / "engine-fp32.onnx").write_bytes(b"other")
    assert first_boot.prepare(str(root)) == folder
    monkeypatch.setattr(bundle_fit, "board_facts", lambda root, runtime: {**FACTS, "l4t": "36.4"})
    assert first_boot.prepare(str(root)) != folder
    assert len(builds) == 3


def test_engines_of_the_bundle_come_first(root: Path, builds: list[str], manifest: dict[str, Any]) -> None:
    manifest["engines"] = [{"file": "model/engine-fp32.onnx"}]
    assert first_boot.prepare(str(root)).endswith("a/model")
    assert builds == []


def test_without_permission_nothing_is_built(root: Path, builds: list[str], manifest: dict[str, Any]) -> None:
    manifest["build_on_device"] = False
    with pytest.raises(Failed, match="does not permit"):
        first_boot.prepare(str(root))
    assert builds == []


def test_a_failed_build_leaves_nothing(root: Path, builds: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    row = {"file": "engine-fp32.onnx", "status": "failed", "variant": "compiled", "reason": "no memory", "hint": None}
    monkeypatch.setattr(jobs, "build_all", lambda plan, variant: {"engines": [row]})
    with pytest.raises(Failed, match="was not built: no memory"):
        first_boot.prepare(str(root))
    assert list((root / releases.BASE / releases.ENGINES).rglob("*engine*")) == []


def test_nothing_is_installed(tmp_path: Path) -> None:
    with pytest.raises(Failed, match="nothing is installed"):
        first_boot.prepare(str(tmp_path))
