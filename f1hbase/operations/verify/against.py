"""Fetches units afresh from the API and compares them with the table, cell by cell."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from f1hbase.cli.options import Settings
from f1hbase.credentials import Credentials
from f1hbase.errors import F1HBaseError
from f1hbase.model.catalog import ENDPOINTS, Endpoint
from f1hbase.model.units import Answer, Scope, Unit, parse_time
from f1hbase.operations.verify.reconcile import Difference, Kind, Reconciliation, Standing
from f1hbase.sources.openf1.source import open_source
from f1hbase.stores.hbase.codec import SEPARATOR, EncodeError, decode, encode, merge

_EXAMPLES = 3
"""How many of a unit's rows are named of each kind of difference."""

Rows = dict[bytes, dict[bytes, bytes]]
Read = Callable[[Scope, str, bytes], Iterable[tuple[bytes, Mapping[bytes, bytes]]]]
"""Gives the rows of a scope that have cells in a family, with those cells; the last is what their keys begin with
after the scope's own."""


class Sample:
    """A random choice among units that go by one after the other, each as likely as any other.

    Args:
        size: How many to choose.
        seed: The same seed chooses the same of the same units.
    """

    def __init__(self, size: int, seed: int) -> None:
        self.units: list[Unit] = []
        self._size = size
        self._random = random.Random(seed)  # noqa: S311 - nothing secret
        self._seen = 0

    def offer(self, scope: Scope, reconciliation: Reconciliation) -> None:
        """Choose among the units that are stored and that others have not replaced, too."""
        for claim in reconciliation.claims:
            if not claim.is_done or claim.standing is Standing.GONE:
                continue
            unit = Unit(reconciliation.endpoint.name, scope, claim.driver, claim.window)
            self._seen += 1
            if len(self.units) < self._size:
                self.units.append(unit)
            elif (place := self._random.randrange(self._seen)) < self._size:
                self.units[place] = unit


@dataclass(slots=True)
class Comparison:
    """What the API has of a unit, and what the table has.

    Attributes:
        rows: How many rows the API's records make.
        missing: How many of them the table lacks.
        extra: How many rows the table has that the API has not.
        differing: How many rows have another cell, one too few or one too many.
        examples: Some of them, for people.
        error: Why the unit could not be fetched.
    """

    unit: Unit
    rows: int = 0
    missing: int = 0
    extra: int = 0
    differing: int = 0
    examples: list[str] = field(default_factory=list)
    error: str | None = None

    def differences(self) -> Iterator[Difference]:
        """Yield what is wrong, if anything is."""
        if self.error is not None:
            detail = f"cannot be compared with the API: {self.error}"
        elif self.missing or self.extra or self.differing:
            counts = {"missing": self.missing, "not in the API": self.extra, "differing": self.differing}
            what = ", ".join(f"{number:,} {name}" for name, number in counts.items() if number)
            detail = f"beside the {self.rows:,} rows of the API: {what}"
        else:
            return
        unit = self.unit
        drivers = () if unit.driver is None else (unit.driver,)
        found = self.rows - self.missing + self.extra
        yield Difference(
            Kind.API, detail, unit.scope, unit.endpoint, drivers, unit.window, self.rows, found, tuple(self.examples)
        )


def compare_with_api(
    settings: Settings, credentials: Credentials | None, units: Sequence[Unit], read: Read
) -> list[Comparison]:
    """Fetch units and compare them with the table; one unit's rows are in memory at a time, and its table's.

    Raises:
        UnreachableError: If the API is away longer than patience lasts.
    """
    try:
        return asyncio.run(_compare(settings, credentials, units, read))
    except* F1HBaseError as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        failure = error
    raise failure


async def _compare(
    settings: Settings, credentials: Credentials | None, units: Sequence[Unit], read: Read
) -> list[Comparison]:
    found: dict[Unit, Comparison] = {}
    fetched: dict[Unit, Rows] = {}
    one_at_a_time = asyncio.Lock()

    async def deliver(answer: Answer) -> None:
        async with one_at_a_time:
            rows = fetched.setdefault(answer.unit, {})
            _encode(answer, rows)
            if answer.complete:
                del fetched[answer.unit]
                if answer.error is not None:
                    found[answer.unit] = Comparison(answer.unit, error=answer.error)
                else:
                    # In a thread, so that the other requests do not wait for HBase.
                    found[answer.unit] = await asyncio.to_thread(compare, answer.unit, rows, read)

    async with open_source(settings, credentials, settings.patience.total_seconds()) as source:
        await source.fetch(units, deliver)
    return [found[unit] for unit in units]


def compare(unit: Unit, rows: Rows, read: Read) -> Comparison:
    """Compare a unit's rows, as the API has them, with those of the table."""
    endpoint = ENDPOINTS[unit.endpoint]
    result = Comparison(unit, len(rows))
    left = dict(rows)
    for key, cells in read(unit.scope, endpoint.family, _begin(endpoint, unit)):
        if not _belongs(endpoint, unit, key):
            continue
        wanted = left.pop(key, None)
        if wanted is None:
            result.extra += 1
            _give_example(result, result.extra, f"row {key.decode()} is not in the API")
        elif cells != wanted:
            result.differing += 1
            _give_example(result, result.differing, f"row {key.decode()} has {_cells(cells, wanted)}")
    for number, key in enumerate(sorted(left), 1):
        _give_example(result, number, f"row {key.decode()} is not in the table")
    result.missing = len(left)
    return result


def _encode(answer: Answer, rows: Rows) -> None:
    """Add an answer's records to the rows, as storing them would."""
    endpoint = ENDPOINTS[answer.unit.endpoint]
    for record in answer.records:
        if not isinstance(record, dict):
            continue  # in quarantine
        try:
            key, cells = encode(endpoint, answer.unit.scope.year, record)
        except EncodeError:
            continue  # in quarantine
        merge(endpoint, rows.setdefault(key, {}), cells)


def _begin(endpoint: Endpoint, unit: Unit) -> bytes:
    """Return what the keys of a unit's rows begin with, after the scope's own key."""
    if unit.driver is None:
        return SEPARATOR.encode() if endpoint.key else b""
    end = SEPARATOR if len(endpoint.key) > 1 else ""
    return f"{SEPARATOR}{unit.driver}{end}".encode()


def _belongs(endpoint: Endpoint, unit: Unit, key: bytes) -> bool:
    try:
        record = decode(endpoint, key, {})
        return (unit.driver is None or record["driver_number"] == unit.driver) and (
            endpoint.time_field is None or parse_time(record[endpoint.time_field]) in unit.window
        )
    except ValueError:
        return False


def _give_example(result: Comparison, number: int, text: str) -> None:
    if number <= _EXAMPLES:
        result.examples.append(text)


def _cells(found: Mapping[bytes, bytes], wanted: Mapping[bytes, bytes]) -> str:
    """Say in which cells two rows differ, with both values."""
    columns: Iterable[bytes] = sorted({*found, *wanted})
    return ", ".join(
        f"{column.decode(errors='backslashreplace')} = {_value(found, column)} (API: {_value(wanted, column)})"
        for column in columns
        if found.get(column) != wanted.get(column)
    )


def _value(cells: Mapping[bytes, bytes], column: bytes) -> str:
    value = cells.get(column)
    return "no cell" if value is None else value.decode(errors="backslashreplace") or "''"
