"""What a load makes of records that are wrong, come twice, or have changed since the last one."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from cli import loader_of
from hbase_server import LocalHBase
from own_api import own_api
from tables import reports, scan, values
from weekend import YEAR, Records, one_session, simulate

pytestmark = pytest.mark.hbase


@pytest.fixture(scope="module")
def weekend(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate(tmp_path_factory.mktemp("weekend"))


class Store:
    """Loads records into tables of its own, as often as wanted."""

    def __init__(self, hbase: LocalHBase, folder: Path, prefix: str) -> None:
        self._hbase, self._folder, self._prefix = hbase, folder, prefix

    def load(self, records: Mapping[str, Sequence[Any]], *arguments: str, exit_code: int = 0) -> str:
        """Serve records, all of them, and load; return what was printed."""
        with own_api(records) as api:
            return loader_of(self._hbase, self._folder, api.url, self._prefix).run(*arguments, exit_code=exit_code)

    def rows(self) -> dict[bytes, dict[bytes, bytes]]:
        """Return the rows of `f1_data`."""
        return values(scan(self._hbase.port, f"{self._prefix}_f1_data"))

    def reports(self, kind: str) -> dict[str, dict[str, str]]:
        """Return the rows of `f1_reports` of a kind."""
        return reports(self._hbase.port, self._prefix, kind)


@pytest.fixture
def store(hbase: LocalHBase, tmp_path: Path, table_prefix: str) -> Store:
    return Store(hbase, tmp_path, table_prefix)


@pytest.fixture
def laps(weekend: Path) -> Records:
    return one_session(weekend, "laps")


@pytest.fixture
def weather(weekend: Path) -> Records:
    """One record of weather, and what it belongs to."""
    records = one_session(weekend, "weather")
    return records | {"weather": records["weather"][:1]}


def test_a_record_without_its_key_is_put_in_quarantine_and_the_rest_is_loaded(store: Store, laps: Records) -> None:
    spoilt = laps["laps"][0] | {"lap_number": None}
    output = store.load(laps | {"laps": [*laps["laps"], spoilt]}, "--endpoint", "laps", exit_code=1)

    assert "1 record went to quarantine" in output
    assert re.search(
        r"\[ERROR\] .* a record of laps session \d+ goes to quarantine: the key field .lap_number. is missing", output
    )
    (row,) = store.reports("quarantine").values()
    assert json.loads(row["meta:record"]) == spoilt
    assert "lap_number" in row["errors:reason"]
    assert len(store.rows()) == len(laps["laps"])


def test_refresh_stores_what_has_changed_and_deletes_the_cell_of_a_field_that_has_become_null(
    store: Store, weather: Records
) -> None:
    (record,) = weather["weather"]
    store.load(weather, "--endpoint", "weather")
    (before,) = store.rows().values()
    assert b"weather:humidity" in before

    changed = weather | {"weather": [record | {"humidity": None, "rainfall": 1}]}
    store.load(changed, "--endpoint", "weather")
    assert list(store.rows().values()) == [before], "what is done is not asked for again"
    store.load(changed, "--endpoint", "weather", "--refresh")
    (after,) = store.rows().values()
    assert after == {column: value for column, value in before.items() if column != b"weather:humidity"} | {
        b"weather:rainfall": b"1"
    }


def test_refresh_of_samples_deletes_what_has_become_null_and_keeps_the_rest(store: Store, weekend: Path) -> None:
    records = one_session(weekend, "car_data")
    store.load(records, "--endpoint", "car_data")
    before = store.rows()
    first, *others = records["car_data"]
    store.load(records | {"car_data": [first | {"speed": None}, *others]}, "--endpoint", "car_data", "--refresh")
    after = store.rows()
    changed = [key for key in before if before[key] != after[key]]
    (key,) = changed
    assert before[key].items() - after[key].items() == {(b"car:speed", str(first["speed"]).encode())}
    assert not after[key].items() - before[key].items()
    assert after.keys() == before.keys()


def test_a_field_that_the_api_no_longer_gives_loses_its_cell_as_if_it_were_null(store: Store, weather: Records) -> None:
    (record,) = weather["weather"]
    store.load(weather, "--endpoint", "weather")
    without = {name: value for name, value in record.items() if name != "humidity"}
    store.load(weather | {"weather": [without]}, "--endpoint", "weather", "--refresh")
    (row,) = store.rows().values()
    assert b"weather:humidity" not in row, "openf1 declares that it knows the field"


def test_a_field_that_nobody_knows_stays_when_it_is_no_longer_given(store: Store, weather: Records) -> None:
    (record,) = weather["weather"]
    output = store.load(weather | {"weather": [record | {"mood": "grey"}]}, "--endpoint", "weather")
    assert output.count("weather has a field 'mood' that f1hbase does not know") == 1
    store.load(weather, "--endpoint", "weather", "--refresh")
    (row,) = store.rows().values()
    assert row[b"weather:mood"] == b"grey"


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("endpoint", ["laps", "car_data"])
def test_of_two_differing_records_of_one_identity_the_same_one_wins_whatever_their_order(
    store: Store, weekend: Path, endpoint: str, reverse: bool
) -> None:
    records = one_session(weekend, endpoint)
    field = {"laps": "lap_duration", "car_data": "speed"}[endpoint]
    one = records[endpoint][0] | {field: 111}
    other = one | {field: 222}
    pair = [other, one] if reverse else [one, other]
    output = store.load(records | {endpoint: [*pair, *records[endpoint][1:]]}, "--endpoint", endpoint, exit_code=1)

    assert "1 record went to quarantine" in output
    (row,) = store.reports("quarantine").values()
    assert json.loads(row["meta:record"])[field] == 111, "its canonical JSON is the lesser one"
    assert row["errors:reason"].startswith("identity")
    assert len(store.rows()) == len(records[endpoint])
    column = {"laps": b"laps:lap_duration", "car_data": b"car:speed"}[endpoint]
    stored = [cells[column] for cells in store.rows().values() if cells.get(column) in (b"111", b"222")]
    assert stored.count(b"222") == 1 + sum(record[field] == 222 for record in records[endpoint][1:])
    units = [cells for key, cells in store.reports("unit").items() if f"#{endpoint}#" in key]
    assert sum(int(cells["stats:quarantined"]) for cells in units) == 1
    assert sum(int(cells["stats:rows"]) for cells in units) == len(records[endpoint])


def test_a_record_that_comes_twice_alike_is_counted_as_a_duplicate_and_nothing_more(
    store: Store, weekend: Path
) -> None:
    for endpoint in ("laps", "car_data"):
        records = one_session(weekend, endpoint)
        output = store.load(records | {endpoint: [*records[endpoint], records[endpoint][3]]}, "--endpoint", endpoint)
        assert f"records: {len(records[endpoint]) + 1:,}, 1 duplicate, 0 in quarantine" in output
    assert store.reports("quarantine") == {}


def test_what_a_refresh_finds_corrected_leaves_quarantine_and_what_is_still_bad_stays(
    store: Store, laps: Records
) -> None:
    good = laps["laps"]
    bad, worse = good[0] | {"lap_number": None}, good[1] | {"lap_number": "two"}

    def load(records: list[dict[str, Any]], *arguments: str, exit_code: int) -> dict[str, dict[str, str]]:
        output = store.load(laps | {"laps": records}, "--endpoint", "laps", *arguments, exit_code=exit_code)
        assert ("went to quarantine" in output) == bool(exit_code)
        return store.reports("quarantine")

    first = load([bad, worse, *good[2:]], exit_code=1)
    (run,) = {cells["meta:run"] for cells in first.values()}
    session = laps["sessions"][0]
    unit = f"unit#{YEAR}#{session['meeting_key']}#{session['session_key']}#laps#-#-#-"
    assert [cells["meta:unit"] for cells in first.values()] == [unit, unit]
    second = load([good[0], worse, *good[2:]], "--refresh", exit_code=1)
    (left,) = second.values()
    assert json.loads(left["meta:record"]) == worse
    assert left["meta:run"] > run
    assert load(good, "--refresh", exit_code=0) == {}
    assert len(store.rows()) == len(good)


def test_a_conflict_that_the_source_has_corrected_leaves_quarantine(store: Store, weekend: Path) -> None:
    records = one_session(weekend, "car_data")
    twice = [records["car_data"][0] | {"speed": 400}, *records["car_data"]]
    store.load(records | {"car_data": twice}, "--endpoint", "car_data", exit_code=1)
    assert len(store.reports("quarantine")) == 1
    store.load(records, "--endpoint", "car_data", "--refresh")
    assert store.reports("quarantine") == {}
    assert b"400" not in [cells[b"car:speed"] for cells in store.rows().values()]
