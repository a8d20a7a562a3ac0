"""A body becomes records exactly as they were sent, in CSV as in JSON, or it is refused: never fewer, never others."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import AWKWARD_TEXTS, exact, needs_real_records, real_records, sample

from f1hbase.model.catalog import ENDPOINTS, Endpoint
from f1hbase.model.records import InvalidRecordError, check
from f1hbase.model.samples import Record, Samples, samples_of_json
from f1hbase.model.text import excerpt
from f1hbase.serve.csvform import to_csv
from f1hbase.sources.decoding import records_of_lines
from f1hbase.sources.http.errors import TransientError, UnfaithfulError
from f1hbase.sources.openf1.formats import SLICE_ROWS, CsvAnswer, JsonAnswer, decode_answer, decode_json
from f1hbase.stores.hbase.codec import encode, encode_samples

CAR, LOCATION = ENDPOINTS["car_data"], ENDPOINTS["location"]
endpoints = st.sampled_from([CAR, LOCATION])
values = st.none() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
dates = st.builds(
    lambda moment, whole: (moment.replace(microsecond=0) if whole else moment).isoformat(),
    st.datetimes(datetime(2018, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),
    st.booleans(),
)

some_examples = settings(max_examples=60)


@st.composite
def answers(draw: st.DrawFn, least: int = 0) -> tuple[Endpoint, list[Record]]:
    """Draw the records of one answer: all of the same fields, any of whose values may be null."""
    endpoint = draw(endpoints)
    keys = {
        "meeting_key": st.none() | st.integers(0),
        "session_key": st.none() | st.integers(0),
        "driver_number": st.none() | st.integers(0),
        "date": dates,
    }
    others = draw(st.sets(st.sampled_from([field for field in endpoint.fields if field not in keys])))
    fields = draw(st.permutations([*keys, *others]))
    record = st.fixed_dictionaries({field: keys.get(field, values) for field in fields})
    return endpoint, draw(st.lists(record, min_size=least, max_size=6))


def read_csv(body: bytes, endpoint: Endpoint) -> list[Record]:
    return [record for some in CsvAnswer(body, endpoint) for record in some]


def samples_of_csv(body: bytes, endpoint: Endpoint) -> Samples | None:
    """Return the samples of a short answer; None if it is not one of samples."""
    (some,) = CsvAnswer(body, endpoint)
    return some if isinstance(some, Samples) else None


def same(found: list[Record], wanted: list[Record]) -> bool:
    """Whether they are the same JSON, in the same order; unlike with ==, 1 and 1.0 differ."""
    return list(map(exact, found)) == list(map(exact, wanted))


# --- CSV ---


@some_examples
@given(answers(least=1))
def test_csv_gives_the_records_that_json_gives(answer: tuple[Endpoint, list[Record]]) -> None:
    endpoint, records = answer
    assert same(read_csv(to_csv(records), endpoint), decode_json(json.dumps(records).encode()))


@some_examples
@given(st.lists(st.builds(sample, endpoint=st.just("car_data"), date=dates, rpm=values, drs=st.none() | st.integers())))
def test_csv_gives_samples_where_json_does(records: list[Record]) -> None:
    if records:
        by_json = samples_of_json(CAR, json.dumps(records).encode())
        by_csv = samples_of_csv(to_csv(records), CAR)
        assert (by_csv and by_csv.rows) == (by_json and by_json.rows)


_spellings = st.sampled_from(
    ["0", "-0", "007", "-12", "+1", "1.0", "1e3", "1 2", " 1", "1T2", "", "null", "0x1", "1_0", "٣"]
)
_dated = st.sampled_from([
    "2024-07-05 11:30:00+00:00", "2024-07-05T11:30:00.5+00:00", "2024-07-05 11:30:00", "2024-07-05 11:30:00+02:00",
    "2024-07-05  11:30:00+00:00", "12024-07-05 11:30:00+00:00", "2024-07-05 11:30:00.+00:00", "",
])  # fmt: skip


@settings(max_examples=100)
@given(
    st.lists(
        st.fixed_dictionaries(
            {name: _dated if name == "date" else st.sampled_from(["1", "44"]) | _spellings for name in LOCATION.fields}
        ),
        min_size=1,
        max_size=4,
    ),
    st.sampled_from(["\n", "\r\n"]),
)
def test_however_a_value_is_spelt_it_is_read_column_by_column_as_line_by_line(
    lines: list[dict[str, str]], end: str
) -> None:
    body = "".join(",".join(line) + end for line in (LOCATION.fields, *(line.values() for line in lines))).encode()

    def read(*, by_line: bool) -> list[str] | str:
        answer = CsvAnswer(body, LOCATION)
        answer._are_whole = not by_line
        try:
            return [exact(record) for some in answer for record in some]
        except UnfaithfulError as error:
            return str(error)

    assert read(by_line=False) == read(by_line=True)


def test_a_cell_has_the_text_of_the_number_whatever_the_answer_was() -> None:
    records = [sample("location", x=x, y=0) for x in (-3195, 0, 10**30)]
    body = to_csv(records).replace(b",0,", b",-0,")
    assert b",-0," in body
    samples = samples_of_csv(body, LOCATION)
    assert samples is not None
    blocks = [encode_samples(2024, some) for some in (samples, Samples(LOCATION, samples.rows))]
    assert blocks[0] == blocks[1]
    assert blocks[0] is not None
    assert dict(blocks[0].rows()) == dict(encode(LOCATION, 2024, record) for record in records)


@pytest.mark.parametrize("as_csv", [True, False], ids=["CSV", "JSON"])
def test_a_large_answer_is_read_slice_by_slice_and_whole_and_may_be_read_again(as_csv: bool) -> None:
    records = [sample("location", x=number) for number in range(3 * SLICE_ROWS)]
    body = to_csv(records) if as_csv else json.dumps(records).encode()
    answer = decode_answer(LOCATION, "text/csv" if as_csv else "application/json", body)
    for _ in range(2):
        found: list[Record] = []
        for some in answer:
            assert isinstance(some, Samples)
            assert len(some) <= 1.5 * SLICE_ROWS
            found += some
        assert same(found, records)


def test_what_is_not_alike_in_one_slice_is_so_in_that_slice_alone() -> None:
    records = [sample("location", x=number) for number in range(3 * SLICE_ROWS)]
    records[-1]["y"] = 0.5
    *alike, last = CsvAnswer(to_csv(records), LOCATION)
    assert len(alike) >= 2
    assert all(isinstance(some, Samples) for some in alike)
    assert not isinstance(last, Samples)
    assert same([record for some in (*alike, last) for record in some], records)


def test_an_error_in_a_later_slice_is_raised_when_it_is_reached() -> None:
    body = to_csv([sample("location", x=number) for number in range(3 * SLICE_ROWS)]) + b"1,2\r\n"
    slices = iter(CsvAnswer(body, LOCATION))
    assert isinstance(next(slices), Samples)
    with pytest.raises(TransientError, match="lines of other than"):
        list(slices)


@pytest.mark.parametrize("odd", [math.nan, 1e400, "\ud83c", 10**30, None, [1, {"a": "é"}]])
def test_a_large_answer_of_other_records_is_read_slice_by_slice_to_the_same(odd: Any) -> None:
    records = [sample("intervals", driver_number=n, gap_to_leader=odd if n % 1000 == 7 else 0.5) for n in range(4_000)]
    body = json.dumps(records).encode()

    slices = list(JsonAnswer(body, ENDPOINTS["intervals"]))

    assert same([record for some in slices for record in some], json.loads(body))
    assert len(slices) == 1 or max(map(len, slices)) == SLICE_ROWS


def test_a_large_answer_of_other_records_that_is_cut_off_is_refused_at_once() -> None:
    body = json.dumps([sample("intervals", driver_number=n) for n in range(4_000)]).encode()
    with pytest.raises(TransientError, match="cut off"):
        next(iter(JsonAnswer(body[:-20], ENDPOINTS["intervals"])))


@pytest.mark.parametrize("content_type", ["text/csv", "application/json"])
def test_an_answer_without_a_body_is_cut_off_and_does_not_say_that_there_are_no_records(content_type: str) -> None:
    with pytest.raises(TransientError, match="cut off"):
        decode_answer(CAR, content_type, b"")


@pytest.mark.parametrize("name", ["car_data", "laps"])
def test_what_is_said_to_be_json_is_read_as_such_whatever_was_asked_for(name: str) -> None:
    answer = decode_answer(ENDPOINTS[name], "application/json", json.dumps([sample(name)]).encode())
    assert isinstance(answer, JsonAnswer)
    assert [record for some in answer for record in some] == [sample(name)]


@pytest.mark.parametrize("key", ["meeting_key", "session_key", "driver_number", "date"])
def test_without_a_key_csv_gives_no_samples(key: str) -> None:
    assert samples_of_csv(to_csv([sample("car_data"), sample("car_data", **{key: None})]), CAR) is None


def test_a_field_that_only_some_records_have_is_null_in_the_others() -> None:
    full = sample("car_data")
    short = {name: value for name, value in full.items() if name not in {"brake", "rpm"}}
    assert same(read_csv(to_csv([full, short]), CAR), [full, short | {"brake": None, "rpm": None}])


def test_a_date_that_is_null_is_null_in_csv_too() -> None:
    records = [sample("car_data", date=None), sample("car_data")]
    assert same(read_csv(to_csv(records), CAR), records)


@needs_real_records
def test_csv_gives_the_real_records() -> None:
    records = list(islice(real_records("meeting-1304-testing-day1", "car_data"), 20_000))
    assert len(records) == 20_000
    assert same(read_csv(to_csv(records), CAR), records)


@pytest.mark.parametrize(
    ("csv", "json_"),
    [
        ("2023-09-15 13:08:19.923000+00:00", "2023-09-15T13:08:19.923000+00:00"),
        ("2023-09-15 13:08:19+00:00", "2023-09-15T13:08:19+00:00"),
    ],
)
def test_a_date_has_the_spelling_of_json(csv: str, json_: str) -> None:
    body = f"date,driver_number,meeting_key,session_key,x\r\n{csv},44,1240,9558,-3195\r\n".encode()
    assert read_csv(body, LOCATION) == [
        {"date": json_, "driver_number": 44, "meeting_key": 1240, "session_key": 9558, "x": -3195}
    ]


@pytest.mark.parametrize("end", ["\r\n", "\n"], ids=repr)
def test_a_header_alone_means_that_there_are_no_records(end: str) -> None:
    body = "brake,date,driver_number,drs,meeting_key,n_gear,rpm,session_key,speed,throttle" + end
    assert read_csv(body.encode(), CAR) == []


@some_examples
@given(answers(least=1), st.data())
def test_a_csv_that_is_cut_anywhere_but_at_a_lines_end_is_refused(
    answer: tuple[Endpoint, list[Record]], data: st.DataObject
) -> None:
    """One that is cut at a line's end is whole; that it is shorter than it says is for the client to notice."""
    endpoint, records = answer
    body = to_csv(records)
    position = data.draw(st.integers(0, len(body) - 1))
    if body[:position].endswith(b"\n"):
        assert same(read_csv(body[:position], endpoint), records[: body[:position].count(b"\n") - 1])
    else:
        with pytest.raises(TransientError):
            read_csv(body[:position], endpoint)


