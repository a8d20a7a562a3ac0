"""What becomes of rows, cells and quarantine when a unit is stored again, by the pipeline and a real HBase."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hbase_server import LocalHBase

from f1hbase.destinations.hbase import HBaseDestination
from f1hbase.model.answers import Answer, Listing, RequestStats
from f1hbase.model.catalog import ENDPOINTS
from f1hbase.model.outcomes import Outcome
from f1hbase.model.plans import MeetingPlan, Selection, SessionPlan
from f1hbase.model.units import Scope, Unit, Window
from f1hbase.pipeline.meeting import MeetingLoader
from f1hbase.pipeline.messages import Message, Reported
from f1hbase.pipeline.remaining import Remaining
from f1hbase.sources.base import Deliver
from f1hbase.state.base import Epochs
from f1hbase.state.hbase.reports import HBaseReports
from f1hbase.stores.hbase.connector import HBaseConnector, find_gateway
from f1hbase.stores.hbase.frames import RowMutation
from f1hbase.stores.hbase.schema import Tables, ensure_tables

pytestmark = pytest.mark.hbase

_START = datetime(2024, 7, 5, 11, 30, tzinfo=UTC)
_LATER = _START + timedelta(days=9)


@pytest.fixture(scope="module")
def tables(hbase: LocalHBase) -> Tables:
    """Tables that the tests of this module share: each has a session of its own."""
    tables = Tables("again")
    connector = HBaseConnector([find_gateway(hbase.host, hbase.port)])
    ensure_tables(connector, tables)
    connector.close()
    return tables


@pytest.fixture
def direct(hbase: LocalHBase) -> Iterator[HBaseConnector]:
    connector = HBaseConnector([find_gateway(hbase.host, hbase.port)], patience=60)
    yield connector
    connector.close()


@pytest.fixture
def scope(request: pytest.FixtureRequest) -> Scope:
    """A session that no other test has."""
    number = 1 + request.session.items.index(request.node)
    return Scope(2024, 1240, number, _START, _START + timedelta(hours=1), "a practice")


def _car(scope: Scope, second: int, **changes: object) -> dict[str, object]:
    date = (_START + timedelta(seconds=second)).isoformat()
    record = {"meeting_key": 1240, "session_key": scope.session_key, "driver_number": 1, "date": date}
    return record | {"rpm": 9000, "speed": 200, "drs": 0} | changes


def _bad(scope: Scope, second: int) -> dict[str, object]:
    return _car(scope, second, speed=float("nan"))


_FIRST, _LAST = Window(None, _START + timedelta(minutes=15)), Window(_START + timedelta(minutes=15), None)


class OneAnswer:
    """A source that gives what a test says, whatever it is asked for."""

    name = home = "test"
    first_year = 2023

    def __init__(self, answers: Sequence[Answer]) -> None:
        self._answers = answers

    async def listing(self, selection: Selection) -> Listing:
        return Listing(self.name, [], [], _LATER)

    def knows(self, endpoint: str) -> frozenset[str]:
        return ENDPOINTS[endpoint].known

    def expected(self, units: Iterable[Unit]) -> int:
        return len(list(units))

    async def fetch(self, units: Iterable[Unit], deliver: Deliver) -> None:
        for answer in self._answers:
            await deliver(answer)

    def unaccounted(self) -> RequestStats:
        return RequestStats()


class Store:
    """Stores records of a session as a worker does; every call of `run` begins another run."""

    def __init__(self, connector: HBaseConnector, tables: Tables, scope: Scope) -> None:
        self._connector = connector
        self._tables = tables
        self._scope = scope
        self._runs = 0
        self.run()

    def run(self) -> None:
        self._runs += 1

    def __call__(
        self,
        *records: object,
        driver: int | None = 1,
        window: Window = _FIRST,
        parts: Sequence[Sequence[object]] = (),
        data: str = "",
    ) -> Outcome:
        """Store what comes in one answer, or in several parts; `data` is the table if it is another one."""
        groups = [*parts, records]
        answers = [
            self.answer(*group, driver=driver, window=window, complete=number == len(groups))
            for number, group in enumerate(groups, start=1)
        ]
        (outcome,) = self.load(answers, data=data)
        return outcome

    def answer(
        self, *records: object, driver: int | None = None, window: Window = _FIRST, complete: bool = True
    ) -> Answer:
        """Return an answer with some records."""
        unit = Unit("car_data", self._scope, driver, window)
        return Answer(unit, _LATER, "test", [list(records)], complete=complete)

    def load(self, answers: Sequence[Answer], *, data: str = "") -> list[Outcome]:
        """Load what a source answers, and return what became of each unit."""
        meeting = MeetingPlan(self._scope.meeting, None, (SessionPlan(self._scope, {}),), _LATER)
        destination = HBaseDestination([self._connector], data or self._tables.data, self._tables.reports)
        run_id = f"run-{self._runs}"
        states = [[state for scope in meeting.scopes for state in destination.state.unit_states(scope)]]
        messages: list[Message] = []

        async def load() -> None:
            remaining = Remaining(meeting, states, Selection(endpoints=("car_data",)), _LATER, refresh=run_id)
            loader = MeetingLoader(
                meeting, remaining, source=OneAnswer(answers), destinations=[destination], run_id=run_id,
                epochs=[Epochs()], tell=messages.append, stopping=asyncio.Event(),
            )  # fmt: skip
            assert await loader.run()

        asyncio.run(load())
        return [one for message in messages if isinstance(message, Reported) for one in message.outcomes]

    def quarantined(self) -> list[dict[bytes, bytes]]:
        """The rows in quarantine, in the order of their records."""
        prefix = f"quarantine#{self._scope.prefix}#car_data#".encode()
        rows = [cells for _, cells in self._connector.scan(self._tables.reports, prefix)]
        return sorted(rows, key=lambda cells: cells[b"meta:record"])

    def rows(self) -> list[dict[bytes, bytes]]:
        prefix = f"{self._scope.prefix}#".encode()
        return [cells for _, cells in self._connector.scan(self._tables.data, prefix)]


@pytest.fixture
def store(direct: HBaseConnector, tables: Tables, scope: Scope) -> Store:
    return Store(direct, tables, scope)


def test_quarantine_says_which_run_and_unit_a_record_came_with(store: Store, scope: Scope) -> None:
    outcome = store(_car(scope, 0), _bad(scope, 1))
    assert (outcome.rows, outcome.quarantined) == (1, 1)
    (cells,) = store.quarantined()
    assert cells[b"meta:run"] == b"run-1"
    assert cells[b"meta:unit"] == Unit("car_data", scope, 1, _FIRST).key.encode()
    assert cells[b"meta:found"] == _LATER.isoformat().encode()
    assert cells[b"meta:record"] == json.dumps(_bad(scope, 1), separators=(",", ":")).encode()
    assert cells[b"errors:reason"].startswith(b"'speed' holds a number that JSON does not know")


def test_only_what_is_corrected_leaves_quarantine_and_only_that_of_its_unit(store: Store, scope: Scope) -> None:
    store(_bad(scope, 1), _bad(scope, 2))
    store(_bad(scope, 1000), window=_LAST)
    store(_bad(scope, 3), driver=44)
    assert len(store.quarantined()) == 4
    store.run()
    assert store(_car(scope, 1), _bad(scope, 2)).quarantined == 1
    left = [json.loads(cells[b"meta:record"])["date"] for cells in store.quarantined()]
    assert left == [_bad(scope, second)["date"] for second in (2, 3, 1000)]
    assert [cells[b"meta:run"] for cells in store.quarantined()] == [b"run-2", b"run-1", b"run-1"]
    store(_car(scope, 1000), window=_LAST)
    store(_car(scope, 3), driver=44)
    assert len(store.quarantined()) == 1


def test_a_unit_in_parts_releases_what_none_of_its_parts_still_has(store: Store, scope: Scope) -> None:
    store(_bad(scope, 1), _bad(scope, 2), _bad(scope, 3))
    store.run()
    store(_car(scope, 2), _bad(scope, 3), parts=[[_bad(scope, 1)]])
    left = [json.loads(cells[b"meta:record"])["date"] for cells in store.quarantined()]
    assert left == [_bad(scope, second)["date"] for second in (1, 3)]


def test_what_was_put_aside_by_another_window_or_driver_list_is_released_once_all_of_that_is_stored_again(
    store: Store, scope: Scope
) -> None:
    store(_bad(scope, 1), _bad(scope, 1000), driver=None, window=Window())
    store.run()
    store.load([store.answer(_car(scope, 1), window=_FIRST), store.answer(_car(scope, 1000), window=_LAST)])
    assert store.quarantined() == [], "smaller windows"
    store.run()
    store(_bad(scope, 1), _bad(scope, 2))
    store.run()
    store(_car(scope, 1), _bad(scope, 2), driver=None, window=Window())
    (cells,) = store.quarantined()
    assert json.loads(cells[b"meta:record"])["date"] == _bad(scope, 2)["date"], "all drivers, all time"


def test_cells_become_null_when_a_unit_is_stored_again_and_unknown_ones_stay(store: Store, scope: Scope) -> None:
    store(_car(scope, 0, extra=1))
    store.run()
    store(_car(scope, 0, speed=None, extra=None))
    assert store.rows() == [{b"car:rpm": b"9000", b"car:drs": b"0"}]
    store.run()
    store({name: value for name, value in _car(scope, 0, more=2).items() if name != "drs"})
    assert store.rows() == [{b"car:rpm": b"9000", b"car:speed": b"200", b"car:more": b"2"}]
    store.run()
    store(_car(scope, 0))
    assert store.rows() == [{b"car:rpm": b"9000", b"car:speed": b"200", b"car:drs": b"0", b"car:more": b"2"}]


def test_a_new_unit_beside_a_stored_one_writes_no_deletions(
    store: Store, scope: Scope, direct: HBaseConnector, tables: Tables
) -> None:
    """A row of another window is not in the way of a unit that overlaps nothing stored: it goes the fast way."""
    store(_car(scope, 0))
    key = f"{scope.prefix}#1#{_car(scope, 1000)['date']}".encode()
    direct.put(tables.data, [RowMutation(key, {b"car:speed": b"1"})])
    store(_car(scope, 1000, speed=None), window=_LAST)
    assert dict(direct.scan(tables.data, key))[key] == {b"car:rpm": b"9000", b"car:drs": b"0", b"car:speed": b"1"}


def test_a_record_that_loses_its_last_value_keeps_its_row_and_one_that_gains_one_loses_the_sign(
    store: Store, scope: Scope
) -> None:
    nothing = _car(scope, 0, rpm=None, speed=None, drs=None)
    for _ in range(2):
        store.run()
        store(_car(scope, 0))
        assert store.rows() == [{b"car:rpm": b"9000", b"car:speed": b"200", b"car:drs": b"0"}]
        store.run()
        store(nothing)
        assert store.rows() == [{b"car:": b""}]


def test_a_unit_that_hbase_refuses_is_an_outcome_with_the_reason_and_its_line_says_failed(
    store: Store, direct: HBaseConnector, tables: Tables, scope: Scope
) -> None:
    outcome = store(_car(scope, 0), data="nosuch_f1_data")
    assert outcome.error is not None
    assert "table 'nosuch_f1_data' does not exist" in outcome.error
    (state,) = HBaseReports(direct, tables.reports).unit_states(scope)
    assert (state.status.value, state.error) == ("failed", outcome.error)
