"""Recordings as a process runs them: one until it is over, or a service that begins one when it is told to."""

from __future__ import annotations

import asyncio
import hmac
import logging
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from datetime import UTC, datetime
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler

from f1hbase.config import DEFAULT_METRICS_PORT
from f1hbase.credentials import SERVE_VARIABLE, is_loopback_host, register_secret
from f1hbase.errors import ConfigError, F1HBaseError, UnreachableError
from f1hbase.listening.names import is_of_other_site, is_own_name
from f1hbase.listening.runner import Runner
from f1hbase.pipeline.collector import EXIT_INTERRUPTED
from f1hbase.pipeline.live.run import LiveParts, LiveRequest, Recorded, Recording, load_once_more, record
from f1hbase.pipeline.load import run_async
from f1hbase.state.live import ENDED
from f1hbase.values import split_hosts

_log = logging.getLogger(__name__)

DEFAULT_PORT = 8080
LOADING = "loading"
"""The state of a recording that is over, whose session is loaded from the archive."""

_LONGEST_BODY_BYTES = 10_000
_STOP_SECONDS = 30.0
_LOOK_SECONDS = 0.25

Failed = Callable[[int, str, datetime], None]
"""Is told of the exit code that a recording would have had, why, and when it began."""

_METRICS = {
    "messages": ("counter", "Messages that the feed has pushed"),
    "rows": ("counter", "Rows that were stored"),
    "quarantined": ("counter", "Records that were put aside"),
    "reconnects": ("counter", "How often the feed was connected to again"),
    "lag": ("gauge", "Seconds since the oldest record came that is being stored"),
    "latency_p50": ("gauge", "Seconds from a message to its stored records, median"),
    "latency_p99": ("gauge", "Seconds from a message to its stored records, 99th percentile"),
    "waiting_bytes": ("gauge", "Bytes that wait to be stored"),
    "spooled_bytes": ("gauge", "Bytes of them on disk"),
}
_NAMES = {"lag": "lag_seconds", "latency_p50": "latency_p50_seconds", "latency_p99": "latency_p99_seconds"}


def record_until_told(
    request: LiveRequest, parts: LiveParts, stop: threading.Event | None = None, *, metrics: str = ""
) -> Recorded:
    """Record a session until it is over, or a signal or event tells to end, and load it once more.

    May be called in any thread, also where an event loop runs; signals are heard in the main thread only.

    Args:
        request: What to do.
        parts: What to do it with.
        stop: Set by who wants it to end. What came until then is stored, and no archive is loaded.
        metrics: Where the figures are shown meanwhile, as `host:port`; nowhere when empty.

    Raises:
        F1HBaseError: If it could not begin, or cannot go on; says why and what to do.
    """
    recording = Recording()
    told = stop or threading.Event()

    async def until_told() -> int:
        ending = asyncio.Event()
        with _signals(ending):
            async with AsyncExitStack() as stack:
                if metrics:
                    await stack.enter_async_context(showing(metrics, recording))
                watching = asyncio.create_task(_pass_on(told, ending))
                try:
                    return await record(request, parts, ending, recording)
                finally:
                    watching.cancel()

    try:
        code = run_async(until_told())
    except KeyboardInterrupt:
        # In a notebook: the thread that records would go on otherwise.
        told.set()
        raise
    code = load_once_more(request, recording, code)
    scope = None if recording.chosen is None else recording.chosen.scope
    return Recorded(code, scope, recording.instance, recording.stats())


async def _pass_on(told: threading.Event, ending: asyncio.Event) -> None:
    while not told.is_set():  # noqa: ASYNC110 - an event of threads cannot be awaited
        await asyncio.sleep(_LOOK_SECONDS)
    ending.set()


async def serve_until_told(
    address: str, token: str, request: LiveRequest, parts: Callable[[], LiveParts], failed: Failed | None = None
) -> int:
    """Serve until a signal tells to end; return the exit code.

    Args:
        address: Where to listen, as `host:port`.
        token: What each request but `/health` must bear; needed where others than this machine can ask.
        request: What each recording is to do.
        parts: Opens what it is made with, each time anew.
        failed: Called after each recording that has failed, in a thread.

    Raises:
        ConfigError: If it would listen to others without a token.
        UnreachableError: If the address is taken.
    """
    stop = asyncio.Event()
    with _signals(stop):
        async with serving(address, token, request, parts, failed) as (service, where):
            _log.info("listening on http://%s; POST / begins to record", where)
            await stop.wait()
            await service.end()
    return EXIT_INTERRUPTED


