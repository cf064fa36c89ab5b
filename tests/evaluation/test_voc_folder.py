"""VOC folders: what is read, and what is refused, by file and line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deploycc.errors import InputError
from deploycc.evaluation.dataset import open_dataset
from deploycc.evaluation.voc_folder import read_voc_folder

OBJECT = """  <object>
    <name>{name}</name>
    <difficult>{difficult}</difficult>
    <bndbox><xmin>{xmin}</xmin><ymin>{ymin}</ymin><xmax>{xmax}</xmax><ymax>{ymax}</ymax></bndbox>
  </object>
"""


def write(folder: Path, stem: str, *objects: dict[str, object], picture: bool = True) -> Path:
    """One picture of 40x30 and its annotation; the first object starts on line 3."""
    for name in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    if picture:
        Image.new("RGB", (40, 30), (9, 9, 9)).save(folder / "JPEGImages" / f"{stem}.jpg")
    whole = {"name": "cat", "difficult": 0, "xmin": 1, "ymin": 1, "xmax": 40, "ymax": 30}
    body = "".join(OBJECT.format(**{**whole, **one}) for one in objects)
    file = folder / "Annotations" / f"{stem}.xml"
    file.write_text(f"<annotation>\n  <folder>x</folder>\n{body}</annotation>\n", encoding="utf-8")
    return file


def refused(folder: Path, **options: object) -> InputError:
    with pytest.raises(InputError) as caught:
        read_voc_folder(folder, **options)  # type: ignore[arg-type]
    return caught.value


def test_boxes_count_from_zero_and_names_sort(tmp_path: Path) -> None:
    write(tmp_path, "b", {"name": "dog", "difficult": 1, "xmin": 11, "ymin": 6, "xmax": 20, "ymax": 15})
    write(tmp_path, "a", {}, {"name": "ant"})
    names, pictures = read_voc_folder(tmp_path)
    assert names == ("ant", "cat", "dog")
    assert [p.picture.name for p in pictures] == ["a.jpg", "b.jpg"]
    assert pictures[0].truth.classes.tolist() == [1, 0]
    assert pictures[0].truth.boxes[0].tolist() == [0, 0, 40, 30]
    assert pictures[1].truth.boxes.tolist() == [[10, 5, 20, 15]]
    assert pictures[1].truth.difficult.tolist() == [True]


def test_a_split_chooses_pictures(tmp_path: Path) -> None:
    for stem in ("a", "b", "c"):
        write(tmp_path, stem, {})
    (tmp_path / "ImageSets/Main/test.txt").write_text("c\na\n", encoding="utf-8")
    data = open_dataset(f"voc:{tmp_path}@test")
    assert data.names == ("c.jpg", "a.jpg")
    pixels, truth = data.sample(0)
    assert pixels.shape == (30, 40, 3)
    assert len(truth.boxes) == 1


def test_a_missing_picture_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path, "a", {}, picture=False)
    error = refused(tmp_path)
    assert error.code == "data-picture-missing"
    assert error.context["file"] == str(file)


@pytest.mark.parametrize(
    "box", [{"xmax": 99}, {"ymax": 32}, {"xmin": -5}, {"xmin": 30, "xmax": 20}, {"ymin": 31, "ymax": 31}]
)
def test_a_box_outside_the_picture_is_refused_by_line(tmp_path: Path, box: dict[str, object]) -> None:
    file = write(tmp_path, "a", {}, box)
    error = refused(tmp_path)
    assert error.code == "data-box"
    assert (error.context["file"], error.context["line"]) == (str(file), "8")
    assert "40x30" in error.message


def test_an_unknown_class_is_refused_by_line(tmp_path: Path) -> None:
    write(tmp_path, "a", {}, {"name": "dgo"})
    error = refused(tmp_path, classes=("cat", "dog"))
    assert (error.code, error.context["line"]) == ("data-class", "8")
    assert "'dgo'" in error.message


def test_broken_xml_is_refused_by_line(tmp_path: Path) -> None:
    file = write(tmp_path, "a", {})
    file.write_text("<annotation>\n<object>\n<name>cat</nam>\n</annotation>", encoding="utf-8")
    error = refused(tmp_path)
    assert (error.code, error.context["file"], error.context["line"]) == ("data-xml", str(file), "3")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("<annotation>\n<object><bndbox/></object></annotation>", "2"),
        ("<annotation>\n\n<object><name>cat</name><bndbox><xmin>1</xmin></bndbox></object></annotation>", "3"),
        (
            "<annotation><object><name>cat</name><bndbox><xmin>one</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax>"
            "</bndbox></object></annotation>",
            "1",
        ),
    ],
)
def test_an_incomplete_object_is_refused_by_line(tmp_path: Path, text: str, line: str) -> None:
    write(tmp_path, "a").write_text(text, encoding="utf-8")
    error = refused(tmp_path)
    assert (error.code, error.context["line"]) == ("data-object", line)


def test_another_root_element_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "a").write_text("<html></html>", encoding="utf-8")
    assert refused(tmp_path).code == "data-xml"


def test_an_unreadable_picture_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "a", {})
    (tmp_path / "JPEGImages/a.jpg").write_bytes(b"no picture")
    assert refused(tmp_path).code == "data-picture-unreadable"


def test_every_fault_is_counted(tmp_path: Path) -> None:
    for stem in ("a", "b", "c"):
        write(tmp_path, stem, {"xmax": 400})
    error = refused(tmp_path)
    assert error.note is not None
    assert error.note.startswith("2 more files")


def test_an_unknown_split_names_the_known_ones(tmp_path: Path) -> None:
    write(tmp_path, "a", {})
    (tmp_path / "ImageSets/Main/train.txt").write_text("a\n", encoding="utf-8")
    error = refused(tmp_path, split="tset")
    assert error.code == "data-split"
    assert error.hint == "available splits: train"


def test_a_split_that_lists_a_missing_annotation(tmp_path: Path) -> None:
    write(tmp_path, "a", {})
    (tmp_path / "ImageSets/Main/train.txt").write_text("a\nb\n", encoding="utf-8")
    error = refused(tmp_path, split="train")
    assert (error.code, error.context["line"]) == ("data-annotation-missing", "2")


@pytest.mark.parametrize(
    "spelling", ["voc:", "generated:", "generated:x", "generated:1:0", "coco:x", "generated:1:2:3"]
)
def test_other_spellings_are_refused(spelling: str) -> None:
    with pytest.raises(InputError, match="is not a data set"):
        open_dataset(spelling)


def test_generated_data_is_that_of_the_generator() -> None:
    data = open_dataset("generated:4:3", size=64)
    assert len(data) == 3
    pixels, truth = data.sample(2)
    assert pixels.shape == (64, 64, 3)
    assert np.array_equal(pixels, open_dataset("generated:4:9", size=64).sample(2)[0])
    assert len(truth.boxes) == len(truth.classes)
