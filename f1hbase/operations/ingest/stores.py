"""Where the bytes of files go: a folder or bucket, or nowhere."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import replace
from typing import IO
from urllib.parse import quote

from f1hbase.errors import UnreachableError
from f1hbase.model.files import FileRecord
from f1hbase.operations.ingest.base import DoNotRetryError, RetryLaterError
from f1hbase.stores.files.clients import PART_BYTES, ObjectInfo
from f1hbase.stores.files.objects import Objects, RefusedError

FOLDER = "files"
"""Beside the answers of a landing zone: `files/<basename>/<md5>`, so that each content of a name has one place."""


class ObjectFiles:
    """Files in a folder or bucket; see `f1hbase.operations.ingest.base.FileStore`.

    Args:
        objects: Where.
    """

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    def put(self, file: IO[bytes], record: FileRecord) -> FileRecord:
        """Store a file and compare what the store has with what it should have."""
        folder = f"{FOLDER}/{quote(record.basename, safe=' +,=@()[]')}"
        path = f"{folder}/{record.md5}"
        try:
            versions = sum(info.path != path for info in self._objects.under(folder))
            self._upload(file, record, path)
        except RefusedError as error:
            raise DoNotRetryError(str(error)) from error
        except UnreachableError as error:
            raise RetryLaterError(str(error)) from error
        return replace(record, version=versions + 1, url=f"{self._objects.location.shown}/{path}")

    def _upload(self, file: IO[bytes], record: FileRecord, path: str) -> None:
        attributes = {"Content-Type": "application/octet-stream", "basename": quote(record.basename)}
        if record.size <= PART_BYTES:
            content = file.read()
            self._check(record, hashlib.md5(content, usedforsecurity=False).hexdigest())
            self._objects.put(path, content, attributes)
        else:
            self._objects.put(path, file, attributes)
            # What was sent is only known to be what was asked for if the file is still the same.
            if md5_of(file)[0] != record.md5:
                self._objects.delete([path])
                self._check(record, "")
        if self._objects.location.is_local and self._stored_md5(path) != record.md5:
            self._objects.delete([path])
            raise RetryLaterError(f"{record.basename}: '{self._objects.location}' has other bytes than were written.")

    def _check(self, record: FileRecord, md5: str) -> None:
        if md5 != record.md5:
            raise DoNotRetryError(f"{record.basename}: it was changed while it was read; ingest it when it is whole.")

    def _stored_md5(self, path: str) -> str:
        digest = hashlib.md5(usedforsecurity=False)
        for chunk in self._objects.chunks(ObjectInfo(path, self._objects.size(path) or 0)):
            digest.update(chunk)
        return digest.hexdigest()


class NoFiles:
    """Stores nothing and says it did, for trying out; see `f1hbase.operations.ingest.base.FileStore`."""

    def put(self, file: IO[bytes], record: FileRecord) -> FileRecord:
        """Return a record as if the file were stored."""
        return replace(record, version=1, url=f"dummy:{record.md5}")


def md5_of(file: IO[bytes]) -> tuple[str, int]:
    """Return the MD5 in hex and the size of a file, read some at a time; it is at its beginning afterwards.

    Raises:
        OSError: If it cannot be read.
    """
    digest, size = hashlib.md5(usedforsecurity=False), 0
    for part in _parts(file):
        digest.update(part)
        size += len(part)
    file.seek(0)
    return digest.hexdigest(), size


def _parts(file: IO[bytes]) -> Iterator[bytes]:
    file.seek(0, os.SEEK_SET)
    while part := file.read(1 << 20):
        yield part
