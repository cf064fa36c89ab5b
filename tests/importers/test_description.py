from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from deploycc.errors import ModelError
from deploycc.importers import description as module
from deploycc.importers.description import find_description, read_description


def write(text: str, folder: Path) -> Path:
    path = folder / "net.detector.toml"
    path.write_text(text, encoding="utf-8")
    return path


def refused(text: str, folder: Path) -> str:
    path = write(text, folder)
    with pytest.raises(ModelError) as caught:
        read_description(path)
    return caught.value.render().replace(str(path), "net.detector.toml")


def test_the_example_in_the_documentation_is_read(tmp_path: Path) -> None:
    block = (module.__doc__ or "").split("::\n", 1)[1].rsplit("Every key", 1)[0]
    text = "\n".join(line[4:] for line in block.splitlines())
    described = read_description(write(text, tmp_path))
    assert described.names() == ("background", "face")
    assert (described.input.size, described.input.mean) == ((240, 320), (127.0,))
    assert described.heads.prior_box[0].min_size == (10.0, 16.0, 24.0)
    assert described.nms.iou_threshold == 0.45


def test_empty(tmp_path: Path) -> None:
    described = read_description(write("", tmp_path))
    assert described.names() is None
    assert not described.heads.has_priors


def test_beside_the_model(tmp_path: Path) -> None:
    assert find_description(tmp_path / "net.onnx") is None
    path = write("", tmp_path)
    assert find_description(tmp_path / "net.onnx") == path
    assert find_description(tmp_path / "net.prototxt") == path


def test_names_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("one\n two \n\n", encoding="utf-8")
    assert read_description(write('class_names_file = "names.txt"', tmp_path)).names() == ("one", "two")
    with pytest.raises(ModelError) as caught:
        read_description(write('class_names_file = "gone.txt"', tmp_path)).names()
    assert caught.value.context["key"] == "class_names_file"


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        read_description(tmp_path / "gone.toml")
    assert (caught.value.code, caught.value.note) == ("description-unreadable", "No such file or directory")


def test_syntax_names_the_line(tmp_path: Path) -> None:
    text = refused("[input]\nsize = [240 320]\n", tmp_path)
    assert text.startswith(
        "error[description-syntax]: the detector description is not valid TOML\n  file: net.detector.toml\n"
    )
    assert "line 2" in text


@pytest.mark.parametrize(
    ("text", "key", "hint"),
    [
        ("[input]\ncolor = 'RGB'", "input.color", "did you mean colour? allowed here: colour, mean, name, scale, size"),
        ("[nms]\nthreshold = 1", "nms.threshold",
         "did you mean iou_threshold? allowed here: iou_threshold, keep_top_k, score_threshold, top_k"),
        ("[head]\nscores = 'a'", "head",
         "did you mean heads? allowed here: class_names, class_names_file, heads, input, nms"),
        ("[[heads.prior_box]]\nfeature=[1,1]\nmin_size=[1]\nmin_sizes=[1]", "heads.prior_box[1].min_sizes",
         "did you mean min_size? allowed here: aspect_ratio, clip, feature, flip, max_size, min_size, offset, step, variance"),
        ("xyz = 1", "xyz", "allowed here: class_names, class_names_file, heads, input, nms"),
        ("path = 'a'", "path", None),
    ],
)  # fmt: skip
def test_unknown_keys(text: str, key: str, hint: str | None, tmp_path: Path) -> None:
    expected = f"error[description-key]: {key} is not a key of a detector description\n"
    expected += f"  file: net.detector.toml\n   key: {key}"
    assert refused(text, tmp_path) == expected + (f"\n  hint: {hint}" if hint else "")


