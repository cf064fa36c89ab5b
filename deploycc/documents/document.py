"""Files that one step writes and a later one reads: strict JSON with a version, and one way to refuse them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, ClassVar, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from deploycc import __version__
from deploycc.documents.seal import FIELD, content_digest, sealed
from deploycc.errors import ArtefactError
from deploycc.files import read_bytes, write_text

SCHEMA = 1

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_MOST_WHOLE = 1 << 63
Count = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(ge=0)]
Provenance = Literal["measured", "predicted", "published"]
Granularity = Annotated[
    Literal["kernel", "block", "nested"],
    BeforeValidator(lambda value: "block" if value == "group" else value),  # files of version 0.1 say "group"
]
"""How many kernels one decision of a gate switches: each its own, blocks of neighbours, or blocks that nest."""

_SHOWN_PROBLEMS = 5


class Record(BaseModel):
    """Base of everything inside an artefact: no unknown fields, no coercion, no NaN, no change after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, populate_by_name=True)


class Evidence(Record):
    """Where a group of figures comes from.

    Attributes:
        kind: ``measured`` by running something, ``predicted`` without running it, ``published`` by somebody else.
        source: the device that ran it, the method of prediction, or the publication.
    """

    kind: Provenance
    source: Annotated[str, Field(min_length=1)]


class NoteRecord(Record):
    """Something the compiler decided or left alone (`deploycc.errors.Note`)."""

    node: str
    code: str
    reason: str


class Tool(Record):
    """Versions of what wrote a file.

    Attributes:
        deploycc: of this package; for a file of the agent's, of the package that wrote its plan.
        agent: of the agent, where it wrote the file.
    """

    deploycc: Annotated[str, Field(max_length=100)]
    agent: Annotated[str, Field(max_length=100)] | None = None


def this_tool() -> Tool:
    """Return what this process writes into its files."""
    return Tool(deploycc=__version__)


class Document(Record):
    """Base of a whole file. ``FILE_NAME`` is its name in an output folder, ``MADE_BY`` the command that writes it.

    The file carries the digest of its content (`deploycc.documents.seal`). ``ALWAYS_SEALED`` is False where files of
    version 0.1, which had none, are still read.

    Attributes:
        schema_version: of the format, ``schema`` in the file.
        tool: what wrote it.
    """

    FILE_NAME: ClassVar[str]
    MADE_BY: ClassVar[str] = "deploycc compile"
    ALWAYS_SEALED: ClassVar[bool] = True

    schema_version: Literal[1] = Field(default=1, alias="schema")
    tool: Tool

    def to_json(self) -> str:
        """Return the file's text, with the digest of its content."""
        return sealed(self.model_dump_json(by_alias=True, indent=2))

    def write(self, path: Path) -> None:
        """Write the file, whole or not at all.

        Raises:
            ArtefactError: ``file-unwritable``.
        """
        write_text(path, self.to_json())


D = TypeVar("D", bound=Document)


def find_document(path: Path, kind: type[D]) -> Path:
    """Return the file of this kind: ``path`` itself, or the file of the agreed name in the folder ``path``.

    Raises:
        ArtefactError: there is none.
    """
    file = path / kind.FILE_NAME if path.is_dir() else path
    if not file.is_file():
        where = "in the folder" if path.is_dir() else "at the path"
        raise ArtefactError(
            "artefact-missing",
            f"there is no {kind.FILE_NAME} {where} {path}",
            hint=f"`{kind.MADE_BY}` writes it",
        )
    return file


def read_document(path: Path, kind: type[D]) -> D:
    """Read a file, or the file of the agreed name in a folder.

    Args:
        path: file or output folder.
        kind: the document class.

    Raises:
        ArtefactError: missing, unreadable, not JSON, of another schema version, with fields missing, unknown or of the
            wrong type, or changed since it was written.
    """
    file = find_document(path, kind)
    try:
        data = read_bytes(file)
    except OSError as error:
        raise ArtefactError("artefact-unreadable", f"cannot read {file}", note=error.strerror) from error
    return parse_document(data, kind, file)


def _whole(text: str) -> int:
    """Return a whole number of 64 bits: a float, which means and plots are made of, holds no larger ones safely."""
    number = int(text)
    if not -_MOST_WHOLE <= number < _MOST_WHOLE:
        raise ValueError(f"{text[:20]}{'...' if len(text) > 20 else ''} is not a whole number of 64 bits")
    return number


def parse_document(data: bytes, kind: type[D], file: Path) -> D:
    """Return the document that these bytes are.

    Args:
        data: UTF-8 JSON.
        kind: the document class.
        file: where the bytes are from, or where they belong, for the messages.

    Raises:
        ArtefactError: as for `read_document`, but for a file that is missing or unreadable.
    """
    try:
        text = data.decode("utf-8")
        raw = json.loads(text, parse_int=_whole)
        digest = content_digest(raw) if isinstance(raw, dict) else None
    except (ValueError, RecursionError) as error:  # JSONDecodeError and UnicodeDecodeError are ValueErrors
        raise ArtefactError(
            "artefact-not-json",
            f"{file.name} is not JSON",
            context={"file": file},
            note=str(error),
            hint="the file was cut short or edited; make it again",
        ) from error
    version = raw.get("schema") if isinstance(raw, dict) else None
    if version != SCHEMA or isinstance(version, bool):
        raise ArtefactError(
            "artefact-schema",
            f"{file.name} does not have schema {SCHEMA}, which this version reads",
            context={"file": file, "schema": json.dumps(version)},
            hint=f"make it again with this version, or check that it is a {kind.FILE_NAME}",
        )
    is_sealed, stated = FIELD in raw, raw.pop(FIELD, "missing")
    try:
        document = kind.model_validate_json(json.dumps(raw))
    except ValidationError as error:
        problems = [
            f"{'.'.join(map(str, problem['loc'])) or 'file'}: {problem['msg']}"
            for problem in error.errors(include_url=False, include_input=False, include_context=False)
        ]
        more = len(problems) - _SHOWN_PROBLEMS
        raise ArtefactError(
            "artefact-invalid",
            f"{file.name} is not a valid {kind.FILE_NAME}",
            context={"file": file},
            note="; ".join(problems[:_SHOWN_PROBLEMS]) + (f"; and {more} more" if more > 0 else ""),
            hint="the file was edited, or another version wrote it; make it again",
        ) from error
    if stated != digest and (is_sealed or kind.ALWAYS_SEALED):
        raise ArtefactError(
            "artefact-changed",
            f"{file.name} was changed after it was written",
            context={"file": file, FIELD: str(stated)[:64]},
            note=f"the digest of its content is {digest}",
            hint=f"take the file as `{kind.MADE_BY}` wrote it, or make it again",
        )
    return document
