"""The routes of the pages: an application of its own, put into the server's under one prefix.

A handler reads what it is asked, calls one function, and answers. What is text in the data is text in an answer: it
becomes JSON, or is escaped.
"""

from __future__ import annotations

import hashlib
import html
import logging
import re
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, partial
from http import HTTPStatus
from importlib.resources import files
from string import Template
from typing import TYPE_CHECKING

from aiohttp import web

from f1hbase.errors import F1HBaseError, UnreachableError
from f1hbase.serve.pages.shared import SharedStore

if TYPE_CHECKING:
    from f1hbase.charts import SessionTables

_log = logging.getLogger(__name__)

PREFIX = "/pages"

_SHARED = web.AppKey("shared", SharedStore)

HEADERS = {
    # No inline script or style, nothing of another host but recordings of team radio, which are at F1.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
        "media-src https://livetiming.formula1.com; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""What every answer has, unless the server around it says otherwise."""

_WORDS = {404: "There is no such page.", 405: "The pages only read: they answer GET."}

_KINDS = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml", ".txt": "text/plain"}
_COMPRESSED_FROM = 2048
_MOST_LAPS = 8
"""More laps in one picture could not be told apart."""

_MOST_SECONDS = 900
"""How long one answer with places may be: 0.3 MB of 20 cars."""

_LAP = re.compile(r"(\d{1,3})(?:-(\d{1,3}))?", re.ASCII)
_LATEST_SECONDS = 4102444800  # the year 2100

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Page:
    """A page.

    Attributes:
        name: Of its files, `html/NAME.html` and `static/NAME.js`.
        title: What stands in the browser's tab.
        charts: Whether it needs uPlot.
    """

    name: str
    title: str
    charts: bool = False


LOADED = Page("loaded", "What is loaded")
SESSION = Page("session", "A session", charts=True)
TELEMETRY = Page("telemetry", "Telemetry", charts=True)
REPLAY = Page("replay", "Replay")


class BadQuestionError(ValueError):
    """A part of the address makes no sense; the message says which."""


def mount(app: web.Application, shared: SharedStore) -> None:
    """Put the pages into a server's application, under `/pages/`; `/` leads there.

    Args:
        app: The application; its catch-all routes come after this.
        shared: What the pages are about; is closed with the application.
    """

    async def to_pages(_: web.Request) -> web.Response:
        raise web.HTTPTemporaryRedirect(f"{PREFIX}/")

    app.router.add_get("/", to_pages)
    app.router.add_get(PREFIX, to_pages)
    app.add_subapp(PREFIX, create_pages(shared))


def create_pages(shared: SharedStore) -> web.Application:
    """Return the application of the pages; see `mount`."""
    from f1hbase.serve.pages.overview import overview
    from f1hbase.serve.pages.progress import Progress

    app = web.Application(middlewares=[_answered])
    app[_SHARED] = shared

    def read_overview() -> dict[str, object]:
        return shared.with_store(lambda store: overview(store.home, shared.view(), lambda: store))

    progress = Progress(shared, read_overview)

    async def loaded(_: web.Request) -> web.Response:
        from f1hbase.serve.pages.answers import encoded

        return _json(await shared.run(lambda: encoded(read_overview())))

    async def end(_: web.Application) -> None:
        await progress.close()
        await shared.close()

    app.on_shutdown.append(end)
    get = app.router.add_get
    get("/", _page)
    get(r"/session/{key:\d{1,9}}", partial(_session_page, page=SESSION))
    get(r"/telemetry/{key:\d{1,9}}", partial(_session_page, page=TELEMETRY))
    get(r"/replay/{key:\d{1,9}}", partial(_session_page, page=REPLAY))
    get(r"/static/{name:(?:vendor/)?[A-Za-z0-9._-]+}", _static)
    get("/data/loaded", loaded)
    get("/data/progress", progress.stream)
    get(r"/data/session/{key:\d{1,9}}", _about)
    get(r"/data/session/{key:\d{1,9}}/telemetry", _telemetry)
    get(r"/data/session/{key:\d{1,9}}/places", _places)
    get(r"/data/session/{key:\d{1,9}}/{chart:[a-z-]+}", _chart)
    return app


# --- pages ---


async def _page(_: web.Request) -> web.Response:
    return _html(LOADED)


async def _session_page(request: web.Request, page: Page) -> web.Response:
    """Answer with the page: 404 if there is no such session or driver, 503 while the store is away."""
    key = int(request.match_info["key"])
    shared = request.app[_SHARED]
    drivers = [_lap(text)[0] for text in request.query.getall("lap", [])] if page is TELEMETRY else []
    try:
        await shared.run(lambda: shared.with_session(key, lambda tables: _check_drivers(tables, drivers)))
    except UnreachableError:
        # The page itself says that the store is away, and goes on when it is back.
        return _html(page, HTTPStatus.SERVICE_UNAVAILABLE)
    return _html(page)


def _check_drivers(tables: SessionTables, drivers: Sequence[int]) -> None:
    """Raise `NotLoadedError` for a driver of whom there is neither a name nor a lap."""
    from f1hbase.frames.session import NotLoadedError

    if not drivers:
        return
    known = {number for name in ("drivers", "laps") for number in tables.table(name)["driver_number"].to_pylist()}
    for driver in drivers:
        if driver not in known:
            some = ", ".join(map(str, sorted(known))) or "none"
            raise NotLoadedError(f"there is no driver {driver} in session {tables.session.key}; there are {some}.")


def _html(page: Page, status: int = HTTPStatus.OK) -> web.Response:
    return web.Response(
        text=_page_text(page), status=status, content_type="text/html", headers={"Cache-Control": "no-cache"}
    )


@cache
def _page_text(page: Page) -> str:
    main = _file(f"html/{page.name}.html").decode()
    return _layout(page.title, main, f'<script type="module" src="{PREFIX}/static/{page.name}.js"></script>', page)


def _layout(title: str, main: str, script: str, page: Page | None = None) -> str:
    charts = page is not None and page.charts and _found("static/vendor/uPlot.iife.min.js") is not None
    library = f'<script defer src="{PREFIX}/static/vendor/uPlot.iife.min.js"></script>' if charts else ""
    style = f'<link rel="stylesheet" href="{PREFIX}/static/vendor/uPlot.min.css">' if charts else ""
    return Template(_file("html/layout.html").decode()).substitute(
        title=html.escape(title), main=main, head=style, scripts=library + script, prefix=PREFIX
    )


def _error_page(status: int, text: str) -> web.Response:
    reason = HTTPStatus(status).phrase
    main = Template(_file("html/error.html").decode()).substitute(
        status=status, reason=html.escape(reason), text=html.escape(text), prefix=PREFIX
    )
    return web.Response(text=_layout(reason, main, ""), status=status, content_type="text/html")


async def _static(request: web.Request) -> web.Response:
    name = request.match_info["name"]
    kind = _KINDS.get(name[name.rfind(".") :])
    content = None if kind is None else _found(f"static/{name}")
    if content is None:
        raise web.HTTPNotFound(text=f"there is no file {name}")
    tag = hashlib.sha256(content).hexdigest()[:16]
    return _tagged(request, tag, web.Response(body=content, content_type=kind, charset="utf-8"))


def _found(name: str) -> bytes | None:
    # A name from outside is only looked up among those that there are: it makes no path, and is not remembered.
    return _content(name) if name in _names() else None


@cache
def _names() -> frozenset[str]:
    """The names of the files that pages have, from their folder on."""
    found = set()
    folders = [(name, files("f1hbase.serve.pages").joinpath(name)) for name in ("html", "static")]
    while folders:
        folder, path = folders.pop()
        for one in path.iterdir():
            name = f"{folder}/{one.name}"
            if one.is_dir():
                folders.append((name, one))
            else:
                found.add(name)
    return frozenset(found)


@cache
def _content(name: str) -> bytes:
    return files("f1hbase.serve.pages").joinpath(*name.split("/")).read_bytes()


def _file(name: str) -> bytes:
    content = _found(name)
    assert content is not None, name
    return content


# --- data ---


async def _about(request: web.Request) -> web.Response:
    from f1hbase.serve.pages.answers import about_session

    return await _answer(request, "about", about_session)


async def _chart(request: web.Request) -> web.Response:
    from f1hbase.serve.pages.answers import CHARTS, encoded

    name = request.match_info["chart"]
    if name not in CHARTS:
        raise web.HTTPNotFound(text=f"there is no chart of that name; there are {', '.join(CHARTS)}")
    return await _answer(request, name, lambda tables: encoded(CHARTS[name](tables)))


async def _telemetry(request: web.Request) -> web.Response:
    from f1hbase.serve.pages.answers import telemetry

    laps = [_lap(text) for text in request.query.getall("lap", [])]
    if not 1 <= len(laps) <= _MOST_LAPS:
        raise BadQuestionError(f"name 1 to {_MOST_LAPS} laps, such as ?lap=44-12&lap=1-12 (driver and lap)")
    return await _answer(request, ("telemetry", *laps), lambda tables: telemetry(tables, laps))


async def _places(request: web.Request) -> web.Response:
    from f1hbase.serve.pages.replay import places

    start = _number(request, "start", _LATEST_SECONDS)
    seconds = _number(request, "seconds", _MOST_SECONDS)
    if not seconds:
        raise BadQuestionError("seconds is at least 1")
    begin = datetime.fromtimestamp(start, UTC)
    return await _answer(
        request, ("places", start, seconds), lambda tables: places(tables, begin, seconds), "application/octet-stream"
    )


async def _answer(
    request: web.Request, kind: Hashable, make: Callable[[SessionTables], bytes], content_type: str = "application/json"
) -> web.Response:
    """Answer with what is made of a session, unless the browser has it."""
    key = int(request.match_info["key"])
    shared = request.app[_SHARED]
    fingerprint, body = await shared.run(lambda: shared.answer(key, kind, make))
    return _tagged(request, fingerprint, web.Response(body=body, content_type=content_type))


def _lap(text: str) -> tuple[int, int | None]:
    found = _LAP.fullmatch(text)
    if found is None:
        raise BadQuestionError(
            "a lap is a driver's number and a lap's, such as 44-12; without a lap the fastest is meant"
        )
    return int(found[1]), None if found[2] is None else int(found[2])


def _number(request: web.Request, name: str, most: int) -> int:
    text = request.query.get(name, "")
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(most)) and int(text) <= most):
        raise BadQuestionError(f"{name} is a whole number of seconds, at most {most}")
    return int(text)


