"""What the server asks of a store of records, whatever it keeps them in; a new kind of store is one more module.

It knows neither files nor HTTP.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol, runtime_checkable

from f1hbase.serve.query import Query

Piece = bytes | memoryview

TIMED_OUT = "TimeoutError: operation exceeded time limit"
"""As OpenF1's reason ends when its database takes too long: clients may look for it, and ask for less."""


class TooManyRowsError(Exception):
    """More records fulfil a query than one answer may hold.

    Attributes:
        rows: How many there are at least.
        limit: How many are allowed.
    """

    def __init__(self, rows: int, limit: int) -> None:
        super().__init__(f"{rows} rows, at most {limit} are allowed")
        self.rows = rows
        self.limit = limit


class StoreFailedError(Exception):
    """The store cannot answer now. The text is what the last line of the answer, a 500, says: ``Kind: reason``."""


class StoreUnavailableError(StoreFailedError):
    """The store is away, or what was to be read is gone: an answer of 503, as it may be back soon."""


class Selection(Protocol):
    """The records that fulfil a query. Its pieces are made in a thread, and read once."""

    @property
    def rows(self) -> int | None:
        """How many there are; None if there are some, and only reading them all would tell."""
        ...

    def json(self) -> Iterable[Piece]:
        """Return their JSON, commas between the records: a list where the size of all pieces is known beforehand.

        Raises `StoreFailedError`, at once or while the pieces are read.
        """
        ...

    def csv(self) -> Iterable[Piece]:
        """Return their CSV, the header first, in the same way; there is at least one record."""
        ...

    def lines(self) -> Iterator[bytes]:
        """Yield the compact JSON of each."""
        ...


@runtime_checkable
class SaysWhatIsMissing(Protocol):
    """A selection whose store remembers what was loaded, and so knows what was not."""

    @property
    def missing(self) -> Sequence[str]:
        """What of the query's sessions is not loaded as a whole: a text such as `9558 partial` for each."""
        ...


@runtime_checkable
class HoldsOpen(Protocol):
    """A store that holds something open, such as connections."""

    def close(self) -> None:
        """Let go of it; what reads meanwhile fails."""


class RecordStore(Protocol):
    """Records of the API's endpoints. Its methods are called from several threads at once."""

    def select(self, endpoint: str, query: Query, limit: int | None = None) -> Selection:
        """Return the records of an endpoint that fulfil a query; none of an endpoint that it does not know.

        Raises:
            TooManyRowsError: When there are more than ``limit``.
            StoreFailedError: When the store does not answer.
        """
        ...

    def latest(self, field: str) -> int | None:
        """Return the ``meeting_key`` or ``session_key`` of the session that has begun last and is not cancelled.

        None without one. Raises `StoreFailedError`.
        """
        ...
