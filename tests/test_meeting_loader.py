"""A meeting ends up in every destination that lacks it, whatever comes and whoever refuses; a unit's line comes last.

Source, destinations and state are small ones in memory that keep the promises of their protocols.
"""

from __future__ import annotations

import asyncio
import threading
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from samples import END, START, WEEK, a_scope, a_selection, sample, samples_of

from f1hbase.destinations.base import Batch, Writer
from f1hbase.errors import StoreError, UnreachableError
from f1hbase.model.answers import Answer, Listing, RawAnswer, RequestStats
from f1hbase.model.catalog import ENDPOINTS
from f1hbase.model.coverage import status_of
from f1hbase.model.outcomes import Outcome, Quarantined, Receipt, Status, UnitState
from f1hbase.model.plans import MeetingPlan, Selection, SessionPlan
from f1hbase.model.records import identity, winner
from f1hbase.model.samples import Record
from f1hbase.model.units import Scope, Unit, Window
from f1hbase.pipeline.meeting import MeetingLoader
from f1hbase.pipeline.messages import Message, Planned, Reported
from f1hbase.pipeline.normalise import IDENTITY
from f1hbase.pipeline.remaining import Remaining
from f1hbase.sources.base import Deliver
from f1hbase.state.base import Epochs, State, quarantine_key

RACE = a_scope(kind="Race")
NOW = END + WEEK
MEETING = MeetingPlan(a_scope(None), sample("meetings"), (SessionPlan(RACE, sample("sessions")),), NOW)
LAPS, CAR = Unit("laps", RACE), Unit("car_data", RACE)
KNOWS = frozenset({"lap_duration", "st_speed", "rpm", "brake", "throttle"})


class BrokenAnswerError(Exception):
    """What decoding an answer that is none raises."""


Script = Callable[[Deliver], Awaitable[None]]


@dataclass
class MemorySource:
    """Delivers what a test says of each unit; asks for nothing twice."""

    answers: Mapping[Unit, Sequence[Answer]] = field(default_factory=dict)
    script: Script | None = None
    name: str = "memory"
    first_year: int = 2023
    home: str = "memory"
    asked: list[Unit] = field(default_factory=list)

    async def listing(self, selection: Selection) -> Listing:
        return Listing(self.name, [], [], NOW)

    def knows(self, endpoint: str) -> frozenset[str]:
        return KNOWS

    def expected(self, units: Iterable[Unit]) -> int:
        return len(list(units))

    async def fetch(self, units: Iterable[Unit], deliver: Deliver) -> None:
        self.asked += units
        if self.script is not None:
            await self.script(deliver)
        for unit in self.asked:
            for answer in self.answers.get(unit, ()):
                await deliver(answer)

    def unaccounted(self) -> RequestStats:
        return RequestStats()


@dataclass
class MemoryState:
    """Remembers lines and quarantine, and when each was written in the order of all that happened."""

    log: list[Any]
    lines: dict[str, tuple[str, Outcome]] = field(default_factory=dict)
    quarantine: dict[str, Quarantined] = field(default_factory=dict)
    refuses_quarantine: bool = False

    def unit_states(self, scope: Scope) -> list[UnitState]:
        return [
            UnitState(
                scope.prefix, o.unit.endpoint, o.unit.driver, o.unit.window,
                Status.FAILED if o.error else status_of(o.unit, o.asked_at), frozenset(o.drivers),
                {"records": float(o.records)}, o.error, run, o.asked_at, o.receipt.checksum, o.source,
            )
            for run, o in self.lines.values()
            if o.unit.scope.prefix == scope.prefix
        ]  # fmt: skip

    def write_units(self, run_id: str, outcomes: Sequence[Outcome]) -> None:
        for outcome in outcomes:
            self.log.append(("line", outcome.unit))
            self.lines[outcome.unit.key] = (run_id, outcome)

    def quarantined(self, scope: Scope, endpoint: str) -> list[tuple[str, str]]:
        return [
            (key, one.unit)
            for key, one in self.quarantine.items()
            if (one.scope_prefix, one.endpoint) == (scope.prefix, endpoint)
        ]

    def put_quarantine(self, run_id: str, records: Collection[Quarantined]) -> None:
        if records and self.refuses_quarantine:
            raise StoreError("quarantine is full")
        self.quarantine |= {quarantine_key(record): record for record in records}

    def delete_quarantine(self, keys: Collection[str]) -> None:
        for key in keys:
            del self.quarantine[key]

    def epochs(self, meeting: Scope) -> Epochs:
        return Epochs()

    def outcome(self, unit: Unit) -> Outcome:
        return self.lines[unit.key][1]