# --- answers ---


def _json(body: bytes) -> web.Response:
    return web.Response(body=body, content_type="application/json", headers={"Cache-Control": "no-store"})


def _tagged(request: web.Request, tag: str, response: web.Response) -> web.Response:
    """Return an answer with a tag that changes with its content, or 304 to a browser that has it."""
    if any(one.value == tag for one in request.if_none_match or ()):
        response = web.Response(status=HTTPStatus.NOT_MODIFIED)
    response.etag = tag
    response.headers["Cache-Control"] = "no-cache"
    return response


@web.middleware
async def _answered(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Make pages (or JSON) of errors, compress what is large, and add the headers that every answer has."""
    response = await _handled(request, handler)
    if not response.prepared:
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        if isinstance(response, web.Response) and len(response.body or b"") >= _COMPRESSED_FROM:  # type: ignore[arg-type]
            response.enable_compression()
    return response


async def _handled(request: web.Request, handler: Handler) -> web.StreamResponse:
    from f1hbase.frames.session import NotLoadedError

    try:
        return await handler(request)
    except web.HTTPException as error:
        # The router's own words are the status once more.
        text = error.text or ""
        return _told(request, error.status, _WORDS.get(error.status, error.reason) if text[:3].isdigit() else text)
    except NotLoadedError as error:
        return _told(request, HTTPStatus.NOT_FOUND, str(error))
    except BadQuestionError as error:
        return _told(request, HTTPStatus.BAD_REQUEST, str(error))
    except UnreachableError as error:
        return _told(request, HTTPStatus.SERVICE_UNAVAILABLE, str(error))
    except F1HBaseError as error:
        _log.warning("%s: %s", request.path, error)
        return _told(request, HTTPStatus.INTERNAL_SERVER_ERROR, str(error))
    except Exception:  # noqa: BLE001 - whoever asks gets an answer, and the log the stack
        _log.exception("%s cannot be answered", request.path)
        return _told(request, HTTPStatus.INTERNAL_SERVER_ERROR, "this cannot be answered; the server's log says why")


def _told(request: web.Request, status: int, text: str) -> web.Response:
    if request.path.startswith((f"{PREFIX}/data/", f"{PREFIX}/static/")):
        from f1hbase.serve.pages.answers import encoded

        response = _json(encoded({"detail": text}))
        response.set_status(status)
    else:
        response = _error_page(status, text)
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        response.headers["Retry-After"] = "3"
    return response