@some_examples
@given(answers(least=2), st.data())
def test_a_csv_with_a_piece_missing_in_the_middle_is_refused_or_lacks_whole_lines(
    answer: tuple[Endpoint, list[Record]], data: st.DataObject
) -> None:
    endpoint, records = answer
    lines = to_csv(records).splitlines(keepends=True)
    # From within one line to within a later one, at another column.
    commas = data.draw(st.integers(1, lines[0].count(b",")))
    first, second = b",".join(lines[1].split(b",")[:commas]), lines[2]
    with pytest.raises(TransientError):
        read_csv(b"".join([lines[0], first + b"," + second, *lines[3:]]), endpoint)


@pytest.mark.parametrize("name", ["car_data", "location"])
def test_a_field_that_nobody_knows_is_asked_for_as_json(name: str) -> None:
    body = to_csv([sample(name, brand_new=1)])
    with pytest.raises(UnfaithfulError, match="brand_new"):
        CsvAnswer(body, ENDPOINTS[name])


def is_json_number(text: str) -> bool:
    try:
        return type(json.loads(text)) in {int, float} and "n" not in text.lower() and text == text.strip()
    except ValueError:
        return False


@pytest.mark.parametrize("text", [text for text in AWKWARD_TEXTS if text and not is_json_number(text)], ids=repr)
def test_a_text_where_a_number_belongs_is_never_taken_for_one(text: str) -> None:
    with pytest.raises((UnfaithfulError, TransientError)):
        read_csv(to_csv([sample("location", x=text)]), LOCATION)


