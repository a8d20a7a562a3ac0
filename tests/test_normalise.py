"""From an answer to what is stored: every record is stored, or counted as a duplicate, or in quarantine."""

from __future__ import annotations

import itertools
import json
import math
import tracemalloc
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import END, a_scope, exact, sample, samples_of

from f1hbase.destinations.base import Batch
from f1hbase.model.answers import Answer, RawAnswer, RequestStats
from f1hbase.model.catalog import ENDPOINTS
from f1hbase.model.records import canonical_json, digest, raw_json
from f1hbase.model.samples import Record, Samples
from f1hbase.model.units import Unit
from f1hbase.pipeline.normalise import IDENTITY, Account, AnswerNormaliser, Restart

DATED = [name for name, endpoint in ENDPOINTS.items() if endpoint.time_field is not None]
HALF_A_PAIR = "\ud83c"
KNOWS = frozenset({"rpm"})


class BrokenError(Exception):
    """What decoding raises half way."""


class Failing:
    """Records of which the decoding fails after some."""

    def __init__(self, *some: Any) -> None:
        self._some = some

    def __iter__(self) -> Iterator[Any]:
        yield from self._some
        raise BrokenError


def an_answer(*some: Any, endpoint: str = "car_data", **changes: Any) -> Answer:
    return Answer(Unit(endpoint, a_scope()), END, "openf1", changes.pop("records", some), **changes)


def normalise(answer: Answer, account: Account | None = None) -> tuple[list[Record], Account, list[Batch]]:
    """Return what is stored in the end, the account, and all batches since the last restart."""
    account = account or Account(answer.unit)
    batches: list[Batch] = []
    for item in AnswerNormaliser(answer, account, KNOWS).batches():
        if isinstance(item, Restart):
            batches = []
        else:
            batches.append(item)
    return [record for batch in batches for record in batch.records], account, batches


def restarts(answer: Answer) -> int:
    return sum(isinstance(item, Restart) for item in AnswerNormaliser(answer, Account(answer.unit), KNOWS).batches())


def car(second: int, **changes: Any) -> Record:
    """Return a record of a car at a second of the session."""
    return sample("car_data", date=f"2024-07-07T14:03:{second:02}+00:00", **changes)


def same(found: Sequence[Any], wanted: Sequence[Any]) -> bool:
    return sorted(map(exact, found)) == sorted(map(exact, wanted))


# --- what comes through ---


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_records_come_through_as_they_are_and_are_counted(endpoint: str) -> None:
    scope = a_scope(None) if endpoint == "meetings" else a_scope()
    stored, account, batches = normalise(Answer(Unit(endpoint, scope), END, records=[[sample(endpoint)]]))
    assert stored == [sample(endpoint)]
    assert (account.records, account.duplicates, account.quarantined) == (1, 0, [])
    assert account.drivers == ({44} if ENDPOINTS[endpoint].by_driver else set())
    assert all(batch.unit == account.unit and batch.knows == KNOWS for batch in batches)


def test_samples_come_through_as_samples_slice_by_slice() -> None:
    slices = [samples_of([car(1), car(2)]), samples_of([car(3, driver_number=63)])]
    stored, account, batches = normalise(an_answer(*slices))
    assert stored == [car(1), car(2), car(3, driver_number=63)]
    assert [type(batch.records) for batch in batches] == [Samples, Samples]
    assert (account.records, account.drivers) == (3, {44, 63})


def test_the_first_batch_is_given_before_the_last_slice_is_decoded() -> None:
    """So that an answer is never held whole as objects."""
    decoded = []

    class Watched:
        def __iter__(self) -> Iterator[Samples]:
            for number in range(4):
                decoded.append(number)
                yield samples_of([car(number)])

    answer = an_answer(records=Watched())
    batches = AnswerNormaliser(answer, Account(answer.unit), KNOWS).batches()
    next(batches)
    assert decoded == [0, 1]


def test_an_answer_without_records_is_one_empty_batch_so_that_the_answer_itself_is_kept() -> None:
    raw = RawAnswer("openf1", "laps?session_key=9558", END, END, 404, "application/json", b"{}")
    nothings: list[list[Any]] = [[], [[]], [samples_of([])]]
    for nothing in nothings:
        stored, account, batches = normalise(an_answer(*nothing, raw=raw))
        assert stored == []
        assert [(len(batch.records), batch.raw) for batch in batches] == [(0, raw)]
        assert account.records == 0