@asynccontextmanager
async def showing(address: str, recording: Recording) -> AsyncIterator[str]:
    """Show the figures of a recording at `http://HOST:PORT/metrics` while the block runs; yield where it listens.

    Raises:
        UnreachableError: If the address is taken.
    """

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(text=metrics_of(recording, is_recording=True), content_type="text/plain", charset="utf-8")

    app = web.Application(client_max_size=_LONGEST_BODY_BYTES)
    app.router.add_get("/metrics", metrics)
    ((host, port),) = split_hosts(address)
    async with _listening(app, host, port or DEFAULT_METRICS_PORT, f"--metrics {address}") as where:
        _log.info("metrics are at http://%s/metrics", where)
        yield where


def metrics_of(recording: Recording, *, is_recording: bool) -> str:
    """Return the figures of a recording in the text form of Prometheus."""
    lines = [
        "# HELP f1hbase_live_recording Whether a recording goes on",
        "# TYPE f1hbase_live_recording gauge",
        f"f1hbase_live_recording {int(is_recording)}",
    ]
    stats = recording.stats()
    for name, (kind, text) in _METRICS.items():
        public = f"f1hbase_live_{_NAMES.get(name, name)}{'_total' if kind == 'counter' else ''}"
        lines += [f"# HELP {public} {text}", f"# TYPE {public} {kind}", f"{public} {stats[name]:g}"]
    return "\n".join(lines) + "\n"


class LiveService:
    """Begins and ends recordings, one at a time.

    Args:
        request: What each is to do.
        parts: Opens what it is made with.
        failed: Called after each that has failed, in a thread.
    """

    def __init__(self, request: LiveRequest, parts: Callable[[], LiveParts], failed: Failed | None = None) -> None:
        self._request = request
        self._parts = parts
        self._failed = failed
        self._task: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()
        self._recording = Recording()
        self._last: dict[str, Any] = {}

    @property
    def is_recording(self) -> bool:
        """Whether a recording goes on, or waits for its session."""
        return self._task is not None and not self._task.done()

    def begin(self) -> bool:
        """Begin a recording; False if one goes on already. Returns at once."""
        if self.is_recording:
            return False
        self._stop, self._recording = asyncio.Event(), Recording()
        self._task = asyncio.create_task(self._record())
        return True

    async def end(self) -> bool:
        """End the recording, and wait until what came is stored; False if there is none."""
        if not self.is_recording or self._task is None:
            return False
        self._stop.set()
        if self._recording.state == LOADING:
            # A load can be ended anywhere and be run again; here it goes on, or ends with the process.
            return True
        await asyncio.wait([self._task], timeout=_STOP_SECONDS)
        return True

    def shown(self) -> dict[str, Any]:
        """Return how it stands, in JSON's types."""
        recording = self._recording
        chosen = recording.chosen
        shown: dict[str, Any] = {"recording": self.is_recording, "state": recording.state if self._task else "idle"}
        if chosen is not None:
            shown |= {"session_key": chosen.scope.session_key, "session": chosen.scope.name}
        if self._task is not None:
            shown |= {"instance": recording.instance, "stats": recording.stats()}
        if recording.error:
            shown["error"] = recording.error
        return shown | self._last

    def metrics(self) -> str:
        """Return the figures in the text form of Prometheus."""
        return metrics_of(self._recording, is_recording=self.is_recording)

    async def _record(self) -> None:
        self._last = {}
        began = datetime.now(UTC)
        try:
            parts = await asyncio.to_thread(self._parts)
            code = await record(self._request, parts, self._stop, self._recording)
            if code != EXIT_INTERRUPTED and self._request.load_archive is not None:
                self._recording.state = LOADING
                code = await asyncio.to_thread(load_once_more, self._request, self._recording, code)
                self._recording.state = ENDED
            self._last = {"exit_code": code}
        except F1HBaseError as error:
            _log.error("%s", error)
            self._last = {"exit_code": error.exit_code, "failed": str(error)}
        except Exception as error:  # noqa: BLE001 - a service lives on
            _log.exception("the recording failed")
            self._last = {"exit_code": 1, "failed": f"{type(error).__name__}: see the log"}
        code = self._last["exit_code"]
        if self._failed is not None and code not in (0, EXIT_INTERRUPTED):
            reason = self._last.get("failed") or self._recording.error
            reason = reason or "something went to quarantine, or was not stored"
            await asyncio.to_thread(self._failed, code, reason, began)


