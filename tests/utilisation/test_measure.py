"""A profile adds up pictures, however often it was interrupted."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from gated_networks import KERNELS, Spelling, gated
from graph_text import network, run
from PIL import Image

from deploycc.detector import Detector, InputSpec
from deploycc.detector.picture_list import PictureList, folder_pictures
from deploycc.detector.pictures import prepare, read_picture
from deploycc.documents.utilisation import (
    gate_vectors,
    operation_reduction,
    read_profile,
)
from deploycc.errors import MeasureError, PictureError
from deploycc.pruning.gate_constants import least_squares_coefficients
from deploycc.utilisation import measure as module
from deploycc.utilisation.measure import measure_utilisation

COUNT = 24


def detector(spelling: Spelling | None = None) -> Detector:
    """Gates that decide differently for different pictures; the gated layer does 36 x 8 x 36 of 14688 MACs."""
    found = gated(spelling or Spelling(group="gather", layout="after-activation"), seed=3)
    return replace(found, input=InputSpec("x", 6, 6, "RGB", (128.0,) * 3, (1 / 32,) * 3))


def drawn(count: int = COUNT) -> PictureList:
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (6, 6, 3), np.uint8) // np.uint8(rng.integers(1, 6)) for _ in range(count)]
    return PictureList("drawn", tuple(map(str, range(count))), "a" * 64, lambda number: pictures[number])


def tensors(found: Detector, *names: str) -> list[list[np.ndarray]]:
    """For each picture, the named tensors."""
    graph = found.graph.copy()
    graph.outputs = [graph.tensors()[name] for name in names]
    graph.cleanup().toposort()
    pictures = drawn()
    return [run(graph, prepare(pictures.read(number), found.input)) for number in range(COUNT)]


def test_the_profile_of_gates_agrees_with_numpy() -> None:
    found = detector()
    profile, notes = measure_utilisation(found, drawn())
    assert notes == ()
    (layer,) = profile.layers
    assert layer.gate is not None
    (multiply,) = (node for node in found.graph.nodes if node.op == "Mul")
    rows = tensors(found, *(tensor.name for tensor in multiply.inputs))
    y = np.stack([row[0] for row in rows]).astype(np.float64)[:, 0]
    g = np.stack([row[1] for row in rows]).reshape(COUNT, KERNELS).astype(np.float64)
    squares = (y**2).mean((2, 3))
    assert 0 < g.mean() < 1
    assert len(np.unique(g, axis=0)) > 2
    np.testing.assert_array_equal(gate_vectors(layer, COUNT), g > 0)
    np.testing.assert_array_equal(profile.mean_utilisation(layer), g.mean(0))
    np.testing.assert_allclose(layer.squares, squares.sum(0), rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(layer.gate.used_squares, (g * squares).sum(0), rtol=1e-5, atol=1e-9)
    expected = [(g * squares)[:, k].sum() / squares[:, k].sum() if squares[:, k].any() else 0 for k in range(KERNELS)]
    np.testing.assert_allclose(least_squares_coefficients(layer), expected, rtol=1e-5, atol=1e-9)


def test_the_least_squares_constant_beats_its_neighbours() -> None:
    """It minimises the error of c y for g y, which the mean does not."""
    found = detector()
    profile, _ = measure_utilisation(found, drawn())
    (layer,) = profile.layers
    (multiply,) = (node for node in found.graph.nodes if node.op == "Mul")
    rows = tensors(found, *(tensor.name for tensor in multiply.inputs))

    def error(coefficients: np.ndarray) -> np.ndarray:
        c = coefficients.reshape(1, -1, 1, 1)
        return sum(((row[1] - c) ** 2 * row[0].astype(np.float64) ** 2).sum((0, 2, 3)) for row in rows)

    best = least_squares_coefficients(layer)
    for other in (best + 0.01, best - 0.01, profile.mean_utilisation(layer)):
        assert (error(best) <= error(other) * (1 + 1e-6)).all()


def test_the_operation_reduction_is_the_share_of_switched_off_macs() -> None:
    profile, _ = measure_utilisation(detector(), drawn())
    (layer,) = profile.layers
    gated_macs, all_macs = 36 * 8 * 36, 36 * (4 * 27 + 8 * 36 + 2 * 8)
    assert (layer.macs, profile.scope_macs, profile.scope) == (gated_macs, all_macs, "network")
    off = 1 - gate_vectors(layer, COUNT).mean(1)
    percent = 100 * off * gated_macs / all_macs
    np.testing.assert_allclose(100 * operation_reduction(profile.layers, COUNT, all_macs), percent, rtol=1e-12, atol=0)
    assert profile.reduction is not None
    found = profile.reduction
    expected = [percent.mean(), np.sqrt(((percent - percent.mean()) ** 2).mean()), percent.min(), percent.max()]
    got = [found.average_percent, found.std_percent, found.min_percent, found.max_percent]
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12)
    assert percent.min() < percent.max()


def test_without_gates_the_shares_of_non_zero_responses_are_averaged() -> None:
    found = network(
        '<ir_version: 8, opset_import: ["" : 13]>\n'
        "n (float[1,3,6,6] x, float[4,3,3,3] w) => (float[1,4,6,6] r) {\n c = Conv<pads=[1,1,1,1]>(x, w)\n r = Relu(c)\n}"
    )
    found = replace(found, input=InputSpec("x", 6, 6, "RGB", (128.0,) * 3, (1 / 32,) * 3))
    profile, _ = measure_utilisation(found, drawn())
    (layer,) = profile.layers
    assert (profile.kind, profile.reduction, layer.gate, layer.activation) == ("activations", None, None, "Relu")
    shares = np.stack([(row[0] > 0).mean((0, 2, 3)) for row in tensors(found, "r")])
    np.testing.assert_allclose(profile.mean_utilisation(layer), shares.mean(0), rtol=1e-6, atol=1e-9)


# ---- interruption ---------------------------------------------------------------------------------------------------


def stopping(pictures: PictureList, at: int, error: BaseException) -> PictureList:
    def read(number: int) -> np.ndarray:
        if number == at:
            raise error
        return pictures.read(number)

    return replace(pictures, read=read)


@pytest.mark.parametrize("stops", [[7], [1, 2, 23], [0]])
@pytest.mark.parametrize("save_every_s", [0.0, 60.0])
def test_an_interrupted_profile_continues_to_the_same_numbers(
    stops: list[int], save_every_s: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SAVE_EVERY_S", save_every_s)
    whole, _ = measure_utilisation(detector(), drawn())
    partial = tmp_path / "p.json.partial"
    for stop in stops:
        with pytest.raises(KeyboardInterrupt):
            measure_utilisation(detector(), stopping(drawn(), stop, KeyboardInterrupt()), partial=partial)
    seen: list[int] = []
    resumed, notes = measure_utilisation(
        detector(), drawn(), partial=partial, say=lambda what, done=0, total=0: seen.append(done)
    )
    assert notes == ()
    assert seen == list(range(stops[-1], COUNT + 1))  # nothing is measured twice
    assert resumed == whole


def test_a_run_that_was_killed_continues_from_the_last_save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed: nothing runs after the last save."""
    partial = tmp_path / "p.json.partial"
    monkeypatch.setattr(module, "_SAVE_EVERY_S", 0.0)
    real, saves = module._save, []

    def save_twice(*arguments: object) -> None:
        if len(saves) < 2:
            saves.append(arguments[2])
            real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "_save", save_twice)
    with pytest.raises(RuntimeError):
        measure_utilisation(detector(), stopping(drawn(), 9, RuntimeError()), partial=partial)
    seen: list[int] = []
    resumed, _ = measure_utilisation(
        detector(), drawn(), partial=partial, say=lambda what, done=0, total=0: seen.append(done)
    )
    assert saves == [1, 2]
    assert seen[0] == 2
    assert resumed == measure_utilisation(detector(), drawn())[0]


