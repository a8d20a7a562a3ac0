"""A landing zone in layout `units`: names, manifests, and what comes back from it."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from files_zone import (
    END,
    MEETING,
    MEETINGS,
    RACE,
    SESSIONS,
    SETTLED,
    SPRINT,
    START,
    csv_answer,
    destination_at,
    failed,
    fetch_all,
    fill,
    json_answer,
    open_source,
    reader_at,
    store,
    whole,
)
from hypothesis import given
from hypothesis import strategies as st

from f1hbase.cluster.encoding import ObjectTask, encode_object
from f1hbase.destinations.base import Batch
from f1hbase.model.answers import Answer, RawAnswer
from f1hbase.model.outcomes import Quarantined, RunState, Status
from f1hbase.model.plans import Selection
from f1hbase.model.units import Scope, Unit, Window
from f1hbase.sources import json_files
from f1hbase.sources.stored import Named, StoredJob, StoredSource, UnreadableError
from f1hbase.state.base import quarantine_key
from f1hbase.state.files import FilesState
from f1hbase.stores.files.clients import ObjectInfo
from f1hbase.stores.files.manifests import manifest_path, read_manifest
from f1hbase.stores.files.objects import Objects, RefusedError
from f1hbase.stores.files.packing import DamagedError, md5_hex, pack, unpack
from f1hbase.stores.files.urls import LocationError, parse_location
from f1hbase.stores.files.zone import MARKER, create_zone


def files_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def answers_in(folder: Path) -> list[str]:
    return [name for name in files_in(folder) if name.startswith("source=")]


# Locations


@pytest.mark.parametrize(
    ("text", "scheme", "root", "prefix"),
    [
        ("s3://races/openf1/", "s3", "races", "openf1"),
        ("gs://races", "gs", "races", ""),
        ("az://races/a/b", "az", "races", "a/b"),
        ("file:///data/f1%20zone", "file", "/data/f1 zone", ""),
        ("/data/zone", "file", "/data/zone", ""),
        ("S3://races/x", "s3", "races", "x"),
    ],
)
def test_a_location_is_read(text: str, scheme: str, root: str, prefix: str) -> None:
    location = parse_location(text)
    assert (location.scheme, location.root, location.prefix) == (scheme, root, prefix)


def test_a_bucket_may_be_named_by_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUCKET", "races")
    assert parse_location("s3:///raw").shown == "s3://races/raw"
    assert parse_location("s3://other/raw").root == "other"
    with pytest.raises(LocationError, match="names no bucket"):
        parse_location("gs:///raw")
    monkeypatch.setenv("BUCKET", "key:hunter2@races")
    with pytest.raises(LocationError, match="names no bucket") as error:
        parse_location("s3:///raw")
    assert "hunter2" not in str(error.value)


def test_a_relative_folder_is_shown_as_it_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    location = parse_location("./zone")
    assert (location.root, location.shown) == (str(tmp_path / "zone"), "./zone")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("ftp://host/x", "'ftp:' is no store"),
        ("gs:///x", "names no bucket"),
        ("s3://races/../x", "'..'"),
        ("file://host/x", "names a host"),
        ("/Volumes/a/b", "names no volume"),
        ("", "needs a name"),
    ],
)
def test_what_is_no_location_is_named(text: str, says: str) -> None:
    with pytest.raises(LocationError, match=says) as error:
        parse_location(text)
    assert error.value.exit_code == 2


@pytest.mark.parametrize("text", ["s3://AKIA:hunter2@races/x", "az://races/x?sig=hunter2", "gs://hunter2@races"])
def test_credentials_in_a_url_are_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(LocationError, match="credentials") as error:
        parse_location(text)
    assert "hunter2" not in str(error.value)
    assert "AKIA" not in str(error.value)


# Packing


@given(st.binary(max_size=2000))
def test_packing_is_gzip_and_comes_back(content: bytes) -> None:
    packed = pack(content)
    assert unpack(packed) == content == gzip.decompress(packed)
    assert packed == pack(content)


def test_damaged_gzip_is_found_out() -> None:
    packed = pack(b"lap times " * 1000)
    for damaged in (b"", packed[:-9], packed[:20], packed[:-8] + b"\0" * 8, b"no gzip at all"):
        with pytest.raises(DamagedError):
            unpack(damaged)
    with pytest.raises(DamagedError, match="more than 100 bytes"):
        unpack(packed, 100)


def test_what_unpacks_to_more_than_any_answer_does_is_damaged_however_much_it_may_have() -> None:
    with pytest.raises(DamagedError, match=r"holds more than 2,\d{3},\d{3} bytes"):
        unpack(gzip.compress(b" " * 20_000_000))
    assert unpack(gzip.compress(b" " * 1_999_999)) == b" " * 1_999_999


# Objects, names and manifests


def test_objects_lie_where_their_units_do(tmp_path: Path) -> None:
    fill(tmp_path)
    listing, *rest = sorted(
        {name.rpartition("/")[0] for name in answers_in(tmp_path) if "endpoint=meetings" not in name}
    )
    assert listing == "source=openf1/listing/endpoint=sessions"
    assert rest == [
        "source=openf1/year=2024/meeting=1240/endpoint=laps",
        "source=openf1/year=2024/meeting=1240/session=9558/endpoint=car_data",
    ]
    names = [name.rpartition("/")[2] for name in answers_in(tmp_path)]
    assert sum(name.startswith("all-") for name in names) == 2  # laps and meetings: the folder says all
    assert any(name.startswith("date.from.20240707T140000-") and name.endswith(".csv.gz") for name in names)
    assert not any(":" in name for name in files_in(tmp_path))
    assert len(names) == 5  # listing of sessions and meetings, laps once for two sessions, two windows


def test_an_object_is_the_answer_byte_for_byte(tmp_path: Path) -> None:
    destination = destination_at(tmp_path)
    raw = csv_answer(START, 300)
    outcome = store(destination, whole("car_data"), [{}] * 300, raw)
    (stored,) = outcome.receipt.objects
    packed = (tmp_path / stored["path"]).read_bytes()
    assert gzip.decompress(packed) == raw.body
    assert stored["md5"] == md5_hex(raw.body)
    assert stored["stored_md5"] == md5_hex(packed)
    assert (stored["records"], stored["bytes"], stored["stored_bytes"]) == (300, len(raw.body), len(packed))


def test_a_manifest_says_all_without_f1hbase(tmp_path: Path) -> None:
    fill(tmp_path)
    manifest = json.loads((tmp_path / manifest_path(whole("laps"))).read_text())
    assert manifest["unit"] == {
        "year": 2024, "meeting_key": 1240, "session_key": 9558, "endpoint": "laps", "driver_number": None,
        "from": None, "before": None,
    }  # fmt: skip
    assert (manifest["status"], manifest["source"], manifest["epoch"]) == ("done", "openf1", 0)
    assert manifest["counts"]["records"] == 3
    (stored,) = manifest["objects"]
    assert stored["select"] == {"session_key": 9558}
    assert stored["request"] == "laps?session_key=9554&session_key=9558"
    assert {"asked_at", "stored_at", "status", "content_type"} <= stored.keys()
    assert json.loads((tmp_path / MARKER).read_text())["layout"] == "units"


def test_the_same_content_is_stored_once(tmp_path: Path) -> None:
    destination = destination_at(tmp_path)
    raw = json_answer("laps?session_key=9558", [{"lap_number": 1}])
    store(destination, whole("laps"), [{}], raw)
    (path,) = (tmp_path / name for name in answers_in(tmp_path))
    before = path.stat()
    store(destination_at(tmp_path), whole("laps"), [{}], raw)
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert path.stat().st_ino == before.st_ino


def test_a_changed_answer_lies_beside_the_old_one_and_counts(tmp_path: Path) -> None:
    destination = destination_at(tmp_path)
    for time_of_lap in (88.1, 88.2):
        store(destination, whole("laps"), [{}], json_answer("laps?session_key=9558", [{"lap_duration": time_of_lap}]))
    old, new = sorted(answers_in(tmp_path), key=lambda name: (tmp_path / name).stat().st_mtime_ns)
    path = manifest_path(whole("laps"))
    manifest = read_manifest((tmp_path / path).read_bytes(), path)
    assert [one["path"] for one in manifest.state.objects] == [new]
    assert [one["path"] for one in manifest.earlier] == [old]


def test_what_another_zlib_packed_stays_and_what_is_damaged_is_replaced(tmp_path: Path) -> None:
    raw = json_answer("laps?session_key=9558", [{"lap_number": 1}] * 50)
    store(destination_at(tmp_path), whole("laps"), [{}], raw)
    (path,) = (tmp_path / name for name in answers_in(tmp_path))
    other = gzip.compress(raw.body, 1)
    path.write_bytes(other)
    store(destination_at(tmp_path), whole("laps"), [{}], raw)
    assert path.read_bytes() == other
    path.write_bytes(other[:30])
    store(destination_at(tmp_path), whole("laps"), [{}], raw)
    assert gzip.decompress(path.read_bytes()) == raw.body


def test_a_failure_keeps_what_an_earlier_success_stored(tmp_path: Path) -> None:
    destination = destination_at(tmp_path)
    stored = store(destination, whole("laps"), [{}], json_answer("laps?session_key=9558", [{"lap_number": 1}]))
    failed(destination, whole("laps"), "503 Service Unavailable")
    (state,) = destination.state.unit_states(RACE)
    assert (state.status, state.error) == (Status.FAILED, "503 Service Unavailable")
    assert state.was_stored
    assert [one["path"] for one in state.objects] == [one["path"] for one in stored.receipt.objects]


def test_batches_of_one_answer_are_one_object(tmp_path: Path) -> None:
    destination = destination_at(tmp_path)
    raw = csv_answer(START, 30)
    receipts = [writer.write(Batch(whole("car_data"), [{}] * 10, raw=raw)) for writer in destination.writers[:3]]
    total = receipts[0] + receipts[1] + receipts[2]
    assert total.rows == 30
    assert total.checksum is None
    assert len(answers_in(tmp_path)) == 1


def test_records_without_an_answer_are_kept_as_json_lines(tmp_path: Path) -> None:
    destination = destination_at(tmp_path)
    records = [{"driver_number": 44, "lap_number": 1, "st_speed": None}, {"driver_number": 44, "lap_number": 2}]
    store(destination, whole("laps"), records, None)
    (name,) = answers_in(tmp_path)
    lines = gzip.decompress((tmp_path / name).read_bytes()).splitlines()
    assert [json.loads(line) for line in lines] == records
    assert [record for some in reader_at(tmp_path).read(whole("laps")) for record in some] == records


_MOMENTS = st.none() | st.datetimes(min_value=datetime(2023, 1, 1), timezones=st.just(UTC))


@given(st.sampled_from(["laps", "car_data"]), st.none() | st.integers(1, 99), _MOMENTS, _MOMENTS)
def test_each_unit_has_a_manifest_of_its_own(
    endpoint: str, driver: int | None, start: datetime | None, end: datetime | None
) -> None:
    units = [Unit(endpoint, RACE, driver, Window(start, end)), Unit(endpoint, SPRINT, driver, Window(start, end))]
    units.append(Unit(endpoint, RACE, 100, Window(start, end)))
    if start is not None:
        units.append(Unit(endpoint, RACE, driver, Window(start - timedelta(microseconds=1), end)))
    paths = {manifest_path(unit) for unit in units}
    assert len(paths) == len(units)
    assert not any(":" in path or "#" in path for path in paths)


# State


def test_state_gives_back_what_was_written(tmp_path: Path) -> None:
    destination = fill(tmp_path)
    states = destination.state.unit_states(RACE)
    assert sorted((state.endpoint, str(state.window)) for state in states) == [
        ("car_data", "- to 2024-07-07T15:00:00+00:00"),
        ("car_data", "2024-07-07T15:00:00+00:00 to -"),
        ("laps", "whole session"),
        ("sessions", "whole session"),
    ]
    assert {state.status for state in states} == {Status.DONE}
    assert {state.fetched for state in states} == {SETTLED}
    assert sorted(destination.state.unit_scopes()) == ["2024#1240#-", "2024#1240#9554", "2024#1240#9558"]


def test_what_was_fetched_before_it_settled_is_provisional(tmp_path: Path) -> None:
    destination = destination_at(tmp_path)
    store(destination, whole("laps"), [], json_answer("laps?session_key=9558", []), asked_at=END + timedelta(hours=1))
    (state,) = destination.state.unit_states(RACE)
    assert state.status is Status.PROVISIONAL


def test_a_manifest_that_cannot_be_read_counts_as_not_loaded(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    destination = fill(tmp_path)
    path = tmp_path / manifest_path(whole("laps"))
    path.write_text('{"version": 1, "unit": ')
    other = tmp_path / manifest_path(whole("pit"))
    other.write_bytes((tmp_path / manifest_path(whole("sessions"))).read_bytes())  # of another unit than its name says
    endpoints = {state.endpoint for state in destination.state.unit_states(RACE)}
    assert endpoints == {"car_data", "sessions"}
    assert "laps__all" in caplog.text
    assert "pit__all" in caplog.text


ODD: list[Any] = [
    float("inf"), float("nan"), 10**400, -(2**70), -1, 0, 1.5, True, None, "", [], {}, "x", "\ud800", "1" * 5_000,
    "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2025-02-30T00:00:00Z", [float("inf")], [10**400],
    {"a": float("inf")}, {"session_key": "9558"}, {"session_key": [1]}, [{}], [{"path": 7}],
]  # fmt: skip


def places_in(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the way to each part of a JSON value."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, part in parts:
        yield (*place, name)
        yield from places_in(part, (*place, name))


def changed(value: Any, place: Sequence[Any], to: Any) -> Any:
    """Return a copy of a JSON value with another part."""
    copy = json.loads(json.dumps(value))
    part = copy
    for name in place[:-1]:
        part = part[name]
    part[place[-1]] = to
    return copy


def test_an_odd_value_in_a_manifest_is_read_or_named_and_nothing_else(tmp_path: Path) -> None:
    fill(tmp_path)
    path = manifest_path(whole("laps"))
    manifest = json.loads((tmp_path / path).read_text())
    manifest["earlier"] = [dict(manifest["objects"][0])]
    refused: list[str] = []
    for place in places_in(manifest):
        for odd in ODD:
            try:
                state = read_manifest(json.dumps(changed(manifest, place, odd)).encode(), path).state
            except ValueError as error:
                refused.append(str(error))
                continue
            assert state.fetched is not None
            assert state.fetched.astimezone(timezone(timedelta(hours=14)))
            assert all(math.isfinite(number) for number in state.stats.values())
    assert len(refused) > 500
    assert not any("\n" in reason for reason in refused)
    with pytest.raises(ValueError, match=r"field 'objects\[0\]\.select|field 'select"):
        read_manifest(json.dumps(changed(manifest, ("objects", 0, "select"), {"session_key": "9558"})).encode(), path)
    with pytest.raises(ValueError, match="field 'drivers'"):
        read_manifest(json.dumps({**manifest, "drivers": list(range(2_000))}).encode(), path)
    with pytest.raises(ValueError, match="it has 8,000,001 bytes"):
        read_manifest(b" " * 8_000_001, path)


@pytest.mark.parametrize(
    ("place", "to", "reason"),
    [
        (("objects", 0, "asked_at"), "yesterday", "field 'asked_at'"),
        (("objects", 0, "select"), {"session_key": "9558"}, "field 'select"),
        (("version",), float("inf"), "Infinity is no number"),
        (("objects", 0, "status"), 404, "have 0 of its records, and their manifest counts 3"),
        (("counts", "records"), 20, "have 3 of its records, and their manifest counts 20"),
        (("objects", 0, "path"), "a" * 900, "name too long"),
        (("objects", 0, "path"), "_state", "does not exist"),
    ],
)
def test_a_manifest_that_lies_fails_its_unit_alone(tmp_path: Path, place: Any, to: Any, reason: str) -> None:
    fill(tmp_path)
    path = tmp_path / manifest_path(whole("laps"))
    path.write_text(json.dumps(changed(json.loads(path.read_text()), place, to)))
    answered: dict[str, int] = {}

    async def deliver(answer: Answer) -> None:
        if answer.error is not None:
            raise UnreadableError(answer.error)
        answered[answer.unit.endpoint] = sum(len(some) for some in answer.records)

    source = open_source(tmp_path)
    with pytest.raises((UnreadableError, ExceptionGroup)) as error:
        asyncio.run(source.fetch([whole("laps")], deliver))
    assert reason in str(getattr(error.value, "exceptions", [error.value])[0])
    asyncio.run(source.fetch([whole("car_data"), whole("sessions")], deliver))
    assert answered.keys() == {"car_data", "sessions"}


@pytest.mark.parametrize(("status", "rows"), [(200, 3), (404, 0)])
def test_a_manifest_that_lies_fails_its_unit_in_spark_as_well(tmp_path: Path, status: int, rows: int) -> None:
    (state,) = (one for one in fill(tmp_path).state.unit_states(RACE) if one.endpoint == "laps")
    stored = {**state.objects[0], "status": status}
    job = StoredJob(whole("laps"), replace(state, objects=[stored]))
    content = (tmp_path / stored["path"]).read_bytes()
    ((unit, packed),) = encode_object(ObjectTask("zone", stored, [(0, job)]), content, {"laps": frozenset()})
    assert (unit.receipt.rows, bool(list(packed.blocks([])))) == (rows, rows > 0)
    assert (unit.error is None) == (status == 200)


@pytest.mark.parametrize("version", ["1e999", "NaN", "[1]", "null", '"1"', "9" * 400])
def test_a_zone_of_an_odd_version_is_refused_in_one_line(tmp_path: Path, version: str) -> None:
    (tmp_path / MARKER).write_text(f'{{"layout": "units", "version": {version}}}')
    with pytest.raises(LocationError) as error:
        reader_at(tmp_path)
    assert "\n" not in str(error.value)


def test_quarantine_and_runs_are_kept(tmp_path: Path) -> None:
    state = FilesState(create_zone(Objects(parse_location(str(tmp_path)))))
    bad = Quarantined(RACE.prefix, "laps", '{"x": NaN}', "ab" * 32, "NaN", SETTLED, whole("laps").key)
    state.put_quarantine("run", [bad, bad])
    state.put_quarantine("run", [Quarantined("-#-#-", "sessions", "[]", "cd" * 32, "no keys", SETTLED)])
    assert state.quarantined(RACE, "laps") == [(quarantine_key(bad), whole("laps").key)]
    assert state.quarantine_counts() == {(RACE.prefix, "laps"): 1, ("-#-#-", "sessions"): 1}
    state.delete_quarantine([quarantine_key(bad)])
    state.delete_quarantine([quarantine_key(bad)])
    assert state.quarantined(RACE, "laps") == []
    state.write_run(RunState("20240707T1", meta={"start": "a"}, stats={"rows": "1"}))
    state.write_run(RunState("20240707T1", meta={"end": "b"}))
    state.write_run(RunState("20240708T1"))
    assert [run.run_id for run in state.runs()] == ["20240708T1", "20240707T1"]
    assert state.runs()[1].meta == {"start": "a", "end": "b"}
    assert state.runs()[1].stats == {"rows": "1"}


# What comes back


async def test_a_zone_lists_its_sessions_and_meetings(tmp_path: Path) -> None:
    fill(tmp_path)
    listing = await open_source(tmp_path).listing(Selection())
    assert list(listing.sessions) == SESSIONS
    assert list(listing.meetings) == MEETINGS
    assert json.loads(listing.answers["sessions"].body) == SESSIONS
    assert listing.asked_at == SETTLED
    assert listing.stats.requests == 0


async def test_a_stored_unit_is_an_answer_with_its_raw_bytes(tmp_path: Path) -> None:
    fill(tmp_path)
    answers = await fetch_all(open_source(tmp_path), [whole("car_data"), whole("laps")])
    by_unit = {answer.unit: (answer, records) for answer, records in answers}
    noon = START + timedelta(hours=1)
    assert set(by_unit) == {
        Unit("car_data", RACE, window=Window(None, noon)), Unit("car_data", RACE, window=Window(noon, None)),
        whole("laps"),
    }  # fmt: skip
    first, records = by_unit[Unit("car_data", RACE, window=Window(None, noon))]
    assert len(records) == 5_000
    assert records[1]["date"] == "2024-07-07T14:00:00.250000+00:00"
    assert first.raw is not None
    assert first.raw.body == csv_answer(START, 5_000).body
    assert (first.asked_at, first.source, first.error, first.complete) == (SETTLED, "openf1", None, True)
    laps, records = by_unit[whole("laps")]
    assert laps.select == {"session_key": 9558}
    assert [record["session_key"] for record in records] == [9558] * 3


async def test_a_copy_of_a_zone_is_the_same_byte_for_byte(tmp_path: Path) -> None:
    fill(tmp_path / "a")
    source, target = open_source(tmp_path / "a"), destination_at(tmp_path / "b")
    for scope in (SPRINT, RACE):
        units = [whole("laps", scope)] + ([whole("car_data")] if scope == RACE else [])
        for answer, records in await fetch_all(source, units):
            store(target, answer.unit, records, answer.raw, answer.select, asked_at=answer.asked_at)
    copied = answers_in(tmp_path / "b")
    assert copied == [name for name in answers_in(tmp_path / "a") if "endpoint=laps" in name or "car_data" in name]
    for name in copied:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


async def test_one_driver_is_picked_from_what_is_stored_of_all(tmp_path: Path) -> None:
    fill(tmp_path)
    answers = await fetch_all(open_source(tmp_path), [whole("car_data", driver=1), whole("laps", driver=44)])
    assert {(answer.unit.endpoint, answer.unit.driver, len(records)) for answer, records in answers} == {
        ("car_data", 1, 0), ("laps", 44, 3),
    }  # fmt: skip


async def test_the_newest_of_two_versions_counts(tmp_path: Path) -> None:
    destination = fill(tmp_path)
    later = SETTLED + timedelta(days=1)
    raw = json_answer("laps?session_key=9558", [{"meeting_key": 1240, "session_key": 9558, "lap_number": 9}], later)
    store(destination, whole("laps"), [{}], raw, asked_at=later)
    ((answer, records),) = await fetch_all(open_source(tmp_path), [whole("laps")])
    assert [record["lap_number"] for record in records] == [9]
    assert answer.asked_at == later


async def test_of_overlapping_windows_the_later_answer_counts(tmp_path: Path) -> None:
    destination = fill(tmp_path)
    later, half = SETTLED + timedelta(days=1), START + timedelta(minutes=10)
    window = Window(START + timedelta(minutes=5), half)
    store(destination, Unit("car_data", RACE, window=window), [{}] * 9, csv_answer(START + timedelta(minutes=5), 9, later), asked_at=later)  # fmt: skip  # noqa: E501
    answers = await fetch_all(open_source(tmp_path), [whole("car_data")])
    records = [record for _, some in answers for record in some]
    dates = [record["date"] for record in records]
    assert len(dates) == len(set(dates)) == 9_000 - 5 * 60 * 4 + 9
    assert sum(answer.raw is None for answer, _ in answers) == 2  # what is left of the first window, in two pieces


async def test_what_the_zone_lacks_is_left_out_unless_it_was_asked_for_by_name(tmp_path: Path) -> None:
    destination = fill(tmp_path)
    failed(destination, whole("pit"), "503 Service Unavailable")
    source = open_source(tmp_path)
    ((answer, _),) = await fetch_all(source, [whole("weather"), whole("pit")])
    assert answer.unit == whole("pit")
    assert "503 Service Unavailable" in (answer.error or "")
    assert source.lacking() == [whole("weather")]
    for named in (Named(frozenset({"weather"})), Named(frozenset({"weather", "laps"}), frozenset({9558}))):
        source = StoredSource(reader_at(tmp_path), named=named)
        ((answer, _),) = await fetch_all(source, [whole("weather")])
        assert "has it not" in (answer.error or "")
        assert source.lacking() == []


@pytest.mark.parametrize(
    ("status", "body"), [(404, b'{"detail": "No results found."}'), (500, b"ValueError: No results")]
)
async def test_an_answer_that_says_there_is_nothing_comes_back_as_that(
    tmp_path: Path, status: int, body: bytes
) -> None:
    raw = RawAnswer("openf1", "laps?session_key=9558", SETTLED, SETTLED, status, "application/json", body)
    store(destination_at(tmp_path), whole("laps"), [], raw)
    ((answer, records),) = await fetch_all(open_source(tmp_path), [whole("laps")])
    assert (answer.error, records, answer.complete) == (None, [], True)
    assert answer.raw is not None
    assert (answer.raw.status, answer.raw.body) == (status, body)


async def test_a_listing_is_as_old_as_its_latest_record(tmp_path: Path) -> None:
    destination = fill(tmp_path)
    later = SETTLED + timedelta(days=3)
    raw = json_answer("sessions?year=2024&n=2", SESSIONS[1:], later)
    store(destination, whole("sessions"), SESSIONS[1:], raw, {"session_key": 9558}, asked_at=later)
    listing = await open_source(tmp_path).listing(Selection())
    assert listing.asked_at == later
    assert "sessions" not in listing.answers  # they are in two answers now
    assert list(listing.sessions) == SESSIONS


# Bad input


@pytest.mark.parametrize("damage", ["cut", "other", "gone", "foreign"])
async def test_a_damaged_object_fails_its_unit_alone(tmp_path: Path, damage: str) -> None:
    fill(tmp_path)
    (path,) = (tmp_path / name for name in answers_in(tmp_path) if "endpoint=laps" in name)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-20])
    elif damage == "other":
        path.write_bytes(pack(b"[]"))
    elif damage == "gone":
        path.unlink()
    else:
        path.write_bytes(b"not gzip")
    answers = await fetch_all(open_source(tmp_path), [whole("laps"), whole("car_data")])
    errors = [answer.error for answer, _ in answers if answer.error is not None]
    assert len(errors) == 1
    assert str(path.relative_to(tmp_path)) in errors[0]
    assert sum(len(records) for _, records in answers) == 9_000


async def test_a_record_that_does_not_parse_fails_its_unit_and_is_named(tmp_path: Path) -> None:
    destination = destination_at(tmp_path)
    raw = json_answer("laps?session_key=9558", [])
    broken = replace(raw, body=b'[{"a": 1}, {]')
    store(destination, whole("laps"), [{}], broken)
    ((answer, _),) = [one for one in await fetch_all(open_source(tmp_path), [whole("laps")]) if one[0].error]
    assert "cannot be read" in (answer.error or "")
    assert answers_in(tmp_path)[0] in (answer.error or "")


async def test_a_session_without_its_record_is_named_and_the_rest_listed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fill(tmp_path)
    (tmp_path / manifest_path(whole("sessions"))).unlink()
    caplog.set_level(logging.ERROR)
    listing = await open_source(tmp_path).listing(Selection())
    # Without a year it is no session that can be planned: the plan names it, and the run does not end with 0.
    assert list(listing.sessions) == [SESSIONS[0], {"meeting_key": 1240, "session_key": 9558}]
    assert "session 9558 of meeting 1240" in caplog.text


async def test_a_foreign_file_is_passed_over(tmp_path: Path) -> None:
    destination = fill(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "_state/units/year=2024/meeting=1240/session=9558/notes.txt").write_text("mine")
    (tmp_path / "_state/units/odd.json").write_text("{}")
    assert len(destination.state.unit_states(RACE)) == 4
    assert list((await open_source(tmp_path).listing(Selection())).sessions) == SESSIONS
    assert len(list(destination.state.unit_scopes())) == 3


@pytest.mark.parametrize("path", ["../outside", "/etc/passwd", "source=x/../../y"])
async def test_a_manifest_names_no_file_outside_the_zone(tmp_path: Path, path: str) -> None:
    fill(tmp_path / "zone")
    (tmp_path / "outside").write_bytes(pack(b"[]"))
    manifest = tmp_path / "zone" / manifest_path(whole("laps"))
    content = json.loads(manifest.read_text())
    content["objects"][0]["path"] = path
    manifest.write_text(json.dumps(content))
    ((answer, _),) = await fetch_all(open_source(tmp_path / "zone"), [whole("laps")])
    assert "does not exist" in (answer.error or "")


def test_what_is_no_zone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LocationError, match="no folder"):
        reader_at(tmp_path / "none")
    with pytest.raises(LocationError, match="is empty"):
        reader_at(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(LocationError, match=MARKER):
        reader_at(tmp_path)
    with pytest.raises(LocationError, match="is a file"):
        reader_at(tmp_path / "notes.txt")


class Listing(Objects):
    """Objects that count how many of them were listed."""

    listed = 0

    def _list(self, prefix: str) -> Iterator[ObjectInfo]:
        for info in super()._list(prefix):
            self.listed += 1
            yield info


def test_whether_a_place_is_empty_takes_no_listing_of_all_of_it(tmp_path: Path) -> None:
    objects = Listing(parse_location(str(tmp_path)))
    assert objects.is_empty()
    for number in range(20):
        objects.put(f"folder/{number}", b"")
    assert not objects.is_empty()
    assert not objects.is_empty("folder")
    assert objects.is_empty("other")
    assert objects.listed == 2


def test_a_place_full_of_other_files_is_not_listed_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(json_files, "_LOOKED_AT", 5)
    objects = Listing(parse_location(str(tmp_path)))
    for number in range(20):
        objects.put(f"photos/{number}.jpg", b"")
    assert json_files.recognise(objects) is None
    assert objects.listed == 5
    assert "of the first 5 objects of" in caplog.text
    with pytest.raises(LocationError, match="is nothing that f1hbase can load from"):
        reader_at(tmp_path)


@pytest.mark.parametrize(
    ("marker", "says"),
    [
        ("{", "cannot be read"),
        ('{"layout": "shelves", "version": 1}', "no layout 'shelves'"),
        ('{"layout": "units", "version": 2}', "later f1hbase"),
    ],
)
def test_a_zone_of_another_kind_is_refused(tmp_path: Path, marker: str, says: str) -> None:
    (tmp_path / MARKER).write_text(marker)
    for call in (reader_at, destination_at):
        with pytest.raises(LocationError, match=says):
            call(tmp_path)


def test_an_unwritable_folder_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RefusedError, match="cannot be made") as error:
        destination_at(tmp_path / "file" / "zone")
    assert error.value.exit_code == 3
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("target", ["pipe", "/dev/zero"])
def test_a_pipe_or_a_device_in_a_zone_is_refused_and_not_read(tmp_path: Path, target: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / MARKER).symlink_to(target)
    with pytest.raises(RefusedError, match="cannot be read: it is a pipe or a device"):
        reader_at(tmp_path)


def test_a_full_disk_is_one_clear_line(tmp_path: Path) -> None:
    tmp_path.joinpath("small").mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path / "small")]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount the small file system that this needs")
    try:
        objects = Objects(parse_location(str(tmp_path / "small")), patience=60)
        objects.put("first", b"1" * 30_000)
        with pytest.raises(RefusedError, match="cannot be written: no space left on device") as error:
            objects.put("second", b"2" * 60_000)
        assert error.value.exit_code == 3
        assert [info.path for info in objects.under("")] == ["first"]
    finally:
        subprocess.run(["umount", str(tmp_path / "small")], check=True)


# A folder of plain files


def write_lines(path: Path, records: Sequence[Mapping[str, object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt") as file:
        file.writelines(json.dumps(record) + "\n" for record in records)


async def test_a_folder_of_plain_files_is_a_source(tmp_path: Path) -> None:
    write_lines(tmp_path / "meeting" / "meetings.jsonl.gz", MEETINGS)
    for record in SESSIONS:
        key = record["session_key"]
        write_lines(tmp_path / "meeting" / str(key) / "sessions.jsonl.gz", [record])
        laps = [{"meeting_key": 1240, "session_key": key, "lap_number": lap} for lap in range(3)]
        write_lines(tmp_path / "meeting" / str(key) / "laps.jsonl.gz", laps)
    flat = [
        {"meeting_key": 1240, "session_key": scope.session_key, "air_temperature": 21.5} for scope in (RACE, SPRINT)
    ]
    write_lines(tmp_path / "weather.jsonl.gz", flat)
    write_lines(tmp_path / "meeting" / str(SPRINT.session_key) / "overtakes.jsonl.gz", [{"meeting_key": 1240}])
    source = open_source(tmp_path)
    assert list((await source.listing(Selection())).sessions) == SESSIONS
    answers = await fetch_all(source, [whole("laps"), whole("weather"), whole("pit"), whole("overtakes")])
    found = {answer.unit.endpoint: len(records) for answer, records in answers}
    assert found == {"laps": 3, "weather": 1, "overtakes": 0}
    assert source.lacking() == [whole("pit")]


async def test_a_line_that_is_no_json_is_named(tmp_path: Path) -> None:
    write_lines(tmp_path / "sessions.jsonl.gz", SESSIONS)
    (tmp_path / "laps.jsonl").write_text('{"meeting_key": 1240, "session_key": 9558}\n\n{"meet\n')
    answers = await fetch_all(open_source(tmp_path), [whole("laps")])
    (error,) = [answer.error for answer, _ in answers if answer.error]
    assert "laps.jsonl', line 3" in error


# Kills

_WRITER = """
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from f1hbase.model.units import Unit, Window
from files_zone import RACE, START, csv_answer, destination_at, store
destination = destination_at(sys.argv[1])
print("ready", flush=True)
for number in range(100_000):
    start = START + timedelta(seconds=number)
    unit = Unit("car_data", RACE, window=Window(start, start + timedelta(seconds=1)))
    store(destination, unit, [{}] * 2_000, csv_answer(start, 2_000))
"""


@pytest.mark.parametrize("milliseconds", [50, 130, 290])
def test_a_kill_leaves_no_manifest_without_its_object(tmp_path: Path, milliseconds: int) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", _WRITER, str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    deadline = time.monotonic() + 30
    manifests = tmp_path / "_state/units"
    while not manifests.is_dir() and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(milliseconds / 1000)  # where it is killed does not matter to what must hold
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    states = destination_at(tmp_path).state.unit_states(RACE)
    assert states
    units = [Unit("car_data", RACE, window=state.window) for state in states]
    answers = asyncio.run(fetch_all(open_source(tmp_path), units))
    assert [answer.error for answer, _ in answers if answer.error] == []
    assert sum(state.status is Status.DONE for state in states) == len(states)


def test_meeting_units_are_not_a_sessions(tmp_path: Path) -> None:
    destination = fill(tmp_path)
    assert [state.endpoint for state in destination.state.unit_states(MEETING)] == ["meetings"]
    assert destination.state.unit_states(Scope(2024, 124, None)) == []
