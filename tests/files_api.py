"""A stand-in of the Files API of Databricks: the calls that databricks-sdk makes for the files of a volume."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, unquote, urlsplit

from threaded_http import listening

TOKEN = "dapi-hunter2"
_FILES, _FOLDERS = "/api/2.0/fs/files", "/api/2.0/fs/directories"


@dataclass
class FilesApi:
    """The volumes as a dictionary, and what the server was asked.

    Attributes:
        url: Where it listens.
        files: Bytes by path.
        folders: The folders that exist, those of files included.
        asked: Method and path of each request.
        refuse: A status with which every request is refused, if any.
    """

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    folders: set[str] = field(default_factory=lambda: {"/Volumes/dev_f1_data_analytics/raw_data/landing"})
    asked: list[tuple[str, str]] = field(default_factory=list)
    refuse: int | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)


@contextmanager
def serving() -> Iterator[FilesApi]:
    """Serve the Files API on the loopback interface while the block runs."""
    api = FilesApi()

    class Handler(_Handler):
        state = api

    with listening(Handler) as api.url:
        yield api


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: FilesApi

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Keep quiet."""

    def _any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            body = self._chunks()
        parts, api = urlsplit(self.path), self.state
        path, query = unquote(parts.path), parse_qs(parts.query)
        with api.lock:
            api.asked.append((self.command, path))
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                self._answer(401, {"error_code": "UNAUTHENTICATED", "message": "Invalid access token."})
            elif api.refuse is not None:
                codes = {403: "PERMISSION_DENIED", 503: "TEMPORARILY_UNAVAILABLE"}
                self._answer(api.refuse, {"error_code": codes.get(api.refuse, "X"), "message": "refused"})
            elif path.startswith(f"{_FILES}/"):
                self._file(path.removeprefix(_FILES), query, body)
            elif path.startswith(f"{_FOLDERS}/"):
                self._folder(path.removeprefix(_FOLDERS).rstrip("/"), query)
            else:
                self._answer(404, {"error_code": "ENDPOINT_NOT_FOUND", "message": f"No API found for {path}"})

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = _any  # noqa: N815

    def _file(self, path: str, query: dict[str, list[str]], body: bytes) -> None:
        api = self.state
        if self.command == "PUT":
            if path.rpartition("/")[0] not in api.folders:
                self._answer(404, {"error_code": "NOT_FOUND", "message": "The parent directory does not exist."})
            elif path in api.files and query.get("overwrite") != ["true"]:
                self._answer(409, {"error_code": "ALREADY_EXISTS", "message": "The file already exists."})
            else:
                api.files[path] = body
                self._answer(204)
        elif path not in api.files:
            self._answer(404, {"error_code": "NOT_FOUND", "message": "The file does not exist."})
        elif self.command == "DELETE":
            del api.files[path]
            self._answer(204)
        else:
            self._answer(200, api.files[path])

    def _folder(self, path: str, query: dict[str, list[str]]) -> None:
        api = self.state
        if self.command == "PUT":
            if not path.startswith("/Volumes/dev_f1_data_analytics/raw_data/landing"):
                self._answer(404, {"error_code": "NOT_FOUND", "message": "The volume does not exist."})
                return
            parts = path.split("/")
            api.folders |= {"/".join(parts[:end]) for end in range(5, len(parts) + 1)}
            self._answer(204)
        elif path not in api.folders:
            self._answer(404, {"error_code": "NOT_FOUND", "message": "The directory does not exist."})
        else:
            self._list(path, query)

    def _list(self, path: str, query: dict[str, list[str]]) -> None:
        api, now = self.state, int(time.time() * 1000)
        entries = [
            {"path": name, "is_directory": False, "file_size": len(content), "last_modified": now}
            for name, content in api.files.items()
            if name.rpartition("/")[0] == path
        ]
        entries += [{"path": f, "is_directory": True} for f in api.folders if f.rpartition("/")[0] == path]
        # Two at a time, so that the client must ask for the next page.
        start = int(query.get("page_token", ["0"])[0])
        page: dict[str, object] = {"contents": sorted(entries, key=lambda one: str(one["path"]))[start : start + 2]}
        if start + 2 < len(entries):
            page["next_page_token"] = str(start + 2)
        self._answer(200, page)

    def _chunks(self) -> bytes:
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _answer(self, status: int, content: object = b"") -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        kind = "application/octet-stream" if isinstance(content, bytes) else "application/json"
        self.send_header("Content-Type", kind)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.send_header("Last-Modified", "Sun, 07 Jul 2024 14:00:00 GMT")
        self.end_headers()
        if self.command != "HEAD" and status != 204:
            self.wfile.write(body)