def nothing(_: Batch) -> None:
    """Do nothing before a batch, and refuse none."""


class MemoryDestination:
    """Keeps the fields of records by identity, as a table does: each is put, or deleted, by itself."""

    def __init__(self, name: str = "memory", writers: int = 1) -> None:
        self.name = name
        self.log: list[Any] = []
        self.memory = MemoryState(self.log)
        self.state: State = self.memory
        self.rows: dict[Any, dict[str, Any]] = defaultdict(dict)
        self.batches: list[Batch] = []
        self.writers: Sequence[Writer] = [MemoryWriter(self) for _ in range(writers)]
        self.before: Callable[[Batch], None] = nothing
        self.refusal: Callable[[Batch], str | None] = nothing
        self.lock = threading.Lock()

    def close(self) -> None:
        pass

    def records(self, endpoint: str = "laps") -> list[dict[str, Any]]:
        return [row for key, row in self.rows.items() if key[0] == endpoint]


class MemoryWriter:
    def __init__(self, destination: MemoryDestination) -> None:
        self._destination = destination

    def write(self, batch: Batch) -> Receipt:
        to, endpoint = self._destination, ENDPOINTS[batch.unit.endpoint]
        to.before(batch)
        error = to.refusal(batch)
        if error is not None:
            return Receipt(error=error)
        with to.lock:
            to.batches.append(batch)
            for record in batch.records:
                row = to.rows[(endpoint.name, *identity(endpoint, record))]
                if batch.overwrite:
                    for name in batch.knows | {name for name, value in record.items() if value is None}:
                        row.pop(name, None)
                row |= {name: value for name, value in record.items() if value is not None}
            to.log.append(("batch", batch.unit))
        return Receipt(len(batch.records), len(batch.records))

    def close(self) -> None:
        pass


@dataclass
class Loaded:
    """What a load told its parent, and how it ended."""

    complete: bool
    messages: list[Message]

    @property
    def outcomes(self) -> list[Outcome]:
        return [o for message in self.messages if isinstance(message, Reported) for o in message.outcomes]

    @property
    def planned(self) -> int:
        return sum(message.units for message in self.messages if isinstance(message, Planned))


async def load(
    source: MemorySource,
    *destinations: MemoryDestination,
    meeting: MeetingPlan = MEETING,
    stopping: asyncio.Event | None = None,
    epochs: Sequence[Epochs] = (),
    run_id: str = "a-run",
    listing: dict[str, RawAnswer] | None = None,
    messages: list[Message] | None = None,
    **choices: Any,
) -> Loaded:
    told: list[Message] = [] if messages is None else messages
    states = [[s for scope in meeting.scopes for s in d.state.unit_states(scope)] for d in destinations]
    loader = MeetingLoader(
        meeting,
        Remaining(meeting, states, a_selection(**({"endpoints": ("laps", "car_data")} | choices)), NOW),
        source=source,
        destinations=destinations,
        run_id=run_id,
        epochs=epochs or [Epochs()] * len(destinations),
        tell=told.append,
        stopping=stopping or asyncio.Event(),
        listing=listing,
    )
    try:
        async with asyncio.timeout(10) as limit:
            complete = await loader.run()
    finally:
        assert not limit.expired(), "it hangs"
    return Loaded(complete, told)


def answer(unit: Unit, *some: Any, **changes: Any) -> Answer:
    values: dict[str, Any] = {"stats": RequestStats(1, 0, 100)} | changes
    return Answer(
        unit, NOW, "memory", changes.pop("records", some), **{k: v for k, v in values.items() if k != "records"}
    )


def lap(number: int, **changes: Any) -> Record:
    return sample("laps", lap_number=number, **changes)


