"""How a recording goes, in figures that several threads add to."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

_STEP = 1.05
"""Each bucket of the latency histogram is so many times as long as the one before: what it says is 5 % off at most."""


class Latencies:
    """A histogram of seconds."""

    def __init__(self) -> None:
        self._buckets: Counter[int] = Counter()
        self.number = 0

    def add(self, seconds: float, times: int = 1) -> None:
        """Count a latency so many times."""
        self._buckets[math.ceil(math.log(max(seconds, 1e-6), _STEP))] += times
        self.number += times

    def percentile(self, percent: float) -> float:
        """Return the latency that so many of a hundred do not exceed, in seconds; 0 without any."""
        left = self.number * percent / 100
        for bucket in sorted(self._buckets):
            left -= self._buckets[bucket]
            if left <= 0:
                return float(_STEP**bucket)
        return 0.0


@dataclass(slots=True)
class Figures:
    """What has happened so far.

    Attributes:
        messages: How many messages came.
        rows: How many rows were stored, by endpoint.
        quarantined: How many records were put aside.
        connections: How often the feed was connected to.
        latencies: From the arrival of a message until what it says was stored; without what had to be put in order.
        last_message: When the last one came, in seconds since 1970; 0 for never.
        busy_since: When the oldest came that is being stored now, in seconds since 1970; 0 for none.
    """

    messages: int = 0
    rows: Counter[str] = field(default_factory=Counter)
    quarantined: int = 0
    connections: int = 0
    latencies: Latencies = field(default_factory=Latencies)
    last_message: float = 0.0
    busy_since: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def stats(self) -> dict[str, float]:
        """Return them as a heartbeat has them."""
        with self.lock:
            busy = self.busy_since
            return {
                "messages": self.messages,
                "rows": self.rows.total(),
                "quarantined": self.quarantined,
                "reconnects": max(0, self.connections - 1),
                "lag": round(time.time() - busy, 3) if busy else 0.0,
                "latency_p50": round(self.latencies.percentile(50), 4),
                "latency_p99": round(self.latencies.percentile(99), 4),
            }
