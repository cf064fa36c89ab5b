"""``deploycc/ERRORS.md`` lists every code of an error or a note, as the source gives it."""

from __future__ import annotations

import gc
from inspect import getmro

import pytest
from error_codes import LEFT_OUT, ROOT, Use, as_markdown, find_uses, kinds, package_sources
from golden_files import assert_file

from deploycc import errors


@pytest.fixture(scope="module")
def uses() -> list[Use]:
    gc.disable()  # the trees of all sources are kept until the end: looking for garbage there takes longest
    try:
        return find_uses(package_sources())
    finally:
        gc.enable()


def given(source: str) -> list[tuple[str, str, tuple[str, ...]]]:
    return [(use.code, use.kind, use.messages) for use in find_uses({"a.py": source})]


def test_the_index_is_what_the_code_says(uses: list[Use]) -> None:
    assert_file(ROOT / "ERRORS.md", as_markdown(uses))


def test_a_code_has_one_class_of_errors(uses: list[Use]) -> None:
    classes: dict[str, set[str]] = {}
    for use in uses:
        if use.kind != "Note":
            classes.setdefault(use.code, set()).add(use.kind)
    for code, names in classes.items():
        lines = [{kind.__name__ for kind in getmro(getattr(errors, name))} for name in names]
        assert any(names <= line for line in lines), f"{code} is given to {', '.join(sorted(names))}"


def test_classes_are_listed_with_their_exit_status() -> None:
    assert next(iter(kinds())) == "DeployError"
    assert kinds()["ModelError"] == errors.EXIT_DIAGNOSED
    assert kinds()["BudgetMissed"] == errors.EXIT_BUDGET


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('InputError("a-b", f"{x} is wrong")', [("a-b", "InputError", ("… is wrong",))]),
        ('errors.InputError(code="a-b", message="wrong")', [("a-b", "InputError", ("wrong",))]),
        ('Note("", "a-b", "so" if x else "so not")', [("a-b", "Note", ("so", "so not"))]),
        ('Note("", "a-b" if x else "c", reason())', [("a-b", "Note", ()), ("c", "Note", ())]),
        ("def f(node, note):\n    return Note(node, note.code, note.reason)", []),
        ('def f(x):\n    why = f"{x} ends"\n    return Note(x, "a-b", why)', [("a-b", "Note", ("… ends",))]),
        (
            'def f(x):\n    why = "one"\n    Note(x, "a-b", why)\n    why = "two"\n    Note(x, "c-d", f"{why}: {x}")',
            [("a-b", "Note", ("one",)), ("c-d", "Note", ("two: …",))],
        ),
        (
            'def _fail(path, code, what): return ModelError(code, what)\n_fail(x, "a-b", "wrong")',
            [("a-b", "ModelError", ("wrong",))],
        ),
        (
            'class A:\n    def error(self, code, what): return ModelError(code, what)\n'
            'class B:\n    def error(self, code, what): return self.a.error(code, what)\n'
            'def f(b, error):\n    b.error("a-b", "wrong")\n    error("c-d", "no method")',
            [("a-b", "ModelError", ("wrong",))],
        ),
        (
            'def _fail(what): raise ModelError("a-b", what)\n_fail("wrong")',
            [("a-b", "ModelError", ()), ("a-b", "ModelError", ("wrong",))],
        ),
        (
            'def f(kind: type[BuildError]):\n    raise kind("a-b", "wrong")',
            [("a-b", "BuildError", ("wrong",))],
        ),
    ],
)  # fmt: skip
def test_ways_to_give_a_code(source: str, expected: list[tuple[str, str, tuple[str, ...]]]) -> None:
    assert given(source) == expected


def test_a_private_function_is_known_in_its_own_module_only() -> None:
    sources = {"a.py": "def _fail(code): raise ModelError(code, '')", "b.py": "_fail('other-thing')"}
    assert find_uses(sources) == []


@pytest.mark.parametrize("code", ['f"a-{x}"', "CODE", '"A_B"', "x.name"])
def test_a_code_that_is_not_written_out_is_refused(code: str) -> None:
    with pytest.raises(ValueError, match=r"a\.py:2: write out the code"):
        find_uses({"a.py": f'x = 1\nInputError({code}, "wrong")'})


def test_many_messages_are_cut_and_marks_of_markdown_do_not_show() -> None:
    uses = [Use("a-b", "ModelError", "a.py", line, (f"{line} | 2",)) for line in range(5)]
    [row] = [line for line in as_markdown(uses).splitlines() if line.startswith("| `a-b`")]
    assert row == "| `a-b` | ModelError | 1 | 0 \\| 2<br>1 \\| 2<br>2 \\| 2<br>and 2 more | `a.py` |"


def test_a_message_that_is_made_at_run_time_shows_as_left_out() -> None:
    assert f"| {LEFT_OUT} |" in as_markdown([Use("a-b", "Note", "a.py", 1, ())])
