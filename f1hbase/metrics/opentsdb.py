"""Metrics for OpenTSDB, by its HTTP API (`/api/put`): every minute and at the end; knows no load.

Off unless `OPENTSDB_HOSTNAME` is set, and off whatever else is set while `OPENTSDB_PYTHON_METRICS_TEST_MODE` is.
"""

from __future__ import annotations

import json
import logging
import queue
import re
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

from f1hbase.errors import ConfigError
from f1hbase.metrics.base import Read
from f1hbase.metrics.meter import Measurements
from f1hbase.metrics.names import METRICS, PREFIX
from f1hbase.metrics.periodic import Periodic

_log = logging.getLogger(__name__)

HOST_VARIABLE = "OPENTSDB_HOSTNAME"
OFF_VARIABLE = "OPENTSDB_PYTHON_METRICS_TEST_MODE"
PROCESS_VARIABLE = "INGESTER_PROCESS_NAME"

ASYNCHRONOUS_VARIABLE = "SUBMIT_METRICS_ASYNCHRONOUSLY"

DEFAULT_PORT = 4242
DEFAULT_PROCESS = "ingester"
SUBMIT_SECONDS = 60.0
"""How often: OpenTSDB keeps one value a second of a series, and a minute is what people look at."""

_POINTS_AT_ONCE = 50
"""What OpenTSDB's documentation of `/api/put` advises."""

_TIMEOUT_SECONDS = 2.0
_CLOSE_SECONDS = 3.0
_REST_SECONDS = 60.0
_POINTS_WAITING = 10_000

SUBMIT_ERRORS = (OSError, HTTPException, ValueError)
"""With what sending may fail."""

_NOT_ALLOWED = re.compile(r"[^A-Za-z0-9\-_./]")
"""What names and values of tags may not have in them."""

_QUANTILES = {"p50": 0.5, "p95": 0.95}

Point = dict[str, Any]


class OpenTsdb:
    """Sends what is measured; see `f1hbase.metrics.base.Exporter`.

    A receiver that is away, refuses or hangs costs a warning and the points of that minute.

    Args:
        url: The server, such as `http://tsdb.example:4242`.
        process: The value of the tag `ingester_process_name`; no such tag where it is empty.
        every: How often, in seconds.
    """

    def __init__(self, url: str, process: str = "", every: float = SUBMIT_SECONDS) -> None:
        self._url = url
        self._tags = tags_of(process)
        self._every = every
        self._submitting: Periodic | None = None

    def start(self, read: Read) -> None:
        """Begin to send, in a thread."""
        what = f"metrics are sent to {urlsplit(self._url).netloc}"
        send = partial(self._send, read)
        self._submitting = Periodic(send, self._every, what, SUBMIT_ERRORS)
        self._submitting.start()

    def close(self) -> None:
        """Send the last figures, and wait for that a few seconds at the most."""
        if self._submitting is not None:
            self._submitting.close(_CLOSE_SECONDS, last=True)

    def _send(self, read: Read) -> None:
        submit(self._url, points_of(read(), self._tags))


class IngesterPoints:
    """Sends `ingester.*` as each file is ingested: at once, or by a thread that may lose some.

    A server that is away or hangs is left alone for a minute, so that it costs two seconds of that.

    Args:
        url: The server.
        process: The value of the tag `ingester_process_name`.
        asynchronous: Whether a thread sends.
    """

    def __init__(self, url: str, process: str, *, asynchronous: bool = False) -> None:
        self._url = url
        self._tags = tags_of(process or DEFAULT_PROCESS)
        self._rests_until = 0.0
        self._waiting: queue.Queue[Point] | None = None
        if asynchronous:
            self._waiting = queue.Queue(_POINTS_WAITING)
            threading.Thread(target=self._send_waiting, args=(self._waiting,), name="opentsdb", daemon=True).start()

    def send(self, name: str, value: float) -> None:
        """Send one value; never fails."""
        point = {"metric": f"ingester.{name}", "timestamp": int(time.time()), "value": value, "tags": self._tags}
        if self._waiting is None:
            self._submit([point])
            return
        with suppress(queue.Full):
            self._waiting.put_nowait(point)

    def _send_waiting(self, waiting: queue.Queue[Point]) -> None:
        while True:
            self._submit([waiting.get()])

    def _submit(self, points: Sequence[Point]) -> None:
        if time.monotonic() < self._rests_until:
            return
        try:
            submit(self._url, points)
        except SUBMIT_ERRORS as error:
            self._rests_until = time.monotonic() + _REST_SECONDS
            _log.warning("not so now: metrics are sent to %s: %s", urlsplit(self._url).netloc, error)


