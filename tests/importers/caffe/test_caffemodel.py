from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from caffe_files import Style, caffemodel, field, varint
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from deploycc.errors import ModelError
from deploycc.importers.caffe.caffemodel import parse, read

ARRAYS = hnp.arrays(
    np.float32, hnp.array_shapes(min_dims=1, max_dims=4, max_side=4), elements=st.floats(-99, 99, width=16)
)
STYLES = [Style(*flags) for flags in product([False, True], repeat=4)] + [Style(half=True), Style(old=True, half=True)]


@given(st.lists(st.tuples(st.sampled_from(["a", "b", "конв"]), st.lists(ARRAYS, min_size=1, max_size=3)), min_size=1, max_size=3),
       st.sampled_from(STYLES))  # fmt: skip
@settings(max_examples=examples(150))
def test_every_spelling_reads_back(layers: list[tuple[str, list[np.ndarray]]], style: Style) -> None:
    found = parse(caffemodel(layers, style), "net")
    assert [layer.name for layer in found] == [name for name, _ in layers]
    for layer, (_, arrays) in zip(found, layers, strict=True):
        for blob, array in zip(layer.blobs, arrays, strict=True):
            assert blob.dtype == np.float32
            assert blob.shape == ((1,) * (4 - array.ndim) + array.shape if style.legacy_shape else array.shape)
            np.testing.assert_array_equal(blob.reshape(array.shape), array)


def outcome(data: bytes) -> str | list[str]:
    """The names of the layers, or the code of the error."""
    try:
        return [layer.name for layer in parse(data, "net.caffemodel")]
    except ModelError as error:
        return error.code


def test_packed_floats_are_views_of_the_file() -> None:
    data = caffemodel({"a": [np.arange(8, dtype=np.float32)]})
    (layer,) = parse(data, "net")
    assert not layer.blobs[0].flags.owndata
    assert not layer.blobs[0].flags.writeable


@given(st.data())
@settings(max_examples=examples(150))
def test_a_file_cut_anywhere_is_diagnosed(data: st.DataObject) -> None:
    whole = caffemodel({"first": [np.ones((2, 3), np.float32)], "second": [np.ones(4, np.float32)]})
    cut = data.draw(st.integers(1, len(whole) - 1))
    found = outcome(whole[:cut])
    # Cut exactly between two layers, a protobuf file is whole.
    assert found in ("caffe-truncated-weights", "caffe-no-weights", ["first"])


@given(st.binary(max_size=60))
@settings(max_examples=examples(200))
def test_any_bytes_are_read_or_diagnosed(data: bytes) -> None:
    found = outcome(data)
    assert isinstance(found, list) or found in ("caffe-truncated-weights", "caffe-not-weights", "caffe-no-weights")


def test_cut_file_names_the_layer() -> None:
    whole = caffemodel({"conv1": [np.ones(4, np.float32)]})
    with pytest.raises(ModelError) as caught:
        parse(whole[:-5], "net.caffemodel")
    assert caught.value.render() == (
        "error[caffe-truncated-weights]: field 100 needs 37 bytes from byte 8, but the file ends\n"
        "  file: net.caffemodel\n"
        "  hint: download the file again and compare its size"
    )
    inner = b"".join(field(100, *field(1, b"conv1"), *field(7, *field(7, *field(1, varint(5))), *field(5, b"\0" * 16))))
    with pytest.raises(ModelError) as caught:
        parse(inner, "net.caffemodel")
    assert caught.value.message == "a blob of shape [5] has 4 numbers"
    assert caught.value.context["layer"] == "conv1"


@pytest.mark.parametrize(
    ("data", "code", "says"),
    [
        (None, "file-missing", "the weight file does not exist"),
        (b"", "file-empty", "the weight file is empty"),
        (b"\x89HDF\r\n\x1a\n", "caffe-not-weights", "the weight file is an HDF5 file; only the binary protobuf format is supported"),
        (b"version https://git-lfs.github.com/spec/v1", "caffe-not-weights",
         "the weight file is a Git LFS pointer, not the weights: fetch them with `git lfs pull`"),
        (b"<!DOCTYPE html>", "caffe-not-weights", "the weight file is a web page, not weights: the download failed"),
        (b"\x0a\x03net", "caffe-no-weights", "the weight file contains no layer with weights"),
        (b"\x07", "caffe-not-weights", "byte 0 is not what Caffe writes (wire type 7)"),
        (b"\x08" + b"\xff" * 11, "caffe-not-weights", "byte 11 is not what Caffe writes (varint too long)"),
    ],
)  # fmt: skip
def test_files_that_hold_no_weights(data: bytes | None, code: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "net.caffemodel"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(ModelError) as caught:
        read(path)
    assert (caught.value.code, caught.value.message) == (code, says)
    assert caught.value.context["file"] == str(path)
