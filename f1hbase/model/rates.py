"""Rates of requests and bytes, and when the next request is allowed: pure arithmetic, no clock and no file."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice

# The most grants, and the oldest in seconds, that the limiter's file keeps: so the largest limit and window.
MAX_LIMIT = 4096
MAX_SECONDS = 7200.0

# Requests arrive with other distances than they were sent with, so every window is taken longer than it is.
# For the window that bounds the throughput 1 % is what one can afford; the others can be stretched for
# nothing: at 3/s and 30/m, even 3 requests in 1.25 s would be 144 in a minute.
_MARGIN = 1.01
_FREE_MARGIN = 1.25

_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0}
_BYTES = {"b": 1, "kb": 1_000, "mb": 1_000_000, "gb": 1_000_000_000}
_RATE = re.compile(
    r"(?P<limit>\d{1,12}(?:\.\d{1,6})?)\s*(?P<size>[kMG]?B)?\s*/\s*(?P<count>\d{1,6}(?:\.\d{1,6})?)?\s*(?P<unit>[smh])",
    re.IGNORECASE | re.ASCII,
)
_LARGEST_DENOMINATOR = 10
_HELP = "write rates like '3/s,30/m' (units s, m and h; '2.8/s', '10/4s' is 10 in 4 seconds), or 'none'"
_BYTE_HELP = "write byte rates like '4MB/10s' (units B, kB, MB and GB)"


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `limit` requests in any `seconds` seconds.

    >>> Rate(30, 60.0)
    Rate(limit=30, seconds=60.0)
    >>> str(Rate(30, 60.0))
    '30/m'

    Raises `ValueError` unless `limit` is 1 to 4096 requests and `seconds` is above 0 and at most 7200.
    """

    limit: int
    seconds: float

    def __post_init__(self) -> None:
        if not 1 <= self.limit <= MAX_LIMIT:
            raise ValueError(f"'limit' must be 1 to {MAX_LIMIT} requests, not {self.limit}")
        if not 0.0 < self.seconds <= MAX_SECONDS:
            raise ValueError(f"'seconds' must be above 0 and at most {MAX_SECONDS:g}, not {self.seconds:g}")

    def __str__(self) -> str:
        return f"{self.limit}/{_window(self.seconds)}"

    @property
    def per_second(self) -> float:
        """Requests a second that the rate allows in the long run."""
        return self.limit / self.seconds


