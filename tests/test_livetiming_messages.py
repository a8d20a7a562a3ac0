"""What a line, a patch, a time and a message are, whatever comes."""

from __future__ import annotations

import base64
import json
import zlib
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from f1hbase.model.catalog import ENDPOINTS
from f1hbase.sources.livetiming.clock import Clock
from f1hbase.sources.livetiming.lines import BadLineError, decode, inflate, parse, split
from f1hbase.sources.livetiming.messages import Message, SessionContext
from f1hbase.sources.livetiming.patch import merged
from f1hbase.sources.livetiming.recorded import as_json, parse_line
from f1hbase.sources.livetiming.schedule import read_season
from f1hbase.sources.livetiming.source import fields_of
from f1hbase.sources.livetiming.spelling import number, seconds_of, spelled, spelled_utc, utc, whole
from f1hbase.sources.livetiming.topics import NORMALISERS, TELEMETRY
from f1hbase.sources.livetiming.topics.base import MISSHAPEN
from f1hbase.sources.livetiming.topics.gaps import gap_of

_RACE = SessionContext(1, 2, "Race", "2025/a/b/")
_NOW = datetime(2025, 3, 16, 4, 0, tzinfo=UTC)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**31), 2**31) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(_JSON)
def test_a_patch_of_a_state_to_itself_changes_nothing(state: Any) -> None:
    if isinstance(state, dict) and "_deleted" not in json.dumps(state):
        assert merged(deepcopy(state), state) == state


@given(st.dictionaries(st.text(max_size=4).filter(lambda t: t != "_deleted"), _JSON, max_size=4))
def test_a_patch_never_changes_what_it_is_made_of(change: dict[str, Any]) -> None:
    before = deepcopy(change)
    state = merged({}, change)
    for value in state.values():
        if isinstance(value, dict):
            value["new"] = 1
    assert change == before


def test_a_patch_merges_into_lists_by_index_and_deletes() -> None:
    state = {"Stints": [{"Compound": "SOFT"}], "Pit": {"4": {"Lap": "2"}, "1": {"Lap": "3"}}}

    change = {"Stints": {"0": {"TotalLaps": 3}, "2": {"Compound": "HARD"}}, "Pit": {"_deleted": ["4"]}}

    assert merged(state, change) == {
        "Stints": [{"Compound": "SOFT", "TotalLaps": 3}, {}, {"Compound": "HARD"}],
        "Pit": {"1": {"Lap": "3"}},
    }


def test_a_patch_with_an_absurd_index_is_refused() -> None:
    with pytest.raises(ValueError, match="no place in a list"):
        merged([], {"99999999999": {}})


