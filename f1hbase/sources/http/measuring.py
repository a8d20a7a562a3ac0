"""What is measured of requests, the same for every source: how they ended, how long they took, what was waited for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from f1hbase.metrics import names
from f1hbase.metrics.meter import METER
from f1hbase.sources.http.breaker import CircuitBreaker
from f1hbase.sources.http.errors import RequestError, kind_of
from f1hbase.sources.http.limiter import SharedRateLimiter


async def admit(breaker: CircuitBreaker, limiter: SharedRateLimiter) -> None:
    """Wait until a request may be sent, and count for what it was waited."""
    began = monotonic()
    await breaker.wait()
    there = monotonic()
    await limiter.acquire()
    METER.count(names.WAIT_SECONDS, there - began, "api")
    METER.count(names.WAIT_SECONDS, monotonic() - there, "limiter")


@contextmanager
def counted(endpoint: str, *, again: bool) -> Iterator[None]:
    """Count a request as answered, or by the kind of its failure; one that is given up half way counts as neither."""
    if again:
        METER.count(names.RETRIES, 1, endpoint)
    try:
        yield
    except RequestError as error:
        METER.count(names.REQUESTS, 1, endpoint, kind_of(error))
        raise
    METER.count(names.REQUESTS, 1, endpoint, "answered")


def took(endpoint: str, seconds: float) -> None:
    """Note how long an answer took, from sending to its last byte."""
    METER.observe(names.API_SECONDS, seconds, endpoint)