@pytest.mark.parametrize(
    ("text", "first_line"),
    [
        ("[input]\nsize = [240]", "input.size[2] cannot be [240]: field required"),
        ("[input]\ncolour = 'rgb'", "input.colour cannot be 'rgb': input should be 'BGR', 'RGB' or 'GRAY'"),
        ("[input]\nmean = [nan]", "input.mean[1] cannot be nan: input should be a finite number"),
        ("[input]\nscale = [0.0]", "input.scale[1] cannot be 0.0: value error, a factor of 0 makes every picture the same"),
        ("[input]\nmean = 1e39", "input.mean cannot be [1e+39]: value error, 1e+39 is 0 or infinite as a number of 32 bits"),
        ("[input]\nscale = 1e-50", "input.scale cannot be [1e-50]: value error, 1e-50 is 0 or infinite as a number of 32 bits"),
        ("[heads]\npriors = 'a'\nvariance = [0.1, 0.1, 0.2, 1e-50]", "heads.variance cannot be [0.1, 0.1, 0.2, 1e-50]: "
         "value error, 1e-50 is 0 or infinite as a number of 32 bits"),
        ("[nms]\niou_threshold = 1e-50", "nms.iou_threshold cannot be 1e-50: value error, 1e-50 is 0 or infinite as a "
         "number of 32 bits"),
        ("[input]\nmean = '3'", "input.mean[1] cannot be '3': input should be a valid number"),
        ("[heads]\nvariance = 0.1", "heads.variance belongs to priors, but the description gives none"),
        ("[heads]\npriors_form = 'centers'\n[[heads.prior_box]]\nfeature=1\nmin_size=1",
         "heads.priors_form describes a file of priors, but heads.priors names none"),
        ("[nms]\ntop_k = 1.5", "nms.top_k cannot be 1.5: input should be a valid integer"),
        ("[nms]\niou_threshold = '0.5'", "nms.iou_threshold cannot be '0.5': input should be a valid number"),
        ("[heads]\nactivation = 'relu'", "heads.activation cannot be 'relu': input should be 'softmax', 'sigmoid' or "
         "'none'"),
        ("class_names = ['a']\nclass_names_file = 'b'", "class_names_file and class_names are both given; keep one of them"),
        ("[heads]\npriors = 'a'\n[[heads.prior_box]]\nfeature=[1,1]\nmin_size=[1]", "heads.priors and "
         "[[heads.prior_box]] are both given; keep one of them"),
    ],
)  # fmt: skip
def test_wrong_values(text: str, first_line: str, tmp_path: Path) -> None:
    assert refused(text, tmp_path).splitlines()[0] == f"error[description-key]: {first_line}"


def test_further_mistakes_are_named(tmp_path: Path) -> None:
    assert "note: also wrong: nms.b, nms.c" in refused("[nms]\na = 1\nb = 2\nc = 3", tmp_path)
    assert "nms.e, nms.f and 1 more" in refused("[nms]\n" + "\n".join(f"{key} = 1" for key in "abcdefg"), tmp_path)


def test_a_single_value_replaces_a_list(tmp_path: Path) -> None:
    text = """
    class_names = "face"
    [input]
    size = 300
    mean = 127.5
    scale = 1
    [heads.prior_box]
    feature = 19
    min_size = 60
    max_size = 111
    aspect_ratio = 2
    variance = 0.1
    step = 16
    """
    described = read_description(write(text, tmp_path))
    (layer,) = described.heads.prior_box
    assert described.class_names == ("face",)
    assert (described.input.size, described.input.mean, described.input.scale) == ((300, 300), (127.5,), (1.0,))
    assert (layer.feature, layer.step, layer.variance) == ((19, 19), (16.0, 16.0), (0.1, 0.1, 0.1, 0.1))
    assert (layer.min_size, layer.max_size, layer.aspect_ratio) == ((60.0,), (111.0,), (2.0,))
    priors = 'priors = "p.npy"\nvariance = 0.2'
    assert read_description(write(f"[heads]\n{priors}", tmp_path)).heads.variance == (0.2, 0.2, 0.2, 0.2)


def test_every_key_is_documented() -> None:
    table = Path(module.__file__).with_name("DESCRIPTION.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"^\| `([\w.]+)`", table, re.MULTILINE))
    assert documented == set(keys(module.Description)) - {"path"}


def keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    parts = {"input": module.InputDescription, "heads": module.HeadsDescription, "nms": module.NmsDescription,
             "prior_box": module.PriorBoxDescription}  # fmt: skip
    for name in model.model_fields:
        if name in parts:
            yield from keys(parts[name], f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"
