"""A static archive like F1's, over a folder: what is missing answers with XML; and faults, for tests and demos.

The folder is laid out as the archive: `<year>/Index.json`, `<year>/<meeting>/<session>/<Topic>.jsonStream`.
"""

from __future__ import annotations

import asyncio
import email.utils
import hashlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

_MISSING = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n'
    b"<Error><Code>NoSuchKey</Code><Message>The specified key does not exist.</Message></Error>"
)

KINDS: Mapping[str, str] = {
    "500": "a page with status 500",
    "503": "a text with status 503",
    "429": "status 429 with Retry-After: 1",
    "page": "a page with status 200",
    "cut": "half of the file, and the connection is closed",
    "close": "the connection is closed without an answer",
    "xml": "what a missing file is answered with, but with status 200",
}
"""The faults that a file can meet, and what each one is."""


@dataclass
class ArchiveFaults:
    """What goes wrong, and how often still.

    Attributes:
        left: For each end of a path how often it meets which fault yet: `{"TimingData.jsonStream": ("503", 2)}`.
        down: Whether no connection is answered.
        tags: By what files are known: `etag`, `modified`, `both`, `none`, or `ignored` for a server that gives tags and
            sends files all the same.
    """

    left: dict[str, tuple[str, int]] = field(default_factory=dict)
    down: bool = False
    tags: str = "both"

    def meets(self, path: str) -> str | None:
        """Return the fault that a request for a path meets, and count it."""
        for end, (kind, times) in self.left.items():
            if path.endswith(end) and times > 0:
                self.left[end] = (kind, times - 1)
                return kind
        return None


@dataclass
class ArchiveLog:
    """What was asked for.

    Attributes:
        paths: Each path, in order of arrival.
        sent: How many bytes of each path were sent.
        agents: The User-Agents seen.
        most_at_once: How many requests were under way at once at the most.
    """

    paths: list[str] = field(default_factory=list)
    sent: Counter[str] = field(default_factory=Counter)
    agents: Counter[str] = field(default_factory=Counter)
    most_at_once: int = 0


def create_archive(
    folder: Path,
    faults: ArchiveFaults | None = None,
    log: ArchiveLog | None = None,
    hidden: Callable[[str], bool] = lambda _: False,
) -> web.Application:
    """Return an application that serves a folder below `/static`; what is `hidden` is missing for now."""
    faults = faults or ArchiveFaults()
    log = log or ArchiveLog()
    root = folder.resolve()
    under_way = 0

    async def serve(request: web.Request) -> web.StreamResponse:
        nonlocal under_way
        under_way += 1
        log.most_at_once = max(log.most_at_once, under_way)
        try:
            return await answer(request)
        finally:
            under_way -= 1

    async def answer(request: web.Request) -> web.StreamResponse:
        path = request.match_info["path"]
        log.paths.append(path)
        log.agents[request.headers.get("User-Agent", "")] += 1
        fault = "close" if faults.down else faults.meets(path)
        if fault == "close":
            _close(request)
            return web.Response()
        if fault is not None and fault != "cut":
            return _fault(fault)
        file = (root / path).resolve()
        if root not in file.parents or not file.is_file() or hidden(path):
            return web.Response(status=404, body=_MISSING, content_type="application/xml")
        body = await asyncio.to_thread(file.read_bytes)
        if fault == "cut":
            return await _cut(request, body)
        headers = {}
        if faults.tags not in {"modified", "none"}:
            headers["ETag"] = f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'
        if faults.tags not in {"etag", "none"}:
            headers["Last-Modified"] = email.utils.formatdate(file.stat().st_mtime, usegmt=True)
        if faults.tags != "ignored" and _is_known(request, headers):
            return web.Response(status=304, headers=headers)
        log.sent[path] += len(body)
        kind = "application/json" if file.suffix == ".json" else "application/octet-stream"
        return web.Response(body=body, content_type=kind, headers=headers)

    app = web.Application()
    app.router.add_get("/static/{path:.*}", serve)
    return app


def _is_known(request: web.Request, headers: Mapping[str, str]) -> bool:
    """Return whether the client has the file: by its ETag, else, where it names none, by its time."""
    etag = request.headers.get("If-None-Match")
    if etag is not None:
        return etag == headers.get("ETag")
    modified = headers.get("Last-Modified")
    return modified is not None and request.headers.get("If-Modified-Since") == modified


def _fault(kind: str) -> web.Response:
    if kind == "xml":
        return web.Response(body=_MISSING, content_type="application/xml")
    if kind == "429":
        return web.Response(status=429, text="slow down", headers={"Retry-After": "1"})
    if kind == "503":
        return web.Response(status=503, text="upstream request timeout")
    status = 500 if kind == "500" else 200
    return web.Response(status=status, text="<html><body>An error occurred</body></html>", content_type="text/html")


async def _cut(request: web.Request, body: bytes) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": str(len(body))})
    await response.prepare(request)
    await response.write(body[: len(body) // 2])
    _close(request)
    return response


def _close(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.close()
