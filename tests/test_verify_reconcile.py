"""What units say against what is counted: each record belongs to one unit, and what differs is named."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from samples import END, START, WEEK

from f1hbase.model.catalog import ENDPOINTS
from f1hbase.model.outcomes import CHECKSUM_MODULUS, RunState, Status, UnitState
from f1hbase.model.precedence import Timeline, precedence, precedes
from f1hbase.model.units import ALL_TIME, Scope, Unit, Window, slice_time
from f1hbase.operations.requested import RequestedScope, requested_scopes
from f1hbase.operations.verify.against import Comparison, Sample
from f1hbase.operations.verify.base import Depth
from f1hbase.operations.verify.differences import Difference, Kind
from f1hbase.operations.verify.hbase_rows import FamilyCount
from f1hbase.operations.verify.reconcile import Reconciliation
from f1hbase.operations.verify.report import ScopeResult, Verification, verdict, verify_json, verify_lines
from f1hbase.operations.verify.row_counter import rows_in
from f1hbase.stores.hbase.codec import Row, checksum

_RACE = Scope(2024, 1240, 9558)
_LATER = END + WEEK
_Cells = dict[bytes, bytes]


# --- what units say, and what is counted ---


def state(
    endpoint: str = "car_data",
    rows: int = 0,
    *,
    driver: int | None = None,
    window: Window = ALL_TIME,
    status: Status = Status.DONE,
    fetched: datetime = _LATER,
    drivers: frozenset[int] = frozenset(),
    checksum: int | None = None,
) -> UnitState:
    stats = {"rows": float(rows)}
    return UnitState(_RACE.prefix, endpoint, driver, window, status, drivers, stats, fetched=fetched, checksum=checksum)


def reconciliation(
    *states: UnitState, requested: list[RequestedScope] | None = None, endpoint: str = "car_data"
) -> Reconciliation:
    return Reconciliation(ENDPOINTS[endpoint], _RACE, states, requested or [])


def count(book: Reconciliation, *keys: str, cells: _Cells | None = None) -> Reconciliation:
    """Count rows: what follows the session in their keys."""
    family = FamilyCount([book], len(_RACE.prefix))
    for key in keys:
        family.add(f"{_RACE.prefix}#{key}".encode(), cells)
    assert family.foreign is None
    return book


def sample(driver: int, minutes: float) -> str:
    return f"{driver}#{(START + timedelta(minutes=minutes)).isoformat()}"


def told(book: Reconciliation, *, deep: bool = False) -> list[tuple[Kind, int | None, int | None]]:
    return [(one.kind, one.expected, one.found) for one in book.differences(deep=deep)]


def test_a_row_counts_for_the_unit_of_its_driver_and_time() -> None:
    middle = START + timedelta(minutes=30)
    book = reconciliation(
        state(rows=1, driver=1, window=Window(None, middle)),
        state(rows=1, driver=1, window=Window(middle, None)),
        state(rows=3, driver=44, window=Window(None, middle)),
        state(rows=0, driver=44, window=Window(middle, None)),
    )
    count(book, sample(1, -60), sample(1, 30), sample(44, 0), sample(44, 29.99), sample(44, 10))
    assert told(book) == []
    count(book, sample(44, 30))
    assert told(book) == [(Kind.EXTRA_ROWS, 0, 1)]


def test_keys_that_differ_in_spelling_alone_are_none_of_ours() -> None:
    book = reconciliation(state(driver=4))
    family = FamilyCount([book], len(_RACE.prefix))
    moment = "2024-07-07T14:00:00+00:00"
    strange = [f"4#{moment}#1", f"04#{moment}", "4", "4#a#b", f"four#{moment}", "", "#"]
    for key in (f"4#{moment}", *strange):
        family.add(f"{_RACE.prefix}#{key}".encode())
    assert family.foreign is not None
    assert (family.foreign.rows, book.rows) == (len(strange), 1)


@pytest.mark.parametrize(
    ("endpoint", "key"),
    [
        ("sessions", ""), ("drivers", "44"), ("championship_drivers", "44"), ("laps", "44#3"), ("stints", "44#stint#2"),
        ("championship_teams", "championship_teams#Red Bull%23Racing"), ("weather", "weather#2024-07-07T14:00:00"),
        ("race_control", "race_control#2024-07-07T14:00:00#686dcdf5"), ("overtakes", "overtakes#2024-07-07T14:00#1#44"),
        ("team_radio", "44#2024-07-07T14:00:00"),
    ],
)  # fmt: skip
def test_every_shape_of_key_is_known_to_its_endpoint_alone(endpoint: str, key: str) -> None:
    full = f"{_RACE.prefix}#{key}".rstrip("#").encode()
    books = {name: reconciliation(state(name), endpoint=name) for name in ENDPOINTS if name != "meetings"}
    family = [book for name, book in books.items() if ENDPOINTS[name].family == ENDPOINTS[endpoint].family]
    FamilyCount(family, len(_RACE.prefix)).add(full)
    assert [name for name, book in books.items() if book.rows] == [endpoint]


def test_rows_of_the_other_endpoint_of_a_family_are_passed_over_when_only_one_is_asked_about() -> None:
    family = FamilyCount(
        [reconciliation(state("championship_drivers"), endpoint="championship_drivers")],
        len(_RACE.prefix), [ENDPOINTS["championship_teams"]],
    )  # fmt: skip
    family.add(f"{_RACE.prefix}#championship_teams#Mercedes".encode())
    assert family.foreign is None
    assert family.reconciliations[0].rows == 0


@pytest.mark.parametrize("seconds", [5.0, 5.001, 600.0])
def test_a_gap_above_five_seconds_is_information_and_no_difference(seconds: float) -> None:
    book = count(
        reconciliation(state(rows=3, driver=44), state(rows=1, driver=7)),
        sample(44, 0), sample(44, 1 / 60), sample(44, 1 / 60 + seconds / 60), sample(7, 90),
    )  # fmt: skip
    assert told(book) == []
    gaps = [(44, START + timedelta(seconds=1), seconds)] if seconds > 5 else []
    assert [(gap.driver, gap.after, gap.seconds) for gap in book.longest_gaps] == gaps
    assert book.gaps == len(gaps)


def test_the_longest_of_many_gaps_are_kept() -> None:
    moments = [sum(range(6, 6 + length)) / 60 for length in range(40)]
    book = count(reconciliation(state(rows=40, driver=44)), *(sample(44, minutes) for minutes in moments))
    assert book.gaps == 39
    assert sorted(gap.seconds for gap in book.longest_gaps) == [float(n) for n in range(35, 45)]


def test_rows_that_were_fetched_again_with_other_windows_are_compared_with_the_later_units_alone() -> None:
    quarters, hours = (slice_time(START, END, timedelta(minutes=minutes)) for minutes in (15, 60))
    first = [state(rows=7, driver=44, window=window, fetched=END) for window in quarters]
    again = [state(rows=rows, driver=44, window=window) for rows, window in zip((1, 2), hours, strict=True)]
    book = count(reconciliation(*first, *again), sample(44, 1), sample(44, 61), sample(44, 62))
    assert (told(book), book.reported, book.units) == ([], 3, {"done": 2})


def test_a_unit_that_was_fetched_again_in_part_is_not_compared_but_named() -> None:
    whole = state(rows=9, driver=44, fetched=END)
    late = state(rows=1, driver=44, window=Window(END, None))
    book = count(reconciliation(whole, late), sample(44, 1), sample(44, 500))
    assert told(book) == []
    assert book.units == {"done": 2, "unchecked": 1}
    assert not book.is_exact
    assert told(count(book, sample(44, 501))) == [(Kind.EXTRA_ROWS, 1, 2)]


def test_a_unit_of_all_drivers_is_unchecked_when_one_of_them_was_fetched_again() -> None:
    laps = state("laps", rows=5, fetched=END)
    book = reconciliation(laps, state("laps", rows=2, driver=44), endpoint="laps")
    assert told(count(book, "44#1", "44#2", "7#1")) == []
    assert book.units == {"done": 2, "unchecked": 1}
    everyone = reconciliation(state("laps", rows=2, driver=44, fetched=END), state("laps", rows=3), endpoint="laps")
    assert told(count(everyone, "44#1", "44#2", "7#1")) == []
    assert everyone.units == {"done": 1}


def test_samples_of_all_cars_are_unchecked_where_one_driver_was_fetched_again() -> None:
    everybody = state(rows=3, fetched=END)
    book = reconciliation(everybody, state(rows=1, driver=44))
    assert told(count(book, sample(44, 1), sample(241, 1))) == []
    assert book.units == {"done": 2, "unchecked": 1}
    assert told(count(book, sample(44, 2))) == [(Kind.EXTRA_ROWS, 1, 2)]


def test_a_car_that_no_list_names_belongs_to_the_units_of_all_drivers() -> None:
    middle = START + timedelta(minutes=30)
    book = reconciliation(
        state("drivers", drivers=frozenset({44})),
        state(rows=2, window=Window(None, middle)), state(rows=1, window=Window(middle, None)),
        requested=[RequestedScope("r", ["car_data"])],
    )  # fmt: skip
    assert told(count(book, sample(241, 1), sample(44, 1), sample(241, 31))) == []


def test_a_failure_is_told_unless_other_windows_made_it_good() -> None:
    failed = state(driver=44, status=Status.FAILED)
    halves = [state(driver=44, window=window) for window in (Window(None, START), Window(START, None))]
    assert told(reconciliation(failed, *halves)) == []
    assert told(count(reconciliation(failed, halves[0]), sample(44, 1))) == [(Kind.FAILED, None, 1)]


def test_a_failure_to_load_drivers_that_nobody_asked_for_is_excused_where_an_earlier_version_knew_them_anyway() -> None:
    failed = state("drivers", status=Status.FAILED)
    windows = replace(state(driver=44), session_drivers=frozenset({44}))
    requested = [RequestedScope("r", ["car_data"])]
    told_of = [(Kind.FAILED, None, 0)]
    assert told(reconciliation(failed, windows, requested=requested, endpoint="drivers")) == []
    assert told(reconciliation(failed, state(driver=44), requested=requested, endpoint="drivers")) == told_of
    wanted = [RequestedScope("r", ["drivers", "car_data"])]
    assert told(reconciliation(failed, windows, requested=wanted, endpoint="drivers")) == told_of


def test_a_provisional_unit_is_as_good_as_a_done_one_and_shown() -> None:
    book = count(reconciliation(state(rows=1, driver=44, status=Status.PROVISIONAL)), sample(44, 1))
    assert (told(book), book.units) == ([], {"provisional": 1})


# --- what should be there ---


def test_windows_that_units_by_driver_lack_are_named_for_all_drivers_that_are_known_at_once() -> None:
    head = Window(None, START)
    book = reconciliation(
        state("drivers", drivers=frozenset({4, 44})),
        *(state(driver=driver, window=head) for driver in (4, 44)),
        requested=[RequestedScope("r", ["car_data"])],
    )
    (difference,) = book.differences()
    assert str(difference) == f"car_data session 9558 drivers 4, 44 {Window(START, None)}: never loaded"


def test_units_by_driver_are_a_whole_only_if_the_drivers_are_known() -> None:
    by_driver = [state(driver=driver) for driver in (4, 44)]
    requested = [RequestedScope("r", ["car_data"])]
    assert told(reconciliation(*by_driver, requested=requested)) == [(Kind.NEVER, None, 0)]
    named = [replace(one, session_drivers=frozenset({4, 44})) for one in by_driver]
    assert told(reconciliation(*named, requested=requested)) == []


@pytest.mark.parametrize(
    ("requested", "drivers"),
    [
        (RequestedScope("r", ["car_data"]), [()]),
        (RequestedScope("r", ["car_data"], (44,)), [(44,)]),
        (RequestedScope("r", ["car_data"], (99,)), [(99,)]),
        (RequestedScope("r", ["location"]), []),
    ],
)
def test_what_a_run_asked_for_is_expected_for_the_drivers_it_asked_for(
    requested: RequestedScope, drivers: list[tuple[int, ...]]
) -> None:
    book = reconciliation(state("drivers", drivers=frozenset({4, 44})), requested=[requested])
    assert [difference.drivers for difference in book.differences()] == drivers


def test_what_was_asked_for_by_driver_is_expected_by_driver_where_there_are_any() -> None:
    requested = [RequestedScope("r", ["laps", "weather"], (4, 44))]
    (laps,) = reconciliation(requested=requested, endpoint="laps").differences()
    (weather,) = reconciliation(requested=requested, endpoint="weather").differences()
    assert (laps.drivers, weather.drivers) == ((4, 44), ())


def test_a_driver_of_whom_only_some_is_loaded_is_expected_whole() -> None:
    assert told(reconciliation(state(driver=44, window=Window(START, END)))) == [(Kind.NEVER, None, 0)] * 2


def test_nobody_is_expected_to_have_driven_in_a_session_that_was_cancelled() -> None:
    requested = [RequestedScope("r", ["car_data", "laps"])]
    cancelled = replace(_RACE, cancelled=True)
    assert list(Reconciliation(ENDPOINTS["car_data"], cancelled, [], requested).differences()) == []
    assert told(reconciliation(requested=requested)) == [(Kind.NEVER, None, 0)]
    assert [d.kind for d in Reconciliation(ENDPOINTS["laps"], cancelled, [], requested).differences()] == [Kind.NEVER]


def test_the_settings_of_a_run_say_what_it_asked_for_of_each_session_and_its_meeting() -> None:
    partial = {"endpoint": "laps,pit", "driver": "44,4", "sessions": "2024#1240#9558,2024#1240#9559", "from": "openf1"}
    everything = {"endpoint": "", "driver": "", "sessions": "2024#1240#9558"}
    requested = requested_scopes([RunState("r1", partial), RunState("r2", everything), RunState("r0")])
    assert sorted(requested) == ["2024#1240#-", "2024#1240#9558", "2024#1240#9559"]
    first, second = requested["2024#1240#9558"]
    assert first == RequestedScope("r1", ("laps", "pit"), (4, 44), "openf1")
    assert second == RequestedScope("r2", tuple(name for name in ENDPOINTS if name != "meetings"))
    assert requested["2024#1240#-"] == [RequestedScope("r2", ("meetings",))]


def test_a_run_without_the_endpoint_meetings_asks_for_no_meeting() -> None:
    sessions = {"sessions": "2024#1240#9558"}
    assert list(requested_scopes([RunState("r", {"endpoint": "laps"} | sessions)])) == ["2024#1240#9558"]
    assert list(requested_scopes([RunState("r", {"endpoint": "meetings"} | sessions)])) == ["2024#1240#-"]


# --- which unit speaks for a record ---


def test_what_is_stored_speaks_before_what_is_not_and_of_that_the_latest() -> None:
    failed = state(status=Status.FAILED, fetched=_LATER + WEEK)
    partial = state(status=Status.PARTIAL, fetched=_LATER)
    provisional = state(status=Status.PROVISIONAL, fetched=END)
    done = state(fetched=_LATER)
    assert sorted([done, failed, provisional, partial], key=precedence) == [failed, partial, provisional, done]
    assert precedes(done, provisional)
    assert not precedes(failed, done)
    assert not precedes(done, replace(done, driver=44))


def test_a_timeline_says_who_speaks_for_each_moment() -> None:
    middle = START + timedelta(hours=1)
    timeline = Timeline([(Window(middle, END), "late"), (Window(START, None), "early")])
    moments = [START - timedelta(seconds=1), START, middle, END]
    assert [timeline.owner_at(moment) for moment in moments] == [None, "early", "late", "early"]
    assert timeline.windows_of("early") == [Window(START, middle), Window(END, None)]


# --- cells ---


def test_the_checksum_of_a_unit_is_that_of_its_rows_in_any_order() -> None:
    keys = [sample(44, 1), sample(44, 2)]
    cells = {b"car:rpm": b"11000"}
    rows = [Row(f"{_RACE.prefix}#{key}".encode(), cells) for key in keys]
    total = sum(map(checksum, rows)) % CHECKSUM_MODULUS
    good = reconciliation(state(rows=2, driver=44, checksum=total))
    assert told(count(good, *reversed(keys), cells=cells), deep=True) == []
    bad = reconciliation(state(rows=2, driver=44, checksum=total))
    assert told(count(bad, *keys, cells={b"car:rpm": b"11001"}), deep=True) == [(Kind.CELLS, 2, 2)]
    assert told(bad) == []


# --- the sample ---


def test_the_same_seed_chooses_the_same_units_and_none_that_was_replaced() -> None:
    windows = slice_time(START, END, timedelta(minutes=5))
    old = [state(driver=44, window=window, fetched=END) for window in slice_time(START, END, timedelta(hours=1))]
    book = reconciliation(*old, *(state(driver=44, window=window) for window in windows))

    def choose(size: int, seed: int) -> list[Unit]:
        chosen = Sample(size, seed)
        chosen.offer(_RACE, book)
        return chosen.units

    assert {unit.window for unit in choose(100, 1)} == set(windows)
    assert choose(3, 1) == choose(3, 1)
    assert len({tuple(choose(3, seed)) for seed in range(20)}) > 10


# --- for people and machines ---


def _result(*differences: Difference) -> Verification:
    return Verification(
        Depth(), "hbase shell", [ScopeResult(_RACE, {}, {"laps": 2}, len(differences))], list(differences)
    )


def test_units_that_agree_with_the_source_are_one_line_and_each_that_differs_is_another() -> None:
    result = _result()
    windows = slice_time(START, END, timedelta(minutes=30))
    good = [Comparison(Unit("car_data", _RACE, None, window), "openf1", 10) for window in windows]
    result.comparisons = [*good, Comparison(Unit("laps", _RACE), "openf1", 7, missing=1)]
    lines = list(verify_lines(result))
    agree = next(index for index, line in enumerate(lines) if line.startswith("compared with openf1, cell by cell"))
    assert lines[agree].endswith("4 of 5 units agree, 40 rows")
    assert lines[agree + 1 : agree + 3] == ["  laps session 9558: 7 rows, DIFFERENT", ""]


def test_only_the_first_differences_are_shown_and_the_rest_counted() -> None:
    many = [Difference(Kind.FAILED, f"failed: {number}", _RACE, "laps") for number in range(60)]
    lines = list(verify_lines(_result(*many)))
    assert "60 differences:" in lines
    assert "  laps session 9558: failed: 49" in lines
    assert "  laps session 9558: failed: 50" not in lines
    assert "  and 10 more; --json has all" in lines
    assert len(verify_json(_result(*many))["differences"]) == 60
    assert verdict(_result(*many)).startswith("NOT AS IT SHOULD BE: 60 differences in 1 of 1 session")


def test_what_is_in_quarantine_is_told_and_no_difference() -> None:
    result = _result()
    assert any("quarantine: 2 records" in line for line in verify_lines(result))
    assert verdict(result).startswith("OK: ")


def test_nothing_loaded_is_neither_good_nor_bad() -> None:
    assert verdict(Verification(Depth())) == "nothing is loaded yet"


def test_every_kind_of_difference_is_told_with_what_to_do() -> None:
    for kind in Kind:
        lines = list(verify_lines(_result(Difference(kind, "wrong", _RACE, "laps"))))
        assert any(line.startswith(f"  {kind.value}: ") for line in lines[lines.index("what to do:") :])


# --- RowCounter ---


@pytest.mark.parametrize(
    ("output", "rows"),
    [
        ("INFO mapreduce.Job: Counters: 30\n\torg...RowCounterMapper$Counters\n\t\tROWS=1234\n\tFile Input\n", 1234),
        ("INFO mapreduce.Job: Counters: 29\n\tFile Input\n\t\tBytes Read=0\n", 0),
    ],
)
def test_the_count_is_read_from_what_row_counter_prints(output: str, rows: int) -> None:
    assert rows_in(output) == rows
