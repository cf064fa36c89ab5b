"""A profile says nothing that contradicts itself, and is refused for another network."""

from __future__ import annotations

import base64
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from deploycc.documents.document import Evidence, this_tool
from deploycc.documents.utilisation import (
    GateRecord,
    LayerUse,
    Pictures,
    Preparation,
    UtilisationProfile,
    check_profile,
    gate_vectors,
    operation_reduction,
    pack_vectors,
    read_profile,
    summarise_reduction,
)
from deploycc.errors import ArtefactError


def layer(vectors: np.ndarray, name: str = "conv", macs: int = 100) -> LayerUse:
    kernels = vectors.shape[1]
    packed = b"".join(np.packbits(row).tobytes() for row in vectors)
    gate = GateRecord(
        place="after-bias",
        granularity="kernel",
        threshold=0.5,
        unit_of=tuple(range(kernels)),
        macs=3,
        used_squares=(0.5,) * kernels,
        vectors=pack_vectors(packed),
    )
    used = tuple(map(float, vectors.sum(0)))
    return LayerUse(name=name, macs=macs, response="y", activation=None, used=used, squares=(1.0,) * kernels, gate=gate)


VECTORS = np.array([[1, 0, 0, 1, 1, 0, 0, 0, 1], [1, 0, 1, 1, 1, 0, 0, 0, 1]], bool)


def profile(*vectors: np.ndarray) -> UtilisationProfile:
    rows = vectors or (VECTORS,)
    layers = tuple(layer(each, f"conv{number}") for number, each in enumerate(rows))
    count = len(rows[0])
    return UtilisationProfile(
        tool=this_tool(),
        evidence=Evidence(kind="measured", source="test"),
        source_sha256="a" * 64,
        random_weights=None,
        network="net",
        kind="gates",
        input=Preparation(shape=(1, 3, 8, 8), colour="RGB", mean=(0.0,) * 3, scale=(1.0,) * 3, assumed=False),
        pictures=Pictures(source="folder", count=count, sha256="b" * 64),
        scope="back-end",
        scope_macs=400,
        layers=layers,
        reduction=summarise_reduction(operation_reduction(layers, count, 400)),
    )


@given(hnp.arrays(np.bool_, st.tuples(st.integers(1, 20), st.integers(1, 33))))
@settings(max_examples=60)
def test_gate_vectors_come_back(vectors: np.ndarray) -> None:
    found = profile(vectors)
    np.testing.assert_array_equal(gate_vectors(found.layers[0], len(vectors)), vectors)
    again = UtilisationProfile.model_validate_json(found.to_json())
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
    path.write_text(profile().to_json().replace('"granularity": "kernel"', '"granularity": "group"'), encoding="utf-8")
    assert read_profile(path).layers[0].gate == profile().layers[0].gate.model_copy(update={"granularity": "block"})


def test_nan_is_not_a_number(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    path.write_text(profile().to_json().replace('"threshold": 0.5', '"threshold": NaN'), encoding="utf-8")
    with pytest.raises(ArtefactError):
        read_profile(path)


def test_a_missing_file_says_what_makes_it(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError) as caught:
        read_profile(tmp_path / "p.json")
    assert "deploycc profile" in str(caught.value.hint)


def test_a_profile_is_taken_for_its_own_network() -> None:
    check_profile(profile(), "a" * 64, None, {"conv0": 9, "other": 4})


@pytest.mark.parametrize(
    ("sha256", "seed", "kernels", "code", "said"),
    [
        ("c" * 64, None, {"conv0": 9}, "profile-other-model", "another network"),
        ("a" * 64, 7, {"conv0": 9}, "profile-other-model", "another network"),
        ("a" * 64, None, {"conv1": 9}, "profile-other-layers", "does not exist"),
        ("a" * 64, None, {"conv0": 8}, "profile-other-layers", "has 8 kernels"),
    ],
)
def test_a_profile_of_another_network_is_refused(
    sha256: str, seed: int | None, kernels: dict[str, int], code: str, said: str
) -> None:
    with pytest.raises(ArtefactError) as caught:
        check_profile(profile(), sha256, seed, kernels)
    assert caught.value.code == code
    assert said in caught.value.message


def test_a_layer_that_the_profile_lacks_is_named() -> None:
    assert profile().layer("conv0").kernels == 9
    with pytest.raises(ArtefactError) as caught:
        profile().layer("conv9")
    assert caught.value.code == "profile-missing-layer"
    assert "conv9" in caught.value.message