@dataclass(frozen=True, slots=True)
class ByteRate:
    """At most about `bytes` bytes of answers in any `seconds` seconds.

    >>> str(ByteRate(4_000_000, 10.0))
    '4MB/10.0s'

    Raises `ValueError` unless `bytes` is at least 1 and `seconds` is above 0 and at most 7200.
    """

    bytes: int
    seconds: float

    def __post_init__(self) -> None:
        if self.bytes < 1:
            raise ValueError(f"'bytes' must be at least 1, not {self.bytes}")
        if not 0.0 < self.seconds <= MAX_SECONDS:
            raise ValueError(f"'seconds' must be above 0 and at most {MAX_SECONDS:g}, not {self.seconds:g}")

    def __str__(self) -> str:
        size, unit = next(
            (self.bytes // scale, unit)
            for scale, unit in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB"), (1, "B"))
            if self.bytes % scale == 0
        )
        return f"{size}{unit}/{_window(self.seconds)}"


@dataclass(frozen=True, slots=True)
class Limits:
    """What may be asked of an API: requests and bytes; no rate of a kind means no limit of it."""

    requests: tuple[Rate, ...] = ()
    bytes: tuple[ByteRate, ...] = ()

    def __str__(self) -> str:
        return ",".join(map(str, (*self.requests, *self.bytes))) or "none"


def parse_limits(text: str) -> Limits:
    """Read rates of requests and of bytes as the command line spells them; `none` means no limit.

    >>> parse_limits("3/s,4MB/10s")
    Limits(requests=(Rate(limit=3, seconds=1.0),), bytes=(ByteRate(bytes=4000000, seconds=10.0),))

    Raises `ValueError`, which names the part that cannot be read.
    """
    if text.strip().lower() == "none":
        return Limits()
    rates = [_parse_rate(part.strip()) for part in text.split(",")]
    return Limits(
        tuple(rate for rate in rates if isinstance(rate, Rate)),
        tuple(rate for rate in rates if isinstance(rate, ByteRate)),
    )


def parse_rates(text: str) -> tuple[Rate, ...]:
    """Read rates of requests as the command line spells them; `none` means no limit.

    >>> parse_rates("3/s,30/m")
    (Rate(limit=3, seconds=1.0), Rate(limit=30, seconds=60.0))
    >>> parse_rates("10/4s")
    (Rate(limit=10, seconds=4.0),)
    >>> parse_rates("2.8/s")
    (Rate(limit=14, seconds=5.0),)
    >>> parse_rates("none")
    ()

    Raises `ValueError`, which names the part that cannot be read, or that is a rate of bytes.
    """
    limits = parse_limits(text)
    if limits.bytes:
        raise ValueError(f"'{limits.bytes[0]}' is a rate of bytes, and only rates of requests are meant here: {_HELP}")
    return limits.requests


def _parse_rate(part: str) -> Rate | ByteRate:
    match = _RATE.fullmatch(part)
    if match is None:
        help_ = _BYTE_HELP if re.search(r"\dg?[km]?b", part, re.IGNORECASE) else _HELP
        raise ValueError(f"{part!r} is not a rate: {help_}")
    seconds = float(match["count"] or 1) * _SECONDS[match["unit"].lower()]
    limit = Fraction(match["limit"])
    try:
        if match["size"] is not None:
            return ByteRate(int(limit * _BYTES[match["size"].lower()]), seconds)
        return _whole_rate(limit, seconds)
    except ValueError as error:
        raise ValueError(
            f"{part!r} is not a rate, {error}: {_HELP if match['size'] is None else _BYTE_HELP}"
        ) from error


def _whole_rate(limit: Fraction, seconds: float) -> Rate:
    """Return the same rate with a whole number of requests, in a window that is longer or, if need be, shorter."""
    if limit.denominator <= _LARGEST_DENOMINATOR:
        return Rate(limit.numerator, seconds * limit.denominator)
    whole = max(1, math.floor(limit))
    return Rate(whole, float(seconds * whole / limit))


def _window(seconds: float) -> str:
    return next((unit for unit, length in _SECONDS.items() if seconds == length), f"{seconds!r}s")


def with_margin(rates: Sequence[Rate]) -> tuple[Rate, ...]:
    """Stretch each window as far as costs at most 1 % of the throughput, for the network's jitter.

    >>> with_margin(parse_rates("3/s,30/m"))
    (Rate(limit=3, seconds=1.25), Rate(limit=30, seconds=60.6))
    """
    slowest = min((rate.per_second for rate in rates), default=math.inf)
    return tuple(_stretched(rate, max(_MARGIN, rate.per_second / slowest)) for rate in rates)


def _stretched(rate: Rate, affordable: float) -> Rate:
    return Rate(rate.limit, min(rate.seconds * min(affordable, _FREE_MARGIN), MAX_SECONDS))


def next_grant(grants: Sequence[float], rates: Sequence[Rate], unknown_before: float = -math.inf) -> float:
    """Tell the earliest time, in seconds, at which one more request keeps within all rates.

    >>> next_grant([100.0, 100.2, 100.4], [Rate(3, 1.0), Rate(30, 60.0)])
    101.0

    `grants` are the times of earlier requests, ascending. Those before `unknown_before` are not among them:
    as many as are missing are taken to have been made at that very moment.
    """
    return max(
        ((grants[-rate.limit] if len(grants) >= rate.limit else unknown_before) + rate.seconds for rate in rates),
        default=-math.inf,
    )


def upcoming(
    grants: Sequence[float], rates: Sequence[Rate], now: float, unknown_before: float = -math.inf
) -> Iterator[float]:
    """Yield the times, in seconds, of the coming requests if each is made as soon as it may, from `now` on.

    >>> [round(time, 3) for time in islice(upcoming([], [Rate(2, 1.0)], 100.0), 4)]
    [100.0, 100.0, 101.0, 101.0]
    """
    recent = list(grants[-max((rate.limit for rate in rates), default=1) :])
    while True:
        now = max(now, next_grant(recent, rates, unknown_before))
        recent.append(now)
        yield now


def nth_grant(
    grants: Sequence[float], rates: Sequence[Rate], now: float, n: int, unknown_before: float = -math.inf
) -> float:
    """Tell when the request that has `n` others before it can be made: the `n`-th of `upcoming`, from 0.

    >>> nth_grant([], [Rate(2, 1.0)], 100.0, 5)
    102.0
    """
    return next(islice(upcoming(grants, rates, now, unknown_before), n, None))