def car(second: int, **changes: Any) -> Record:
    return sample("car_data", date=f"2024-07-07T14:03:{second:02}+00:00", **changes)


class Failing:
    """Records of which the decoding fails after some."""

    def __init__(self, *some: Any) -> None:
        self._some = some

    def __iter__(self) -> Iterator[Any]:
        yield from self._some
        raise BrokenAnswerError


# --- one destination ---


async def test_what_is_fetched_is_stored_and_reported() -> None:
    here = MemoryDestination()
    source = MemorySource({LAPS: [answer(LAPS, [lap(1), lap(2)])], CAR: [answer(CAR, samples_of([car(1)]))]})
    loaded = await load(source, here)
    assert source.asked == [LAPS, CAR]
    assert loaded.complete
    assert len(here.records("laps")) == 2
    assert len(here.records("car_data")) == 1
    assert {outcome.unit: outcome.rows for outcome in loaded.outcomes} == {LAPS: 2, CAR: 1}
    line = here.memory.outcome(LAPS)
    assert (line.records, line.duplicates, line.error, line.source) == (2, 0, None, "memory")
    assert (line.drivers, line.asked_at, line.stats) == (frozenset({44}), NOW, RequestStats(1, 0, 100))
    assert loaded.planned == 2


async def test_loading_again_asks_for_nothing() -> None:
    here = MemoryDestination()
    answers = {LAPS: [answer(LAPS, [lap(1)])], CAR: [answer(CAR, samples_of([car(1)]))]}
    await load(MemorySource(dict(answers)), here)
    again = MemorySource(dict(answers))
    assert (await load(again, here)).complete
    assert again.asked == []


async def test_meetings_and_sessions_are_not_asked_for_as_they_came_with_the_plan() -> None:
    here = MemoryDestination()
    raw = RawAnswer("memory", "meetings", NOW, NOW, 200, "application/json", b"[]")
    source = MemorySource()
    await load(source, here, endpoints=("meetings", "sessions"), listing={"meetings": raw})
    assert source.asked == []
    assert [row["location"] for row in here.records("meetings")] == ["Silverstone"]
    assert [row["session_name"] for row in here.records("sessions")] == ["Race"]
    (of_meeting,) = [batch for batch in here.batches if batch.unit.endpoint == "meetings"]
    assert (of_meeting.raw, of_meeting.select) == (raw, {"meeting_key": 1240})


async def test_a_source_may_cut_a_unit_of_samples_and_each_window_has_a_line() -> None:
    here = MemoryDestination()
    halves = [Unit("car_data", RACE, None, window) for window in (Window(None, END), Window(END, None))]
    source = MemorySource({CAR: [answer(half, samples_of([car(n)])) for n, half in enumerate(halves)]})
    loaded = await load(source, here, endpoint="car_data")
    assert [outcome.unit for outcome in loaded.outcomes] == halves
    assert loaded.planned == 2, "more than was expected is told at the end"
    assert (await load(MemorySource(), here, endpoint="car_data")).complete


async def test_a_failure_of_the_source_is_a_line_with_its_reason() -> None:
    here = MemoryDestination()
    loaded = await load(MemorySource({LAPS: [answer(LAPS, error="HTTP 500: no luck")]}), here, endpoint="laps")
    assert loaded.complete
    assert here.memory.outcome(LAPS).error == "HTTP 500: no luck"
    assert [outcome.error for outcome in loaded.outcomes] == ["HTTP 500: no luck"]
    assert here.batches == []


async def test_an_answer_without_records_is_stored_as_such() -> None:
    here = MemoryDestination()
    await load(MemorySource({LAPS: [answer(LAPS)]}), here, endpoint="laps")
    assert (here.memory.outcome(LAPS).records, here.memory.outcome(LAPS).error) == (0, None)


# --- the line comes after all that it speaks of ---


@pytest.mark.parametrize("writers", [1, 4])
async def test_a_line_is_written_only_after_every_batch_of_its_unit_is_durable(writers: int) -> None:
    here = MemoryDestination(writers=writers)
    slices = [samples_of([car(number)]) for number in range(12)]
    await load(MemorySource({CAR: [answer(CAR, *slices)]}), here, endpoint="car_data")
    assert here.log == [("batch", CAR)] * 12 + [("line", CAR)]
    assert here.memory.outcome(CAR).rows == 12


