"""What OpenF1 is asked, as a value; knows no HTTP."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

OPENF1_URL = "https://api.openf1.org/v1"
FIRST_YEAR = 2023
"""The first season that OpenF1 has."""

FREE_LIMITS = "3/s,30/m"
SUBSCRIPTION_LIMITS = "6/s,60/m"
"""What OpenF1 allows without and with a subscription (its documentation)."""

_CSV_FILTER = "csv=true"


@dataclass(frozen=True, slots=True)
class Query:
    """What the API is asked: an endpoint, and filters such as `session_key=9159` or `date>=2023-09-15T13:00:00`."""

    endpoint: str
    filters: tuple[str, ...] = ()

    @property
    def as_csv(self) -> bool:
        """Whether the answer is to be CSV instead of JSON."""
        return _CSV_FILTER in self.filters

    def in_csv(self) -> Query:
        """Return the same query for an answer in CSV."""
        return Query(self.endpoint, (*self.filters, _CSV_FILTER))

    def __str__(self) -> str:
        return f"{self.endpoint}?{'&'.join(self.filters)}".rstrip("?")


def api_time(moment: datetime) -> str:
    """Return a time as a filter spells it: in UTC without a zone, whose `+` would have to survive as %2B on the way."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat()
