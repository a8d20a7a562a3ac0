"""Volumes of Databricks from elsewhere, by the Files API of databricks-sdk (`pip install 'f1hbase[databricks]'`)."""

from __future__ import annotations

import io
import tempfile
import threading
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import IO, TYPE_CHECKING

from obstore.exceptions import AlreadyExistsError, GenericError, PermissionDeniedError, UnauthenticatedError

from f1hbase.stores.files.clients import ObjectInfo
from f1hbase.stores.files.urls import Location, LocationError
from f1hbase.version import __version__

if TYPE_CHECKING:
    from databricks.sdk import WorkspaceClient

_HTTP_SECONDS = 60
_RETRY_SECONDS = 15
"""Bridges a lost connection; what lasts longer is waited for by `Objects`, which knows how patient to be."""

_PART_BYTES = 8 << 20


class DatabricksClient:
    """A folder of a volume; see `f1hbase.stores.files.clients.Client`. The Files API keeps no attributes.

    Args:
        location: The folder.
        environment: `DBT_DATABRICKS_HOST` and `DBT_DATABRICKS_TOKEN`; without them databricks-sdk's own ways hold.

    Raises:
        LocationError: If databricks-sdk is not installed, or finds no credentials.
    """

    def __init__(self, location: Location, environment: Mapping[str, str]) -> None:
        self._root = location.root
        self._workspace = _workspace(location, environment)
        self._files = self._workspace.files
        self._lock = threading.Lock()
        self._read: tuple[str, IO[bytes]] | None = None  # what get_range was last asked for

    def get(self, path: str) -> bytes:
        """Return the bytes of an object."""
        with _translated():
            contents = self._files.download(self._path(path)).contents
            assert contents is not None
            with contents:
                return contents.read()

    def get_range(self, path: str, start: int, end: int) -> bytes:
        """Return a part of an object, which is downloaded once for parts that are asked for one after another."""
        with self._lock:
            if self._read is None or self._read[0] != path:
                self._forget()
                file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by _forget, or with this client
                weakref.finalize(self, file.close)
                with _translated():
                    contents = self._files.download(self._path(path)).contents
                    assert contents is not None
                    with contents:
                        while part := contents.read(_PART_BYTES):
                            file.write(part)
                self._read = (path, file)
            self._read[1].seek(start)
            return self._read[1].read(end - start)

    def head(self, path: str) -> ObjectInfo:
        """Describe an object."""
        with _translated():
            metadata = self._files.get_metadata(self._path(path))
        return ObjectInfo(path, metadata.content_length or 0)

    def put(self, path: str, content: bytes | IO[bytes], attributes: Mapping[str, str]) -> str | None:
        """Write an object; one that did not arrive in full is an error."""
        with self._lock:
            self._forget()
        size = len(content) if isinstance(content, bytes) else _size(content)
        self._upload(path, content, overwrite=True)
        if self.head(path).size != size:
            raise OSError("the object was not received as it was sent")
        return None

    def create(self, path: str, content: bytes, attributes: Mapping[str, str]) -> None:
        """Write an object, unless there is one."""
        self._upload(path, content, overwrite=False)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield the objects of some folders and all below."""
        folders = [self._path(prefix) if prefix else self._root]
        while folders:
            with _translated():
                entries = list(self._files.list_directory_contents(folders.pop()))
            for entry in entries:
                assert entry.path is not None
                if entry.is_directory:
                    folders.append(entry.path)
                    continue
                modified = entry.last_modified and datetime.fromtimestamp(entry.last_modified / 1000, UTC)
                yield ObjectInfo(entry.path[len(self._root) + 1 :], entry.file_size or 0, modified or None)

    def delete(self, path: str) -> None:
        """Delete an object."""
        with self._lock:
            self._forget()
        with _translated():
            self._files.delete(self._path(path))

    def _upload(self, path: str, content: bytes | IO[bytes], *, overwrite: bool) -> None:
        where = self._path(path)

        def once() -> None:
            if isinstance(content, bytes):
                self._files.upload(where, io.BytesIO(content), overwrite=overwrite)
            else:
                content.seek(0)
                self._files.upload(where, content, overwrite=overwrite)  # type: ignore[arg-type]

        try:
            with _translated():
                once()
        except FileNotFoundError:
            try:
                with _translated():
                    self._files.create_directory(where.rpartition("/")[0])
                    once()
            except FileNotFoundError as error:
                raise FileNotFoundError("NoSuchBucket: there is no such volume") from error

    def _forget(self) -> None:
        if self._read is not None:
            self._read[1].close()
            self._read = None

    def _path(self, path: str) -> str:
        if any(part in ("..", ".", "") for part in path.split("/")):
            raise ValueError(f"'{path}' is no path")
        return f"{self._root}/{path}"


def _workspace(location: Location, environment: Mapping[str, str]) -> WorkspaceClient:
    try:
        from databricks.sdk import WorkspaceClient
        from databricks.sdk.core import Config
    except ImportError as error:
        raise LocationError(
            f"'{location}' is a volume of Databricks, which f1hbase reaches from here with databricks-sdk: "
            "pip install 'f1hbase[databricks]'. Inside Databricks it needs nothing."
        ) from error
    try:
        config = Config(
            host=environment.get("DBT_DATABRICKS_HOST") or None,
            token=environment.get("DBT_DATABRICKS_TOKEN") or None,
            http_timeout_seconds=_HTTP_SECONDS,
            retry_timeout_seconds=_RETRY_SECONDS,
            product="f1hbase",
            product_version=__version__,
        )
        return WorkspaceClient(config=config)
    except ValueError as error:
        # The message of the SDK shows its settings.
        raise LocationError(
            f"'{location}' is a volume of Databricks, and no credentials for it were found: set "
            "DBT_DATABRICKS_HOST and DBT_DATABRICKS_TOKEN (or what databricks-sdk itself takes)."
        ) from error


@contextmanager
def _translated() -> Iterator[None]:
    """Raise what the SDK raises as what obstore does."""
    import requests
    from databricks.sdk import errors
    from databricks.sdk.errors.base import DatabricksError

    try:
        yield
    except errors.NotFound as error:
        raise FileNotFoundError(str(error)) from error
    except errors.ResourceConflict as error:
        raise AlreadyExistsError(str(error)) from error
    except errors.PermissionDenied as error:
        raise PermissionDeniedError(f"status code: 403 Forbidden: {error}") from error
    except errors.Unauthenticated as error:
        raise UnauthenticatedError(f"status code: 401 Unauthorized: {error}") from error
    except errors.BadRequest as error:
        raise GenericError(f"status code: 400 Bad Request: {error}") from error
    except (DatabricksError, requests.RequestException, TimeoutError) as error:
        raise GenericError(f" - {type(error).__name__}: {error}") from error


def _size(content: IO[bytes]) -> int:
    content.seek(0, io.SEEK_END)
    size = content.tell()
    content.seek(0)
    return size
