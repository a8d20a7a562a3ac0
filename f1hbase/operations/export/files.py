"""One file of an export: what there is to say of it, and how it is written with its manifest, wherever that is done."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from f1hbase.frames.schemas import SCHEMA_VERSION
from f1hbase.model.units import Unit
from f1hbase.operations.export.forms import FORMS, ReadParts
from f1hbase.operations.export.layout import file_path, manifest_path
from f1hbase.sources.stored import UnreadableError
from f1hbase.stores.files.objects import Objects
from f1hbase.version import __version__


@dataclass(frozen=True, slots=True)
class FileJob:
    """A file that is to be written; can be handed to another process.

    Attributes:
        form: The format.
        unit: The endpoint and session (or meeting as such).
        drivers: Whose records it holds; None for all.
        about: What its manifest and the file itself say of where the records come from.
        stored: What changes when something else is stored.
        expected: About how many records it will have.
    """

    form: str
    unit: Unit
    drivers: frozenset[int] | None
    about: Mapping[str, Any]
    stored: Sequence[Sequence[str]]
    expected: int = 0

    @property
    def path(self) -> str:
        """Where the file is."""
        return file_path(self.form, self.unit.endpoint, self.unit.scope)

    @property
    def units(self) -> list[Unit]:
        """What is to be read, in the order in which it is."""
        if self.drivers is None:
            return [self.unit]
        return [Unit(self.unit.endpoint, self.unit.scope, driver) for driver in sorted(self.drivers)]


@dataclass(frozen=True, slots=True)
class Written:
    """What has become of a file: its records and bytes, or why there is none."""

    rows: int = 0
    bytes: int = 0
    error: str | None = None


class ExportEngine(Protocol):
    """Writes many files at the same time."""

    def write(self, jobs: Sequence[FileJob], target: Objects) -> Iterable[tuple[FileJob, Written]]:
        """Write files, and return what has become of each; an export that is killed has some of them.

        Raises:
            F1HBaseError: If it cannot go on; what is written stays written.
        """

    def close(self) -> None:
        """End whatever it is at."""


def write_file(job: FileJob, target: Objects, read: ReadParts) -> Written:
    """Write a file, and then the manifest that makes it count.

    Args:
        job: The file.
        target: Where it goes.
        read: Reads its records.

    Raises:
        F1HBaseError: If the store or the target fails.
    """
    said = {f"f1hbase.{name}": text if isinstance(text, str) else json.dumps(text) for name, text in job.about.items()}
    try:
        content = FORMS[job.form](job.unit.endpoint, read, said)
    except UnreadableError as error:
        return Written(error=str(error))
    target.put(job.path, content.data)
    manifest = {
        "file": job.path, "format": job.form, "schema": SCHEMA_VERSION, **job.about, "stored": job.stored,
        "rows": content.rows, "bytes": len(content.data),
        "md5": hashlib.md5(content.data, usedforsecurity=False).hexdigest(),
        "written_at": datetime.now(UTC).isoformat(), "written_by": f"f1hbase {__version__}",
    }  # fmt: skip
    path = manifest_path(job.form, job.unit.endpoint, job.unit.scope)
    target.put(path, json.dumps(manifest, indent=1).encode() + b"\n")
    return Written(content.rows, len(content.data))
