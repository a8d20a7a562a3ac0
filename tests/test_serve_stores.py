"""One server, three kinds of store: HBase, landing zones and folders answer alike, and read no more than they must."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hbase_server import LocalHBase
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stored_weekend import SESSION_ENDPOINTS, alike, in_hbase, load, records, scopes, weekend

from f1hbase.model.catalog import ENDPOINTS
from f1hbase.model.samples import Samples
from f1hbase.serve import hbase_store, streamed
from f1hbase.serve.blocks import RecordBlock, SampleBlock
from f1hbase.serve.file_store import FileStore
from f1hbase.serve.hbase_store import HBaseRecords
from f1hbase.serve.query import parse_query
from f1hbase.serve.reader_store import ReaderStore
from f1hbase.serve.sessions import Sessions
from f1hbase.serve.store import RecordStore, StoreFailedError, TooManyRowsError
from f1hbase.serve.streamed import LookAhead
from f1hbase.serve.zone_store import ZoneRecords, record_store
from f1hbase.sources.files import open_reader
from f1hbase.sources.hbase import HBaseReader, HBaseSourceRecipe
from f1hbase.stores.files.urls import parse_location
from f1hbase.stores.hbase.connector import find_gateways
from f1hbase.stores.hbase.schema import Tables


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return weekend(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def folder(files: Path) -> FileStore:
    return FileStore.load([files])


@pytest.fixture(scope="module")
def prefix(hbase: LocalHBase, files: Path) -> str:
    return in_hbase(hbase, files)


@pytest.fixture(scope="module")
def zones(tmp_path_factory: pytest.TempPathFactory, files: Path) -> dict[str, Path]:
    made = {}
    for layout in ("units", "extractor", "dated"):
        made[layout] = tmp_path_factory.mktemp("zones") / layout
        load(files, to=made[layout], layout=layout)
    # The same files as somebody else's, without what f1hbase knows of them.
    made["files"] = tmp_path_factory.mktemp("zones") / "files"
    shutil.copytree(made["extractor"], made["files"], ignore=shutil.ignore_patterns("_*"))
    return made


def zone_store(zone: Path, **options: Any) -> ReaderStore:
    return record_store(lambda: open_reader(parse_location(str(zone))), options.get("most_seconds", 10.0))


@pytest.fixture(scope="module")
def stores(request: pytest.FixtureRequest, zones: dict[str, Path]) -> dict[str, RecordStore]:
    return {layout: zone_store(zone) for layout, zone in zones.items()}


@pytest.fixture(scope="module")
def hbase_records(hbase: LocalHBase, prefix: str) -> Iterator[tuple[HBaseReader, HBaseRecords]]:
    gateways = find_gateways([(hbase.host, hbase.port)], hbase.transport, hbase.protocol)
    reader = HBaseSourceRecipe(gateways, Tables(prefix), 1, 20.0).reader(2.0, hbase_store.CONNECTIONS)
    made = HBaseRecords(reader)
    yield reader, made
    made.close()


@pytest.fixture(scope="module")
def table(hbase_records: tuple[HBaseReader, HBaseRecords]) -> ReaderStore:
    reader, made = hbase_records
    return ReaderStore(Sessions(lambda: reader, 60.0), made)


@pytest.fixture(params=[pytest.param("hbase", marks=pytest.mark.hbase), "units", "extractor", "dated", "files"])
def store(request: pytest.FixtureRequest, stores: dict[str, RecordStore]) -> RecordStore:
    if request.param == "hbase":
        found: RecordStore = request.getfixturevalue("table")
        return found
    return stores[request.param]


def found(store: RecordStore, endpoint: str, query: str = "", limit: int | None = None) -> list[dict[str, Any]]:
    """Return the records of an answer in JSON."""
    selection = store.select(endpoint, parse_query(query, store.latest), limit)
    answer: list[dict[str, Any]] = json.loads(b"[" + b"".join(map(bytes, selection.json())) + b"]")
    return answer


def lines(store: RecordStore, endpoint: str, query: str) -> Counter[str]:
    """Return the lines of an answer in CSV, each with the names of its values that are not empty."""
    selection = store.select(endpoint, parse_query(f"{query}&csv=true", store.latest))
    text = b"".join(map(bytes, selection.csv())).decode()
    return Counter(str({k: v for k, v in row.items() if v}) for row in csv.DictReader(io.StringIO(text, newline="")))


def test_every_endpoint_of_every_session_is_answered_as_from_a_folder(
    store: RecordStore, folder: FileStore, files: Path
) -> None:
    for endpoint in ENDPOINTS:
        assert alike(found(store, endpoint)) == alike(found(folder, endpoint)), endpoint
    for scope in scopes(files):
        for endpoint in SESSION_ENDPOINTS:
            query = f"session_key={scope.session_key}"
            wanted = found(folder, endpoint, query)
            assert alike(found(store, endpoint, query)) == alike(wanted), endpoint
            if wanted:
                assert lines(store, endpoint, query) == lines(folder, endpoint, query), endpoint
    assert found(store, "unheard_of") == []
    assert [store.latest(key) for key in ("session_key", "meeting_key")] == [
        folder.latest(key) for key in ("session_key", "meeting_key")
    ]


FILTERS = {
    "session_key": ["latest", "1", "abc"],
    "meeting_key": ["latest", "1"],
    "driver_number": ["1", "44", "2", "999", "true", "nan", "1e999", "4.0"],
    "date": ["2025-03-14", "2025-03-15T14:01", "2025-03-16T14:00:30.5", "2025-03-16", "9999-12-31", "0001-01-01", "5"],
    "date_start": ["2025-03-15"],
    "lap_number": ["2", "1.5"],
    "speed": ["100", "300"],
    "category": ["Flag", "Other"],
    "gap_to_leader": ["1.5", "+1 LAP"],
    "nothing": ["1"],
}
_OPERATORS = st.sampled_from([">=", "<=", "=", ">", "<"])
_parts = st.one_of([
    st.tuples(st.just(name), _OPERATORS, st.sampled_from(values).map(quote)).map("".join)
    for name, values in FILTERS.items()
])  # fmt: skip


@pytest.mark.hbase
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], database=None)
@given(st.sampled_from(list(ENDPOINTS)), st.lists(_parts, max_size=4), st.data())
def test_any_query_finds_the_same_in_every_store(
    table: ReaderStore, stores: dict[str, RecordStore], folder: FileStore, endpoint: str, parts: list[str], data: Any
) -> None:
    drivers = sorted({record["driver_number"] for record in found(folder, "drivers")})
    if data.draw(st.booleans()):
        parts = [*parts, f"driver_number={data.draw(st.sampled_from(drivers))}"]
    query = "&".join(parts)
    try:
        wanted = alike(found(folder, endpoint, query))
    except ValueError:
        return  # a 422, whatever the store
    for one in (table, stores["units"]):
        assert alike(found(one, endpoint, query)) == wanted, query


# --- what is read ---


@pytest.mark.hbase
def test_drivers_and_times_are_ranges_of_keys_and_no_other_row_is_read(
    table: ReaderStore, hbase_records: tuple[HBaseReader, HBaseRecords], folder: FileStore, files: Path
) -> None:
    _, made = hbase_records
    session = scopes(files)[-1].session_key
    samples = records(files, "car_data", session_key=session)
    driver = samples[0]["driver_number"]
    start = datetime.fromisoformat(sorted(one["date"] for one in samples)[len(samples) // 2])
    span = f"date>={start.isoformat()}&date<{(start + timedelta(seconds=20)).isoformat()}".replace("+", "%2B")
    here = f"session_key={session}"
    everybody = len({one["driver_number"] for one in samples})
    queries = [
        ("car_data", f"{here}&driver_number={driver}&{span}", 0),
        ("car_data", f"{here}&driver_number={driver}", 0),
        ("car_data", f"{here}&driver_number={driver}&driver_number=999&{span}", 0),
        ("location", f"{here}&{span}", everybody),  # and a row for each car, to see which there are
        ("intervals", f"session_key=latest&{span}", everybody),
        ("laps", f"{here}&driver_number={driver}", 0),
        ("laps", here, 0),
        ("stints", f"{here}&driver_number={driver}", 0),
        ("weather", f"{here}&{span}", 0),
        ("race_control", f"{here}&date<={start.isoformat().replace('+', '%2B')}", 0),
        ("drivers", f"{here}&driver_number={driver}", 0),
        ("championship_teams", here, 0),
        ("car_data", f"session_key=1&driver_number={driver}", 0),
        ("car_data", f"{here}&driver_number=998", 0),
        ("car_data", f"{here}&date>2031-01-01", 0),
    ]
    for endpoint, query, more in queries:
        made._drivers.clear()
        before = made.rows_read
        answer = found(table, endpoint, query)
        assert alike(answer) == alike(found(folder, endpoint, query))
        assert made.rows_read - before <= len(answer) + more, query
    assert len(found(table, "location", f"{here}&{span}")) > everybody


@pytest.mark.hbase
def test_a_time_alone_is_looked_for_in_the_sessions_around_it(
    table: ReaderStore, hbase_records: tuple[HBaseReader, HBaseRecords], files: Path
) -> None:
    before = hbase_records[1].rows_read
    assert found(table, "weather", "date>2031-01-01") == []
    assert hbase_records[1].rows_read == before
    date = records(files, "weather")[0]["date"].replace("+", "%2B")
    assert len(found(table, "weather", f"date={date}")) == 1


# --- sizes and times ---


@pytest.mark.parametrize("held", [1, 100])
def test_an_answer_larger_than_what_is_looked_ahead_is_the_same(
    store: RecordStore, folder: FileStore, files: Path, held: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streamed, "HELD_ROWS", held)
    monkeypatch.setattr(hbase_store, "ROWS_A_CALL", 60)
    query = f"session_key={scopes(files)[0].session_key}"
    for endpoint in ("car_data", "laps", "race_control"):
        wanted = found(folder, endpoint, query)
        selection = store.select(endpoint, parse_query(query, store.latest))
        assert (selection.rows is None) == (len(wanted) > 60 or held == 1)
        assert alike(found(store, endpoint, query)) == alike(wanted)
        assert alike(found(store, endpoint, query, len(wanted))) == alike(wanted)
        assert lines(store, endpoint, query) == lines(folder, endpoint, query)
        for limit in (0, len(wanted) - 1):
            with pytest.raises(TooManyRowsError):
                store.select(endpoint, parse_query(query, store.latest), limit)


def test_a_query_that_takes_too_long_fails_as_openf1_says_it(zones: dict[str, Path]) -> None:
    store = zone_store(zones["units"], most_seconds=-1.0)
    with pytest.raises(StoreFailedError, match="operation exceeded time limit"):
        found(store, "laps")


def test_a_field_that_only_some_records_have_is_in_the_csv_of_all(
    zones: dict[str, Path], files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streamed, "HELD_ROWS", 10)
    usual = SampleBlock(Samples(ENDPOINTS["car_data"], [(1, 2, 44, "2025-03-14T10:00:00+00:00", *[0] * 6)] * 10))
    other = RecordBlock([{"meeting_key": 1, "unheard": "of"}])
    look = LookAhead(10.0)

    def text() -> bytes:
        fields = sorted(ENDPOINTS["car_data"].fields)
        found = look.select(lambda: iter((usual, other)), csv=True, usual_fields=fields, name="car_data")
        return b"".join(map(bytes, found.csv()))

    with pytest.raises(StoreFailedError, match="ask again"):  # the header was sent: a part is never taken for all
        text()
    rows = list(csv.DictReader(io.StringIO(text().decode(), newline="")))
    assert [row["unheard"] for row in rows] == [""] * 10 + ["of"]


def test_what_a_zone_keeps_in_memory_has_a_bound(zones: dict[str, Path], files: Path, folder: FileStore) -> None:
    records_of_zone = ZoneRecords(kept_bytes=100_000)
    reader = open_reader(parse_location(str(zones["units"])))
    store = ReaderStore(Sessions(lambda: reader, 60.0), records_of_zone)
    for _ in range(2):
        assert alike(found(store, "location")) == alike(found(folder, "location"))
    assert len(records_of_zone._kept._kept) == 1


@given(st.sampled_from(["car_data", "location"]), st.lists(st.none() | st.integers(), min_size=12, max_size=12))
def test_columns_are_written_as_the_records_that_they_are(endpoint: str, numbers: list[int | None]) -> None:
    known = ENDPOINTS[endpoint]
    keys = (1, 2, 44, "2025-03-14T10:00:00.123000+00:00")
    width = len(known.fields) - len(keys)
    samples = Samples(known, [(*keys, *numbers[at : at + width]) for at in (0, width)])
    by_column, by_record = SampleBlock(samples), RecordBlock(list(samples))
    assert json.loads(b"[" + by_column.json() + b"]") == list(samples)
    assert by_column.json() == by_record.json()
    assert list(by_column.lines()) == list(by_record.lines())
    header = [*by_column.fields, "zone"]
    assert by_column.csv(header) == by_record.csv(header)
