"""Finding shipped detectors by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploycc import importers, models
from deploycc.errors import ModelError


def test_a_path_stays_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net").touch()
    for text in ("net.onnx", "a/b", "net"):
        assert models.resolve(text) == Path(text)


def test_an_unknown_name_lists_the_shipped_detectors() -> None:
    with pytest.raises(ModelError, match="'stret_ssd' is neither a file nor a shipped detector") as raised:
        models.resolve("stret_ssd")
    assert raised.value.context["shipped"] == ", ".join(models.names())
    assert raised.value.hint == "did you mean street_ssd?"


@pytest.mark.parametrize("name", models.names())
def test_every_shipped_detector_is_small_and_complete(name: str) -> None:
    path = models.resolve(name)
    assert path.stat().st_size < 4 * 2**20
    detector = importers.load(path)
    assert detector.heads is not None
    assert not detector.input.assumed
    assert len(detector.class_names) == detector.heads.classes
    assert detector.source.random_weights is None