@pytest.mark.parametrize("text", ["1_000", "+1", "٣", "１２", "01", "-01", "1.", ".5", "0x1", "1e", "--1"])  # noqa: RUF001
def test_what_json_would_not_call_a_number_is_a_text(text: str) -> None:
    with pytest.raises(UnfaithfulError):
        read_csv(to_csv([sample("location", x=text)]), LOCATION)


@pytest.mark.parametrize("value", [True, False, [1], {"a": 1}], ids=repr)
def test_what_is_neither_number_nor_null_is_asked_for_as_json(value: Any) -> None:
    with pytest.raises(UnfaithfulError):
        read_csv(to_csv([sample("car_data", brake=value)]), CAR)


@pytest.mark.parametrize("text", ['say "hello"', "a,b", "two\nlines", '"'], ids=repr)
def test_a_quoted_text_is_asked_for_as_json(text: str) -> None:
    with pytest.raises(UnfaithfulError, match="quoted"):
        CsvAnswer(to_csv([sample("car_data", drs=text)]), CAR)


@pytest.mark.parametrize(
    "body",
    [b"", b"\n", b"\r\n", b"<html><body>Sorry</body></html>\n", b"upstream request timeout", b"[]", b"null\n",
     b"\xff\n", b"date,driver_number\r\n2023,1\r\n", "date,driver_number,meeting_key,é".encode()[:-1] + b"\n",
     b"date,driver_number,meeting_key,session_key\r\n\r\n",
     b'<html lang="en"><body>Sorry</body></html>\n', b'{"message": "The service is temporarily unavailable."}'],
    ids=repr,
)  # fmt: skip
def test_what_is_no_csv_of_the_endpoint_is_asked_for_again(body: bytes) -> None:
    with pytest.raises(TransientError):
        read_csv(body, CAR)


