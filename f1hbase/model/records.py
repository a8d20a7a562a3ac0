"""What makes a record one that can be stored, and which record it is; knows no store."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from hashlib import sha256
from typing import Any

from f1hbase.model.catalog import Endpoint, KeyHash, KeyInt, KeyText
from f1hbase.model.samples import Record
from f1hbase.model.times import lenient_time
from f1hbase.model.units import LARGEST_KEY

LONGEST_KEY_TEXT = 8_000
"""How many bytes a text in a key may have: HBase takes row keys of 32,767 (`HConstants.MAX_ROW_LENGTH`), and one text
may grow threefold when it is escaped."""

LARGEST_INTEGER_DIGITS = 100
"""How many digits a whole number may have; Python refuses to print those of more than 4,300."""

LONGEST_FIELD_NAME = 1_000
"""How many bytes the name of a field may have; the longest known has 25."""

_LONGEST_INT_TEXT = 1_000

DEEPEST_NESTING = 50
"""How deep lists and objects in a value may be nested; known ones are one deep."""

JSON_SIGN = "%json"
"""Ends the name of a cell that says of the one beside it that it holds JSON; no field of a source may end so."""

Identity = tuple[Any, ...]


class InvalidRecordError(ValueError):
    """A record that belongs in quarantine; the message says which field and why."""


def check(endpoint: Endpoint, year: int, record: object) -> Record:
    """Return a record that can be stored as it is.

    Args:
        endpoint: What it is a record of.
        year: The meeting's year.
        record: What the source gave.

    Raises:
        InvalidRecordError: If it is no object, lacks a key field or has one of another type than the source's (a
            time that is none, or a number of more than 64 bits, included), or if a value has no JSON or UTF-8 form
            (NaN, Infinity, half of a surrogate pair, a number of more than 100 digits).
    """
    if not isinstance(record, dict):
        raise InvalidRecordError("it is not an object")
    for field in endpoint.scope_fields:
        _check_int(record, field)
    if endpoint.keyed_by_year:
        _check_int(record, "year")
        if record["year"] != year:
            raise InvalidRecordError(f"'year' is {record['year']}, but the meeting's is {year}")
    elif not endpoint.dataset.led_by_year and record["season"] != year:
        raise InvalidRecordError(f"'season' is {record['season']}, but {year} was asked for")
    for part in endpoint.key:
        if isinstance(part, KeyInt):
            if not (part.optional and record.get(part.field) is None):
                _check_int(record, part.field)
        elif isinstance(part, KeyText):
            _check_text(record, part.field, is_time=part.field == endpoint.time_field)
    for name, value in record.items():
        problem = None if value is None else _problem(value)
        if problem is not None:
            raise InvalidRecordError(f"'{name}' holds {problem}")
        if name not in endpoint.known:
            _check_name(endpoint, name)
    return record


def identity(endpoint: Endpoint, record: Record) -> Identity:
    """Return what tells a record apart from the others of its endpoint and session: what its row key is made of."""
    fields = endpoint.scope_fields
    parts: list[Any] = [record[fields[0]], record[fields[1]] if len(fields) > 1 else None]
    for part in endpoint.key:
        if isinstance(part, KeyInt) and part.optional:
            parts.append(record.get(part.field))
        elif isinstance(part, KeyInt | KeyText):
            parts.append(record[part.field])
        elif isinstance(part, KeyHash):
            parts.append(key_hash(part, record))
    return tuple(parts)


def key_hash(part: KeyHash, record: Record) -> str:
    """Return the component of a row key that is a hash of several fields: 8 hex digits."""
    # Halves of surrogate pairs and NaN are refused by `check`.
    message = json.dumps([record.get(field) for field in part.fields], ensure_ascii=False, separators=(",", ":"))
    return sha256(message.encode(errors="surrogatepass")).hexdigest()[:8]


def winner(records: Iterable[Record]) -> Record:
    """Return which of several records of one identity stands, whatever order they came in."""
    return max(records, key=canonical_json)


def canonical_json(record: object) -> str:
    """Return the JSON of a record that does not depend on how an answer spelt it: keys sorted, nulls left out.

    An answer in CSV has a null for a field that the JSON of the same record does not name.
    """
    if isinstance(record, dict):
        record = {name: value for name, value in record.items() if value is not None}
    return _any_json(record, sort_keys=True)


def digest(record: object) -> str:
    """Return the SHA-256 of a record's canonical JSON, in hex."""
    return sha256(canonical_json(record).encode()).hexdigest()


def compact_json(value: Any) -> str:
    """Return the JSON of a value without spaces, non-ASCII characters as they are.

    Raises:
        ValueError: If the value holds NaN or Infinity.
    """
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def raw_json(record: object) -> str:
    """Return any decoded JSON as text that UTF-8 can hold: what quarantine keeps, NaN included.

    What Python cannot write as JSON at all (values nested too deep, numbers of thousands of digits) is replaced by a
    text.
    """
    return _any_json(record)


