"""What a session's records are, and what somebody hostile makes of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import Any

Record = dict[str, Any]

SESSION_KEY, MEETING_KEY = 70001, 7001
FORGED = "[SUCCESS] 2024-01-01 00:00:00 - all that was asked for is loaded"

_KEYS = {"meeting_key": MEETING_KEY, "session_key": SESSION_KEY}
_PLACE = {
    "circuit_key": 905, "circuit_short_name": "Opale", "country_code": "FRA", "country_key": 11,
    "country_name": "France",
    "date_start": "2025-03-09T13:00:00+00:00", "date_end": "2025-03-09T13:01:00+00:00", "gmt_offset": "02:00:00",
    "location": "Boulogne", "year": 2025,
}  # fmt: skip

RECORDS: dict[str, list[Record]] = {
    "meetings": [
        {**_PLACE, "meeting_key": MEETING_KEY, "meeting_name": "Grand Prix", "meeting_official_name": "Grand Prix 2025"}
    ],
    "sessions": [{**_PLACE, **_KEYS, "session_name": "Race", "session_type": "Race", "is_cancelled": False}],
    "drivers": [
        {**_KEYS, "driver_number": number, "full_name": f"Driver {number}", "team_name": "Team"} for number in (1, 44)
    ],
    "laps": [
        {**_KEYS, "driver_number": number, "lap_number": lap, "lap_duration": 88.1 + lap,
         "date_start": f"2025-03-09T13:00:{10 * lap:02d}.500000+00:00", "is_pit_out_lap": False,
         "segments_sector_1": [2049, 2064]}
        for number in (1, 44) for lap in range(1, 4)
    ],
    "weather": [
        {**_KEYS, "date": f"2025-03-09T13:00:{second:02d}+00:00", "air_temperature": 18.5, "rainfall": 0}
        for second in range(0, 60, 20)
    ],
    "race_control": [
        {**_KEYS, "date": "2025-03-09T13:00:05+00:00", "category": "Flag", "flag": "GREEN", "message": "GREEN LIGHT",
         "driver_number": None, "lap_number": 1, "scope": "Track", "sector": None}
    ],
    "car_data": [
        {**_KEYS, "date": f"2025-03-09T13:00:{tick // 4:02d}.{tick % 4 * 25:02d}0000+00:00", "driver_number": number,
         "brake": 0, "drs": 8, "n_gear": 7, "rpm": 11000 + tick, "speed": 300, "throttle": 99}
        for tick in range(40) for number in (1, 44)
    ],
}  # fmt: skip
"""A race of a minute, as OpenF1 gives it."""

HOSTILE_TEXTS = (
    f"Evil\x1b[2J\x1b]0;owned\x07\r\n{FORGED}\u2028\x9b2J", "../../outside/made", "/etc/f1hbase", "..", ".", "", "\x00",
    "a/../../outside", "C:\\outside\\made", "x" * 300, "é" * 200, "x" * 100_000, "\u202e\u200b", "$(touch made)",
    "%s%n{0}",
    "-rf", "#%2F\n", "NaN", "\ud800",
)  # fmt: skip
_HOSTILE_DATES = (
    "9999-12-31T23:59:59+00:00", "0001-01-01T00:00:00+23:59", "2025-13-45T99:99:99", "yesterday", "", "2026", "+" * 40,
    "2095-03-09T13:00:00+00:00", "2025-03-09T13:00:00+99:99", "٢٠٢٥-03-09T13:00:00", "2025-03-09T13:00:00.5#x", 1e308,
)  # fmt: skip
HOSTILE_VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 10**30, 2**63, 1e308, 0.1, 70001.0, "70001", [], {}, [[]], {"a": {"b": None}}, "",
    *HOSTILE_TEXTS
)  # fmt: skip

_Mutation = Callable[[Random, list[Record]], bytes]


def _bytes(value: Any) -> bytes:
    return json.dumps(value).encode()


def _wrong_value(random: Random, records: list[Record]) -> bytes:
    for _ in range(random.randint(1, 4)):
        record = random.choice(records)
        record[random.choice(list(record) or ["x"])] = random.choice(HOSTILE_VALUES)
    return _bytes(records)


def _wrong_date(random: Random, records: list[Record]) -> bytes:
    for record in records:
        for name in record:
            if name.startswith("date") and random.random() < 0.5:
                record[name] = random.choice(_HOSTILE_DATES)
    return _bytes(records)


def _missing(random: Random, records: list[Record]) -> bytes:
    record = random.choice(records)
    for name in random.sample(list(record), random.randint(1, len(record))):
        del record[name]
    return _bytes(records)


def _hostile_names(random: Random, records: list[Record]) -> bytes:
    for record in records:
        for name in (
            "meeting_name",
            "location",
            "session_name",
            "full_name",
            "message",
            "session_type",
            "country_name",
        ):
            if name in record:
                record[name] = random.choice(HOSTILE_TEXTS)
    return _bytes(records)


def _hostile_field(random: Random, records: list[Record]) -> bytes:
    random.choice(records)[random.choice(HOSTILE_TEXTS)] = random.choice(HOSTILE_VALUES)
    return _bytes(records)


def _twice(random: Random, records: list[Record]) -> bytes:
    changed = dict(random.choice(records))
    changed[random.choice(list(changed))] = random.choice(HOSTILE_VALUES)
    return _bytes([*records, *records, changed])


def _key_twice(random: Random, records: list[Record]) -> bytes:
    name = random.choice(list(records[0]))
    return b"[" + _bytes(records[0])[:-1] + b", " + _bytes(name) + b": " + _bytes(random.choice(HOSTILE_VALUES)) + b"}]"


def _deep(random: Random, records: list[Record]) -> bytes:
    depth = random.choice((40, 60, 1_000, 100_000))
    opening, closing = random.choice(((b"[", b"]"), (b'{"a":', b"}")))
    value = opening * depth + b"1" + closing * depth
    if random.random() < 0.5:
        return value
    return b"[" + _bytes(records[0])[:-1] + b', "x": ' + value + b"}]"


def _number(random: Random, records: list[Record]) -> bytes:
    spelled = (b"9" * 5_000, b"1e999", b"-0", b"NaN", b"Infinity", b"-Infinity", b"1e-400", b"0x10", b"1_000", b"01")
    name = random.choice([name for name, value in records[0].items() if isinstance(value, int | float)] or ["x"])
    return b"[" + _bytes(records[0])[:-1] + b", " + _bytes(name) + b": " + random.choice(spelled) + b"}]"


def _other_form(random: Random, records: list[Record]) -> bytes:
    body = _bytes(records)
    forms = (
        b"", b"null", b"true", b"1", b'"x"', b"{}", b'{"detail": "No results found."}', b"[null]", b"[[]]", b"[1, 2]",
        b"\xef\xbb\xbf" + body, body.decode().encode("utf-16"), body + b"x", body + body, b"\x00" + body, body[:-1],
        body.replace(b"a", b"\xff"), b"<html><script>alert(1)</script></html>", b"[" * 3, b",".join([body] * 2),
        b"\xff" * 99,
        b"date,driver_number\n1,2\n", b'a,b\r\n"', b"\n" * 10_000, b"[" + b" " * 1_000_000 + b"]",
    )  # fmt: skip
    return random.choice(forms)


def _cut(random: Random, records: list[Record]) -> bytes:
    body = _bytes(records)
    return body[: random.randrange(len(body))]


def _changed_bytes(random: Random, records: list[Record]) -> bytes:
    body = bytearray(_bytes(records))
    for _ in range(random.randint(1, 20)):
        body[random.randrange(len(body))] = random.randrange(256)
    return bytes(body)


_MUTATIONS: tuple[_Mutation, ...] = (
    _wrong_value, _wrong_date, _missing, _hostile_names, _hostile_field, _twice, _key_twice, _deep, _number,
    _other_form,
    _cut, _changed_bytes,
)  # fmt: skip


def hostile_body(random: Random, endpoint: str, records: list[Record]) -> tuple[str, bytes]:
    """Return the name of what was done to an answer, and the answer; without records to begin with it is of others."""
    mine = [dict(record) for record in records or RECORDS.get(endpoint, RECORDS["laps"])]
    mutation = random.choice(_MUTATIONS)
    return mutation.__name__.strip("_"), mutation(random, mine)
