"""The seam towards where records come from: a source is asked (pull); knows no destination."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, runtime_checkable

from f1hbase.errors import ConfigError
from f1hbase.model.answers import Answer, Listing, RequestStats
from f1hbase.model.catalog import ALL_ENDPOINTS, Dataset
from f1hbase.model.history import as_listed
from f1hbase.model.outcomes import UnitState
from f1hbase.model.plans import Selection
from f1hbase.model.rates import Limits
from f1hbase.model.samples import Record, Samples
from f1hbase.model.units import Scope, Unit

Deliver = Callable[[Answer], Awaitable[None]]
"""Takes an answer, or a part of one. It reads the answer's records before it returns, and may take its time: the
source waits meanwhile, which is the backpressure. What decoding the records raises, it raises again."""


class Source(Protocol):
    """Turns units into records.

    Attributes:
        name: As in `--from`, and in the lines of the units it fetched.
        first_year: The first season it has.
        home: Where it is, for messages: an address or a folder.
    """

    name: str
    first_year: int
    home: str

    async def listing(self, selection: Selection) -> Listing:
        """Return the sessions that a selection may mean (more is allowed), and their meetings.

        Each session has at least the numbers `year`, `meeting_key` and `session_key` and the times `date_start` and
        `date_end`; `session_type` tells what to expect of it.

        Raises:
            F1HBaseError: If it cannot be had; says why and what to do.
        """

    def knows(self, endpoint: str) -> frozenset[str]:
        """Return the fields of an endpoint that this source would give where there is a value.

        Only the cells of these are deleted when a record that is stored again lacks them: absent is not null. Empty
        for an endpoint that the source has not at all.
        """

    def expected(self, units: Iterable[Unit]) -> int:
        """Return in how many units the answers to some will come, about."""

    async def fetch(self, units: Iterable[Unit], deliver: Deliver) -> None:
        """Ask for units and hand what comes to `deliver`; a failure is an answer with an error.

        A unit of a sampled endpoint may be answered by several, whose windows together make up its own. A unit that
        is fetched in parts is answered as often, and only the last part is `complete`.

        The source leaves out records outside a unit's window or of another driver. What it has nothing of is an answer
        without records, or left out if it `MayLack`. An answer's `asked_at` decides whether the unit is done or still
        provisional.

        Raises:
            UnreachableError: If the source is away for longer than patience lasts.
        """

    def unaccounted(self) -> RequestStats:
        """Return what was spent since the last answer and belongs to none (probes, tokens), and begin anew."""


@runtime_checkable
class MayLack(Protocol):
    """A source that leaves out what it has not, where nobody asked for it by name."""

    def lacking(self) -> Sequence[Unit]:
        """Return the units that `fetch` was asked for and did not answer."""


@runtime_checkable
class SaysKeys(Protocol):
    """A source whose keys need no list, as they are made by a rule.

    Attributes:
        keys: The rule, for people.
    """

    keys: str


class Reader(Protocol):
    """Gives back the records that are stored in one place; `load --from`, `verify`, `export` and `serve` read by it."""

    home: str

    def sessions(self) -> Sequence[Record]:
        """Return the records of all sessions."""

    def meetings(self) -> Sequence[Record]:
        """Return the records of all meetings."""

    def units(self, scope: Scope) -> Sequence[UnitState]:
        """Return the units that are stored of a session (or of a meeting as such)."""

    def read(self, unit: Unit) -> Iterator[Samples | Sequence[Any]]:
        """Yield the records of a unit's endpoint, session, driver and window, some at a time."""


@runtime_checkable
class ReadsHistory(Protocol):
    """A reader of a place where races and seasons of the history may be stored, too."""

    def races(self) -> Sequence[Record]:
        """Return the records of all races of the history."""

    def seasons(self) -> Sequence[Record]:
        """Return the records of all seasons of the history."""


class SourceRecipe(Protocol):
    """Says how to open a source; can be handed to another process."""

    def open(self, patience: float) -> AbstractAsyncContextManager[Source]:
        """Open the source.

        Args:
            patience: For how long it may be away, in seconds.

        Raises:
            F1HBaseError: If it cannot be opened; says why and what to do.
        """


@runtime_checkable
class AskedByRequest(Protocol):
    """A recipe whose source is asked over a network, within limits: what that takes can be said beforehand.

    Attributes:
        limits: What may be asked of it.
        learns_sizes: Whether it sizes its requests by what earlier answers had, so that what a load has taken says
            more than `requests`.
    """

    @property
    def limits(self) -> Limits:
        """The limits."""

    @property
    def learns_sizes(self) -> bool:
        """Whether requests are sized by earlier answers."""

    def requests(self, units: Collection[Unit]) -> int:
        """Return how many requests some units take, about, if nothing fails or is too much for one answer."""

    def bytes_per_record(self, endpoint: str) -> float:
        """Return how many bytes a record has in an answer, about."""


@runtime_checkable
class AskedByPage(Protocol):
    """A recipe whose source answers in pages, so that how many requests units take is known only when they are asked.

    Attributes:
        page: How many entries a page has.
    """

    @property
    def page(self) -> int:
        """The entries of a page."""


@runtime_checkable
class JoinsSessions(Protocol):
    """A recipe whose source adds the keys that its races have in OpenF1, so that tables can be joined."""

    def joined(self, sessions: Iterable[Record]) -> SourceRecipe:
        """Return the same with the records of the sessions that are known."""


def check_endpoints(source: str, dataset: Dataset, endpoints: Iterable[str]) -> None:
    """Refuse endpoints of another table than a source has.

    Raises:
        ConfigError: If one is; names those that there are.
    """
    for name in endpoints:
        other = ALL_ENDPOINTS[name].dataset
        if other is not dataset:
            mine = ", ".join(one for one, endpoint in ALL_ENDPOINTS.items() if endpoint.dataset is dataset)
            raise ConfigError(f"--endpoint {name}: {source} has no such records. It has {mine}.")


def listed_sessions(reader: Reader) -> list[Record]:
    """Return the records of all sessions that a reader has, those of the races of the history among them."""
    races = reader.races() if isinstance(reader, ReadsHistory) else ()
    return [*reader.sessions(), *map(as_listed, races)]


def listed_meetings(reader: Reader) -> list[Record]:
    """Return the records of all meetings that a reader has, those of the seasons of the history among them."""
    seasons = reader.seasons() if isinstance(reader, ReadsHistory) else ()
    return [*reader.meetings(), *map(as_listed, seasons)]
