"""What goes into a row comes out of it, and reads well in `hbase shell` meanwhile (docs: cells)."""

from __future__ import annotations

import gzip
import json
import multiprocessing
import random
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import (
    AWKWARD_TEXTS,
    REAL,
    SILVERSTONE,
    endpoints,
    exact,
    json_values,
    needs_real_records,
    real_records,
    records,
    sample,
    table_checksum,
    texts,
    unfaithful,
)

from f1hbase.model.catalog import ENDPOINTS, Endpoint
from f1hbase.model.records import check, compact_json
from f1hbase.stores.hbase.codec import (
    Row,
    checksum,
    decode,
    encode,
    from_self_describing,
    null_columns,
    stale_signs,
)

TEXT_FIELDS = {
    "drivers": "broadcast_name country_code first_name full_name headshot_url last_name name_acronym team_colour "
    "team_name",
    "meetings": "circuit_image circuit_info_url circuit_short_name circuit_type country_code country_flag "
    "country_name date_end date_start gmt_offset location meeting_name meeting_official_name",
    "sessions": "circuit_short_name country_code country_name date_end date_start gmt_offset location session_name "
    "session_type",
    "laps": "date_start",
    "pit": "date",
    "race_control": "category flag scope message",
    "stints": "compound",
    "team_radio": "recording_url",
}
every_text_field = pytest.mark.parametrize(
    ("endpoint", "field"), [(name, field) for name, fields in TEXT_FIELDS.items() for field in fields.split()]
)
every_endpoint = pytest.mark.parametrize("endpoint", ENDPOINTS.values(), ids=list(ENDPOINTS))


def cell(endpoint: str, field: str, value: object) -> bytes:
    """Return the cell of one field of an otherwise plausible record."""
    row = encode(ENDPOINTS[endpoint], 2024, sample(endpoint, **{field: value}))
    return row.cells[f"{ENDPOINTS[endpoint].family}:{field}".encode()]


def round_trip(endpoint: str, record: dict[str, Any]) -> dict[str, Any]:
    row = encode(ENDPOINTS[endpoint], 2024, record)
    return decode(ENDPOINTS[endpoint], row.key, row.cells)


def up_to_nulls(endpoint: Endpoint, record: dict[str, Any]) -> dict[str, Any]:
    """Return the record with every known field, null if need be, and without unknown fields that are null."""
    not_null = {field: value for field, value in record.items() if value is not None}
    return {**dict.fromkeys(endpoint.fields), **not_null}


# --- nothing is lost ---


@every_endpoint
@settings(max_examples=50)
@given(data=st.data())
def test_a_decoded_row_is_the_record_up_to_nulls(endpoint: Endpoint, data: st.DataObject) -> None:
    record = data.draw(records(endpoint))
    row = encode(endpoint, 2024, record)
    assert exact(decode(endpoint, row.key, row.cells)) == exact(up_to_nulls(endpoint, record))


@every_endpoint
def test_a_plausible_record_comes_back(endpoint: Endpoint) -> None:
    assert exact(round_trip(endpoint.name, sample(endpoint.name))) == exact(sample(endpoint.name))


@given(st.sampled_from(("laps", "stints", "race_control", "weather")), st.text(max_size=5), json_values)
def test_a_field_that_the_api_gains_is_kept(endpoint: str, name: str, value: Any) -> None:
    record = sample(endpoint, **{f"new {name}": value})
    assert exact(round_trip(endpoint, record).get(f"new {name}")) == exact(value)


@pytest.mark.parametrize("text", AWKWARD_TEXTS, ids=lambda text: repr(text)[:12])
@pytest.mark.parametrize("field", ["gap_to_leader", "interval", "", "a#b", "a:b", "unknown", "日付"])
def test_a_text_in_a_field_of_any_kind_stays_that_text(field: str, text: str) -> None:
    assert round_trip("intervals", sample("intervals", **{field: text}))[field] == text


