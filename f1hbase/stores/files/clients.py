"""How each kind of store is opened: its credentials by its own ways, its address; knows no layout."""

from __future__ import annotations

import configparser
import json
import logging
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO, TYPE_CHECKING, Protocol

import obstore
from obstore.store import AzureStore, GCSStore, LocalStore, MemoryStore, S3Store

from f1hbase.model.times import moment_of
from f1hbase.stores.files.urls import Location

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import ClientConfig, ObjectStore, RetryConfig, S3Config

_log = logging.getLogger(__name__)

_RETRY: RetryConfig = {
    "max_retries": 3,
    "retry_timeout": timedelta(seconds=15),
    "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=2), "base": 2},
}
"""Bridges a lost connection; what lasts longer is waited for by `Objects`, which knows how patient to be."""

_NO_OAUTH = {"disable_oauth": True, "client_email": "", "private_key": "", "private_key_id": ""}
"""What stands for a key where a server that stands in for Google's wants none."""

_BEING_WRITTEN = re.compile(r"#\d+$")
"""What obstore calls a file until it is whole."""

PART_BYTES = 8 << 20
"""The parts of a multipart upload: S3 takes at least 5 MiB and at most 10,000 parts, so an object may have 80 GiB."""


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """An object as its store describes it.

    Attributes:
        path: Within the location.
        size: In bytes.
        modified: When it was written.
        tag: What tells its content apart, by the store's own rule; an MD5 in some.
    """

    path: str
    size: int
    modified: datetime | None = None
    tag: str | None = None


class Client(Protocol):
    """One store. What does not exist is a `FileNotFoundError`; else it raises what obstore does."""

    def get(self, path: str) -> bytes:
        """Return the bytes of an object."""

    def get_range(self, path: str, start: int, end: int) -> bytes:
        """Return the bytes of an object from `start` to before `end`, which is not behind its end."""

    def head(self, path: str) -> ObjectInfo:
        """Describe an object."""

    def put(self, path: str, content: bytes | IO[bytes], attributes: Mapping[str, str]) -> str | None:
        """Write an object, which appears whole; return its tag."""

    def create(self, path: str, content: bytes, attributes: Mapping[str, str]) -> None:
        """Write an object, unless there is one.

        Raises:
            obstore.exceptions.AlreadyExistsError: If there is one.
        """

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield the objects whose paths begin with these folders."""

    def delete(self, path: str) -> None:
        """Delete an object."""


class ObstoreClient:
    """A folder or bucket by obstore.

    Args:
        store: The store.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._keeps_attributes = not isinstance(store, LocalStore)

    def get(self, path: str) -> bytes:
        """Return the bytes of an object."""
        return bytes(obstore.get(self._store, path).bytes())

    def get_range(self, path: str, start: int, end: int) -> bytes:
        """Return a part of an object."""
        return bytes(obstore.get_range(self._store, path, start=start, end=end))

    def head(self, path: str) -> ObjectInfo:
        """Describe an object."""
        return _info(obstore.head(self._store, path))

    def put(self, path: str, content: bytes | IO[bytes], attributes: Mapping[str, str]) -> str | None:
        """Write an object; a file in parts."""
        kept = dict(attributes) if attributes and self._keeps_attributes else None
        if isinstance(content, bytes):
            return obstore.put(self._store, path, content, attributes=kept, use_multipart=False)["e_tag"]
        result = obstore.put(
            self._store, path, content, attributes=kept, use_multipart=True, chunk_size=PART_BYTES, max_concurrency=2
        )
        return result["e_tag"]

    def create(self, path: str, content: bytes, attributes: Mapping[str, str]) -> None:
        """Write an object, unless there is one."""
        kept = dict(attributes) if attributes and self._keeps_attributes else None
        obstore.put(self._store, path, content, attributes=kept, mode="create")

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield the objects of some folders."""
        for chunk in obstore.list(self._store, prefix or None):
            yield from map(_info, chunk)

    def delete(self, path: str) -> None:
        """Delete an object."""
        obstore.delete(self._store, path)


class FolderClient(ObstoreClient):
    """A folder of this machine: listed here, as obstore knows files alone, and ends at a name that is no UTF-8.

    Pipes and devices are listed as well: who reads one is told, where it would else look as if there was nothing.

    Args:
        folder: Its path.
    """

    def __init__(self, folder: str) -> None:
        super().__init__(LocalStore(folder))
        self._folder = folder
        self._told = False

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield what is in some folders but for folders and links to nothing; links to folders are followed."""
        found = Path(self._folder, prefix).stat()
        waiting = [(prefix.strip("/"), frozenset({(found.st_dev, found.st_ino)}))]
        while waiting:
            folder, above = waiting.pop()
            try:
                entries = list(os.scandir(Path(self._folder, folder)))
            except (FileNotFoundError, NotADirectoryError):
                continue  # deleted since it was seen
            for entry in entries:
                path = f"{folder}/{entry.name}" if folder else entry.name
                try:
                    found = entry.stat()
                except OSError:
                    continue  # deleted since, or a link to nothing
                if stat.S_ISDIR(found.st_mode):
                    mark = (found.st_dev, found.st_ino)
                    if mark not in above:  # a link to a folder above it
                        waiting.append((path, above | {mark}))
                elif not path.isascii() and not _is_utf8(path):
                    self._tell(path)
                elif not _BEING_WRITTEN.search(path):
                    yield ObjectInfo(path, found.st_size, moment_of(found.st_mtime))

    def _tell(self, path: str) -> None:
        if not self._told:
            self._told = True
            _log.warning("%a in '%s' is passed over, as its name is no UTF-8 (and others like it)", path, self._folder)


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _info(meta: ObjectMeta) -> ObjectInfo:
    return ObjectInfo(meta["path"], meta["size"], meta["last_modified"], meta["e_tag"])


