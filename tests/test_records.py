"""What makes a record one that can be stored, which record it is, and which of two stands."""

from __future__ import annotations

import json
import math
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import endpoints, exact, records, sample

from f1hbase.model.catalog import ENDPOINTS, Endpoint
from f1hbase.model.records import (
    DEEPEST_NESTING,
    LARGEST_INTEGER_DIGITS,
    LONGEST_FIELD_NAME,
    LONGEST_KEY_TEXT,
    InvalidRecordError,
    canonical_json,
    check,
    digest,
    identity,
    raw_json,
    winner,
)
from f1hbase.model.units import LARGEST_KEY
from f1hbase.stores.hbase.codec import encode

NAN = math.nan
HALF_A_PAIR = "\ud83c"  # what a JSON text with half an emoji decodes to
HBASE_LONGEST_ROW_KEY = 32_767  # HConstants.MAX_ROW_LENGTH

DATED = [name for name, endpoint in ENDPOINTS.items() if endpoint.time_field is not None]
every_endpoint = pytest.mark.parametrize("endpoint", ENDPOINTS.values(), ids=list(ENDPOINTS))


def nested(depth: int) -> Any:
    """Return a list in a list in a list, so deep."""
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


# --- what can be stored ---


@every_endpoint
def test_a_plausible_record_can_be_stored_as_it_is(endpoint: Endpoint) -> None:
    record = sample(endpoint.name)
    assert check(endpoint, 2024, record) is record


@given(st.data())
def test_any_record_with_its_keys_can_be_stored_and_has_a_row(data: st.DataObject) -> None:
    endpoint = data.draw(endpoints)
    keys = {name: sample(endpoint.name)[name] for name in ("date", "team_name") if name in endpoint.key_fields}
    record = data.draw(records(endpoint)) | keys
    names = [name for name in record if len(name.encode()) <= LONGEST_FIELD_NAME]
    record = {name: record[name] for name in names}
    check(endpoint, 2024, record)
    encode(endpoint, 2024, record)


# --- what cannot be stored faithfully is refused by name ---


@every_endpoint
@settings(max_examples=10)
@given(data=st.data())
def test_a_record_without_a_key_field_is_refused_and_the_field_named(endpoint: Endpoint, data: st.DataObject) -> None:
    keys = ["meeting_key", *(["session_key"] if endpoint.name != "meetings" else []), *endpoint.key_fields]
    field = data.draw(st.sampled_from(keys))
    record = sample(endpoint.name)
    if data.draw(st.booleans()):
        record[field] = None
    else:
        del record[field]
    with pytest.raises(InvalidRecordError, match=f"'{field}' is missing"):
        check(endpoint, 2024, record)


@pytest.mark.parametrize(
    ("endpoint", "field", "value"),
    [
        ("laps", "driver_number", "44"),
        ("laps", "driver_number", 44.0),
        ("laps", "driver_number", True),
        ("laps", "lap_number", [1]),
        ("laps", "lap_number", NAN),
        ("laps", "session_key", "latest"),
        ("meetings", "meeting_key", "1240"),
        ("sessions", "year", "2024"),
        ("car_data", "date", 1720360981),
        ("weather", "date", {"a": HALF_A_PAIR}),
        ("championship_teams", "team_name", 7),
    ],
)
def test_a_key_field_of_a_wrong_type_is_refused_and_named(endpoint: str, field: str, value: object) -> None:
    with pytest.raises(InvalidRecordError, match=f"'{field}' is .*, not a"):
        check(ENDPOINTS[endpoint], 2024, sample(endpoint, **{field: value}))


def test_a_meeting_whose_own_year_is_not_the_keys_is_refused() -> None:
    with pytest.raises(InvalidRecordError, match="'year' is 2024, but the meeting's is 2023"):
        check(ENDPOINTS["meetings"], 2023, sample("meetings", year=2024))


awkward_numbers = pytest.mark.parametrize("value", [NAN, math.inf, -math.inf, [1, [NAN]], {"a": math.inf}], ids=repr)


@awkward_numbers
@pytest.mark.parametrize(
    ("endpoint", "field"),
    [("laps", "lap_duration"), ("laps", "unknown"), ("stints", "compound"), ("race_control", "sector")],
)
def test_nan_and_infinity_are_refused(endpoint: str, field: str, value: object) -> None:
    with pytest.raises(InvalidRecordError, match="number that JSON does not know"):
        check(ENDPOINTS[endpoint], 2024, sample(endpoint, **{field: value}))


