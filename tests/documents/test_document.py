from __future__ import annotations

import importlib
import json
import pkgutil
from pathlib import Path
from typing import Any

import pytest
import sample_reports
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st

import deploycc
from deploycc import documents
from deploycc.agent import seal as agent_seal
from deploycc.documents.compile import CompileReport, read_compile_report
from deploycc.documents.document import Document, Tool, parse_document, this_tool
from deploycc.documents.latency import LatencyReport, read_latency_report
from deploycc.documents.plan import read_plan
from deploycc.documents.seal import sealed
from deploycc.documents.source import SourceRecord
from deploycc.errors import ArtefactError
from deploycc.files import DOCUMENT_BYTES


@pytest.mark.parametrize(
    ("document", "read"),
    [
        (sample_reports.latency(sample_reports.run(sample_reports.samples()), sample_reports.unmeasured()), read_latency_report),
        (sample_reports.compiled(), read_compile_report),
        (sample_reports.compiled_for_board(), read_compile_report),
    ],
)  # fmt: skip
def test_reading_gives_back_what_was_written(tmp_path: Path, document: Document, read: Any) -> None:
    file = tmp_path / document.FILE_NAME
    file.write_text(document.to_json(), encoding="utf-8")

    assert json.loads(file.read_text())["schema"] == 1
    assert read(file) == document
    assert read(tmp_path) == document


def document_kinds() -> list[type[Document]]:
    """Every kind of file that the package defines."""
    for module in pkgutil.iter_modules(documents.__path__):
        importlib.import_module(f"{documents.__name__}.{module.name}")
    return sorted(Document.__subclasses__(), key=lambda kind: kind.__name__)  # whatever order they were imported in


@pytest.mark.parametrize("kind", document_kinds(), ids=lambda kind: kind.__name__)
def test_every_kind_says_in_the_same_field_what_wrote_it(kind: type[Document]) -> None:
    assert kind.model_fields["tool"].annotation is Tool
    assert kind.model_fields["tool"].is_required()
    assert not {"tool_version", "deploycc", "agent"} & kind.model_fields.keys()


def test_this_process_is_named_without_an_agent() -> None:
    assert this_tool() == Tool(deploycc=deploycc.__version__, agent=None)


def test_the_agents_spelling_is_read(tmp_path: Path) -> None:
    text = """{"schema": 1, "target": "x86-cpu", "tool": {"deploycc": "0.1.0", "agent": "0.1.0"}, "quick": true,
      "environment": {"cpu_model": "A", "gpu": null, "load_1min": 0.5, "cpus_online": 2},
      "runs": [{"precision": "fp32", "network_sha256": "NETWORK", "device": "A", "status": "measured", "reason": null,
        "engine": {"file": "e.onnx", "sha256": "ENGINE", "runtime": "onnxruntime", "runtime_version": "1.31.1"},
        "hint": null, "threads": 2, "warmup_samples": 1, "warmup_s": 0.01, "duration_s": 0.02,
        "variant": "original", "blocks": [2], "samples_ms": [9.5, 10], "start_offsets_s": [0, 0.0096], "environment_after": {"load_1min": 0.6},
        "layers": [{"name": "conv", "op": "Conv", "median_ms": 9.0, "share": 1.0}],
        "constraints": {"min_duration_s": 10, "min_samples": 100}}]}"""
    text = text.replace("NETWORK", "b" * 64).replace("ENGINE", "c" * 64)
    (tmp_path / "latency.json").write_text(sealed(text))

    report = read_latency_report(tmp_path)

    assert report.runs[0].samples_ms == (9.5, 10.0)
    assert report.runs[0].label == "fp32 original"
    assert report.environment["gpu"] is None


def _written(tmp_path: Path, change: Any) -> Path:
    value = json.loads(sample_reports.latency(sample_reports.run(sample_reports.samples(5))).to_json())
    change(value)
    file = tmp_path / "latency.json"
    file.write_text(json.dumps(value))
    return file


@pytest.mark.parametrize(
    ("change", "code", "where"),
    [
        (lambda v: v.update(schema=2), "artefact-schema", "2"),
        (lambda v: v.update(schema=True), "artefact-schema", "true"),
        (lambda v: v.pop("schema"), "artefact-schema", "null"),
        (lambda v: v.update(extra=1), "artefact-invalid", "extra"),
        (lambda v: v.pop("target"), "artefact-invalid", "target"),
        (lambda v: v.update(quick="no"), "artefact-invalid", "quick"),
        (lambda v: v["runs"][0].update(samples_ms=["1"] * 5), "artefact-invalid", "runs.0.samples_ms.0"),
        (lambda v: v["runs"][0]["samples_ms"].append(1.0), "artefact-invalid", "same length"),
        (lambda v: v["runs"][0]["samples_ms"].__setitem__(0, float("nan")), "artefact-invalid", "samples_ms.0"),
        (lambda v: v["runs"][0]["samples_ms"].__setitem__(0, -1.0), "artefact-invalid", "samples_ms.0"),
        (lambda v: v["runs"][0].update(samples_ms=[], start_offsets_s=[]), "artefact-invalid", "needs samples"),
        (lambda v: v["runs"][0].update(engine=None), "artefact-invalid", "needs an engine"),
        (lambda v: v["runs"][0].update(status="failed", reason="x"), "artefact-invalid", "cannot have samples"),
        (lambda v: v["runs"][0]["engine"].update(sha256="short"), "artefact-invalid", "engine.sha256"),
        (lambda v: v["runs"].append(v["runs"][0]), "artefact-invalid", "same precision and variant"),
        (lambda v: v["runs"][0].update(blocks=[2, 2]), "artefact-invalid", "add up to the number of samples"),
        (lambda v: v["runs"][0].update(blocks=[5, 0]), "artefact-invalid", "blocks.1"),
    ],
)
def test_a_wrong_file_is_refused_with_the_place(tmp_path: Path, change: Any, code: str, where: str) -> None:
    with pytest.raises(ArtefactError) as refused:
        read_latency_report(_written(tmp_path, change))

    assert refused.value.code == code
    assert where in refused.value.render()