def loose_json(body: bytes) -> Any:
    """Return what a body of JSON says, NaN and Infinity included.

    A number that `float` cannot tell from 0 (`1e-400`) becomes NaN, and so `check` refuses its record, instead of
    another number being stored; a whole number of more than 1,000 digits, which `int` may refuse, becomes Infinity.

    Raises:
        ValueError, RecursionError: If it is no JSON.
    """
    return json.loads(body, parse_int=_parse_int, parse_float=_parse_float)


def may_lose_numbers(body: bytes) -> bool:
    """Return whether JSON may have a number that `float` takes for 0: then only `loose_json` reads it as it is."""
    has_exponent = b"e-" in body or b"E-" in body
    return (has_exponent and _TINY.search(body) is not None) or _ZEROS in body


_TINY = re.compile(rb"[0-9][eE]-0*[1-9][0-9]{2}")
_ZEROS = b"0" * 300


def _parse_int(text: str) -> int | float:
    return int(text) if len(text) <= _LONGEST_INT_TEXT else math.inf


def _parse_float(text: str) -> float:
    number = float(text)
    is_lost = number == 0 and any(digit in "123456789" for digit in text.lower().partition("e")[0])
    return math.nan if is_lost else number


def unknown_fields(endpoint: Endpoint, record: Record) -> set[str]:
    """Return the fields of a record that the catalogue does not know."""
    return record.keys() - endpoint.known


def _any_json(record: object, *, sort_keys: bool = False) -> str:
    try:
        text = json.dumps(record, ensure_ascii=False, separators=(",", ":"), sort_keys=sort_keys)
    except (ValueError, RecursionError):
        record = _writable(record)
        text = json.dumps(record, ensure_ascii=False, separators=(",", ":"), sort_keys=sort_keys)
    if _has_utf8(text):
        return text
    return json.dumps(record, separators=(",", ":"), sort_keys=True)


def _writable(value: Any, depth: int = 0) -> Any:
    """Return a value with texts in the place of what `json.dumps` refuses."""
    if type(value) is int and _is_too_long(value):
        return f"(a number of more than {LARGEST_INTEGER_DIGITS} digits: {value:#x})"
    if not isinstance(value, list | dict):
        return value
    if depth > DEEPEST_NESTING:
        return f"(nested more than {DEEPEST_NESTING} deep)"
    if isinstance(value, list):
        return [_writable(item, depth + 1) for item in value]
    return {name: _writable(item, depth + 1) for name, item in value.items()}


def _check_name(endpoint: Endpoint, name: str) -> None:
    if not _has_utf8(name):
        raise InvalidRecordError(f"the name of the field {name[:40]!a} has no UTF-8 form")
    if len(name.encode()) > LONGEST_FIELD_NAME:
        raise InvalidRecordError(f"the name of the field {name[:40]}... is longer than {LONGEST_FIELD_NAME} bytes")
    if name.endswith(JSON_SIGN) and name.removesuffix(JSON_SIGN) in endpoint.known:
        raise InvalidRecordError(f"the field name '{name}' is one that f1hbase uses itself")


def _check_int(record: Record, field: str) -> None:
    value = record.get(field)
    if type(value) is not int:
        raise InvalidRecordError(_wrong_key(record, field, "a whole number"))
    if abs(value) > LARGEST_KEY:
        raise InvalidRecordError(f"the key field '{field}' is no whole number of 64 bits")


def _check_text(record: Record, field: str, *, is_time: bool) -> None:
    value = record.get(field)
    if type(value) is not str:
        raise InvalidRecordError(_wrong_key(record, field, "a text"))
    if not _has_utf8(value):
        raise InvalidRecordError(f"the text of '{field}' has no UTF-8 form")
    if len(value) > LONGEST_KEY_TEXT or len(value.encode()) > LONGEST_KEY_TEXT:
        raise InvalidRecordError(f"the key field '{field}' is longer than {LONGEST_KEY_TEXT} bytes")
    if is_time and lenient_time(value) is None:
        raise InvalidRecordError(_wrong_key(record, field, "a time"))


def _wrong_key(record: Record, field: str, wanted: str) -> str:
    if record.get(field) is None:
        return f"the key field '{field}' is missing"
    return f"the key field '{field}' is {raw_json(record[field])[:40]}, not {wanted}"


def _problem(value: Any, depth: int = 0) -> str | None:
    """Return what of a value cannot be stored, if anything."""
    kind = type(value)
    if kind is str:
        return None if _has_utf8(value) else "a text that has no UTF-8 form"
    if kind is float:
        return None if math.isfinite(value) else f"a number that JSON does not know ({value})"
    if kind is int:
        return f"a number of more than {LARGEST_INTEGER_DIGITS} digits" if _is_too_long(value) else None
    if kind is list or kind is dict:
        if depth == DEEPEST_NESTING:
            return f"values nested more than {DEEPEST_NESTING} deep"
        items = value if kind is list else (item for pair in value.items() for item in pair)
        for item in items:
            problem = _problem(item, depth + 1)
            if problem is not None:
                return problem
    return None


def _is_too_long(number: int) -> bool:
    return not -_LIMIT < number < _LIMIT


_LIMIT = 10**LARGEST_INTEGER_DIGITS


def _has_utf8(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
