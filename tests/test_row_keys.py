"""The row key of every endpoint, as other tools rely on it (docs: row keys)."""

from __future__ import annotations

import hashlib
import json
import random
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import SILVERSTONE, endpoints, needs_real_records, real_records, records, sample, texts

from f1hbase.model.catalog import DATA_FAMILIES, ENDPOINTS, Endpoint
from f1hbase.stores.hbase.codec import decode, encode, escape, unescape
from f1hbase.stores.hbase.schema import REPORT_FAMILIES


class Promise(NamedTuple):
    endpoint: str
    family: str
    key: str
    in_key: frozenset[str]


def promise(endpoint: str, family: str, key: str, in_key: str) -> Promise:
    return Promise(endpoint, family, key, frozenset(in_key.split()))


DATED = "{S}#{driver_number}#{date}"
CONTRACT = (
    promise("meetings", "meeting", "{year}#{meeting_key}", "year"),
    promise("sessions", "session", "{S}", "year"),
    promise("drivers", "driver", "{S}#{driver_number}", "driver_number"),
    promise("session_result", "result", "{S}#{driver_number}", "driver_number"),
    promise("starting_grid", "grid", "{S}#{driver_number}", "driver_number"),
    promise("championship_drivers", "championship", "{S}#{driver_number}", "driver_number"),
    promise("championship_teams", "championship", "{S}#championship_teams#{team_name}", "team_name"),
    promise("car_data", "car", DATED, "driver_number date"),
    promise("location", "location", DATED, "driver_number date"),
    promise("intervals", "intervals", DATED, "driver_number date"),
    promise("position", "position", DATED, "driver_number date"),
    promise("team_radio", "teamradio", DATED, "driver_number date"),
    promise("laps", "laps", "{S}#{driver_number}#{lap_number}", "driver_number lap_number"),
    promise("pit", "pit", "{S}#{driver_number}#{lap_number}", "driver_number lap_number"),
    promise("stints", "stints", "{S}#{driver_number}#stint#{stint_number}", "driver_number stint_number"),
    promise("weather", "weather", "{S}#weather#{date}", "date"),
    promise("race_control", "racecontrol", "{S}#race_control#{date}#{h}", "date"),
    promise(
        "overtakes", "overtakes", "{S}#overtakes#{date}#{overtaking_driver_number}#{overtaken_driver_number}",
        "date overtaking_driver_number overtaken_driver_number",
    ),
)  # fmt: skip

each_endpoint = pytest.mark.parametrize("promised", CONTRACT, ids=[promised.endpoint for promised in CONTRACT])