@pytest.mark.parametrize("doubled", [False, True], ids=["alike", "with a restart"])
def test_the_answer_itself_comes_with_every_batch(doubled: bool) -> None:
    raw = RawAnswer("openf1", "car_data", END, END, 200, "text/csv", b"x")
    slices = [samples_of([car(number)]) for number in (1, 2, 1 if doubled else 3)]
    _, _, batches = normalise(an_answer(*slices, raw=raw, select={"session_key": 9558}))
    assert len(batches) > 1
    assert {(id(batch.raw), batch.source) for batch in batches} == {(id(raw), "openf1")}
    assert all(batch.select == {"session_key": 9558} for batch in batches)


def test_a_failure_stores_nothing_and_says_why() -> None:
    answer = an_answer(error="HTTP 500: no luck", stats=RequestStats(3, 2, 7))
    stored, account, batches = normalise(answer)
    assert (stored, batches) == ([], [])
    assert (account.error, account.stats) == ("HTTP 500: no luck", RequestStats(3, 2, 7))


def test_the_parts_of_a_unit_add_up() -> None:
    account = Account(Unit("laps", a_scope()))
    for number in (1, 2):
        part = an_answer([sample("laps", lap_number=number), None], endpoint="laps", stats=RequestStats(1, 0, 10))
        normalise(part, account)
    assert (account.records, len(account.quarantined), account.stats) == (4, 2, RequestStats(2, 0, 20))


def test_unknown_fields_are_named() -> None:
    _, account, _ = normalise(an_answer([sample("laps", new=1)], endpoint="laps"))
    assert account.unknown_fields == {"new"}


# --- two records of one identity ---

SLOW, FAST = car(1, speed=100), car(1, speed=99)
"""Two records of one identity; as JSON text the second is greater."""


def test_equal_records_are_one_and_the_others_duplicates() -> None:
    laps = [sample("laps"), sample("laps"), sample("laps", lap_number=13), sample("laps")]
    stored, account, _ = normalise(an_answer(laps, endpoint="laps"))
    assert same(stored, [sample("laps"), sample("laps", lap_number=13)])
    assert (account.records, account.duplicates, account.quarantined) == (4, 2, [])


def test_a_null_and_a_field_that_is_left_out_are_equal() -> None:
    null = sample("laps", i2_speed=None)
    absent = {field: value for field, value in null.items() if field != "i2_speed"}
    _, account, _ = normalise(an_answer([null, absent], endpoint="laps"))
    assert (account.duplicates, account.quarantined) == (1, [])


@pytest.mark.parametrize("order", list(itertools.permutations([SLOW, FAST, car(2)])))
@pytest.mark.parametrize(
    "sliced",
    [
        lambda records: [samples_of(list(records))],
        lambda records: [samples_of([record]) for record in records],
        lambda records: [list(records)],
        lambda records: [samples_of([records[0]]), list(records[1:])],
        lambda records: [[records[0]], samples_of(list(records[1:]))],
        lambda records: [samples_of([records[0]]), [records[1]], samples_of([records[2]])],
        lambda records: [[records[0]], samples_of([records[1]]), [records[2]]],
    ],
    ids=["one slice", "slices", "dicts", "slice and dicts", "dict and slice", "dict between", "slice between"],
)
def test_of_two_that_differ_one_stands_whatever_their_order_and_the_other_is_in_quarantine(
    order: Sequence[Record], sliced: Any
) -> None:
    stored, account, _ = normalise(an_answer(*sliced(order)))
    assert same(stored, [FAST, car(2)])
    assert account.records == 3
    assert account.duplicates == 0
    (aside,) = account.quarantined
    assert aside.reason == IDENTITY
    assert aside.reason.startswith("identity")
    assert json.loads(aside.record) == SLOW
    assert aside.digest == digest(SLOW)
    assert (aside.scope_prefix, aside.endpoint, aside.found) == ("2024#1240#9558", "car_data", END)
    assert aside.unit == account.unit.key


def test_of_several_that_differ_all_but_one_are_in_quarantine_and_equal_ones_are_duplicates() -> None:
    found = [car(1, speed=speed) for speed in (7, 8, 9, 8, 9)]
    stored, account, _ = normalise(an_answer(*(samples_of([record]) for record in found)))
    assert stored == [car(1, speed=9)]
    assert [json.loads(aside.record)["speed"] for aside in account.quarantined] == [7, 8]
    assert account.duplicates == 2