async def test_batches_of_one_unit_are_stored_at_the_same_time_and_add_up() -> None:
    here = MemoryDestination(writers=3)
    together = threading.Barrier(3)

    def wait_for_the_others(_: Batch) -> None:
        together.wait(10)

    here.before = wait_for_the_others
    slices = [samples_of([car(number)]) for number in range(9)]
    await load(MemorySource({CAR: [answer(CAR, *slices)]}), here, endpoint="car_data")
    assert here.memory.outcome(CAR).rows == 9
    assert here.memory.outcome(CAR).receipt.checksum == 9
    assert len(here.records("car_data")) == 9


async def test_the_parts_of_a_unit_are_one_line_which_comes_after_the_last() -> None:
    here = MemoryDestination(writers=2)
    parts = [answer(LAPS, [lap(n), lap(n)], complete=False, stats=RequestStats(1, 0, 10)) for n in range(5)]
    last = answer(LAPS, stats=RequestStats(2, 1, 1))
    await load(MemorySource({LAPS: [*parts, last]}), here, endpoint="laps")
    line = here.memory.outcome(LAPS)
    assert (line.records, line.rows, line.duplicates, line.stats) == (10, 5, 5, RequestStats(7, 1, 51))
    assert here.log[-1] == ("line", LAPS)
    assert here.log.count(("line", LAPS)) == 1


async def test_a_unit_of_which_a_later_part_fails_has_failed() -> None:
    here = MemoryDestination()
    parts = [answer(LAPS, [lap(1)], complete=False), answer(LAPS, error="it cannot be cut smaller")]
    loaded = await load(MemorySource({LAPS: parts}), here, endpoint="laps")
    assert here.memory.outcome(LAPS).error == "it cannot be cut smaller"
    assert [outcome.error for outcome in loaded.outcomes] == ["it cannot be cut smaller"]


async def test_a_unit_of_which_the_last_part_never_comes_has_no_line() -> None:
    here = MemoryDestination()
    await load(MemorySource({LAPS: [answer(LAPS, [lap(1)], complete=False)]}), here, endpoint="laps")
    assert here.memory.lines == {}


# --- two destinations ---


async def test_each_unit_goes_to_every_destination_that_lacks_it() -> None:
    here, there = MemoryDestination("here"), MemoryDestination("there")
    answers = {LAPS: [answer(LAPS, [lap(1)])], CAR: [answer(CAR, samples_of([car(1)]))]}
    await load(MemorySource({LAPS: answers[LAPS]}), here, endpoint="laps")
    before = len(here.batches)

    source = MemorySource(dict(answers))
    loaded = await load(source, here, there, run_id="second")
    assert source.asked == [LAPS, CAR]
    assert {batch.unit for batch in here.batches[before:]} == {CAR}, "it has the laps already"
    assert {batch.unit for batch in there.batches} == {LAPS, CAR}
    assert here.memory.lines[LAPS.key][0] == "a-run"
    assert {there.memory.lines[unit.key][0] for unit in (LAPS, CAR)} == {"second"}
    assert len(loaded.outcomes) == 2
    assert (await load(MemorySource(), here, there)).complete


async def test_a_destination_that_refuses_a_unit_does_not_keep_the_other_from_it() -> None:
    here, there = MemoryDestination("here"), MemoryDestination("there")
    here.refusal = lambda batch: "no such family" if batch.unit == LAPS else None
    answers = {LAPS: [answer(LAPS, [lap(1)])], CAR: [answer(CAR, samples_of([car(1)]))]}
    loaded = await load(MemorySource(answers), here, there)
    assert here.memory.outcome(LAPS).error == "no such family"
    assert there.memory.outcome(LAPS).error is None
    assert (here.memory.outcome(CAR).error, there.memory.outcome(CAR).error) == (None, None)
    assert {outcome.unit: outcome.error for outcome in loaded.outcomes} == {LAPS: "no such family", CAR: None}

    source = MemorySource(dict(answers))
    here.refusal = nothing
    await load(source, here, there)
    assert source.asked == [LAPS]
    assert here.memory.outcome(LAPS).error is None