def values(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where every value of a document is that holds no other."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    return [at] if items is None else [found for key, each in items for found in values(each, (*at, key))]


def another(value: Any) -> Any:
    """A value of the same type."""
    if isinstance(value, bool) or value is None:
        return not value
    return value + 0.125 if isinstance(value, float) else value + 1 if isinstance(value, int) else f"{value}0"


@pytest.mark.parametrize(
    "document", [sample_reports.latency(sample_reports.run(sample_reports.samples(5))), sample_reports.compiled()]
)
def test_every_value_that_was_edited_is_noticed(document: Document) -> None:
    original = json.loads(document.to_json())
    file, noticed = Path(document.FILE_NAME), 0
    for at in values(original):
        edited = holder = json.loads(json.dumps(original))
        for key in at[:-1]:
            holder = holder[key]
        holder[at[-1]] = another(holder[at[-1]])
        with pytest.raises(ArtefactError) as refused:
            parse_document(json.dumps(edited).encode(), type(document), file)
        noticed += refused.value.code == "artefact-changed"
    assert noticed > 50  # the others are not valid at all
    del original["content_sha256"]
    with pytest.raises(ArtefactError, match="was changed"):
        parse_document(json.dumps(original).encode(), type(document), file)


def test_spacing_and_order_do_not_matter() -> None:
    report = sample_reports.latency()
    turned = dict(reversed(json.loads(report.to_json()).items()))
    assert parse_document(json.dumps(turned).encode(), LatencyReport, Path("latency.json")) == report


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3), max_leaves=5))  # fmt: skip
@settings(max_examples=examples(40))
def test_the_agent_computes_the_same_digest(value: Any) -> None:
    text = sealed(json.dumps({"content_sha256": "other", "value": value}))
    assert json.loads(text) == agent_seal.sealed({"value": value})


@pytest.mark.parametrize("number", [2**63, -(2**70), 10**39])
def test_whole_numbers_have_64_bits(number: int) -> None:
    """A mean of larger ones overflows."""
    with pytest.raises(ArtefactError, match="is not JSON") as caught:
        parse_document(json.dumps({"schema": 1, "count": [number]}).encode(), CompileReport, Path("compile.json"))
    assert "is not a whole number of 64 bits" in (caught.value.note or "")


def test_many_problems_are_counted_not_listed(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="and 15 more"):
        read_latency_report(_written(tmp_path, lambda v: v.update({f"extra{n}": n for n in range(20)})))


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"schema": 1'])
def test_what_is_not_json_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "latency.json").write_bytes(content)

    with pytest.raises(ArtefactError) as refused:
        read_latency_report(tmp_path)

    assert refused.value.code == "artefact-not-json"


@pytest.mark.parametrize("content", [b"[]", b"1", b"null", b'"x"'])
def test_json_that_is_no_object_has_no_schema(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "latency.json").write_bytes(content)

    with pytest.raises(ArtefactError) as refused:
        read_latency_report(tmp_path)

    assert refused.value.code == "artefact-schema"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match=r"no latency\.json in the folder"):
        read_latency_report(tmp_path)
    with pytest.raises(ArtefactError, match=r"no compile\.json at the path"):
        read_compile_report(tmp_path / "compile.json")


def test_one_kind_is_not_read_as_the_other(tmp_path: Path) -> None:
    file = tmp_path / LatencyReport.FILE_NAME
    file.write_text(sample_reports.compiled().to_json())

    with pytest.raises(ArtefactError, match=r"not a valid latency\.json"):
        read_latency_report(file)


def test_an_engine_states_its_file_or_the_reason() -> None:
    engine = sample_reports.compiled().engines[0].model_dump()

    with pytest.raises(ValueError, match="needs sha256 and size_bytes"):
        sample_reports.compiled(engines=({**engine, "sha256": None},))
    with pytest.raises(ValueError, match="needs a reason"):
        CompileReport.model_validate(
            {**sample_reports.compiled().model_dump(), "engines": ({**engine, "status": "failed"},)}
        )


def test_a_file_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "plan.json").open("wb") as file:
        file.truncate(DOCUMENT_BYTES + 1)
    with pytest.raises(ArtefactError, match="larger than 512 MiB") as caught:
        read_plan(tmp_path)
    assert caught.value.code == "artefact-unreadable"


def test_a_source_has_a_digest_per_file_or_none() -> None:
    source = SourceRecord(files=("a",), sha256="0" * 64, format="onnx", file_sha256=("1" * 64,))
    with pytest.raises(ValueError, match="one digest per file"):
        SourceRecord.model_validate({**source.model_dump(), "files": ("a", "b")})