def hash_of(record: dict[str, Any]) -> str:
    fields = ("driver_number", "lap_number", "category", "flag", "scope", "sector", "message")
    array = json.dumps([record.get(field) for field in fields], separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(array.encode("utf-8")).hexdigest()[:8]


def key_of(endpoint: str, **changes: Any) -> str:
    record = sample(endpoint, **changes)
    return encode(ENDPOINTS[endpoint], 2024, record).key.decode()


def test_there_are_18_endpoints_and_each_has_a_promised_key() -> None:
    assert len(CONTRACT) == 18
    assert {promised.endpoint for promised in CONTRACT} == set(ENDPOINTS)


@each_endpoint
def test_the_row_key_is_the_promised_one(promised: Promise) -> None:
    record = sample(promised.endpoint)
    session = f"2024#{record['meeting_key']}#{record.get('session_key')}"
    wanted = promised.key.format(S=session, h=hash_of(record), **record)

    assert encode(ENDPOINTS[promised.endpoint], 2024, record).key.decode() == wanted


@pytest.mark.parametrize(
    ("endpoint", "key"),
    [
        ("meetings", "2024#1240"),
        ("sessions", "2024#1240#9558"),
        ("drivers", "2024#1240#9558#44"),
        ("championship_teams", "2024#1240#9558#championship_teams#Mercedes"),
        ("car_data", "2024#1240#9558#44#2024-07-07T14:03:01.500000+00:00"),
        ("laps", "2024#1240#9558#44#12"),
        ("stints", "2024#1240#9558#44#stint#2"),
        ("weather", "2024#1240#9558#weather#2024-07-07T14:03:01.500000+00:00"),
        ("overtakes", "2024#1240#9558#overtakes#2024-07-07T14:03:01.500000+00:00#44#4"),
    ],
)
def test_a_row_key_reads_like_this(endpoint: str, key: str) -> None:
    assert key_of(endpoint) == key


@each_endpoint
def test_every_field_that_is_not_in_the_key_is_a_cell_of_the_promised_family_and_no_other_is(promised: Promise) -> None:
    record = {
        field: "1" if value is None else value for field, value in sample(promised.endpoint).items()
    }  # null has no cell
    not_cells = promised.in_key | {"meeting_key", "session_key"}
    wanted = {f"{promised.family}:{field}" for field in record if field not in not_cells}

    assert {column.decode() for column in encode(ENDPOINTS[promised.endpoint], 2024, record).cells} == wanted


def test_the_tables_have_the_promised_families() -> None:
    first = "car driver intervals laps location meeting pit position racecontrol session stints teamradio weather"
    assert set(DATA_FAMILIES) == set(first.split()) | {"overtakes", "result", "grid", "championship"}
    assert set(REPORT_FAMILIES) == {"meta", "stats", "errors"}
    assert {promised.family for promised in CONTRACT} == set(DATA_FAMILIES)


def test_the_year_of_a_key_is_the_meetings_year_which_the_caller_gives() -> None:
    assert encode(ENDPOINTS["laps"], 2023, sample("laps", date_start="2024-01-01T00:00:00")).key.startswith(b"2023#")


@pytest.mark.parametrize(
    "date", ["2024-07-07T14:03:01+00:00", "2024-07-07T14:03:01.500000+00:00", "2024-07-07T14:03:01.5", "2024-07-07"]
)
def test_a_date_stands_in_the_key_exactly_as_the_api_spells_it(date: str) -> None:
    assert key_of("car_data", date=date) == f"2024#1240#9558#44#{date}"


@pytest.mark.parametrize("number", [1, 10, 4, 100])
def test_numbers_in_the_key_are_not_padded(number: int) -> None:
    assert key_of("laps", lap_number=number) == f"2024#1240#9558#44#{number}"


def test_a_prefix_scan_for_driver_1_does_not_meet_driver_10() -> None:
    prefix = "2024#1240#9558#1#"
    assert key_of("car_data", driver_number=1).startswith(prefix)
    assert not key_of("car_data", driver_number=10).startswith(prefix)


@pytest.mark.parametrize(
    ("name", "component"),
    [
        ("Red Bull Racing", "Red Bull Racing"),
        ("Team #1", "Team %231"),
        ("100%", "100%25"),
        ("%23", "%2523"),
        ("%#%", "%25%23%25"),
        ("Škoda & Söhne / Co: +1", "Škoda & Söhne / Co: +1"),
    ],
)
def test_in_a_team_name_only_the_percent_sign_and_the_separator_are_escaped(name: str, component: str) -> None:
    assert key_of("championship_teams", team_name=name) == f"2024#1240#9558#championship_teams#{component}"


@given(texts)
def test_an_escaped_component_holds_no_separator_and_gives_its_text_back(text: str) -> None:
    assert "#" not in escape(text)
    assert unescape(escape(text)) == text


@given(texts, texts)
def test_two_team_names_never_share_a_row(one: str, other: str) -> None:
    assert (key_of("championship_teams", team_name=one) == key_of("championship_teams", team_name=other)) == (
        one == other
    )


def test_two_race_control_messages_of_one_second_have_two_rows() -> None:
    assert key_of("race_control", sector=8) != key_of("race_control", sector=9)


def test_the_hash_of_a_race_control_message_is_that_of_its_seven_fields_as_compact_json() -> None:
    array = '[null,3,"Flag","YELLOW","Sector",8,"BÖLGE 8: SARI"]'
    wanted = hashlib.sha256(array.encode("utf-8")).hexdigest()[:8]

    assert key_of("race_control", message="BÖLGE 8: SARI").rpartition("#")[2] == wanted


def test_the_hash_takes_a_field_that_is_left_out_for_null() -> None:
    record = sample("race_control")
    del record["driver_number"]
    assert encode(ENDPOINTS["race_control"], 2024, record).key.decode() == key_of("race_control")


def test_the_fields_of_the_hash_are_cells_as_well() -> None:
    cells = encode(ENDPOINTS["race_control"], 2024, sample("race_control", driver_number=44)).cells
    for field in ("driver_number", "lap_number", "category", "flag", "scope", "sector", "message"):
        assert f"racecontrol:{field}".encode() in cells


@needs_real_records
def test_the_first_real_race_control_message_of_silverstone_has_the_promised_hash() -> None:
    record = next(real_records(SILVERSTONE, "race_control"))
    key = encode(ENDPOINTS["race_control"], 2024, record).key.decode()
    assert key.startswith(f"2024#{record['meeting_key']}#{record['session_key']}#race_control#{record['date']}#")
    assert key.endswith("#686dcdf5")


@needs_real_records
@pytest.mark.parametrize("endpoint", ["drivers", "laps", "position", "race_control", "stints", "team_radio", "weather"])
def test_no_two_real_records_of_a_session_share_a_row(endpoint: str) -> None:
    keys = [encode(ENDPOINTS[endpoint], 2024, record).key for record in real_records(SILVERSTONE, endpoint)]
    assert len(set(keys)) == len(keys)


def test_a_car_and_its_place_at_one_instant_share_a_row_and_a_lap_and_its_pit_stop_too() -> None:
    assert key_of("car_data") == key_of("location")
    assert key_of("laps", lap_number=27) == key_of("pit", lap_number=27)


@settings(max_examples=50)
@given(st.data(), st.randoms(use_true_random=False))
def test_the_table_does_not_depend_on_the_order_or_the_windows_that_records_arrive_in(
    data: st.DataObject, shuffle: random.Random
) -> None:
    endpoint = data.draw(endpoints)
    found = data.draw(st.lists(records(endpoint), max_size=4, unique_by=lambda record: record_key(endpoint, record)))
    shuffled = [dict(shuffle.sample(list(record.items()), len(record))) for record in found]
    shuffle.shuffle(shuffled)
    cut = shuffle.randint(0, len(found))

    assert table(endpoint, shuffled[:cut]) | table(endpoint, shuffled[cut:]) == table(endpoint, found)


@given(st.data())
def test_loading_a_record_twice_changes_nothing(data: st.DataObject) -> None:
    endpoint = data.draw(endpoints)
    record = data.draw(records(endpoint))
    assert encode(endpoint, 2024, record) == encode(endpoint, 2024, dict(record))


@pytest.mark.parametrize(
    ("endpoint", "key"),
    [
        ("laps", b"2024#1240#9558#44"),
        ("laps", b"2024#1240#9558#44#12#1"),
        ("stints", b"2024#1240#9558#44#lap#2"),
        ("weather", b"2024#1240#9558#race_control#2024-07-07"),
        ("laps", b"2024#1240#9558#Lewis#12"),
    ],
)
def test_a_key_of_another_endpoint_is_refused(endpoint: str, key: bytes) -> None:
    with pytest.raises(ValueError):
        decode(ENDPOINTS[endpoint], key, {})


def record_key(endpoint: Endpoint, record: dict[str, Any]) -> bytes:
    return encode(endpoint, 2024, record).key


def table(endpoint: Endpoint, found: list[dict[str, Any]]) -> dict[bytes, dict[bytes, bytes]]:
    return dict(encode(endpoint, 2024, record) for record in found)