async def test_after_a_refusal_no_more_of_the_unit_is_put_there() -> None:
    here = MemoryDestination()
    refused: list[Batch] = []

    def refuse_the_third(batch: Batch) -> str | None:
        if batch.records[0] != car(2):
            return None
        refused.append(batch)
        return "no"

    here.refusal = refuse_the_third
    slices = [samples_of([car(number)]) for number in range(6)]
    await load(MemorySource({CAR: [answer(CAR, *slices)]}), here, endpoint="car_data")
    assert len(here.batches) == 2
    assert len(refused) == 1
    assert here.memory.outcome(CAR).error == "no"


async def test_a_state_that_refuses_quarantine_fails_the_unit_as_nothing_may_be_dropped() -> None:
    here = MemoryDestination()
    here.memory.refuses_quarantine = True
    loaded = await load(MemorySource({LAPS: [answer(LAPS, [lap(1), None])]}), here, endpoint="laps")
    assert here.memory.outcome(LAPS).error == "quarantine is full"
    assert [outcome.error for outcome in loaded.outcomes] == ["quarantine is full"]


@pytest.mark.parametrize("writers", [1, 3])
@pytest.mark.parametrize("slices", [1, 2, 30])
async def test_a_destination_that_stays_away_ends_the_load_with_its_error(writers: int, slices: int) -> None:
    here = MemoryDestination(writers=writers)

    def away(batch: Batch) -> None:
        raise UnreachableError("HBase is away")

    here.before = away
    source = MemorySource({CAR: [answer(CAR, *(samples_of([car(n)]) for n in range(slices)))]})
    with pytest.raises(ExceptionGroup) as ended:
        await load(source, here, endpoint="car_data")
    assert ended.group_contains(UnreachableError, match="HBase is away")
    assert here.memory.lines == {}


async def test_a_source_that_stays_away_ends_the_load_and_what_came_before_is_not_lost_for_the_next() -> None:
    here = MemoryDestination()

    async def script(deliver: Deliver) -> None:
        await deliver(answer(LAPS, [lap(1)]))
        raise UnreachableError("the API is away")

    with pytest.raises(ExceptionGroup) as ended:
        await load(MemorySource(script=script), here)
    assert ended.group_contains(UnreachableError, match="the API is away")


# --- answers that turn out to be none ---


async def test_an_answer_that_breaks_off_counts_for_nothing_and_what_comes_in_its_place_counts() -> None:
    here = MemoryDestination()

    async def script(deliver: Deliver) -> None:
        with pytest.raises(BrokenAnswerError):
            await deliver(answer(CAR, records=Failing(samples_of([car(1)]), samples_of([car(2)]))))
        await deliver(answer(CAR, samples_of([car(1), car(2)])))

    await load(MemorySource(script=script), here, endpoint="car_data")
    line = here.memory.outcome(CAR)
    assert (line.records, line.rows, line.duplicates, line.error) == (2, 2, 0, None)
    assert line.stats.requests == 1


async def test_what_an_answer_that_was_none_has_put_does_not_stay_where_the_good_one_has_nothing() -> None:
    here = MemoryDestination()

    async def script(deliver: Deliver) -> None:
        with pytest.raises(BrokenAnswerError):
            await deliver(answer(CAR, records=Failing(*(samples_of([car(n, rpm=1)]) for n in (1, 2, 3, 4)))))
        await deliver(answer(CAR, samples_of([car(n, rpm=None) for n in (1, 2, 3, 4)])))

    await load(MemorySource(script=script), here, endpoint="car_data")
    assert all("rpm" not in row for row in here.records("car_data"))