def empty_client() -> Client:
    """Return the client of a place that does not exist."""
    return ObstoreClient(MemoryStore())


def open_client(location: Location, environment: Mapping[str, str] = os.environ) -> Client:
    """Return the client of a location; asks nothing of it yet.

    Raises:
        obstore.exceptions.BaseError, ValueError, OSError: If its settings make no sense.
        f1hbase.stores.files.urls.LocationError: If a package that it needs is not installed.
    """
    if location.scheme == "volume":
        from f1hbase.stores.files.databricks import DatabricksClient

        return DatabricksClient(location, environment)
    if location.is_local:
        return FolderClient(location.root)
    return ObstoreClient(_open_store(location, environment))


def _open_store(location: Location, environment: Mapping[str, str]) -> ObjectStore:
    client: ClientConfig = {"timeout": timedelta(seconds=60), "connect_timeout": timedelta(seconds=5)}
    prefix = location.prefix or None
    if location.scheme == "gs":
        emulator = environment.get("STORAGE_EMULATOR_HOST")
        # The JSON text itself, where there is no file to put it in.
        key = environment.get("GOOGLE_CREDENTIALS")
        if emulator:
            emulator = emulator if "://" in emulator else f"http://{emulator}"
            client["allow_http"] = emulator.startswith("http://")
            key = json.dumps({"gcs_base_url": emulator, **_NO_OAUTH})
        if key:
            return GCSStore(
                location.root, prefix=prefix, client_options=client, retry_config=_RETRY, service_account_key=key
            )
        return GCSStore(location.root, prefix=prefix, client_options=client, retry_config=_RETRY)
    if location.scheme == "az":
        # Azurite and gateways without TLS; obstore itself takes the address from AZURE_STORAGE_ENDPOINT.
        endpoint = environment.get("AZURE_STORAGE_ENDPOINT") or environment.get("AZURE_ENDPOINT") or ""
        client["allow_http"] = endpoint.startswith("http://") or bool(environment.get("AZURE_STORAGE_USE_EMULATOR"))
        return AzureStore(location.root, prefix=prefix, client_options=client, retry_config=_RETRY)
    config, endpoint_url = _aws(environment), _endpoint(environment)
    if endpoint_url is not None:
        config["endpoint"] = endpoint_url
        client["allow_http"] = endpoint_url.startswith("http://")
    return S3Store(location.root, prefix=prefix, config=config, client_options=client, retry_config=_RETRY)


def _endpoint(environment: Mapping[str, str]) -> str | None:
    names = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "S3_ENDPOINT_URL", "AWS_ENDPOINT")
    return next((environment[name] for name in names if environment.get(name)), None)


def _aws(environment: Mapping[str, str]) -> S3Config:
    """Return what the profile in `~/.aws` says, which the client itself does not read; the environment goes first."""
    config: S3Config = {}
    profile = environment.get("AWS_PROFILE") or environment.get("AWS_DEFAULT_PROFILE") or "default"
    keys = _section(environment.get("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials", profile)
    rest = _section(
        environment.get("AWS_CONFIG_FILE") or "~/.aws/config", profile if profile == "default" else f"profile {profile}"
    )
    if not environment.get("AWS_ACCESS_KEY_ID") and "aws_access_key_id" in keys:
        config["access_key_id"] = keys["aws_access_key_id"]
        config["secret_access_key"] = keys.get("aws_secret_access_key", "")
        if "aws_session_token" in keys:
            config["session_token"] = keys["aws_session_token"]
    region = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION") or rest.get("region")
    if region:
        config["region"] = region
    return config


def _section(path: str, name: str) -> Mapping[str, str]:
    # A section [default] is one like any other.
    parser = configparser.ConfigParser(interpolation=None, default_section="")
    try:
        parser.read(Path(path).expanduser())
        return dict(parser[name]) if parser.has_section(name) else {}
    except (configparser.Error, OSError, UnicodeDecodeError, RuntimeError):
        # As the aws command does not load from another tool's file either; the store will say what is missing.
        return {}