@pytest.mark.parametrize("change", ["pictures", "network", "input", "damaged", "truncated", "emptied"])
def test_a_foreign_partial_file_is_not_resumed_but_noted(change: str, tmp_path: Path) -> None:
    partial = tmp_path / "p.json.partial"
    with pytest.raises(KeyboardInterrupt):
        measure_utilisation(detector(), stopping(drawn(), 5, KeyboardInterrupt()), partial=partial)
    found, pictures = detector(), drawn()
    if change == "pictures":
        pictures = replace(pictures, sha256="b" * 64)
    elif change == "network":
        found = replace(found, source=replace(found.source, sha256="1" * 64))
    elif change == "input":
        found = replace(found, input=replace(found.input, scale=(1 / 64,) * 3))
    elif change == "damaged":
        partial.write_bytes(b"nothing")
    elif change == "truncated":
        partial.write_bytes(partial.read_bytes()[:500])
    else:
        partial.write_bytes(b"")
    seen: list[int] = []
    profile, notes = measure_utilisation(
        found, pictures, partial=partial, say=lambda what, done=0, total=0: seen.append(done)
    )
    assert seen[0] == 0
    assert [note.code for note in notes] == ["profile-restarted"]
    assert profile == measure_utilisation(found, pictures)[0]


def test_memory_does_not_grow_with_the_pictures() -> None:
    found = detector()

    def peak(count: int) -> int:
        blank = np.zeros((64, 64, 3), np.uint8)
        pictures = PictureList("blank", ("p",) * count, "a" * 64, lambda number: blank)
        tracemalloc.start()
        measure_utilisation(found, pictures)
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    peak(5)
    few, many = peak(20), peak(620)
    assert many - few < 600 * KERNELS * 16  # 16 bytes a bit: checking unpacks them; a response would be 1152 bytes