async def test_nothing_of_an_answer_that_was_none_is_put_after_what_came_in_its_place() -> None:
    here = MemoryDestination(writers=3)
    loop = asyncio.get_running_loop()
    held, go_on = asyncio.Event(), threading.Event()

    def hold_the_first(_: Batch) -> None:
        here.before = nothing
        loop.call_soon_threadsafe(held.set)
        go_on.wait(10)

    here.before = hold_the_first

    async def script(deliver: Deliver) -> None:
        broken = Failing(samples_of([car(1, speed=1)]), samples_of([car(2, speed=1)]))
        first = asyncio.ensure_future(deliver(answer(CAR, records=broken)))
        await held.wait()
        done, _ = await asyncio.wait({first}, timeout=0.1)
        assert not done, "it waits for what is under way"
        go_on.set()
        with pytest.raises(BrokenAnswerError):
            await first
        await deliver(answer(CAR, samples_of([car(1, speed=2), car(2, speed=2)])))

    await load(MemorySource(script=script), here, endpoint="car_data")
    assert [row["speed"] for row in here.records("car_data")] == [2, 2]
    assert here.batches[-1].records[0]["speed"] == 2


# --- two records of one identity ---


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
@pytest.mark.parametrize("writers", [1, 3])
async def test_the_record_that_lost_never_stands_in_the_table_not_even_a_field_of_it(
    order: tuple[int, int], writers: int
) -> None:
    here = MemoryDestination(writers=writers)
    variants = {1: car(1, rpm=None, throttle=9), 2: car(1, brake=None, throttle=8)}
    slices = [samples_of([variants[n], car(10 + n)]) for n in order]
    await load(MemorySource({CAR: [answer(CAR, *slices)]}), here, endpoint="car_data")
    (aside,) = here.memory.quarantine.values()
    assert aside.reason == IDENTITY
    line = here.memory.outcome(CAR)
    assert (line.records, line.rows, line.quarantined) == (4, 3, 1)
    (row,) = [row for row in here.records("car_data") if row["date"] == car(1)["date"]]
    stands = winner(variants.values())
    assert row == {name: value for name, value in stands.items() if value is not None}


async def test_what_comes_again_is_put_over_what_was_stored_meanwhile() -> None:
    here = MemoryDestination()
    slices = [samples_of([car(n)]) for n in range(8)]
    slices.append(samples_of([car(0, speed=1)]))
    await load(MemorySource({CAR: [answer(CAR, *slices)]}), here, endpoint="car_data")
    *_, last = here.batches
    assert last.overwrite
    assert {batch.overwrite for batch in here.batches[-8:]} == {True}
    assert len(here.records("car_data")) == 8
    assert here.memory.outcome(CAR).rows == 8


# --- storing again ---


async def test_new_units_take_the_fast_way_and_those_that_overlap_stored_ones_the_careful_one() -> None:
    here = MemoryDestination()
    early = Answer(LAPS, END, "memory", [[lap(1, st_speed=300)]])  # before it has settled
    await load(MemorySource({LAPS: [early]}), here, endpoint="laps")
    assert [batch.overwrite for batch in here.batches] == [False]
    await load(MemorySource({LAPS: [answer(LAPS, [lap(1, st_speed=None)])], CAR: [answer(CAR)]}), here)
    assert {batch.unit: batch.overwrite for batch in here.batches[1:]} == {LAPS: True, CAR: False}
    assert "st_speed" not in here.records("laps")[0]


async def test_the_careful_way_is_taken_by_the_destination_that_has_something_alone() -> None:
    here, there = MemoryDestination("here"), MemoryDestination("there")
    early = Answer(LAPS, END, "memory", [[lap(1)]])
    await load(MemorySource({LAPS: [early]}), here, endpoint="laps")
    await load(MemorySource({LAPS: [answer(LAPS, [lap(1)])]}), here, there, endpoint="laps")
    assert [batch.overwrite for batch in here.batches] == [False, True]
    assert [batch.overwrite for batch in there.batches] == [False]


async def test_a_record_leaves_quarantine_when_its_unit_is_stored_again_without_it() -> None:
    here = MemoryDestination()
    bad = lap(2) | {"driver_number": None}
    early = Answer(LAPS, END, "memory", [[lap(1), bad, None]])
    await load(MemorySource({LAPS: [early]}), here, endpoint="laps")
    assert len(here.memory.quarantine) == 2
    await load(MemorySource({LAPS: [answer(LAPS, [lap(1), lap(2), None])]}), here, endpoint="laps")
    assert [one.record for one in here.memory.quarantine.values()] == ["null"]


# --- stopping ---