def tags_of(process: str) -> dict[str, str]:
    """Return the tags that every point has."""
    return {"host": _tag(socket.gethostname())} | ({"ingester_process_name": _tag(process)} if process else {})


def submit(url: str, points: Sequence[Point]) -> None:
    """Send points to a server.

    Raises:
        OSError, HTTPException, ValueError: If it is away, or does not take them; some may be stored.
    """
    for start in range(0, len(points), _POINTS_AT_ONCE):
        body = json.dumps(points[start : start + _POINTS_AT_ONCE]).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{url}/api/put?details", data=body, headers=headers)  # noqa: S310 - http(s)
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as answer:  # noqa: S310
                answer.read(100_000)
        except urllib.error.HTTPError as error:
            raise OSError(f"HTTP {error.code}: {error.read(300)!r}") from None


def points_of(measured: Measurements, tags: Mapping[str, str], now: float | None = None) -> list[Point]:
    """Return what was measured as points: counters as they stand, of histograms count, sum, mean, p50, p95 and max."""
    second = int(time.time() if now is None else now)
    points = []
    for name, labels, value in _values(measured):
        points.append({"metric": name, "timestamp": second, "value": value, "tags": {**tags, **labels}})
    return points


def _values(measured: Measurements) -> Iterator[tuple[str, dict[str, str], float]]:
    for (name, values), number in (*measured.counters.items(), *measured.gauges.items()):
        yield f"{PREFIX}.{name}", _labels(name, values), number
    for (name, values), histogram in measured.histograms.items():
        labels = _labels(name, values)
        figures = {"count": histogram.count, "sum": histogram.sum, "mean": histogram.mean, "max": histogram.largest}
        figures |= {what: histogram.quantile(share) for what, share in _QUANTILES.items()}
        for what, value in figures.items():
            yield f"{PREFIX}.{name}.{what}", labels, value


def _labels(name: str, values: Sequence[str]) -> dict[str, str]:
    return {label: _tag(value) for label, value in zip(METRICS[name].labels, values, strict=True)}


def _tag(value: str) -> str:
    return _NOT_ALLOWED.sub("_", value) or "-"


def opentsdb_of(environment: Mapping[str, str]) -> OpenTsdb | None:
    """Return the exporter that the environment asks for; None where it asks for none.

    Raises:
        ConfigError: If OPENTSDB_HOSTNAME names no server.
    """
    url = _url_of(environment)
    return None if url is None else OpenTsdb(url, environment.get(PROCESS_VARIABLE, ""))


def ingester_points_of(environment: Mapping[str, str], *, synchronous: bool) -> IngesterPoints | None:
    """Return what sends `ingester.*`, as the environment asks for it; None where it asks for none.

    Args:
        environment: The environment.
        synchronous: Whether to send at once whatever SUBMIT_METRICS_ASYNCHRONOUSLY says, as on the command line.

    Raises:
        ConfigError: If OPENTSDB_HOSTNAME names no server.
    """
    url = _url_of(environment)
    if url is None:
        return None
    asynchronous = environment.get(ASYNCHRONOUS_VARIABLE, "").strip().lower() in ("true", "1", "yes", "on")
    return IngesterPoints(url, environment.get(PROCESS_VARIABLE, ""), asynchronous=asynchronous and not synchronous)


def _url_of(environment: Mapping[str, str]) -> str | None:
    host = environment.get(HOST_VARIABLE, "")
    if not host or environment.get(OFF_VARIABLE):
        return None
    url = host if "://" in host else f"http://{host}"
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = -1
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or port == -1:
        raise ConfigError(f"{HOST_VARIABLE} names no server: write a host, host:port or http://host:port.")
    name = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{name}:{port or DEFAULT_PORT}"