def test_only_what_is_all_numbers_and_a_date_is_asked_for_as_csv() -> None:
    faithful = [endpoint for endpoint in ENDPOINTS.values() if endpoint.numeric]
    assert [endpoint.name for endpoint in faithful] == ["car_data", "location"]
    for endpoint in faithful:
        assert endpoint.text == frozenset()
        assert all(type(sample(endpoint.name)[field]) is int for field in endpoint.fields if field != "date")


# --- JSON ---


def test_a_number_of_thousands_of_digits_spoils_its_record_and_not_the_answer() -> None:
    body = b'[{"a": 1}, {"a": ' + b"9" * 5_000 + b"}]"
    good, bad = decode_json(body)
    assert good == {"a": 1}
    assert bad == {"a": float("inf")}, "which no record may hold, so that it goes to quarantine"


json_lists: st.SearchStrategy[list[Any]] = st.lists(
    st.dictionaries(st.text(max_size=5), st.none() | st.integers() | st.text(max_size=5), max_size=3) | st.none(),
    max_size=4,
)


@given(json_lists, st.booleans())
def test_a_json_list_is_its_records(records: list[Any], ascii_: bool) -> None:
    assert decode_json(json.dumps(records, ensure_ascii=ascii_).encode(errors="surrogatepass")) == records


@given(json_lists, st.data())
def test_json_that_is_cut_anywhere_is_refused(records: list[Any], data: st.DataObject) -> None:
    body = json.dumps(records).encode()
    with pytest.raises(TransientError):
        decode_json(body[: data.draw(st.integers(0, len(body) - 1))])


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b"null", b"3", b'"[]"', b'{"detail": "No results found."}', b"<html></html>", b"[1,]", b"[]]", b"\xff",
     b"[" * 100_000, b'["\xc3"]'],
    ids=lambda body: repr(body[:30]),
)  # fmt: skip
def test_what_is_no_json_list_is_asked_for_again(body: bytes) -> None:
    with pytest.raises(TransientError):
        decode_json(body)


def test_the_reason_quotes_the_body_on_one_line_without_its_tags() -> None:
    with pytest.raises(TransientError, match=r"Sorry, we are closed$"):
        decode_json(b"<html>\n<h1>Sorry,</h1>\r\n we are <b>closed</b></html>")
    assert excerpt(b"") == "(nothing)"
    assert len(excerpt(b"x" * 10_000)) == 120


@pytest.mark.parametrize("number", ["1e-400", "-2.5E-0999", "0." + "0" * 400 + "1"])
def test_a_number_that_would_become_0_puts_its_record_into_quarantine(number: str) -> None:
    lap = '{"meeting_key":1,"session_key":2,"driver_number":3,"lap_number":%d,"lap_duration":%s}'
    body = f"[{lap % (1, '0e-400')},{lap % (2, number)},{lap % (3, '1e-300')}]".encode()
    (lines,) = records_of_lines(ENDPOINTS["laps"], iter(body[1:-1].replace(b"},{", b"}\n{").splitlines()), "laps.jsonl")
    for records in (decode_json(body), list(lines)):
        assert [record["lap_duration"] for record in (records[0], records[2])] == [0.0, 1e-300]
        with pytest.raises(InvalidRecordError, match="lap_duration"):
            check(ENDPOINTS["laps"], 2024, records[1])