@pytest.mark.parametrize(
    "value",
    [0, -1, 10**40, -(10**40), 0.0, -0.0, 75.0, 1e300, 5e-324, 0.1, True, False, [], {}, [2049, None], [[1], [None]],
     [True, 1, 1.0, "1"], {"a": None}, [""]],
    ids=repr,
)  # fmt: skip
def test_a_value_comes_back_with_its_type(value: object) -> None:
    for endpoint, field in (("session_result", "duration"), ("laps", "unknown"), ("race_control", "flag")):
        assert exact(round_trip(endpoint, sample(endpoint, **{field: value}))[field]) == exact(value)


@every_text_field
@pytest.mark.parametrize("value", [2, 1.5, True, ["SOFT", None], {"a": 1}], ids=repr)
def test_a_value_that_is_no_string_survives_in_a_text_field(endpoint: str, field: str, value: object) -> None:
    assert exact(round_trip(endpoint, sample(endpoint, **{field: value}))[field]) == exact(value)


@every_endpoint
def test_a_record_without_any_cell_exists_all_the_same(endpoint: Endpoint) -> None:
    in_key = {"meeting_key", "session_key", *endpoint.key_fields}
    record = {field: value for field, value in sample(endpoint.name).items() if field in in_key}
    row = encode(endpoint, 2024, record)

    assert row.cells == {f"{endpoint.family}:".encode(): b""}
    assert decode(endpoint, row.key, row.cells) == up_to_nulls(endpoint, record)


def test_an_interval_whose_two_gaps_are_null_has_the_empty_qualifier() -> None:
    row = encode(ENDPOINTS["intervals"], 2024, sample("intervals", gap_to_leader=None, interval=None))
    assert row.cells == {b"intervals:": b""}


@given(st.data())
def test_the_cells_of_another_endpoint_in_the_same_row_are_passed_over(data: st.DataObject) -> None:
    lap, pit = ENDPOINTS["laps"], ENDPOINTS["pit"]
    one = data.draw(records(lap))
    row = encode(lap, 2024, one)
    shared = {**encode(pit, 2024, sample("pit")).cells, **row.cells}
    assert exact(decode(lap, row.key, shared)) == exact(up_to_nulls(lap, one))


# --- how cells read ---


@every_text_field
@pytest.mark.parametrize("text", ["SOFT", "12", "true", '"x"', " 1", "null", "[1]", "", "#FF0000", "Škoda"])
def test_a_text_field_holds_the_string_as_it_is(endpoint: str, field: str, text: str) -> None:
    assert cell(endpoint, field, text) == text.encode()


def test_only_the_promised_fields_are_text_fields() -> None:
    assert {name: set(e.text) for name, e in ENDPOINTS.items() if e.text} == {
        name: set(fields.split()) for name, fields in TEXT_FIELDS.items()
    }


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (328, "328"),
        (75.0, "75.0"),
        (True, "true"),
        (False, "false"),
        ([2049, None], "[2049,null]"),
        ([], "[]"),
        ({"a": 1, "b": [1.5]}, '{"a":1,"b":[1.5]}'),
        (["é"], '["é"]'),
        (1e22, "1e+22"),
        (10**20, "1" + "0" * 20),
        ("+1 LAP", "+1 LAP"),
        ("", ""),
        ("12", '"12"'),
        (" 1", '" 1"'),
        ("true", '"true"'),
        ("null", '"null"'),
        ("NaN", '"NaN"'),
        ("[1]", '"[1]"'),
        ('"x"', '"\\"x\\""'),
        ("012", "012"),
        ("True", "True"),
    ],
)
@pytest.mark.parametrize(("endpoint", "field"), [("session_result", "gap_to_leader"), ("weather", "unknown")])
def test_any_other_cell_describes_itself(endpoint: str, field: str, value: object, text: str) -> None:
    assert cell(endpoint, field, value).decode() == text


@given(json_values.filter(lambda value: value is not None and not isinstance(value, str)))
def test_a_value_that_is_no_string_is_what_json_dumps_writes_without_spaces(value: Any) -> None:
    wanted = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    assert cell("weather", "unknown", value).decode() == wanted


