"""What an object store asks for room and requests: the prices, where and when they held. Knows no destination."""

from __future__ import annotations

from dataclasses import dataclass

from f1hbase.model.footprints import Footprint

_GIB = 2**30
"""What the price list calls a GB."""


@dataclass(frozen=True, slots=True)
class Prices:
    """What a store asks, in US dollars.

    Attributes:
        service: The store, and its class of storage.
        region: Where.
        date: The month of the price list.
        gb_month: For 2**30 bytes a month.
        thousand_puts: For a thousand requests that write.
    """

    service: str
    region: str
    date: str
    gb_month: float
    thousand_puts: float

    def month(self, taken: Footprint) -> float:
        """Return what keeping it costs a month, in dollars."""
        return taken.bytes / _GIB * self.gb_month

    def once(self, taken: Footprint) -> float:
        """Return what writing it costs, in dollars."""
        return taken.puts / 1000 * self.thousand_puts


S3_STANDARD = Prices("S3 Standard", "us-east-1", "2025-01", gb_month=0.023, thousand_puts=0.005)
"""https://aws.amazon.com/s3/pricing/, the first 50 TB, without transfer; other regions ask somewhat more."""
