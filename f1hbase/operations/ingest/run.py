"""Ingester: a file is stored once and recorded; each step by itself, or all of them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import IO

from f1hbase.model.files import FileRecord
from f1hbase.model.text import safe
from f1hbase.model.times import lenient_time
from f1hbase.operations.ingest.base import AlreadyThereError, Catalogue, DoNotRetryError, FileStore
from f1hbase.operations.ingest.stores import md5_of

_log = logging.getLogger(__name__)

_LOCKS = 64
"""Files of the same content take turns; now and then, two of different content do, too."""


class Ingester:
    """Stores files once, known by the MD5 of their bytes.

    A kill between upload and record leaves a file that is not recorded: the next run stores it in the same place again.
    Several threads may use it; of several files with the same content at once, one is stored.

    >>> ingester = f1hbase.ingester(to="s3://bucket/f1")
    >>> with open("lap.csv", "rb") as file:
    ...     record = ingester.ingest(file, "lap.csv", {"DRIVER": "44"})

    Args:
        store: Where files go.
        catalogue: Where records go.
        required: The headers that a file must have.
        tell: Is told what was measured: a name and a value.
        observed: The header that says when what is in a file was observed, for the lag.
    """

    def __init__(
        self,
        store: FileStore,
        catalogue: Catalogue,
        required: Collection[str] = (),
        tell: Callable[[str, float], None] | None = None,
        observed: str = "DATE-OBS",
    ) -> None:
        self._store = store
        self._catalogue = catalogue
        self._required = tuple(required)
        self._tell = tell or _nobody
        self._observed = observed
        self._locks = [threading.Lock() for _ in range(_LOCKS)]

    def file_exists(self, file: IO[bytes], path: str | Path = "") -> bool:
        """Return whether a file of this content is recorded, under whatever name.

        Args:
            file: The file, open for reading bytes; it is at its beginning afterwards.
            path: What it is called, for messages.

        Raises:
            RetryLaterError: If the catalogue is away.
            DoNotRetryError: If the file cannot be read, or the catalogue refuses.
        """
        return self._catalogue.has(_fingerprint(file, str(path))[0])

    def validate(self, file: IO[bytes], path: str | Path, metadata: Mapping[str, str] | None = None) -> FileRecord:
        """Return what would be recorded of a file: without url, version and time.

        Args:
            file: The file, open for reading bytes; read some at a time, and at its beginning afterwards.
            path: Its path, of which the last part is its name.
            metadata: Its headers.

        Raises:
            DoNotRetryError: If it has no name or one that is not UTF-8, has 0 bytes, cannot be read, or lacks a
                required header.
        """
        headers = {str(name): str(value) for name, value in (metadata or {}).items()}
        missing = [name for name in self._required if not headers.get(name, "").strip()]
        shown = safe(str(path), 200)
        if missing:
            raise DoNotRetryError(
                f"{shown}: it lacks the headers {', '.join(missing)}: give them with --header NAME=VALUE."
            )
        basename = Path(str(path)).name
        if basename in ("", ".", "..") or "\0" in basename:
            raise DoNotRetryError(f"'{shown}' is no name of a file.")
        for text in (basename, *headers, *headers.values()):
            if not _is_unicode(text):
                raise DoNotRetryError(
                    f"{shown}: '{safe(text, 80)}' is not UTF-8, and cannot be recorded: give it another name."
                )
        md5, size = _fingerprint(file, shown)
        if not size:
            raise DoNotRetryError(f"{shown}: it has 0 bytes; there is nothing to store.")
        return FileRecord(basename, md5, size, headers)

    def upload(self, file: IO[bytes], record: FileRecord) -> FileRecord:
        """Store a file that was validated; return its record with url and version.

        Raises:
            RetryLaterError: If the store is away, or has other bytes than were sent.
            DoNotRetryError: If it refuses, or the file was changed since.
        """
        file.seek(0)
        began = monotonic()
        stored = self._store.put(file, record)
        seconds = max(monotonic() - began, 1e-6)
        self._tell_time("upload_file", seconds)
        self._tell("s3_upload_bytes_per_second", record.size / seconds)
        return stored

    def record(self, record: FileRecord) -> FileRecord:
        """Record a file that is stored; return the record with the time.

        Raises:
            RetryLaterError: If the catalogue is away.
            DoNotRetryError: If it refuses.
        """
        recorded = replace(record, recorded=datetime.now(UTC).isoformat())
        began = monotonic()
        self._catalogue.add(recorded)
        self._tell_time("post_frame", monotonic() - began)
        observed = lenient_time(record.headers.get(self._observed))
        if observed is not None:
            self._tell("ingest_lag", (datetime.now(UTC) - observed).total_seconds())
        return recorded

    def _tell_time(self, name: str, seconds: float) -> None:
        """Tell how long something took, in milliseconds, by its name and with the suffix that ingesters give it."""
        for one in (name, f"{name}.runtime"):
            self._tell(one, seconds * 1000)

    def ingest(self, file: IO[bytes], path: str | Path, metadata: Mapping[str, str] | None = None) -> FileRecord:
        """Do all of it: validate, look whether it is there, upload, compare, record.

        Args:
            file: The file, open for reading bytes.
            path: Its path, of which the last part is its name.
            metadata: Its headers.

        Raises:
            AlreadyThereError: If a file of this content is recorded; nothing is wrong.
            RetryLaterError: If store or catalogue is away or failed.
            DoNotRetryError: If the file is wrong, or refused.
        """
        record = self.validate(file, path, metadata)
        with self._locks[int(record.md5, 16) % _LOCKS]:
            if self._catalogue.has(record.md5):
                raise AlreadyThereError(
                    f"{safe(str(path), 200)}: its content is there already ({record.md5})", record.md5
                )
            recorded = self.record(self.upload(file, record))
        _log.debug("%s: %s bytes, %s, %s", safe(str(path), 200), f"{record.size:,}", record.md5, recorded.url)
        return recorded


def _nobody(name: str, value: float) -> None:
    """Tell nobody."""


def _is_unicode(text: str) -> bool:
    """Return whether a text can be written as UTF-8; a file's name may have bytes that are none."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _fingerprint(file: IO[bytes], shown: str) -> tuple[str, int]:
    try:
        return md5_of(file)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DoNotRetryError(f"{shown}: it cannot be read: {reason.lower()}.") from error
