"""How long requests take at a source's limits; knows no source."""

from __future__ import annotations

import math
from collections.abc import Sequence

from f1hbase.model.rates import ByteRate, Rate, with_margin


def seconds_at(rates: Sequence[Rate], requests: float) -> float | None:
    """Return in how many seconds so many requests can be sent, as the limiter lets them; None without limits."""
    if not rates:
        return None
    return max(max(0, math.ceil(requests) - 1) // rate.limit * rate.seconds for rate in with_margin(rates))


def seconds_for(rates: Sequence[ByteRate], size: float) -> float | None:
    """Return in how many seconds so many bytes can be received; None without limits of bytes."""
    return max((size / rate.bytes * rate.seconds for rate in rates), default=None)