@pytest.mark.parametrize("slices", [[[car(1), car(2)], [car(1)]], [[car(1), car(1)]], [[car(1)], [car(2)], [car(2)]]])
def test_equal_samples_are_counted_across_slices_and_within_one(slices: list[list[Record]]) -> None:
    stored, account, _ = normalise(an_answer(*map(samples_of, slices)))
    assert same(stored, [car(1), car(2)][: len({exact(record) for some in slices for record in some})])
    assert account.duplicates == 1
    assert account.quarantined == []


def test_nothing_comes_again_where_all_identities_differ_or_records_are_no_samples() -> None:
    assert restarts(an_answer(samples_of([car(1), car(2)]), samples_of([car(3)]))) == 0
    assert restarts(an_answer([SLOW, FAST])) == 0
    assert restarts(an_answer(samples_of([car(1)]), [SLOW | {"driver_number": 1}, FAST])) == 1


def test_a_record_of_another_driver_or_instant_is_another() -> None:
    stored, account, _ = normalise(an_answer(samples_of([car(1), car(1, driver_number=4), car(2)])))
    assert (len(stored), account.duplicates) == (3, 0)


records_of_few = st.builds(
    car,
    st.integers(1, 4),
    speed=st.integers(1, 2),
    driver_number=st.sampled_from([1, 44]),
    rpm=st.sampled_from([1, None]),
)
slices_of_few = st.lists(st.tuples(st.booleans(), st.lists(records_of_few, min_size=1, max_size=4)), max_size=5)


@settings(max_examples=200)
@given(slices_of_few)
def test_each_identity_is_stored_once_and_every_record_is_accounted_for(
    slices: list[tuple[bool, list[Record]]],
) -> None:
    stored, account, _ = normalise(an_answer(*(samples_of(some) if fast else some for fast, some in slices)))
    found = [record for _, some in slices for record in some]
    of_identity: dict[Any, list[Record]] = {}
    for record in found:
        of_identity.setdefault((record["driver_number"], record["date"]), []).append(record)
    assert same(
        [json.loads(canonical_json(record)) for record in stored],
        [json.loads(max(map(canonical_json, some))) for some in of_identity.values()],
    )
    assert account.records == len(found)
    assert len(stored) + account.duplicates + len(account.quarantined) == len(found)
    distinct = {canonical_json(record) for record in found}
    assert {aside.digest for aside in account.quarantined} | {digest(record) for record in stored} == {
        digest(json.loads(text)) for text in distinct
    }


@settings(max_examples=50)
@given(slices_of_few, st.randoms(use_true_random=False))
def test_what_is_stored_depends_on_the_records_and_neither_on_their_order_nor_on_the_slices(
    slices: list[tuple[bool, list[Record]]], shuffle: Any
) -> None:
    found = [record for _, some in slices for record in some]
    once, account, _ = normalise(an_answer(*(samples_of(some) if fast else some for fast, some in slices)))
    shuffle.shuffle(found)
    again, other, _ = normalise(an_answer(found))
    assert sorted(map(canonical_json, once)) == sorted(map(canonical_json, again))
    assert Counter(a.digest for a in account.quarantined) == Counter(a.digest for a in other.quarantined)
    assert account.duplicates == other.duplicates


# --- decoding that fails half way ---


@pytest.mark.parametrize(
    "some",
    [
        [samples_of([car(1)]), samples_of([car(2)])],
        [[sample("laps"), None]],
        [samples_of([car(1)]), [None, car(3)]],
        [],
    ],
    ids=["samples", "records", "both", "nothing"],
)
def test_if_decoding_fails_the_account_is_as_it_was(some: list[Any]) -> None:
    answer = an_answer(records=Failing(*some), stats=RequestStats(1, 0, 5))
    account = Account(answer.unit, records=3, duplicates=1, stats=RequestStats(2, 0, 9))
    with pytest.raises(BrokenError):
        normalise(answer, account)
    assert account == Account(answer.unit, records=3, duplicates=1, stats=RequestStats(2, 0, 9))


def test_if_decoding_fails_in_the_second_pass_the_account_is_as_it_was() -> None:
    class FailingAtLast:
        passes = 0

        def __iter__(self) -> Iterator[Samples]:
            self.passes += 1
            yield samples_of([SLOW])
            yield samples_of([FAST])
            if self.passes == 2:
                raise BrokenError

    answer = an_answer(records=FailingAtLast())
    account = Account(answer.unit)
    with pytest.raises(BrokenError):
        normalise(answer, account)
    assert account == Account(answer.unit)


