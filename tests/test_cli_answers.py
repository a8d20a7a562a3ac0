"""Answers that a load must read rightly: cars that no list names, CSV of nothing, refusals that name no time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cli import Loader, loader_of
from hbase_server import LocalHBase
from own_api import NO_RESULTS, OwnApi, Question, Reply, own_api
from tables import reports, scan, values
from weekend import Records, one_session, serve, simulate

pytestmark = pytest.mark.hbase

_SAFETY_CAR = 241


@pytest.fixture(scope="module")
def practice(tmp_path_factory: pytest.TempPathFactory) -> Records:
    """The records of a session of a minute."""
    weekend = simulate(tmp_path_factory.mktemp("weekend"), meetings=1)
    return one_session(weekend, "car_data", "location", "drivers", "laps", "weather")


@pytest.fixture
def api(practice: Records) -> Iterator[OwnApi]:
    with own_api(practice) as api:
        yield api


@pytest.fixture
def loader(hbase: LocalHBase, tmp_path: Path, api: OwnApi, table_prefix: str) -> Loader:
    return loader_of(hbase, tmp_path, api.url, table_prefix)


def _of_driver(records: list[dict[str, Any]], driver: int) -> list[dict[str, Any]]:
    first = records[0]["driver_number"]
    return [record | {"driver_number": driver} for record in records if record["driver_number"] == first]


@pytest.mark.parametrize("window", ["auto", "30s"])
def test_a_car_that_no_list_names_arrives(
    hbase: LocalHBase, practice: Records, tmp_path: Path, table_prefix: str, window: str
) -> None:
    car = _of_driver(practice["location"], _SAFETY_CAR)
    assert car
    assert _SAFETY_CAR not in {record["driver_number"] for record in practice["drivers"]}
    with serve(tmp_path / "records", practice | {"location": [*practice["location"], *car]}) as api:
        output = loader_of(hbase, tmp_path, api.url, table_prefix, window=window).run()
    assert "all that was asked for is loaded" in output
    table = values(scan(hbase.port, f"{table_prefix}_f1_data"))
    arrived = {key: cells for key, cells in table.items() if key.split(b"#")[3:4] == [b"%d" % _SAFETY_CAR]}
    assert {key.split(b"#")[4].decode() for key in arrived} == {record["date"] for record in car}
    assert {column for cells in arrived.values() for column in cells} == {b"location:x", b"location:y", b"location:z"}


def test_csv_of_nothing_is_an_empty_answer_and_no_outage(
    loader: Loader, api: OwnApi, hbase: LocalHBase, table_prefix: str
) -> None:
    api.records |= {"car_data": [], "location": []}
    output = loader.run("--endpoint", "car_data", "--endpoint", "location", "--patience", "0")
    asked = api.asked("car_data", "location")
    assert all(question.as_csv for question in asked), "not once more as JSON"
    assert {question.endpoint for question in api.log} == {"sessions", "meetings", "car_data", "location"}
    units = reports(hbase.port, table_prefix, "unit")
    assert len(asked) == len(units), "one request each, and no probe"
    assert {cells["meta:status"] for cells in units.values()} == {"done"}
    assert {cells["stats:records"] for cells in units.values()} == {"0"}
    assert f"requests: {len(api.log)}, 0 of them retries" in output


def test_csv_that_the_server_cannot_make_is_asked_for_once_as_json(
    loader: Loader, api: OwnApi, practice: Records, hbase: LocalHBase, table_prefix: str
) -> None:
    trace = NO_RESULTS.body.replace("ValueError: No results", "KeyError: 'rpm'")
    api.intercept = lambda question: Reply(500, trace) if question.as_csv else None
    output = loader.run("--endpoint", "car_data", "--patience", "0")
    assert len(api.log) == 2 + 2 * len(reports(hbase.port, table_prefix, "unit")), "no retry, no probe, no halves"
    assert f"records: {len(practice['car_data']):,}, 0 duplicates" in output


def test_an_api_without_a_past_session_that_answers_the_rest_is_not_given_up(loader: Loader, api: OwnApi) -> None:
    """What `latest` is answered with by OpenF1's own software when no past session has `is_cancelled: false`."""
    api.intercept = lambda question: (
        Reply(500, "IndexError: list index out of range")
        if ("latest" in question.query or question.endpoint == "laps")
        else None
    )
    output = loader.run("--max-retries", "1", "--patience", "0", exit_code=1)
    assert "not loaded: laps session" in output
    assert "HTTP 500" in output
    assert not [question for question in api.log if "latest" in question.query]


def test_the_reason_of_a_500_is_the_last_line_of_its_traceback(loader: Loader, api: OwnApi) -> None:
    trace = NO_RESULTS.body.replace("No results", "year 0 is out of range")
    api.intercept = lambda question: Reply(500, trace) if question.endpoint == "laps" else None
    output = loader.run("--endpoint", "laps", "--max-retries", "0", exit_code=1)
    assert "ValueError: year 0 is out of range" in output
    assert "Traceback" not in output


def test_retry_after_0_is_no_hot_loop(loader: Loader, api: OwnApi) -> None:
    refused: list[float] = []

    def refuse(question: Question) -> Reply | None:
        if question.endpoint != "weather" or (refused and question.at - refused[0] > 3.0):
            return None
        refused.append(question.at)
        return Reply(429, '{"detail": "Rate limit exceeded"}', {"Retry-After": "0"})

    api.intercept = refuse
    loader.run("--endpoint", "weather", "--max-retries", "0")
    assert refused
    assert len(refused) <= 4, "a second and more between one and the next"


def test_probes_and_refusals_are_counted_among_the_requests(loader: Loader, api: OwnApi) -> None:
    def fail(question: Question) -> Reply | None:
        first = [one for one in api.asked("weather") if one is not question]
        return Reply(503, "upstream request timeout") if question.endpoint == "weather" and len(first) < 2 else None

    api.intercept = fail
    output = loader.run("--endpoint", "weather", "--endpoint", "laps")
    assert f"requests: {len(api.log)}, " in output