@given(st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)))
def test_dates_are_cut_to_milliseconds_and_spelled_as_openf1_does(moment: datetime) -> None:
    text = spelled(moment)

    assert datetime.fromisoformat(text) == moment.replace(microsecond=moment.microsecond // 1000 * 1000)
    for own in (moment.isoformat().removesuffix("+00:00"), moment.isoformat().removesuffix("+00:00") + "Z"):
        assert spelled_utc(own) == text
        assert utc(own) == moment


@pytest.mark.parametrize("text", ["", "yesterday", "2025-10-25", "2025-10-25T20:47:27+02:00", "2025-10-25T20:47:27.Z"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no time"):
        spelled_utc(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1:23.456", 83.456), ("23.456", 23.456), ("2:01.201", 121.201), ("1:00:00.5", 3600.5), ("", None),
     ("OUT", None), (None, None), ("٣", None), ("-1.0", None)],
)  # fmt: skip
def test_lap_times(text: Any, seconds: float | None) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize(
    ("text", "gap"),
    [("LAP 3", 0.0), ("+0.061", 0.061), ("+1:02.500", 62.5), ("+1 LAP", "+1 LAP"), ("+2 LAPS", "+2 LAPS"),
     ("", None), (None, None), ("NaN", None), (3, None)],
)  # fmt: skip
def test_gaps(text: Any, gap: float | str | None) -> None:
    assert gap_of(text) == gap


def test_a_line_is_a_time_and_json_with_a_byte_order_mark_wherever_it_is() -> None:
    assert split(b'\xef\xbb\xbf01:02:03.004{"a":1}\r\n') == (
        timedelta(hours=1, minutes=2, seconds=3, milliseconds=4),
        b'{"a":1}',
    )
    assert split(b"\xef\xbb\xbf\r\n") is None
    assert decode("TimingData", b'\xef\xbb\xbf{"a":1}') == {"a": 1}


@pytest.mark.parametrize(
    ("topic", "body", "reason"),
    [
        ("TimingData", b'{"Lines":{"4', "no JSON"),
        ("TimingData", b'{"a":NaN}', "no JSON"),
        ("CarData.z", b"{}", "not base64 in quotes"),
        ("CarData.z", b'"%%%"', "broken base64"),
        ("CarData.z", b'"AAAA"', "deflate"),
        ("CarData.z", b'"' + base64.b64encode(b"\x00" * 20) + b'"', "deflate"),
    ],
)
def test_a_broken_message_says_what_is_wrong(topic: str, body: bytes, reason: str) -> None:
    with pytest.raises(BadLineError, match=reason):
        decode(topic, body)


def test_a_message_that_inflates_without_end_is_refused() -> None:
    packer = zlib.compressobj(wbits=-15)
    bomb = packer.compress(b"0" * 50_000_000) + packer.flush()

    with pytest.raises(BadLineError, match="larger than"):
        inflate(base64.b64encode(bomb).decode())


@given(_JSON)
def test_what_python_prints_is_read_without_being_evaluated(value: Any) -> None:
    assert json.loads(as_json(repr(value))) == value


@pytest.mark.parametrize(
    "line",
    [
        "['A', __import__('os').getcwd(), '2025-11-08T14:20:19Z']",
        "['A', {1, 2}, '2025-11-08T14:20:19Z']",
        "['A', {'a': (1, 2)}, '2025-11-08T14:20:19Z']",
        "['A', {}, '2025-11-08T14:20:19Z'",
        "['A', {}]",
        "[1, {}, '2025-11-08T14:20:19Z']",
        "['A/../B', {}, '2025-11-08T14:20:19Z']",
        "['A', {}, 'yesterday']",
        "1762608799801133790:TimingData:{",
        "hello",
        "9" * 20 + ":TimingData:{}",
    ],
)
def test_a_line_of_a_recording_that_is_none_is_refused(line: str) -> None:
    with pytest.raises(BadLineError):
        parse_line(line)


def test_the_two_forms_of_a_recording() -> None:
    one = parse_line("['WeatherData', {'AirTemp': '23.4', '_kf': True, 'x': None}, '2025-11-08T14:21:08.442Z']")
    other = parse_line('1762611668442000000:WeatherData:{"AirTemp":"23.4","_kf":true,"x":null}')

    assert one is not None
    assert other is not None
    assert one.content == other.content
    assert one.moment == other.moment
    assert (one.received, other.received) == (False, True)


@given(st.sampled_from(sorted(NORMALISERS)), st.data())
def test_no_message_makes_a_normaliser_do_anything_but_refuse_it(endpoint: str, data: st.DataObject) -> None:
    normaliser = NORMALISERS[endpoint](_RACE)
    known = st.sampled_from(["Lines", "Messages", "Captures", "Series", "StatusSeries", "PitTimes", "Drivers", "Teams"])
    keys = known | st.sampled_from(["4", "_kf", "Stints", "Sectors", "NumberOfLaps", "Gap", "Line", "FullName", "Lap"])
    content = st.recursive(_JSON, lambda inner: st.dictionaries(keys, inner, max_size=4), max_leaves=10)
    for topic in sorted(normaliser.topics):
        try:
            records = list(normaliser.take(Message(_NOW, topic, data.draw(content))))
        except MISSHAPEN:
            continue
        assert all(record["session_key"] == 2 for record in records)
    assert all(record["session_key"] == 2 for record in normaliser.end())


@pytest.mark.parametrize("endpoint", [name for name in NORMALISERS if name not in {"car_data", "location"}])
def test_a_source_knows_only_fields_of_the_catalogue(endpoint: str) -> None:
    assert fields_of(endpoint) <= ENDPOINTS[endpoint].known


def test_what_live_timing_has_not_is_not_known() -> None:
    assert not {"dnf", "dns", "dsq"} & fields_of("session_result")
    assert not {"country_flag", "circuit_type", "circuit_image"} & fields_of("meetings")
    assert "is_cancelled" not in fields_of("sessions")


def test_a_baseline_dates_nothing() -> None:
    state = {"Lines": {"4": {"Line": 1, "NumberOfLaps": 3}}}

    for name in ("position", "laps"):
        assert list(NORMALISERS[name](_RACE).take(Message(_NOW, "TimingData", state, baseline=True))) == []


@pytest.mark.parametrize("telemetry", TELEMETRY.values(), ids=TELEMETRY)
def test_telemetry_of_another_shape_is_not_lost(telemetry: Any) -> None:
    car: dict[str, Any] = (
        {"X": 1.5, "Y": None, "Z": 3} if telemetry.values is None else {"Channels": {"0": 1.5, "2": 3, "99": 1}}
    )
    content = {telemetry.entries: [{telemetry.time: "2025-03-16T04:00:00.5Z", telemetry.cars: {"241": car}}]}

    rows, others = telemetry.rows(_RACE, json.dumps(content).encode())

    assert rows == []
    (record,) = others
    assert record["driver_number"] == 241
    assert record["date"] == "2025-03-16T04:00:00.500000+00:00"
    assert record["x" if telemetry.endpoint == "location" else "rpm"] == 1.5


def test_the_clock_is_what_most_messages_say() -> None:
    clock = Clock()
    # The first message of SessionData is a whole state, with times of its past.
    clock.see("SessionData", timedelta(seconds=24), b'{"StatusSeries":[{"Utc":"2025-03-16T01:00:00Z"}]}')
    clock.see("SessionData", timedelta(seconds=24), b'{"Series":{"0":{"Utc":"2025-03-16T03:07:00Z","Lap":1}}}')
    for second in (10, 20):
        body = f'{{"Series":{{"1":{{"Utc":"2025-03-16T03:07:{second}.618Z"}}}}}}'.encode()
        clock.see("SessionData", timedelta(seconds=second), body)

    assert clock.t0 == datetime(2025, 3, 16, 3, 7, 0, 618000, tzinfo=UTC)
    assert clock.votes == 2


def test_numbers_that_no_counter_reaches_are_none() -> None:
    assert [whole(text) for text in ("12", 12.0, 2**63 - 1)] == [12, 12, 2**63 - 1]
    none: list[Any] = [1e999, -1e999, 1e308, 2**63, "9" * 400, "9" * 5_000, None, [], "x"]
    assert [whole(text) for text in none] == [None] * len(none)
    assert number("1.5") == 1.5
    assert number(10**400) is None


@pytest.mark.parametrize("sessions", [5, True, "x", {"Key": 1}, None, [None, 5, []]])
def test_an_index_whose_meeting_lists_no_sessions_has_none(sessions: Any) -> None:
    index = {"Year": 2025, "Meetings": [{"Key": 1, "Name": "Grand Prix", "Sessions": sessions}]}
    assert not read_season(json.dumps(index).encode(), 2025).sessions


@pytest.mark.parametrize("body", [b'"' + b"x" * 8_000_000 + b'"', b"[" + b"{}," * 600_000 + b"1]"])
def test_a_message_larger_than_any_is_not_decoded(body: bytes) -> None:
    with pytest.raises(BadLineError, match=r"larger than 8,000,000 bytes|more than 1,000,000 values"):
        parse(body)