@asynccontextmanager
async def serving(
    address: str, token: str, request: LiveRequest, parts: Callable[[], LiveParts], failed: Failed | None = None
) -> AsyncIterator[tuple[LiveService, str]]:
    """Yield a service that listens, and the address where it does.

    Raises:
        ConfigError: If it would listen to others without a token.
        UnreachableError: If the address is taken.
    """
    hosts = split_hosts(address)
    if len(hosts) != 1:
        raise ConfigError(f"--serve {address}: listens at one address, such as 127.0.0.1:{DEFAULT_PORT}.")
    host, port = hosts[0][0], hosts[0][1] or DEFAULT_PORT
    if not is_loopback_host(host) and not token:
        raise ConfigError(
            f"--serve {address}: others than this machine could begin and end recordings: set {SERVE_VARIABLE} (they "
            "send it as 'Authorization: Bearer'), or listen on 127.0.0.1."
        )
    register_secret(token)
    service = LiveService(request, parts, failed)
    names = frozenset() if token else frozenset({host.lower()})
    async with _listening(_application(service, token, names), host, port, f"--serve {address}") as where:
        try:
            yield service, where
        finally:
            await service.end()


@asynccontextmanager
async def _listening(app: web.Application, host: str, port: int, option: str) -> AsyncIterator[str]:
    """Yield where an application listens, as `host:port`; the option is for messages.

    Raises:
        UnreachableError: If the address is taken.
    """
    runner = Runner(app, logging.getLogger(f"{__name__}.http"))
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise UnreachableError(f"{option}: cannot listen there: {reason}.") from error
        bound = runner.addresses[0]
        yield f"{bound[0]}:{bound[1]}"
    finally:
        await runner.cleanup()


def _application(service: LiveService, token: str, names: frozenset[str]) -> web.Application:
    """Return the service's routes. Without a token it is asked by its own names alone, and never for a web page."""

    @web.middleware
    async def authorised(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not token and not is_own_name(request.headers.get("Host"), names):
            return web.json_response({"detail": "this name is none of the service's; ask it as localhost"}, status=403)
        if is_of_other_site(request.headers):
            return web.json_response({"detail": "web pages may not ask the service"}, status=403)
        given = request.headers.get("Authorization", "").removeprefix("Bearer ").strip()
        if token and request.path != "/health" and not hmac.compare_digest(given.encode(), token.encode()):
            return web.json_response({"detail": "the token is missing or wrong"}, status=401)
        return await handler(request)

    async def begin(_: web.Request) -> web.Response:
        begun = service.begin()
        return web.json_response({"begun": begun, **service.shown()}, status=202 if begun else 200)

    async def health(_: web.Request) -> web.Response:
        return web.json_response(service.shown())

    async def end(_: web.Request) -> web.Response:
        return web.json_response({"ended": await service.end(), **service.shown()})

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(text=service.metrics(), content_type="text/plain", charset="utf-8")

    app = web.Application(middlewares=[authorised], client_max_size=_LONGEST_BODY_BYTES)
    # What changes something is a POST: a browser sends a GET for every picture that a page names.
    app.router.add_post("/", begin)
    app.router.add_post("/stop", end)
    app.router.add_get("/health", health)
    app.router.add_get("/metrics", metrics)
    return app


@contextmanager
def _signals(stop: asyncio.Event) -> Iterator[None]:
    """Have SIGTERM and SIGINT set an event, where this is the main thread."""
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGTERM, signal.SIGINT)
    try:
        for number in numbers:
            loop.add_signal_handler(number, stop.set)
    except (ValueError, RuntimeError, NotImplementedError):
        yield  # in another thread, as in a notebook: there is nobody to signal it
        return
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