@pytest.mark.parametrize(
    ("endpoint", "field"), [("laps", "lap_duration"), ("stints", "compound"), ("race_control", "sector")]
)
def test_the_refusal_of_nan_names_the_field(endpoint: str, field: str) -> None:
    with pytest.raises(InvalidRecordError, match=field):
        check(ENDPOINTS[endpoint], 2024, sample(endpoint, **{field: [1, NAN]}))


lone_surrogates = pytest.mark.parametrize(
    ("endpoint", "field", "value"),
    [
        ("race_control", "message", HALF_A_PAIR),
        ("drivers", "full_name", f"Max {HALF_A_PAIR}"),
        ("intervals", "gap_to_leader", HALF_A_PAIR),
        ("laps", "segments_sector_1", [HALF_A_PAIR]),
        ("championship_teams", "team_name", HALF_A_PAIR),
        ("car_data", "date", HALF_A_PAIR),
    ],
)


@lone_surrogates
def test_half_a_surrogate_pair_is_refused(endpoint: str, field: str, value: object) -> None:
    with pytest.raises(InvalidRecordError, match="has no UTF-8 form"):
        check(ENDPOINTS[endpoint], 2024, sample(endpoint, **{field: value}))


@lone_surrogates
def test_the_refusal_of_half_a_surrogate_pair_names_the_field(endpoint: str, field: str, value: object) -> None:
    with pytest.raises(InvalidRecordError, match=field):
        check(ENDPOINTS[endpoint], 2024, sample(endpoint, **{field: value}))


def test_a_field_name_that_utf8_cannot_hold_is_refused() -> None:
    with pytest.raises(InvalidRecordError, match="has no UTF-8 form"):
        check(ENDPOINTS["laps"], 2024, sample("laps", **{HALF_A_PAIR: 1}))


@pytest.mark.parametrize("value", [None, 5, "text", [], [{}], True], ids=repr)
def test_what_is_no_object_is_refused(value: object) -> None:
    with pytest.raises(InvalidRecordError, match="not an object"):
        check(ENDPOINTS["laps"], 2024, value)


@pytest.mark.parametrize("endpoint", DATED)
@pytest.mark.parametrize("date", ["", "yesterday", "2024-13-01T00:00:00", "9999-12-31T23:59:59-14:00", "2024-07-07T"])
def test_a_date_that_is_none_in_the_key_is_refused(endpoint: str, date: str) -> None:
    with pytest.raises(InvalidRecordError, match=r"'date' is .*, not a time"):
        check(ENDPOINTS[endpoint], 2024, sample(endpoint, date=date))


def test_a_date_that_is_no_key_may_be_anything() -> None:
    check(ENDPOINTS["pit"], 2024, sample("pit", date="yesterday"))
    check(ENDPOINTS["laps"], 2024, sample("laps", date_start="soon"))


def test_a_whole_number_has_at_most_100_digits() -> None:
    for value in (10**LARGEST_INTEGER_DIGITS - 1, -(10**LARGEST_INTEGER_DIGITS) + 1):
        check(ENDPOINTS["laps"], 2024, sample("laps", st_speed=value))
    for value in (10**LARGEST_INTEGER_DIGITS, -(10**LARGEST_INTEGER_DIGITS), 10**5_000):
        with pytest.raises(InvalidRecordError, match="more than 100 digits"):
            check(ENDPOINTS["laps"], 2024, sample("laps", st_speed=value))


def test_a_key_is_a_whole_number_of_64_bits() -> None:
    check(ENDPOINTS["laps"], 2024, sample("laps", driver_number=LARGEST_KEY))
    for value in (LARGEST_KEY + 1, -LARGEST_KEY - 1, 10**5_000):
        with pytest.raises(InvalidRecordError, match="'driver_number' is no whole number of 64 bits"):
            check(ENDPOINTS["laps"], 2024, sample("laps", driver_number=value))


def test_values_are_nested_at_most_50_deep() -> None:
    check(ENDPOINTS["laps"], 2024, sample("laps", segments_sector_1=nested(DEEPEST_NESTING)))
    for depth in (DEEPEST_NESTING + 1, 5_000):
        with pytest.raises(InvalidRecordError, match="nested more than 50 deep"):
            check(ENDPOINTS["laps"], 2024, sample("laps", segments_sector_1=nested(depth)))


