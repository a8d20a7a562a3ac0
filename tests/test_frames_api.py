"""`f1hbase.connect` and `f1hbase.open`: what is stored, as Arrow tables."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hbase_server import LocalHBase
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from samples import REAL, needs_real_records, real_records, sample
from samples import records as drawn
from stored_weekend import SESSION_ENDPOINTS, YEAR, hbase_options, load, records, scopes, weekend

import f1hbase
from f1hbase.errors import F1HBaseError
from f1hbase.frames import telemetry
from f1hbase.frames.arrow import batch_of
from f1hbase.frames.frame import Frame
from f1hbase.frames.needs import MissingPackageError, need
from f1hbase.frames.schemas import EXTRA, Kind, columns_of, schema_of
from f1hbase.frames.session import NotLoadedError, Session
from f1hbase.frames.store import Store
from f1hbase.model.catalog import ENDPOINTS
from f1hbase.model.columns import SampleColumns
from f1hbase.model.samples import samples_of_json
from f1hbase.model.times import parse_time

# --- records and tables ---


def record_of(endpoint: str, row: dict[str, Any]) -> dict[str, Any]:
    """Return the record that a row was made of, with times as datetimes; nulls are left out."""
    record: dict[str, Any] = {}
    for column in columns_of(endpoint):
        if row[column.name] is not None:
            assert column.field not in record
            record[column.field] = row[column.name]
    for name, value in json.loads(row[EXTRA] or "{}").items():
        assert name not in record
        record[name] = value
    return record


def with_times(endpoint: str, record: dict[str, Any], made: dict[str, Any]) -> dict[str, Any]:
    """Return a record with those times as datetimes that the table has as such."""
    return {
        name: parse_time(value) if isinstance(made.get(name), datetime) else value
        for name, value in record.items()
        if value is not None
    }


def same(one: Any, other: Any) -> bool:
    """Return whether two values are equal, and a number, truth value or text alike."""
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    numbers = (int, float)
    alike = type(one) is type(other) or (type(one) in numbers and type(other) in numbers)
    return alike and bool(one == other)


@st.composite
def endpoint_and_records(draw: st.DrawFn) -> tuple[str, list[dict[str, Any]]]:
    endpoint = draw(st.sampled_from(list(ENDPOINTS.values())))
    whole = sample(endpoint.name)
    some = []
    for _ in range(draw(st.integers(0, 2))):
        odd = draw(drawn(endpoint))
        # Mostly usual values, so that a column holds both kinds.
        some.append({name: odd.get(name, value) if draw(st.booleans()) else value for name, value in whole.items()} | {
            name: value for name, value in odd.items() if name not in whole
        })  # fmt: skip
    return endpoint.name, some


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large], max_examples=50, deadline=None)
@given(endpoint_and_records())
def test_a_table_holds_what_the_records_say(drawn: tuple[str, list[dict[str, Any]]]) -> None:
    endpoint, some = drawn
    batch = batch_of(endpoint, some)
    assert batch.schema.equals(schema_of(endpoint))
    batch.validate(full=True)
    for record, row in zip(some, batch.to_pylist(), strict=True):
        made = record_of(endpoint, row)
        wanted = with_times(endpoint, record, made)
        assert made.keys() == wanted.keys()
        assert all(same(made[name], value) for name, value in wanted.items()), (made, wanted)


@pytest.mark.parametrize("endpoint", list(ENDPOINTS))
def test_nothing_of_a_usual_record_needs_the_column_of_the_unusual(endpoint: str) -> None:
    (row,) = batch_of(endpoint, [sample(endpoint)]).to_pylist()
    assert row[EXTRA] is None
    assert record_of(endpoint, row) == with_times(endpoint, sample(endpoint), row)


@needs_real_records
@pytest.mark.parametrize(
    ("folder", "endpoint"),
    sorted((path.parent.name, path.name.partition(".")[0]) for path in REAL.glob("*/*.jsonl.gz")),
)
def test_real_records_fit_the_columns(folder: str, endpoint: str) -> None:
    some = [record for record, _ in zip(real_records(folder, endpoint), range(20_000), strict=False)]
    batch = batch_of(endpoint, some)
    assert batch[EXTRA].null_count == len(some)
    for record, row in zip(some, batch.to_pylist(), strict=True):
        assert record_of(endpoint, row) == with_times(endpoint, record, row)


def test_samples_in_any_form_make_the_same_table() -> None:
    some = [sample("car_data", speed=None), sample("car_data", driver_number=1), sample("car_data", rpm=99_999)]
    samples = samples_of_json(ENDPOINTS["car_data"], json.dumps(some).encode())
    assert samples is not None
    columns = SampleColumns(ENDPOINTS["car_data"], list(zip(*samples.rows, strict=True)))
    wanted = batch_of("car_data", some)
    assert batch_of("car_data", samples).equals(wanted)
    assert batch_of("car_data", columns).equals(wanted)
    assert list(columns) == some
    assert list(columns[1:]) == some[1:]
    assert columns[-1] == some[-1]
    assert wanted[EXTRA].to_pylist() == [None, None, '{"rpm":99999}']


def test_fields_that_mix_numbers_and_texts_have_a_column_for_each() -> None:
    values = [0, 41.019, "+1 LAP", None, [0.0, None, 1.2], True]
    batch = batch_of("session_result", [sample("session_result", gap_to_leader=value) for value in values])
    assert batch["gap_to_leader"].to_pylist() == [0.0, 41.019, None, None, None, None]
    assert batch["gap_to_leader_text"].to_pylist() == [None, None, "+1 LAP", None, None, None]
    assert batch["gap_to_leader_list"].to_pylist() == [None, None, None, None, [0.0, None, 1.2], None]
    assert batch[EXTRA].to_pylist() == [None, None, None, None, None, '{"gap_to_leader":true}']


def test_every_column_has_a_type_of_its_kind() -> None:
    for name in ENDPOINTS:
        columns = columns_of(name)
        assert len({column.name for column in columns} | {EXTRA}) == len(columns) + 1
        for column in columns:
            assert (column.kind is Kind.TEXT) == pa.types.is_string(column.type), column


# --- frames ---


def frame(rows: int, pieces: int) -> Frame:
    batch = batch_of("location", [sample("location", x=number) for number in range(rows)])
    size = max(1, rows // pieces)
    return Frame(schema_of("location"), lambda: (batch.slice(at, size) for at in range(0, rows, size)), [])


@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 50))
def test_batches_have_the_size_that_is_asked_for(rows: int, pieces: int, size: int) -> None:
    batches = list(frame(rows, pieces).batches(size))
    assert [batch.num_rows for batch in batches[:-1]] == [size] * (len(batches) - 1)
    assert [x for batch in batches for x in batch["x"].to_pylist()] == list(range(rows))


def test_a_batch_of_no_rows_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1 row, not 0"):
        list(frame(3, 1).batches(0))


def test_a_package_that_is_not_there_is_named_with_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("polars", "pandas", "pyarrow"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingPackageError, match=r"to_polars\(\) needs polars.*: pip install 'polars'"):
        frame(1, 1).to_polars()
    with pytest.raises(MissingPackageError, match=r"to_pandas\(\) needs pandas.*: pip install 'pandas'"):
        frame(1, 1).to_pandas()
    with pytest.raises(MissingPackageError, match=r"pip install 'f1hbase\[frames\]'"):
        f1hbase.open("somewhere")
    assert need("json", "this") is json


# --- a folder of files ---


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return weekend(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def folder(files: Path) -> Store:
    return f1hbase.open(files)


def race(store: Store) -> Session:
    return store.session(store.sessions()["session_key"].to_pylist()[-1])


def test_a_folder_lists_its_meetings_and_sessions(folder: Store, files: Path) -> None:
    assert folder.meetings(year=YEAR).num_rows == 1
    keys = folder.sessions(YEAR)["session_key"].to_pylist()
    assert keys == [scope.session_key for scope in scopes(files)]
    assert folder.session(keys[0]).record["session_name"] == "Practice 1"


@pytest.mark.parametrize("endpoint", SESSION_ENDPOINTS)
def test_each_endpoint_has_a_method(folder: Store, files: Path, endpoint: str) -> None:
    session = race(folder)
    found = session.read(endpoint) if endpoint == "sessions" else getattr(session, endpoint)()
    wanted = records(files, endpoint, session_key=session.key)
    assert found.num_rows == len(wanted)
    assert found.state == "complete"
    assert found.metadata["endpoint"] == endpoint


def test_pandas_polars_and_duckdb_read_the_same(folder: Store) -> None:
    for endpoint in ("laps", "intervals", "car_data", "race_control", "session_result"):
        found = race(folder).read(endpoint)
        rows = found.to_pylist()
        assert found.to_polars().to_dicts() == rows
        assert pl.DataFrame(found).sort(*_keys(endpoint)).to_dicts() == rows
        plain = pa.Table.from_pandas(found.to_pandas(), schema=found.schema, preserve_index=False)
        assert plain.to_pylist() == rows
        relation = duckdb.sql("SELECT * FROM found")
        assert relation is not None
        pointed = relation.to_arrow_table()
        assert pointed.num_rows == len(rows)
        assert pointed.select(_keys(endpoint)).sort_by([(key, "ascending") for key in _keys(endpoint)]).to_pylist() == [
            {key: row[key] for key in _keys(endpoint)} for row in rows
        ]
    types = race(folder).laps().to_pandas().dtypes
    assert types["lap_number"] == pd.ArrowDtype(pa.int16())
    assert str(race(folder).laps().to_pandas(types_mapper=None)["date_start"].dtype).startswith("datetime64[")


def _keys(endpoint: str) -> list[str]:
    return {"laps": ["driver_number", "lap_number"], "race_control": ["date", "message"]}.get(
        endpoint, ["driver_number", "date"] if "date" in ENDPOINTS[endpoint].fields else ["driver_number"]
    )


def test_a_driver_a_time_and_a_lap_choose_rows(folder: Store, files: Path) -> None:
    session = race(folder)
    driver = session.drivers()["driver_number"][1].as_py()
    whole = [r for r in records(files, "car_data", session_key=session.key) if r["driver_number"] == driver]
    dates = sorted(parse_time(record["date"]) for record in whole)
    assert session.car_data(driver).num_rows == len(whole)
    start, end = dates[10], dates[-10]
    for first, last in ((start, end), (start.isoformat(), end.replace(tzinfo=None)), (start, None), (None, end)):
        found = session.car_data(driver, start=first, end=last)
        wanted = [date for date in dates if (first is None or date >= start) and (last is None or date < end)]
        assert found["date"].to_pylist() == wanted
    lap = session.laps(driver, lap=2).to_pylist()[0]
    found = session.location(driver, lap=2)["date"].to_pylist()
    assert found
    assert lap["date_start"] <= min(found)
    assert max(found) < lap["date_start"] + timedelta(seconds=lap["lap_duration"])
    assert session.pit(driver, lap=9999).num_rows == 0
    assert set(session.race_control(driver)["driver_number"].to_pylist()) <= {driver}


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda store, _: store.session(1), "there is no session 1 in .*it has 7"),
        (lambda store, _: store.sessions(year=2031), "nothing of 2031 is loaded .*it has 2025.* --year 2031"),
        (lambda store, _: store.meetings(year=2031), "nothing of 2031"),
        (lambda _, session: session.laps(driver=99), "there is no driver 99 in session"),
        (lambda _, session: session.car_data(session.drivers()["driver_number"][0].as_py(), lap=999), "no lap 999"),
        (lambda _, session: session.car_data(lap=3), "lap=3 is a driver's"),
        (lambda _, session: session.read("lapz"), "no endpoint 'lapz'; did you mean 'laps'"),
        (lambda _, session: session.read("meetings"), "no endpoint 'meetings'"),
        (lambda _, session: session.read("weather", driver=1), "weather has no driver"),
        (lambda _, session: session.read("laps", start="2025-01-01"), "laps has no time"),
        (lambda _, session: session.read("stints", lap=1), "stints has no laps"),
        (lambda _, session: session.weather(start="yesterday"), "start='yesterday' is not a time"),
        (lambda _, session: session.weather(start="2025-02-01", end="2025-01-01"), "is not before end"),
        (lambda _, session: session.telemetry(1, lap=1, start="2025-01-01"), "leave out start and end, or lap"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(folder: Store, ask: Any, words: str) -> None:
    with pytest.raises((NotLoadedError, ValueError), match=words) as raised:
        ask(folder, race(folder))
    assert "\n" not in str(raised.value)


def test_what_is_no_place_is_said(tmp_path: Path) -> None:
    with pytest.raises(F1HBaseError, match="there is no folder"):
        f1hbase.open(tmp_path / "nowhere")
    with pytest.raises(F1HBaseError, match="not offered for 'openf1'"):
        f1hbase.open("openf1")
    with pytest.raises(F1HBaseError, match="cannot connect"):
        f1hbase.connect(hbase_host="127.0.0.1", hbase_port=1)
    with pytest.raises(ValueError, match="--hbase-port"):
        f1hbase.connect(hbase_port=99_999_999)


def test_a_half_loaded_session_says_so(files: Path, tmp_path: Path) -> None:
    session_key = scopes(files)[-1].session_key
    driver, other = sorted({record["driver_number"] for record in records(files, "laps", session_key=session_key)})[:2]
    load(files, to=tmp_path / "zone", endpoint=["sessions", "meetings", "drivers", "laps"])
    load(files, to=tmp_path / "zone", endpoint="car_data", driver=driver)
    session = race(f1hbase.open(tmp_path / "zone"))
    assert session.laps().state == "complete"
    assert session.car_data(driver).state == "complete"
    whole = session.car_data()
    assert whole.state == "partial"
    assert whole.missing == ["whole session: not loaded"]
    assert whole.num_rows == session.car_data(driver).num_rows > 0
    assert whole.to_arrow().schema.metadata[b"f1hbase.state"] == b"partial"
    with pytest.raises(NotLoadedError, match="--endpoint car_data"):
        session.car_data(other)
    with pytest.raises(NotLoadedError, match=f"f1hbase load --session-key {session_key} --endpoint location"):
        session.telemetry(driver, lap=2)
    load(files, to=tmp_path / "zone", endpoint="car_data")
    session.refresh()
    assert session.car_data().state == "complete"
    assert session.car_data().num_rows == len(records(files, "car_data", session_key=session.key))


# --- telemetry ---

_START = datetime(2025, 3, 16, 15, 0, tzinfo=UTC)


def _samples(endpoint: str, rows: list[dict[str, Any]]) -> pa.Table:
    made = [sample(endpoint, **{**row, "date": row["date"].isoformat()}) for row in rows]
    return pa.Table.from_batches([batch_of(endpoint, made)])


def _at(seconds: float) -> datetime:
    return _START + timedelta(seconds=seconds)


def test_the_distance_of_a_steady_drive_is_speed_times_time() -> None:
    car = _samples("car_data", [{"date": _at(second - 1), "speed": 180, "n_gear": 5} for second in range(12)])
    place = _samples("location", [{"date": _at(second / 2 - 0.75), "x": second * 250} for second in range(24)])
    table = telemetry.joined(car, place, _at(0.25), _at(9.5), 44)
    assert table.schema.equals(telemetry.SCHEMA)
    assert table["distance"].to_numpy() == pytest.approx(50 * table["time"].to_numpy())
    assert table["relative_distance"][-1].as_py() == 1.0
    assert table["date"][0].as_py() == _at(0.25)
    assert table["date"][-1].as_py() == _at(9.5)
    speeds = np.diff(table["x"].to_numpy()) / np.diff(table["time"].to_numpy())
    assert speeds == pytest.approx(500)
    assert set(table["source"].to_pylist()) == {"car", "location", "interpolated"}
    assert set(table["n_gear"].to_pylist()) == {5}


def test_nothing_is_made_up_in_long_gaps_or_outside_of_the_samples() -> None:
    car = _samples("car_data", [{"date": _at(second), "speed": 100} for second in (1, 2, 20)])
    place = _samples("location", [{"date": _at(second)} for second in (0, 10, 21)])
    rows = telemetry.joined(car, place, None, None, 44).to_pylist()
    speeds = {(row["date"] - _START).total_seconds(): row["speed"] for row in rows}
    assert speeds == {0: None, 1: 100, 2: 100, 10: None, 20: 100, 21: None}
    assert [row["n_gear"] for row in rows][:1] == [None]
    empty = telemetry.joined(car.slice(0, 0), place.slice(0, 0), None, None, 44)
    assert empty.num_rows == 0


def test_the_telemetry_of_a_lap_goes_once_round(folder: Store) -> None:
    session = race(folder)
    driver = session.drivers()["driver_number"][0].as_py()
    lap = session.laps(driver, lap=2).to_pylist()[0]
    table = session.telemetry(driver, lap=2)
    assert table["time"][-1].as_py() == pytest.approx(lap["lap_duration"])
    assert table.metadata["endpoint"] == "telemetry"
    place = table.to_pylist()
    around = [abs(place[0][axis] - place[-1][axis]) for axis in ("x", "y")]
    assert max(around) < 1_000  # in tenths of a metre
    mean = table["distance"][-1].as_py() / lap["lap_duration"]
    assert 20 < mean < 100  # metres a second


# --- the same from everywhere ---


@pytest.fixture(scope="module")
def stored(hbase: LocalHBase, files: Path) -> Iterator[Store]:
    load(files, **hbase_options(hbase, "frames"))
    with f1hbase.connect(**hbase_options(hbase, "frames")) as store:
        yield store


@pytest.mark.hbase
def test_hbase_a_zone_and_a_folder_give_the_same_tables(
    stored: Store, folder: Store, files: Path, tmp_path: Path
) -> None:
    load(files, to=tmp_path / "zone")
    zone = f1hbase.open(tmp_path / "zone")
    assert stored.meetings().equals(folder.meetings().to_arrow())
    for scope in scopes(files):
        assert scope.session_key is not None
        sessions = [store.session(scope.session_key) for store in (stored, zone, folder)]
        for endpoint in SESSION_ENDPOINTS:
            one, two, three = (session.read(endpoint).to_arrow() for session in sessions)
            assert one.equals(two), endpoint
            assert two.equals(three), endpoint
    driver = race(stored).drivers()["driver_number"][0].as_py()
    assert race(stored).telemetry(driver, lap=2).equals(race(zone).telemetry(driver, lap=2).to_arrow())


@pytest.mark.hbase
def test_batches_from_hbase_come_in_order(stored: Store) -> None:
    frame = race(stored).car_data()
    batches = list(frame.batches(500))
    assert all(batch.num_rows == 500 for batch in batches[:-1])
    together = pa.Table.from_batches(batches)
    assert together.equals(frame.to_arrow())
    assert batches[0].schema.metadata[b"f1hbase.state"] == b"complete"


# --- the page ---

_PAGE = Path(__file__).resolve().parent.parent / "docs" / "reading.md"


@pytest.mark.hbase
def test_the_examples_of_the_page_run(
    hbase: LocalHBase, stored: Store, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del stored
    for name, value in hbase_options(hbase, "frames").items():
        monkeypatch.setenv(f"F1HBASE_{name.upper()}", str(value))
    monkeypatch.chdir(tmp_path)
    load(files, to=tmp_path / "zone")
    blocks = re.findall(r"```python\n(.*?)```", _PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) >= 4
    key = scopes(files)[-1].session_key
    driver = records(files, "drivers", session_key=key)[0]["driver_number"]
    scope: dict[str, Any] = {}
    for block in blocks:
        code = block.replace("9558", str(key)).replace("driver=44", f"driver={driver}").replace("2024", str(YEAR))
        exec(compile(code, str(_PAGE), "exec"), scope)