# ---- pictures -------------------------------------------------------------------------------------------------------


def write_pictures(folder: Path, count: int) -> None:
    for number in range(count):
        Image.fromarray(drawn().read(number)).save(folder / f"{number}.png")


def test_a_folder_is_known_by_names_and_contents(tmp_path: Path) -> None:
    write_pictures(tmp_path, 3)
    first = folder_pictures(tmp_path)
    assert first.names == ("0.png", "1.png", "2.png")
    np.testing.assert_array_equal(first.read(1), drawn().read(1))
    assert folder_pictures(tmp_path).sha256 == first.sha256
    (tmp_path / "2.png").rename(tmp_path / "3.png")
    renamed = folder_pictures(tmp_path).sha256
    Image.fromarray(255 - read_picture(tmp_path / "1.png")).save(tmp_path / "1.png")
    assert len({first.sha256, renamed, folder_pictures(tmp_path).sha256}) == 3


def test_an_unreadable_picture_is_named(tmp_path: Path) -> None:
    write_pictures(tmp_path, 2)
    (tmp_path / "1.png").write_bytes(b"no picture")
    with pytest.raises(PictureError) as caught:
        measure_utilisation(detector(), folder_pictures(tmp_path))
    assert caught.value.context["file"] == str(tmp_path / "1.png")


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PictureError) as caught:
        folder_pictures(tmp_path)
    assert caught.value.code == "picture-folder-empty"


def test_nan_weights_are_refused_with_the_layer() -> None:
    found = detector()
    (conv,) = (node for node in found.graph.nodes if node.name == "gated")
    conv.inputs[1].values = np.full_like(conv.inputs[1].values, np.nan)
    with pytest.raises(MeasureError) as caught:
        measure_utilisation(found, drawn())
    assert caught.value.context["layer"] == "gated"


def test_the_document_survives_its_file(tmp_path: Path) -> None:
    profile, _ = measure_utilisation(detector(), drawn())
    profile.write(tmp_path / "p.json")
    assert read_profile(tmp_path / "p.json") == profile