def test_a_field_name_has_at_most_1000_bytes() -> None:
    check(ENDPOINTS["laps"], 2024, sample("laps", **{"x" * LONGEST_FIELD_NAME: 1}))
    for name in ("x" * (LONGEST_FIELD_NAME + 1), "é" * (LONGEST_FIELD_NAME // 2 + 1), "x" * 10**6):
        with pytest.raises(InvalidRecordError, match=f"longer than {LONGEST_FIELD_NAME} bytes") as refused:
            check(ENDPOINTS["laps"], 2024, sample("laps", **{name: 1}))
        assert len(str(refused.value)) < 200


@every_endpoint
def test_the_row_key_of_a_record_that_can_be_stored_is_never_longer_than_hbase_takes(endpoint: Endpoint) -> None:
    longest = -LARGEST_KEY
    record = sample(endpoint.name, meeting_key=longest, session_key=longest)
    for field in endpoint.key_fields:
        if field == "team_name":
            record[field] = "#" * LONGEST_KEY_TEXT
        elif field not in {"year", "date"}:
            record[field] = longest
    assert len(encode(endpoint, 2024, check(endpoint, 2024, record)).key) <= HBASE_LONGEST_ROW_KEY
    if "team_name" in endpoint.key_fields:
        with pytest.raises(InvalidRecordError, match="'team_name' is longer than 8000 bytes"):
            check(endpoint, 2024, record | {"team_name": "#" * (LONGEST_KEY_TEXT + 1)})


@pytest.mark.parametrize("endpoint", ["stints", "race_control"])
def test_a_field_named_like_the_sign_of_a_known_field_is_refused(endpoint: str) -> None:
    for field in ENDPOINTS[endpoint].fields:
        with pytest.raises(InvalidRecordError, match=f"'{field}%json' is one that f1hbase uses itself"):
            check(ENDPOINTS[endpoint], 2024, sample(endpoint, **{f"{field}%json": 1}))
    check(ENDPOINTS[endpoint], 2024, sample(endpoint, **{"new%json": 1}))


# --- which record it is ---


@given(st.data())
def test_two_records_are_one_if_and_only_if_they_have_one_row(data: st.DataObject) -> None:
    endpoint = data.draw(endpoints)
    one, other = data.draw(records(endpoint)), data.draw(records(endpoint))
    same = data.draw(st.sets(st.sampled_from(endpoint.fields)))
    other |= {field: one[field] for field in same if field in one}
    rows = [encode(endpoint, 2024, record).key for record in (one, other)]
    assert (identity(endpoint, one) == identity(endpoint, other)) == (rows[0] == rows[1])


# --- which of two stands, and what quarantine calls it ---


@given(st.permutations([1, 2, 3]))
def test_the_greater_canonical_json_stands_whatever_the_order(order: list[int]) -> None:
    found = [sample("laps", st_speed=200 + number) for number in order]
    assert winner(found)["st_speed"] == 203


def test_the_canonical_json_does_not_depend_on_the_order_of_fields_or_on_nulls() -> None:
    record = sample("laps", lap_duration=None)
    turned = dict(reversed(record.items()))
    without = {field: value for field, value in record.items() if value is not None}
    assert canonical_json(record) == canonical_json(turned) == canonical_json(without)
    assert digest(record) == digest(turned) == sha256(canonical_json(record).encode()).hexdigest()
    assert canonical_json({"b": 1, "a": [None, "é"]}) == '{"a":[null,"é"],"b":1}'


@pytest.mark.parametrize(
    "value", [NAN, math.inf, HALF_A_PAIR, {HALF_A_PAIR: 1}, 10**5_000, nested(5_000), nested(200_000), "x" * 10**6],
    ids=["nan", "infinity", "half a pair", "half a pair as a name", "5,000 digits", "deep", "very deep", "long"],
)  # fmt: skip
@pytest.mark.parametrize("whole", [False, True], ids=["in a field", "instead of a record"])
def test_whatever_cannot_be_stored_has_a_text_and_a_name_for_quarantine(value: Any, whole: bool) -> None:
    record = value if whole else sample("laps", st_speed=value)
    assert raw_json(record).encode()
    assert len(digest(record)) == 64
    assert digest(record) == digest(record)


def test_the_text_in_quarantine_is_the_json_of_the_record() -> None:
    record = sample("race_control", message="BÖLGE 8")
    assert json.loads(raw_json(record)) == record
    assert "Ö" in raw_json(record)
    assert exact(json.loads(raw_json({"a": NAN}))) == exact({"a": NAN})
