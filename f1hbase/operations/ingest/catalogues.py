"""Where the records of files go: the landing zone's own state, `f1_reports`, or a science archive over HTTP."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import asdict
from http.client import HTTPException
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from f1hbase.credentials import is_loopback_host, redacted, register_secret, register_secrets_in
from f1hbase.errors import ConfigError, F1HBaseError, StoreError, UnreachableError
from f1hbase.model.files import FileRecord, file_record
from f1hbase.model.text import excerpt, safe
from f1hbase.operations.ingest.base import DoNotRetryError, RetryLaterError
from f1hbase.stores.files.objects import Objects, RefusedError

if TYPE_CHECKING:
    from f1hbase.state.hbase.file_records import HBaseFileRecords

RECORDS = "_state/ingested"
"""Where a landing zone keeps them: `_state/ingested/<md5>.json`."""

ROOT_VARIABLE, TOKEN_VARIABLE = "API_ROOT", "AUTH_TOKEN"
_ARCHIVE_SECONDS = 60.0
_LARGEST_ANSWER_BYTES = 1_000_000


class ZoneCatalogue:
    """The records in a landing zone's own state; see `f1hbase.operations.ingest.base.Catalogue`.

    Args:
        objects: The zone's objects.
    """

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    def has(self, md5: str) -> bool:
        """Return whether a file is recorded; a record that cannot be read is none, and is written anew."""
        try:
            content = self._objects.get(f"{RECORDS}/{md5}.json")
        except F1HBaseError as error:
            raise _as_told(error) from error
        try:
            return content is not None and file_record(content).md5 == md5
        except ValueError:
            return False

    def add(self, record: FileRecord) -> None:
        """Record a file."""
        try:
            self._objects.put(f"{RECORDS}/{record.md5}.json", record.as_json().encode(errors="backslashreplace"))
        except F1HBaseError as error:
            raise _as_told(error) from error


class HBaseCatalogue:
    """The records as `file#<md5>` in `f1_reports`; see `f1hbase.operations.ingest.base.Catalogue`.

    Args:
        records: The table.
    """

    def __init__(self, records: HBaseFileRecords) -> None:
        self._records = records

    def has(self, md5: str) -> bool:
        """Return whether a file is recorded."""
        try:
            return self._records.get(md5) is not None
        except F1HBaseError as error:
            raise _as_told(error) from error

    def add(self, record: FileRecord) -> None:
        """Record a file."""
        try:
            self._records.put(record)
        except F1HBaseError as error:
            raise _as_told(error) from error


class ArchiveCatalogue:
    """A science archive over HTTP; see `f1hbase.operations.ingest.base.Catalogue`.

    It is asked `GET versions/?md5=`, and told `POST frames/`.

    Args:
        root: Its address (`API_ROOT`).
        token: What it is asked with as `Authorization: Token`; empty for none.

    Raises:
        ConfigError: If it is no address, or a token would be sent in the clear to another machine.
    """

    def __init__(self, root: str, token: str) -> None:
        register_secrets_in(root)
        parts = urlsplit(root)
        is_bare = not (parts.username or parts.query or parts.fragment or root.endswith(("?", "#")))
        if parts.scheme not in ("http", "https") or not parts.hostname or not is_bare:
            raise ConfigError(f"{ROOT_VARIABLE} is no address of an archive: write it as https://archive.example/api/.")
        if token and parts.scheme == "http" and not is_loopback_host(parts.hostname):
            raise ConfigError(
                f"{ROOT_VARIABLE}={safe(root, 200)}: others could read {TOKEN_VARIABLE} on its way there; use https."
            )
        register_secret(token)
        self._root = root.rstrip("/") + "/"
        self._token = token
        self._open = urllib.request.build_opener(_NoRedirects).open

    def has(self, md5: str) -> bool:
        """Return whether the archive has a version with this MD5."""
        answer = self._ask(f"versions/?md5={quote(md5, safe='')}", None)
        results = answer.get("results") if isinstance(answer, dict) else answer
        if isinstance(answer, dict) and isinstance(answer.get("count"), int):
            return bool(answer["count"])
        if isinstance(results, list):
            return bool(results)
        raise DoNotRetryError(f"{self._root}versions/ answers with neither a count nor a list: is it an archive?")

    def add(self, record: FileRecord) -> None:
        """Record a file as a frame with one version."""
        name, dot, extension = record.basename.partition(".")
        version = {"md5": record.md5, "key": str(record.version), "extension": dot + extension, "url": record.url}
        body = {**asdict(record), "headers": dict(record.headers), "basename": name, "version_set": [version]}
        self._ask("frames/", json.dumps(body).encode())

    def _ask(self, path: str, body: bytes | None) -> Any:
        headers = {"Accept": "application/json"}
        if self._token:
            headers["Authorization"] = f"Token {self._token}"
        if body is not None:
            headers["Content-Type"] = "application/json"
        request = urllib.request.Request(self._root + path, data=body, headers=headers)  # noqa: S310 - http(s) only
        where = f"{self._root}{path.partition('?')[0]}"
        try:
            with self._open(request, timeout=_ARCHIVE_SECONDS) as answer:
                content = _read(answer)
        except urllib.error.HTTPError as error:
            words = redacted(excerpt(error.read(2000)))
            message = f"{where}: HTTP {error.code}: {words}"
            if error.code >= 500 or error.code in (408, 425, 429):
                raise RetryLaterError(message) from None
            raise DoNotRetryError(message) from None
        except (OSError, HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            raise RetryLaterError(f"{where} does not answer: {safe(str(reason), 200)}.") from None
        try:
            return json.loads(content or b"null")
        except (ValueError, RecursionError):
            raise RetryLaterError(f"{where} answers with what is no JSON: {redacted(excerpt(content))}") from None


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Follows nothing: the token is for this address."""

    def redirect_request(self, *_: Any) -> None:
        """Refuse, so that the redirect is an answer like any other failure."""
        return


def archive_of(environment: Mapping[str, str]) -> ArchiveCatalogue | None:
    """Return the archive that the environment names; None where it names none."""
    root = environment.get(ROOT_VARIABLE, "")
    return ArchiveCatalogue(root, environment.get(TOKEN_VARIABLE, "")) if root else None


def _read(answer: IO[bytes]) -> bytes:
    return answer.read(_LARGEST_ANSWER_BYTES)


def _as_told(error: F1HBaseError) -> F1HBaseError:
    """Return an error of a store as a caller of `ingest` is told it."""
    if isinstance(error, RefusedError | StoreError) or not isinstance(error, UnreachableError):
        return DoNotRetryError(str(error))
    return RetryLaterError(str(error))