# --- what cannot be stored ---


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


BAD_VALUES = {
    "nan": math.nan, "infinity": math.inf, "5,000 digits": 10**5_000, "deep": nested(60),
    "too deep to write": nested(5_000), "half a pair": HALF_A_PAIR,
}  # fmt: skip


def assert_aside(endpoint: str, bad: Any, reason: str) -> None:
    """Check that a record goes to quarantine, and the one beside it to the store."""
    good = sample(endpoint, **({"date": "2024-07-07T14:03:09+00:00"} if endpoint in DATED else {}))
    stored, account, _ = normalise(an_answer([bad, good], endpoint=endpoint))
    assert same(stored, [good])
    (aside,) = account.quarantined
    assert reason in aside.reason
    assert aside.record == raw_json(bad)
    assert (account.records, account.duplicates) == (2, 0)


@pytest.mark.parametrize("value", BAD_VALUES.values(), ids=list(BAD_VALUES))
@pytest.mark.parametrize("endpoint", ["laps", "car_data", "race_control"])
def test_a_value_that_cannot_be_stored_puts_its_record_aside_and_no_other(endpoint: str, value: Any) -> None:
    assert_aside(endpoint, sample(endpoint, new_field=value), "'new_field' holds")


@pytest.mark.parametrize("endpoint", DATED)
@pytest.mark.parametrize("date", ["yesterday", "", None, 5, [1], "9999-12-31T23:59:59-14:00"], ids=repr)
def test_a_bad_date_in_a_key_puts_its_record_aside_and_no_other(endpoint: str, date: Any) -> None:
    assert_aside(endpoint, sample(endpoint, date=date), "the key field 'date'")


@pytest.mark.parametrize("record", [None, 5, "text", [], [1]], ids=repr)
def test_what_is_no_object_is_put_aside(record: Any) -> None:
    assert_aside("laps", record, "not an object")


def test_a_huge_field_name_puts_its_record_aside() -> None:
    assert_aside("laps", sample("laps", **{"x" * 100_000: 1}), "longer than 1000 bytes")


@pytest.mark.parametrize("key", ["meeting_key", "session_key", "driver_number", "lap_number"])
@pytest.mark.parametrize("value", [None, "44", 44.0, True, [44], {"is": 44}, 10**200], ids=repr)
def test_a_key_that_is_missing_or_no_number_puts_its_record_aside(key: str, value: Any) -> None:
    assert_aside("laps", sample("laps", **{key: value}), f"the key field '{key}'")


def test_samples_beside_a_record_that_cannot_be_stored_stay_samples() -> None:
    bad = car(3, speed=math.nan)
    stored, account, batches = normalise(an_answer(samples_of([car(1)]), [bad, car(4)], samples_of([car(2)])))
    assert same(stored, [car(1), car(2), car(4)])
    assert len(account.quarantined) == 1
    assert sum(isinstance(batch.records, Samples) for batch in batches) == 2


def test_the_same_bad_record_twice_is_put_aside_twice_by_one_name() -> None:
    """Quarantine keeps one row of them; the count says how many came."""
    bad = sample("laps", lap_number=None)
    _, account, _ = normalise(an_answer([bad, dict(reversed(bad.items()))], endpoint="laps"))
    assert len({aside.digest for aside in account.quarantined}) == 1
    assert len(account.quarantined) == 2


def test_a_bad_record_does_not_count_as_another_of_its_identity() -> None:
    bad, good = sample("laps", new=math.nan), sample("laps")
    stored, account, _ = normalise(an_answer([bad, good], endpoint="laps"))
    assert stored == [good]
    assert [aside.reason == IDENTITY for aside in account.quarantined] == [False]


def test_what_is_repeated_without_end_takes_no_memory() -> None:
    rows = samples_of([car(second) for second in range(60)])

    class Repeated:
        def __iter__(self) -> Iterator[Samples]:
            for _ in range(500):
                yield rows

    normalise(an_answer(records=Repeated()))  # so that what is made once is not counted
    tracemalloc.start()
    try:
        stored, account, _ = normalise(an_answer(records=Repeated()))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert len(stored) == 60
    assert (account.records, account.duplicates) == (30_000, 29_940)
    assert peak < 1_000_000  # 30,000 records held would be some 15 MB