async def test_what_has_been_delivered_is_stored_and_reported_when_it_is_to_stop() -> None:
    here = MemoryDestination()
    stopping = asyncio.Event()

    async def script(deliver: Deliver) -> None:
        await deliver(answer(LAPS, [lap(1)]))
        stopping.set()
        await asyncio.Event().wait()

    loaded = await load(MemorySource(script=script), here, stopping=stopping)
    assert not loaded.complete
    assert [outcome.unit for outcome in loaded.outcomes] == [LAPS]
    assert here.memory.outcome(LAPS).error is None


@pytest.mark.parametrize("writers", [1, 3])
async def test_an_answer_that_is_being_read_when_it_is_to_stop_has_no_line_and_comes_again(writers: int) -> None:
    here = MemoryDestination(writers=writers)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop(_: Batch) -> None:
        loop.call_soon_threadsafe(stopping.set)

    here.before = stop
    slices = [samples_of([car(number % 60)]) for number in range(200)]
    loaded = await load(MemorySource({CAR: [answer(CAR, *slices)]}), here, stopping=stopping, endpoint="car_data")
    assert not loaded.complete
    assert here.memory.lines == {}

    here.before = nothing
    source = MemorySource({CAR: [answer(CAR, samples_of([car(1)]))]})
    await load(source, here, endpoint="car_data")
    assert source.asked == [CAR]


async def test_nothing_is_asked_for_when_it_is_to_stop_from_the_beginning() -> None:
    stopping = asyncio.Event()
    stopping.set()
    source = MemorySource()
    assert not (await load(source, MemoryDestination(), stopping=stopping)).complete
    assert source.asked == []


async def test_a_stop_does_not_lose_the_error_of_a_source_that_failed_at_the_same_time() -> None:
    stopping = asyncio.Event()

    async def script(deliver: Deliver) -> None:
        stopping.set()
        raise UnreachableError("the API is away")

    with pytest.raises(ExceptionGroup) as ended:
        await load(MemorySource(script=script), MemoryDestination(), stopping=stopping)
    assert ended.group_contains(UnreachableError)


# --- epochs ---


async def test_a_line_carries_the_epoch_that_its_session_had_when_the_worker_began() -> None:
    here = MemoryDestination()
    source = MemorySource({LAPS: [answer(LAPS, [lap(1)])]})
    await load(source, here, epochs=[Epochs({"9558": 3, "-": 2})], endpoints=("meetings", "sessions", "laps"))
    found = {outcome.unit.endpoint: outcome.epoch for _, outcome in here.memory.lines.values()}
    assert found == {"meetings": 2, "sessions": 3, "laps": 3}


async def test_each_destination_has_epochs_of_its_own() -> None:
    here, there = MemoryDestination(), MemoryDestination()
    epochs = [Epochs({"9558": 3}), Epochs({"*": 1})]
    await load(MemorySource({LAPS: [answer(LAPS, [lap(1)])]}), here, there, epochs=epochs, endpoint="laps")
    assert (here.memory.outcome(LAPS).epoch, there.memory.outcome(LAPS).epoch) == (3, 1)


async def test_a_failure_carries_its_epoch_too() -> None:
    here = MemoryDestination()
    source = MemorySource({LAPS: [answer(LAPS, error="no")]})
    await load(source, here, epochs=[Epochs({"9558": 1})], endpoint="laps")
    assert here.memory.outcome(LAPS).epoch == 1


# --- what the parent hears ---


async def test_lines_are_written_before_the_parent_hears_of_them_and_many_at_once() -> None:
    here = MemoryDestination()
    step = timedelta(seconds=30)
    units = [Unit("car_data", RACE, None, Window(START + n * step, START + (n + 1) * step)) for n in range(240)]
    written: list[int] = []

    class Watching(list[Message]):
        def append(self, message: Message) -> None:
            if isinstance(message, Reported):
                written.append(len(here.memory.lines))
                assert all(outcome.unit.key in here.memory.lines for outcome in message.outcomes)
            super().append(message)

    messages = Watching()
    source = MemorySource({CAR: [answer(unit) for unit in units]})
    loaded = await load(source, here, endpoint="car_data", messages=messages)
    assert [outcome.unit for outcome in loaded.outcomes] == units
    assert len(written) <= 10
    assert loaded.planned == 240
