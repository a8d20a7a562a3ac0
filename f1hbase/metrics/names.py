"""Every metric: its name, what it counts, in which unit, and what it is told apart by. A new one is one entry here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "gauge", "histogram"]

PREFIX = "f1hbase"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric.

    Attributes:
        name: As it is called inside; exporters put `f1hbase` before it.
        kind: `counter` only grows; `gauge` is how it stands; `histogram` has count, sum, largest and quantiles.
        help: What it is, with its unit.
        labels: What it is told apart by.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()


UNITS = Metric("units", "counter", "Units of work that ended", ("endpoint", "status"))
RECORDS = Metric("records", "counter", "Records of stored units", ("endpoint",))
ROWS = Metric("rows", "counter", "Rows (of landing zones: records) stored", ("endpoint",))
DUPLICATES = Metric("duplicates", "counter", "Records equal to another one of their unit", ("endpoint",))
QUARANTINED = Metric("quarantined", "counter", "Records put into quarantine instead of being stored", ("endpoint",))
BYTES = Metric("received_bytes", "counter", "Bytes of answers, uncompressed", ("endpoint",))
REQUESTS = Metric(
    "requests", "counter", "Requests that ended: 'answered', or the kind of failure", ("endpoint", "outcome")
)
RETRIES = Metric("retries", "counter", "Requests that repeated one that failed", ("endpoint",))
API_SECONDS = Metric(
    "api_seconds", "histogram", "Seconds from sending a request to the last byte of its answer", ("endpoint",)
)
WAIT_SECONDS = Metric(
    "wait_seconds",
    "counter",
    "Seconds waited, of all coroutines and threads: for the limiter, for an API or an HBase that is away",
    ("for",),
)
PUT_SECONDS = Metric("put_seconds", "histogram", "Seconds that a put into HBase took, retries included", ("table",))
STORE_SECONDS = Metric(
    "store_seconds", "histogram", "Seconds that storing a batch took: encoding, sending, retries", ("destination",)
)
LAG_SECONDS = Metric(
    "ingest_lag_seconds",
    "histogram",
    "Seconds from the first answer for a unit until it is stored in every destination and its line is written",
    ("endpoint",),
)
WRITER_SECONDS = Metric("writer_seconds", "counter", "Seconds that writers existed, busy or not")
WORKER_SECONDS = Metric("worker_seconds", "counter", "Seconds that worker processes existed")
WORKER_CPU_SECONDS = Metric("worker_cpu_seconds", "counter", "Processor seconds of worker processes")
WORKERS = Metric("workers", "gauge", "Worker processes now")
MEMORY = Metric("memory_bytes", "gauge", "Resident memory: of the parent, of all workers together", ("of",))
LARGEST_WORKER = Metric("largest_worker_bytes", "gauge", "The most resident memory that one worker has had")

METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        UNITS, RECORDS, ROWS, DUPLICATES, QUARANTINED, BYTES, REQUESTS, RETRIES, API_SECONDS, WAIT_SECONDS,
        PUT_SECONDS, STORE_SECONDS, LAG_SECONDS, WRITER_SECONDS, WORKER_SECONDS, WORKER_CPU_SECONDS, WORKERS,
        MEMORY, LARGEST_WORKER,
    )
}  # fmt: skip
"""All that a load measures, by name."""
