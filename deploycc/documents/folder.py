"""What an output folder keeps about itself: which of its files the tool wrote, and a change that is under way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import Field, model_validator

from deploycc.documents.document import Count, Document, Record, Sha256, this_tool
from deploycc.documents.plan import FileName


class ListedFile(Record):
    """A file of the folder, as it was written."""

    name: FileName
    sha256: Sha256
    size_bytes: Count


class FolderManifest(Document):
    """``deploycc-manifest.json``: every file that the tool wrote into a folder, but for itself.

    A file that is not listed, or not as listed any more, belongs to somebody else: no command replaces or removes it.

    Attributes:
        files: by name.
    """

    FILE_NAME: ClassVar[str] = "deploycc-manifest.json"

    files: tuple[ListedFile, ...]

    @model_validator(mode="after")
    def _each_file_once(self) -> FolderManifest:
        if len({file.name for file in self.files}) < len(self.files):
            raise ValueError("a file is listed twice")
        return self

    def digests(self) -> dict[str, str]:
        """Return the SHA-256 of each file by its name."""
        return {file.name: file.sha256 for file in self.files}


class Move(Record):
    """A file that is to be renamed. Both names are paths inside the folder; nothing lies at ``to`` before."""

    source: Annotated[FileName, Field(alias="from")]
    to: FileName


class FolderJournal(Document):
    """``journal.json``: the renames that turn a folder's old content into its new one, in order.

    It exists while they are carried out. A process that finds one whose writer is dead carries out the rest.
    """

    FILE_NAME: ClassVar[str] = "journal.json"

    moves: tuple[Move, ...]


def manifest_of(files: Mapping[str, tuple[str, int]]) -> FolderManifest:
    """Return the manifest of files, from the SHA-256 and the size in bytes of each."""
    listed = (ListedFile(name=name, sha256=sha256, size_bytes=size) for name, (sha256, size) in sorted(files.items()))
    return FolderManifest(tool=this_tool(), files=tuple(listed))
