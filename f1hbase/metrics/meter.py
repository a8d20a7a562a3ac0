"""Counts and histograms of one process, which can be handed to another and added up there; knows no exporter."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from f1hbase.metrics.names import Metric

BUCKETS_PER_DOUBLING = 4
"""Each bucket of a histogram reaches 2**(1/4) = 1.19 times as far as the one before. A quantile is the geometric middle
of its bucket, so it is off by a factor of at most 2**(1/8), which is 9.1 %."""

_LEAST = 1e-6
_MOST = 1e9
"""Values beyond these are counted as these; sum and largest stay exact."""

Series = tuple[str, tuple[str, ...]]
"""The name of a metric, and the values of its labels."""


@dataclass(slots=True)
class Histogram:
    """How values are spread, in logarithmic buckets; several can be added up without loss.

    >>> histogram = Histogram()
    >>> for value in (0.1, 0.2, 0.4):
    ...     histogram.add(value)
    >>> histogram.count, round(histogram.mean, 2), 0.18 < histogram.quantile(0.5) < 0.22, histogram.largest
    (3, 0.23, True, 0.4)

    Attributes:
        count: How many values.
        sum: Their sum.
        least, largest: The extreme ones; infinite where there is none.
        buckets: How many are in each bucket: bucket `n` holds those in `[2**(n/4), 2**((n+1)/4))`.
    """

    count: int = 0
    sum: float = 0.0
    least: float = math.inf
    largest: float = -math.inf
    buckets: dict[int, int] = field(default_factory=dict)

    def add(self, value: float) -> None:
        """Count one value, not negative."""
        self.count += 1
        self.sum += value
        self.least = min(self.least, value)
        self.largest = max(self.largest, value)
        number = math.floor(math.log2(min(max(value, _LEAST), _MOST)) * BUCKETS_PER_DOUBLING)
        self.buckets[number] = self.buckets.get(number, 0) + 1

    def merge(self, other: Histogram) -> None:
        """Count all values of another one."""
        self.count += other.count
        self.sum += other.sum
        self.least = min(self.least, other.least)
        self.largest = max(self.largest, other.largest)
        for number, values in other.buckets.items():
            self.buckets[number] = self.buckets.get(number, 0) + values

    @property
    def mean(self) -> float:
        """The mean; 0 where there is no value."""
        return self.sum / self.count if self.count else 0.0

    def quantile(self, share: float) -> float:
        """Return the value that this share of all does not exceed, within 9.1 %; 0 where there is no value."""
        if not self.count:
            return 0.0
        rank, seen = max(1, math.ceil(share * self.count)), 0
        number = 0
        for number in sorted(self.buckets):
            seen += self.buckets[number]
            if seen >= rank:
                break
        middle: float = 2.0 ** ((number + 0.5) / BUCKETS_PER_DOUBLING)
        return min(max(middle, self.least), self.largest)

    def up_to(self, doublings: int) -> int:
        """Return how many values are less than 2**doublings."""
        return sum(values for number, values in self.buckets.items() if number < doublings * BUCKETS_PER_DOUBLING)

    def copy(self) -> Histogram:
        """Return a copy of its own."""
        return Histogram(self.count, self.sum, self.least, self.largest, dict(self.buckets))


@dataclass(slots=True)
class Measurements:
    """What was measured; can be handed to another process.

    Attributes:
        counters: The counts.
        gauges: How things stand.
        histograms: The histograms.
    """

    counters: dict[Series, float] = field(default_factory=dict)
    gauges: dict[Series, float] = field(default_factory=dict)
    histograms: dict[Series, Histogram] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.counters or self.gauges or self.histograms)

    def total(self, metric: Metric, *labels: str) -> float:
        """Return the sum of a counter, or gauge, of all series whose labels begin with some values."""
        own = self.gauges if metric.kind == "gauge" else self.counters
        return sum(v for (name, values), v in own.items() if name == metric.name and values[: len(labels)] == labels)

    def merged(self, metric: Metric, *labels: str) -> Histogram:
        """Return a histogram of all series whose labels begin with some values."""
        merged = Histogram()
        for (name, values), one in self.histograms.items():
            if name == metric.name and values[: len(labels)] == labels:
                merged.merge(one)
        return merged


class Meter:
    """Counts and observes; any thread may use it.

    An observation takes about a microsecond, and there is one a request or batch, none a record.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._measured = Measurements()

    def count(self, metric: Metric, number: float, *labels: str) -> None:
        """Add to a counter."""
        assert metric.kind == "counter"
        assert len(labels) == len(metric.labels)
        series = (metric.name, labels)
        with self._lock:
            counters = self._measured.counters
            counters[series] = counters.get(series, 0.0) + number

    def set(self, metric: Metric, value: float, *labels: str) -> None:
        """Say how a gauge stands."""
        assert metric.kind == "gauge"
        assert len(labels) == len(metric.labels)
        with self._lock:
            self._measured.gauges[metric.name, labels] = value

    def observe(self, metric: Metric, value: float, *labels: str) -> None:
        """Add a value to a histogram; a negative one, of a clock that was set back, counts as 0."""
        assert metric.kind == "histogram"
        assert len(labels) == len(metric.labels)
        series = (metric.name, labels)
        with self._lock:
            histogram = self._measured.histograms.get(series)
            if histogram is None:
                histogram = self._measured.histograms[series] = Histogram()
            histogram.add(max(value, 0.0))

    def add(self, measured: Measurements) -> None:
        """Add what another process has measured; gauges take its values."""
        with self._lock:
            mine = self._measured
            for series, number in measured.counters.items():
                mine.counters[series] = mine.counters.get(series, 0.0) + number
            mine.gauges |= measured.gauges
            for series, histogram in measured.histograms.items():
                mine.histograms.setdefault(series, Histogram()).merge(histogram)

    def read(self) -> Measurements:
        """Return a copy of all that was measured."""
        with self._lock:
            mine = self._measured
            histograms = {series: histogram.copy() for series, histogram in mine.histograms.items()}
            return Measurements(dict(mine.counters), dict(mine.gauges), histograms)

    def take(self) -> Measurements:
        """Return all that was measured, and begin anew."""
        with self._lock:
            taken, self._measured = self._measured, Measurements()
            return taken


METER = Meter()
"""That of this process, for what is measured far below a load: requests, waits, puts. A worker tells its parent what it
has; whoever loads in the same process as others shares it with them."""


def resident_bytes() -> int:
    """Return how much memory this process has resident; 0 where the system does not say it as Linux does."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def figures(measured: Measurements, metrics: Iterable[Metric]) -> dict[str, str]:
    """Return histograms as texts by name, all labels together: `put_p95` is the quantile of `put_seconds`, in seconds.

    Of each: `_count`, `_mean`, `_p50`, `_p95`, `_max`. One without values is left out.
    """
    texts: dict[str, str] = {}
    for metric in metrics:
        histogram = measured.merged(metric)
        if not histogram.count:
            continue
        name = metric.name.removesuffix("_seconds")
        texts[f"{name}_count"] = str(histogram.count)
        values = {"mean": histogram.mean, "p50": histogram.quantile(0.5), "p95": histogram.quantile(0.95)}
        texts |= {f"{name}_{what}": f"{value:.6g}" for what, value in (values | {"max": histogram.largest}).items()}
    return texts
