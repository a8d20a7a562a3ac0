"""A table that the version before this one has loaded is resumed, settled and refreshed like any other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import previous
import pytest
from cli import Loader, loader_of
from hbase_server import LocalHBase
from own_api import OwnApi, own_api
from tables import reports, scan, values
from weekend import Records, one_session, simulate

from f1hbase.stores.hbase.connector import HBaseConnector, find_gateway
from f1hbase.stores.hbase.schema import Tables, ensure_tables

pytestmark = pytest.mark.hbase

_WANTED = [word for name in ("drivers", "laps", "weather", "car_data", "location") for word in ("--endpoint", name)]
_SAFETY_CAR = 241


@pytest.fixture(scope="module")
def practice(tmp_path_factory: pytest.TempPathFactory) -> Records:
    weekend = simulate(tmp_path_factory.mktemp("weekend"), meetings=1)
    return one_session(weekend, "car_data", "location", "drivers", "laps", "weather")


@pytest.fixture
def api(practice: Records) -> Iterator[OwnApi]:
    with own_api(practice) as api:
        yield api


@pytest.fixture
def loader(hbase: LocalHBase, tmp_path: Path, api: OwnApi, table_prefix: str) -> Loader:
    """A loader whose tables exist and are empty."""
    connector = HBaseConnector([find_gateway(hbase.host, hbase.port)])
    ensure_tables(connector, Tables(table_prefix))
    connector.close()
    return loader_of(hbase, tmp_path, api.url, table_prefix)


def test_what_was_loaded_by_driver_is_not_asked_for_again(
    loader: Loader, api: OwnApi, practice: Records, hbase: LocalHBase, table_prefix: str
) -> None:
    previous.write(hbase.port, table_prefix, practice)
    before = scan(hbase.port, f"{table_prefix}_f1_data")
    output = loader.run(*_WANTED)
    assert "all that was asked for is loaded" in output
    assert sorted(question.endpoint for question in api.log) == ["meetings", "sessions"]
    assert scan(hbase.port, f"{table_prefix}_f1_data") == before, "timestamps included"


def test_what_was_left_out_or_failed_is_asked_for_alone_and_the_table_is_complete(
    loader: Loader, api: OwnApi, practice: Records, hbase: LocalHBase, table_prefix: str
) -> None:
    driver = practice["drivers"][0]["driver_number"]
    keys = [key for key, *_ in previous.units_of(practice)]
    (lacking,) = [key for key in keys if f"#car_data#{driver}#" in key and key.endswith("#-")]
    previous.write(hbase.port, table_prefix, practice, left_out=[lacking], failed=["#laps#-#-#-"])
    loader.run(*_WANTED)

    start = lacking.split("#")[-2]
    assert sorted({question.endpoint for question in api.log}) == ["car_data", "laps", "meetings", "sessions"]
    queries = [question.query for question in api.asked("car_data")]
    assert f"date>={start[:19]}" in queries[0]
    assert not [query for query in queries if "driver_number" in query or "date>=" not in query]
    rows = values(scan(hbase.port, f"{table_prefix}_f1_data"))
    expected = {
        (name, record.get("driver_number"), record.get("date"), record.get("lap_number"))
        for name in ("drivers", "laps", "weather", "car_data", "location")
        for record in practice[name]
    }
    families = {b"driver": "drivers", b"laps": "laps", b"weather": "weather", b"car": "car_data"}
    families[b"location"] = "location"
    found = [
        families.get(family) for cells in rows.values() for family in {column.partition(b":")[0] for column in cells}
    ]
    assert {name: found.count(name) for name in families.values()} == {
        name: sum(1 for one in expected if one[0] == name) for name in families.values()
    }
    lines = reports(hbase.port, table_prefix, "unit")
    assert {cells["meta:status"] for cells in lines.values()} == {"done"}
    before = len(api.log)
    loader.run(*_WANTED)
    assert sorted(question.endpoint for question in api.log[before:]) == ["meetings", "sessions"]


def test_drivers_that_were_found_out_without_being_stored_count_as_known(
    loader: Loader, api: OwnApi, practice: Records, hbase: LocalHBase, table_prefix: str
) -> None:
    cars = {name: practice[name] for name in ("meetings", "sessions", "drivers", "car_data")}
    previous.write(hbase.port, table_prefix, cars, left_out=["#drivers#-#-#-"], session_drivers=True)
    loader.run("--endpoint", "car_data")
    assert sorted(question.endpoint for question in api.log) == ["meetings", "sessions"]


def test_a_refresh_asks_for_all_cars_and_brings_the_one_that_no_list_names(
    loader: Loader, api: OwnApi, practice: Records, hbase: LocalHBase, table_prefix: str
) -> None:
    previous.write(hbase.port, table_prefix, practice)
    driver = practice["location"][0]["driver_number"]
    his = [one | {"driver_number": _SAFETY_CAR} for one in practice["location"] if one["driver_number"] == driver]
    api.records["location"] = [*practice["location"], *his]
    before = scan(hbase.port, f"{table_prefix}_f1_data")
    loader.run(*_WANTED)
    assert not api.asked("location")
    loader.run(*_WANTED, "--refresh")
    assert not [question for question in api.asked("car_data", "location") if "driver_number" in question.query]
    after = values(scan(hbase.port, f"{table_prefix}_f1_data"))
    added = after.keys() - before.keys()
    assert {key.split(b"#")[4].decode() for key in added} == {record["date"] for record in his}
    assert {key: after[key] for key in before} == values(before)
