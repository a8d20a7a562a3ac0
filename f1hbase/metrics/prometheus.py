"""Metrics for Prometheus: an address to scrape, and a file for node_exporter; knows no load.

Needs prometheus_client (`pip install 'f1hbase[metrics]'`), which is imported when an exporter starts.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from f1hbase.errors import SetupError, UnreachableError
from f1hbase.metrics.base import Read
from f1hbase.metrics.meter import Histogram, Measurements
from f1hbase.metrics.names import METRICS, PREFIX, Metric
from f1hbase.metrics.periodic import Periodic

if TYPE_CHECKING:
    from prometheus_client.registry import CollectorRegistry

FILE_SECONDS = 15.0
"""How often the file is written: as often as Prometheus usually scrapes node_exporter."""

_CLOSE_SECONDS = 2.0
_BUCKETS = range(-10, 11)
"""Prometheus gets every fourth bound of our buckets: 2**-10 s (1 ms), doubling up to 2**10 s (17 min)."""


def exported_names() -> set[str]:
    """Return the name of every series that is exported, as queries name it."""
    names = set()
    for metric in METRICS.values():
        name = f"{PREFIX}_{metric.name}"
        suffixes = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_count", "_sum")}
        names |= {f"{name}{suffix}" for suffix in suffixes[metric.kind]}
    return names


class PrometheusServer:
    """Serves what is measured at `http://HOST:PORT/metrics`; see `f1hbase.metrics.base.Exporter`.

    Args:
        host: Where to listen.
        port: The port; 0 takes a free one.
    """

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self.port = port
        self._server: Any = None

    def start(self, read: Read) -> None:
        """Listen.

        Raises:
            UnreachableError: If that cannot be.
        """
        from prometheus_client import start_http_server

        try:
            self._server, _ = start_http_server(self.port, self._host, registry_of(read))
        except (OSError, UnicodeError) as error:
            reason = (getattr(error, "strerror", None) or str(error)).lower()
            raise UnreachableError(
                f"--metrics {self._host}:{self.port}: cannot listen there: {reason}. Name another HOST:PORT, or leave "
                "--metrics out; two runs at once need a port each."
            ) from error
        self.port = self._server.server_port

    def close(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()


class PrometheusFile:
    """Writes what is measured to a file every 15 s and at the end; see `f1hbase.metrics.base.Exporter`.

    A reader sees the old file or the new one, never a part.

    Args:
        path: The file; node_exporter reads those that end in `.prom`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writing: Periodic | None = None

    def start(self, read: Read) -> None:
        """Write the first one, and go on in a thread.

        Raises:
            SetupError: If it cannot be written.
        """
        from prometheus_client import write_to_textfile

        registry = registry_of(read)
        write = partial(write_to_textfile, str(self._path), registry)
        if self._path.is_dir():
            raise SetupError(f"--metrics-file {self._path} is a folder: name a file in it, such as f1hbase.prom.")
        try:
            write()
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise SetupError(f"cannot write the metrics file '{self._path}': {reason}.") from error
        self._writing = Periodic(write, FILE_SECONDS, f"the metrics file '{self._path}' is written")
        self._writing.start()

    def close(self) -> None:
        """Write the last one."""
        if self._writing is not None:
            self._writing.close(_CLOSE_SECONDS, last=True)


def registry_of(read: Read) -> CollectorRegistry:
    """Return a registry of prometheus_client that has what is measured when it is asked."""
    from prometheus_client.registry import Collector, CollectorRegistry

    class Measured(Collector):
        def collect(self) -> Iterator[Any]:
            yield from _families(read())

        def describe(self) -> Iterator[Any]:
            return iter(())

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Measured())
    return registry


def _families(measured: Measurements) -> Iterator[Any]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

    for metric in METRICS.values():
        name = f"{PREFIX}_{metric.name}"
        if metric.kind == "histogram":
            histograms = HistogramMetricFamily(name, metric.help, labels=metric.labels)
            for labels, histogram in _of(metric, measured.histograms):
                histograms.add_metric(labels, _buckets(histogram), histogram.sum)
            yield histograms
        elif metric.kind == "counter":
            counters = CounterMetricFamily(name, metric.help, labels=metric.labels)
            for labels, number in _of(metric, measured.counters):
                counters.add_metric(labels, number)
            yield counters
        else:
            gauges = GaugeMetricFamily(name, metric.help, labels=metric.labels)
            for labels, number in _of(metric, measured.gauges):
                gauges.add_metric(labels, number)
            yield gauges


def _of(metric: Metric, series: dict[tuple[str, tuple[str, ...]], Any]) -> list[tuple[tuple[str, ...], Any]]:
    return sorted(((labels, value) for (name, labels), value in series.items() if name == metric.name), key=_labels)


def _labels(one: tuple[tuple[str, ...], Any]) -> tuple[str, ...]:
    return one[0]


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    bounds: list[tuple[str, float]] = [(str(2.0**power), histogram.up_to(power)) for power in _BUCKETS]
    return [*bounds, ("+Inf", histogram.count)]