@given(texts)
def test_a_string_is_quoted_only_if_it_would_parse_as_json(text: str) -> None:
    try:
        json.loads(text)
        parses = True
    except ValueError:
        parses = False
    stored = cell("intervals", "gap_to_leader", text).decode()
    assert stored == (compact_json(text) if parses else text)


@given(st.data())
def test_a_record_with_faithful_types_has_one_cell_for_each_field_that_is_not_null(data: st.DataObject) -> None:
    endpoint = data.draw(endpoints)
    record = data.draw(records(endpoint, faithful_types=True))
    in_key = {"meeting_key", *endpoint.key_fields} | ({"session_key"} if endpoint.name != "meetings" else set())
    fields = [field for field, value in record.items() if value is not None and field not in in_key]
    wanted = {f"{endpoint.family}:{field}".encode() for field in fields or [""]}
    assert set(encode(endpoint, 2024, record).cells) == wanted


# --- storing again ---


def refreshed(endpoint: Endpoint, old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Store one record, then another of the same row with --refresh, and read it."""
    cells = encode(endpoint, 2024, old).cells
    row = encode(endpoint, 2024, new)
    left = {column: value for column, value in cells.items() if column not in null_columns(endpoint, new, row.cells)}
    return decode(endpoint, row.key, left | row.cells)


@given(st.data())
def test_a_refreshed_row_is_the_new_record_alone(data: st.DataObject) -> None:
    endpoint = data.draw(endpoints)
    old, new = (data.draw(records(endpoint, unknown=False)) for _ in range(2))
    assert exact(refreshed(endpoint, old, new)) == exact(up_to_nulls(endpoint, new))


def test_a_text_field_that_was_a_number_once_is_read_as_the_text_it_has_become() -> None:
    old, new = sample("race_control", flag=1), sample("race_control", flag="1")
    assert refreshed(ENDPOINTS["race_control"], old, new)["flag"] == "1"
    # On the way of records that are not stored yet, too: the row may be of a run that was killed.
    row = encode(ENDPOINTS["race_control"], 2024, new)
    assert b"racecontrol:flag%json" in stale_signs(ENDPOINTS["race_control"], row.cells)


def test_a_number_in_a_text_field_has_the_sign_that_it_is_json_and_readers_take_it() -> None:
    row = encode(ENDPOINTS["race_control"], 2024, sample("race_control", flag=1))
    assert (row.cells[b"racecontrol:flag"], row.cells[b"racecontrol:flag%json"]) == (b"1", b"")
    assert b"racecontrol:flag%json" not in stale_signs(ENDPOINTS["race_control"], row.cells)
    assert decode(ENDPOINTS["race_control"], row.key, row.cells)["flag"] == 1
    del row.cells[b"racecontrol:flag%json"]
    assert decode(ENDPOINTS["race_control"], row.key, row.cells)["flag"] == "1"


@pytest.mark.parametrize("phase", [None, 1, 3, "Q1"])
def test_a_qualifying_phase_describes_itself_and_has_no_sign(phase: object) -> None:
    record = sample("race_control", qualifying_phase=phase)
    row = encode(ENDPOINTS["race_control"], 2024, record)
    assert b"racecontrol:qualifying_phase%json" not in row.cells
    assert exact(decode(ENDPOINTS["race_control"], row.key, row.cells)) == exact(record)


def test_an_old_row_with_the_sign_of_a_qualifying_phase_reads_as_it_did_and_loses_it_when_it_is_stored_again() -> None:
    race_control, sign = ENDPOINTS["race_control"], b"racecontrol:qualifying_phase%json"
    record = sample("race_control", qualifying_phase=1)
    key, cells = encode(race_control, 2024, record)
    assert decode(race_control, key, {**cells, sign: b""}) == record
    assert sign in stale_signs(race_control, cells)
    assert sign in null_columns(race_control, record, cells)


@given(st.data())
def test_a_source_takes_away_only_what_it_would_give_if_it_were_there(data: st.DataObject) -> None:
    endpoint = data.draw(endpoints)
    old, new = (data.draw(records(endpoint, unknown=False)) for _ in range(2))
    new = {field: value for field, value in new.items() if value is not None}  # what is absent, not null
    knows = frozenset(data.draw(st.sets(st.sampled_from(endpoint.fields))))
    before = encode(endpoint, 2024, old)
    row = encode(endpoint, 2024, new)
    gone = null_columns(endpoint, new, row.cells, knows)
    after = {column: value for column, value in before.cells.items() if column not in gone} | row.cells
    found = decode(endpoint, row.key, after)
    for field in set(endpoint.fields) - {"meeting_key", "session_key", *endpoint.key_fields}:
        kept = None if field in knows else old.get(field)
        assert exact(found[field]) == exact(new.get(field, kept)), field


def test_a_source_that_knows_no_field_takes_away_nothing_but_what_it_says_is_null() -> None:
    weather = ENDPOINTS["weather"]
    short = {field: value for field, value in sample("weather").items() if field != "humidity"}
    cells = encode(weather, 2024, short).cells
    assert set(null_columns(weather, short, cells)) == {b"weather:", b"weather:humidity"}
    assert null_columns(weather, short, cells, frozenset()) == [b"weather:"]
    said = {**short, "humidity": None}
    assert b"weather:humidity" in null_columns(weather, said, cells, frozenset())


def test_a_refresh_takes_away_an_unknown_field_that_has_become_null() -> None:
    old, new = sample("weather", new_field=1), sample("weather", new_field=None)
    assert "new_field" not in refreshed(ENDPOINTS["weather"], old, new)


def test_a_refresh_takes_away_the_sign_of_an_empty_record_and_the_cells_that_are_null_by_now() -> None:
    record = sample("intervals", interval=None)
    cells = encode(ENDPOINTS["intervals"], 2024, record).cells
    assert set(null_columns(ENDPOINTS["intervals"], record, cells)) == {b"intervals:", b"intervals:interval"}


@given(st.data())
def test_a_refresh_never_takes_away_what_it_writes(data: st.DataObject) -> None:
    endpoint = data.draw(endpoints)
    record = data.draw(records(endpoint))
    cells = encode(endpoint, 2024, record).cells
    assert not set(null_columns(endpoint, record, cells)) & set(cells)


# --- checksums ---


@given(st.data(), st.randoms(use_true_random=False))
def test_the_checksum_of_a_row_does_not_depend_on_the_order_of_its_cells(
    data: st.DataObject, shuffle: random.Random
) -> None:
    endpoint = data.draw(endpoints)
    row = encode(endpoint, 2024, data.draw(records(endpoint)))
    cells = list(row.cells.items())
    shuffle.shuffle(cells)
    assert checksum(Row(row.key, dict(cells))) == checksum(row)


@given(st.data(), st.integers(0, 7))
def test_the_checksum_of_a_row_changes_with_any_bit(data: st.DataObject, bit: int) -> None:
    endpoint = data.draw(endpoints)
    row = encode(endpoint, 2024, data.draw(records(endpoint)))
    column = data.draw(st.sampled_from(sorted(row.cells)))

    def flipped(text: bytes) -> bytes:
        if not text:
            return b"\x00"
        changed = bytearray(text)
        changed[data.draw(st.integers(0, len(text) - 1))] ^= 1 << bit
        return bytes(changed)

    others = {name: value for name, value in row.cells.items() if name != column}
    changed = {
        checksum(Row(flipped(row.key), row.cells)),
        checksum(Row(row.key, {**row.cells, column: flipped(row.cells[column])})),
        checksum(Row(row.key, {**others, flipped(column): row.cells[column]})),
        checksum(Row(row.key, others)),
    }
    assert checksum(row) not in changed


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Row(b"ab", {b"c": b"d"}), Row(b"a", {b"bc": b"d"})),
        (Row(b"a", {b"bc": b"d"}), Row(b"a", {b"b": b"cd"})),
        (Row(b"a", {b"b": b"1:c1:d"}), Row(b"a", {b"b": b"", b"c": b"d"})),
    ],
)
def test_the_checksum_notices_a_byte_that_moves_from_one_place_to_another(one: Row, other: Row) -> None:
    assert checksum(one) != checksum(other)


def test_the_checksum_of_a_row_is_a_known_64_bit_number_in_every_process_and_version() -> None:
    # Stored in f1_reports: another way to compute it would make every stored unit look changed.
    assert f"{checksum(Row(b'2024#1240', {b'meeting:location': b'Silverstone'})):016x}" == "6941968fdb29555a"


@given(st.lists(st.integers(1, 99), unique=True, max_size=6), st.randoms(use_true_random=False))
def test_the_checksum_of_a_unit_does_not_depend_on_the_order_of_its_records(
    laps: list[int], shuffle: random.Random
) -> None:
    found = [sample("laps", lap_number=lap) for lap in laps]
    shuffled = shuffle.sample(found, len(found))
    assert table_checksum(ENDPOINTS["laps"], 2024, shuffled) == table_checksum(ENDPOINTS["laps"], 2024, found)


# --- real records ---

CHUNK_LINES = 20_000


def real_files() -> list[Path]:
    return sorted(REAL.glob("meeting-*/*.jsonl.gz"))


def chunks(path: Path) -> Iterator[list[bytes]]:
    with gzip.open(path, "rb") as lines:
        while chunk := list(islice(lines, CHUNK_LINES)):
            yield chunk


def endpoint_of(path: Path) -> Endpoint:
    return ENDPOINTS[path.name.removesuffix(".jsonl.gz")]


def year_of(path: Path) -> int:
    with gzip.open(path.with_name("meetings.jsonl.gz"), "rb") as lines:
        return int(json.loads(next(iter(lines)))["year"])


@needs_real_records
def test_every_real_record_of_the_practice_comes_back() -> None:
    for path in real_files():
        if path.parent.name == SILVERSTONE:
            for chunk in chunks(path):
                assert not unfaithful(endpoint_of(path), year_of(path), chunk)


@needs_real_records
def test_every_real_record_of_the_test_day_comes_back() -> None:
    """1.83 million records: two processes, half a minute on a quiet machine."""
    counts: Counter[str] = Counter()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        for path in real_files():
            if path.parent.name == SILVERSTONE:
                continue
            pending = []
            for chunk in chunks(path):
                counts[endpoint_of(path).name] += len(chunk)
                pending.append(pool.submit(unfaithful, endpoint_of(path), year_of(path), chunk))
            for result in pending:
                assert not result.result()
    assert counts["car_data"] == 755_919
    assert counts["location"] == 1_073_602


@needs_real_records
@every_endpoint
def test_every_documented_sample_comes_back(endpoint: Endpoint) -> None:
    samples = json.loads((REAL / "endpoint-samples.json").read_text())[endpoint.name]
    assert samples
    for record in samples:
        check(endpoint, record.get("year", 2023), record)
        row = encode(endpoint, record.get("year", 2023), record)
        assert exact(decode(endpoint, row.key, row.cells)) == exact(up_to_nulls(endpoint, record))


@needs_real_records
def test_the_catalogue_knows_every_field_of_the_real_records() -> None:
    samples = json.loads((REAL / "endpoint-samples.json").read_text())
    for name, found in samples.items():
        assert {field for record in found for field in record} <= set(ENDPOINTS[name].fields)
    for path in real_files():
        first = list(islice(real_records(path.parent.name, endpoint_of(path).name), 100))
        assert {field for record in first for field in record} <= set(endpoint_of(path).fields)


@pytest.mark.parametrize(
    "text",
    [
        "NaN", "-Infinity", "1e999", "[1, NaN]", '"\\ud800"', '{"a": "\\udfff"}',
        pytest.param("[" * 100_000, id="deep"), pytest.param("9" * 5000, id="long"),
    ],
)  # fmt: skip
def test_a_cell_with_what_no_record_can_have_is_its_text(text: str) -> None:
    assert from_self_describing(text.encode()) == text


@pytest.mark.parametrize("value", [1.5, [1, None], "\N{CHEQUERED FLAG}", {"a": "é"}])
def test_any_other_cell_is_its_json(value: Any) -> None:
    assert from_self_describing(json.dumps(value).encode()) == value
