"""The seams of `ingest`: where a file goes, where its record goes, and errors by which a caller knows what to do."""

from __future__ import annotations

from typing import IO, Protocol

from f1hbase.errors import F1HBaseError
from f1hbase.model.files import FileRecord


class RetryLaterError(F1HBaseError):
    """The same may succeed later: a store or catalogue is away, failed (5xx), or has other bytes than were sent."""

    exit_code = 3


class DoNotRetryError(F1HBaseError):
    """The same will fail again: the file or its headers are wrong, or it is refused (4xx)."""

    exit_code = 1


class AlreadyThereError(F1HBaseError):
    """A file of this content is recorded already, under whatever name; nothing was done, and nothing is wrong.

    Attributes:
        md5: The MD5 of the content.
    """

    exit_code = 0

    def __init__(self, message: str, md5: str) -> None:
        super().__init__(message)
        self.md5 = md5


class FileStore(Protocol):
    """Keeps the bytes of files. Several threads may use it."""

    def put(self, file: IO[bytes], record: FileRecord) -> FileRecord:
        """Store a file, whose MD5 and size are the record's; return the record with url and version.

        Storing the same again, as after a kill, gives the same.

        Raises:
            RetryLaterError: If the store is away, or has other bytes than were sent.
            DoNotRetryError: If it refuses, or the file is not what the record says any more.
        """


class Catalogue(Protocol):
    """Keeps the records of files. Several threads may use it."""

    def has(self, md5: str) -> bool:
        """Return whether a file of this content is recorded.

        Raises:
            RetryLaterError: If the catalogue is away.
            DoNotRetryError: If it refuses to say.
        """

    def add(self, record: FileRecord) -> None:
        """Record a file that is stored; the same twice is once.

        Raises:
            RetryLaterError: If the catalogue is away.
            DoNotRetryError: If it refuses.
        """
