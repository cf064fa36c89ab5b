"""A profile that contradicts itself is refused."""

from __future__ import annotations

import base64
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from utilisation_profiles import VECTORS, profile

from deploycc.documents.document import parse_document
from deploycc.documents.utilisation import UtilisationProfile, gate_vectors, read_profile
from deploycc.errors import ArtefactError


@given(hnp.arrays(np.bool_, st.tuples(st.integers(1, 20), st.integers(1, 33))))
@settings(max_examples=examples(60))
def test_gate_vectors_come_back(vectors: np.ndarray) -> None:
    found = profile(vectors)
    np.testing.assert_array_equal(gate_vectors(found.layers[0], len(vectors)), vectors)
    again = parse_document(found.to_json().encode(), UtilisationProfile, Path("p.json"))
    assert again == found


def test_vectors_of_a_thousand_pictures_stay_small() -> None:
    vectors = np.random.default_rng(0).random((1000, 512)) < 0.7
    assert len(profile(vectors).to_json()) < 1000 * 512 / 8 * 1.5 + 40_000


def test_the_worked_reduction() -> None:
    """Two layers of 100 MACs in 400: the first picture switches off 5 of 9 kernels in both, the second 4 of 9."""
    found = profile(VECTORS, VECTORS).reduction
    assert found is not None
    first, second = 100 * 200 * 5 / 9 / 400, 100 * 200 * 4 / 9 / 400
    assert found.average_percent == pytest.approx((first + second) / 2, rel=1e-12)
    assert found.max_percent == pytest.approx(first, rel=1e-12)
    assert found.min_percent == pytest.approx(second, rel=1e-12)
    assert found.std_percent == pytest.approx((first - second) / 2, rel=1e-12)


def test_the_worked_mean() -> None:
    found = profile(VECTORS)
    np.testing.assert_array_equal(found.mean_utilisation(found.layers[0]), [1, 0, 0.5, 1, 1, 0, 0, 0, 1])


def edit(change: str, document: dict[str, Any]) -> None:
    first = document["layers"][0]
    if change == "vectors":
        first["gate"]["vectors"] = base64.b64encode(zlib.compress(bytes([255, 128, 255, 128]))).decode()
    elif change == "short vectors":
        first["gate"]["vectors"] = base64.b64encode(zlib.compress(b"1")).decode()
    elif change == "not base64":
        first["gate"]["vectors"] = "!"
    elif change == "not zlib":
        first["gate"]["vectors"] = "AAAA"
    elif change == "used too often":
        first["used"][0] = 3.0
    elif change == "negative":
        first["squares"][0] = -1.0
    elif change == "lengths":
        first["squares"].pop()
    elif change == "reduction":
        document["reduction"]["average_percent"] += 0.01
    elif change == "no reduction":
        document["reduction"] = None
    elif change == "kind":
        document["kind"] = "activations"
    elif change == "twice":
        document["layers"].append(first)
    elif change == "no layers":
        document["layers"] = []
    elif change == "unknown":
        document["more"] = 1
    elif change == "digest":
        document["source_sha256"] = "abc"


@pytest.mark.parametrize(
    "change",
    ["vectors", "short vectors", "not base64", "not zlib", "used too often", "negative", "lengths", "reduction",
     "no reduction", "kind", "twice", "no layers", "unknown", "digest"],
)  # fmt: skip
def test_an_edited_profile_is_refused(change: str, tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    document = json.loads(profile().to_json())
    path.write_text(json.dumps(document), encoding="utf-8")
    assert read_profile(path) == profile()
    edit(change, document)
    path.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(ArtefactError) as caught:
        read_profile(path)
    assert caught.value.code == "artefact-invalid"


def test_a_profile_of_version_0_1_calls_blocks_groups(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    document = json.loads(profile().to_json().replace('"granularity": "kernel"', '"granularity": "group"'))
    path.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(ArtefactError, match="was changed"):
        read_profile(path)
    del document["content_sha256"]  # of which that version knew nothing
    path.write_text(json.dumps(document), encoding="utf-8")
    assert read_profile(path).layers[0].gate == profile().layers[0].gate.model_copy(update={"granularity": "block"})


def test_nan_is_not_a_number(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    path.write_text(profile().to_json().replace('"threshold": 0.5', '"threshold": NaN'), encoding="utf-8")
    with pytest.raises(ArtefactError):
        read_profile(path)


def test_a_missing_file_has_a_hint(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError) as caught:
        read_profile(tmp_path / "p.json")
    assert "deploycc profile" in str(caught.value.hint)


def test_a_layer_that_the_profile_lacks_is_named() -> None:
    assert profile().layer("conv0").kernels == 9
    with pytest.raises(ArtefactError) as caught:
        profile().layer("conv9")
    assert caught.value.code == "profile-missing-layer"
    assert "conv9" in caught.value.message
