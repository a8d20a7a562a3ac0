"""Records to HBase rows and back, without loss.

A row key is plain text joined with `#`; a cell is text that reads well in `hbase shell`. `decode` gives back what
`encode` was given, up to nulls: a null field has no cell, and comes back as null when the catalogue knows it.

>>> from f1hbase.model.catalog import ENDPOINTS
>>> pit = {"meeting_key": 1, "session_key": 2, "driver_number": 16, "lap_number": 31, "stop_duration": 2.0}
>>> row = encode(ENDPOINTS["pit"], 2025, pit)
>>> row.key, row.cells
(b'2025#1#2#16#31', {b'pit:stop_duration': b'2.0'})
>>> decode(ENDPOINTS["pit"], row.key, row.cells)["stop_duration"]
2.0
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, lru_cache
from hashlib import blake2b, sha256
from typing import Any, NamedTuple

from f1hbase.model.catalog import ENDPOINTS, Endpoint, KeyHash, KeyInt, KeyPart, KeyText, KeyWord, Slicing
from f1hbase.model.memo import Memo
from f1hbase.model.samples import Record, Samples

SEPARATOR = "#"
MAX_ROW_KEY_BYTES = 32_767
"""HBase keeps the length of a row key in a signed 16-bit number (`HConstants.MAX_ROW_LENGTH`)."""

# A text cell holds the string as it is, so a value there that is no string (OpenF1 has been seen to send
# qualifying_phase as a number) needs a sign that it is JSON: an empty cell beside it with this at the end of its
# qualifier. Without it, 1 would come back as "1".
_JSON_SIGN = "%json"


class EncodeError(ValueError):
    """A record that has no row key or no faithful cell form; the message says which field and why."""


class Row(NamedTuple):
    """One row's worth of one record: its key, and its cells by `family:qualifier`."""

    key: bytes
    cells: dict[bytes, bytes]


class Block(NamedTuple):
    """Rows with the same columns, column by column; it is an eighth of the work when there are thousands.

    Attributes:
        keys: The keys, each once.
        columns: The columns, by `family:qualifier`.
        values: For each column, the value in each row.
    """

    keys: Sequence[bytes]
    columns: tuple[bytes, ...]
    values: Sequence[Sequence[bytes]]

    def rows(self) -> Iterator[Row]:
        """Yield the rows one by one."""
        for key, *values in zip(self.keys, *self.values, strict=True):
            yield Row(key, dict(zip(self.columns, values, strict=True)))

    def pick(self, numbers: Iterable[int]) -> Block:
        """Return some of the rows, by their number."""
        chosen = list(numbers)
        return Block(
            [self.keys[number] for number in chosen],
            self.columns,
            [[column[number] for number in chosen] for column in self.values],
        )

    def part(self, start: int, end: int) -> Block:
        """Return the rows from one number up to another."""
        return Block(self.keys[start:end], self.columns, [column[start:end] for column in self.values])


def scope_prefix(year: int, meeting_key: int, session_key: int | None) -> str:
    """Return `{year}#{meeting_key}#{session_key}`, or `{year}#{meeting_key}` for a meeting."""
    prefix = f"{year}{SEPARATOR}{meeting_key}"
    return prefix if session_key is None else f"{prefix}{SEPARATOR}{session_key}"


def escape(text: str) -> str:
    """Make a text safe as one component of a row key; `unescape` reverses it."""
    return text.replace("%", "%25").replace(SEPARATOR, "%23")


def unescape(component: str) -> str:
    """Give back the text that `escape` was given."""
    return component.replace("%23", SEPARATOR).replace("%25", "%")


def encode(endpoint: Endpoint, year: int, record: Record) -> Row:
    """Turn a record into its row.

    Args:
        endpoint: Where the record came from.
        year: The meeting's year, which every row key begins with.
        record: The record, with `meeting_key` and (all but meetings) `session_key`.

    Raises:
        EncodeError: If a key field is missing or of another type than the API's, or a value has no JSON or UTF-8
            form (NaN, Infinity, half of a surrogate pair). Such records belong in quarantine.
    """
    key = _row_key(endpoint, year, record)
    cells = _cells(endpoint, record)
    if len(key) > MAX_ROW_KEY_BYTES:
        raise EncodeError(f"the row key has {len(key)} bytes, HBase takes {MAX_ROW_KEY_BYTES}")
    return Row(key, cells)


def encode_samples(year: int, samples: Samples) -> Block | None:
    """Turn samples into their rows, the same that `encode` makes of each; None if one of them has a null.

    Of several samples of one identity, the last stands.
    """
    if not samples.rows:
        return None
    meetings, sessions, drivers, dates, *values = zip(*samples.rows, strict=True)
    if any(None in column for column in values):
        return None
    prefixes = {
        place: f"{scope_prefix(year, place[0], place[1])}{SEPARATOR}{place[2]}{SEPARATOR}".encode()
        for place in set(zip(meetings, sessions, drivers, strict=True))
    }
    places = map(prefixes.__getitem__, zip(meetings, sessions, drivers, strict=True))
    block = Block(
        [place + date.encode() for place, date in zip(places, dates, strict=True)],
        tuple(_columns(samples.endpoint).names.values()),
        [list(map(_WHOLE_NUMBERS.__getitem__, column)) for column in values],
    )
    last = {key: number for number, key in enumerate(block.keys)}
    return block if len(last) == len(block.keys) else block.pick(last.values())


_WHOLE_NUMBERS: Memo[int, bytes] = Memo(lambda number: b"%d" % number)


def decode(endpoint: Endpoint, key: bytes, cells: Mapping[bytes, bytes]) -> Record:
    """Turn a row's key and the cells of the endpoint's family back into the record.

    Args:
        endpoint: The endpoint that the row was encoded for.
        key: The row key.
        cells: `family:qualifier` to value; cells of other families are passed over.

    Returns:
        Every known field (None where there is no cell) and the unknown fields that were not null.

    Raises:
        ValueError: If the key is not one of this endpoint's.
    """
    record: Record = dict.fromkeys(endpoint.fields)
    record.update(_key_values(endpoint, key.decode()))
    prefix = f"{endpoint.family}:".encode()
    for column, value in cells.items():
        if not column.startswith(prefix):
            continue
        name = column[len(prefix) :].decode()
        if name in endpoint.text:
            is_json = f"{endpoint.family}:{name}{_JSON_SIGN}".encode() in cells
            record[name] = _from_self_describing(value) if is_json else value.decode()
        elif name == "" and value == b"":
            continue  # the sign that a record without any other cell exists
        elif not (name.endswith(_JSON_SIGN) and name.removesuffix(_JSON_SIGN) in endpoint.text):
            record[name] = _from_self_describing(value)
    return record


def null_columns(endpoint: Endpoint, record: Record, cells: Mapping[bytes, bytes]) -> list[bytes]:
    """Return the columns that the row of a record must not have when it is refreshed.

    They are those of the fields that are null, known or not, and of the signs that its cells do without.
    """
    columns = _columns(endpoint)
    unknown = [f"{endpoint.family}:{field}".encode() for field, value in record.items() if value is None]
    return [column for column in {*columns.possible, *unknown} if column not in cells and column not in columns.keys]


def stale_signs(endpoint: Endpoint, cells: Mapping[bytes, bytes]) -> list[bytes]:
    """Return the signs that the row must not have, because a text is written where something else may have been."""
    if not endpoint.text:
        return []
    return [sign for sign, column in _columns(endpoint).signs.items() if column in cells and sign not in cells]


def merge(endpoint: Endpoint, older: dict[bytes, bytes], newer: Mapping[bytes, bytes]) -> None:
    """Put the cells of a later record of the same identity over those of an earlier one."""
    for sign, column in _columns(endpoint).signs.items():
        if column in newer and sign not in newer:
            older.pop(sign, None)
    older.update(newer)


def unknown_fields(endpoint: Endpoint, record: Record) -> set[str]:
    """Return the fields of a record that the catalogue does not know."""
    return record.keys() - _columns(endpoint).known


def compact_json(value: Any) -> str:
    """Return the JSON of a value without spaces, non-ASCII characters as they are.

    Raises:
        EncodeError: If the value holds NaN or Infinity.
    """
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except ValueError as error:
        raise EncodeError(f"a number that JSON does not know ({error})") from error


def raw_json(record: object) -> str:
    """Return any decoded JSON as text that UTF-8 can hold: what quarantine keeps, NaN included."""
    text = json.dumps(record, ensure_ascii=False, separators=(",", ":"))
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(record, separators=(",", ":"))
    return text


def checksum(row: tuple[bytes, Mapping[bytes, bytes]]) -> int:
    """Return a 64-bit hash of a row's key and cells that does not depend on the order of the cells.

    The checksum of a unit is the sum of its rows' modulo 2**64, so it does not depend on the rows' order either.
    """
    key, cells = row
    template, order = _checksum_form(tuple(cells))
    values = list(cells.values())
    message = template % (len(key), key, *(_MEASURED[values[number]] for number in order))
    return int.from_bytes(blake2b(message, digest_size=8).digest(), "big")


def block_checksum(block: Block) -> int:
    """Return the sum of the checksums of the rows of a block; it may exceed 64 bits."""
    template, order = _checksum_form(block.columns)
    values = [map(_MEASURED.__getitem__, block.values[number]) for number in order]
    messages = [template % row for row in zip(map(len, block.keys), block.keys, *values, strict=True)]
    digests = b"".join([blake2b(message, digest_size=8).digest() for message in messages])
    return sum(struct.unpack(f">{len(messages)}Q", digests))


@lru_cache(1000)
def _checksum_form(columns: tuple[bytes, ...]) -> tuple[bytes, Sequence[int]]:
    """Return what the checksum of a row with these columns is made of: a template, and the order of the values in it.

    It says of the key and of each column and value, in the order of the columns' names, how long it is and what.
    """
    order = sorted(range(len(columns)), key=columns.__getitem__)
    names = (b"%d:%b" % (len(columns[number]), columns[number]) for number in order)
    return b"%d:%b" + b"".join(name.replace(b"%", b"%%") + b"%b" for name in names), order


_MEASURED: Memo[bytes, bytes] = Memo(lambda value: b"%d:%b" % (len(value), value))


class _Columns(NamedTuple):
    """The column names of one endpoint, worked out once."""

    names: dict[str, bytes]  # known fields that get a cell
    known: frozenset[str]
    in_key: frozenset[str]
    keys: frozenset[bytes]  # the columns that fields in the key would have
    empty: bytes
    signs: dict[bytes, bytes]  # the sign of each text field, and the column it stands beside
    possible: tuple[bytes, ...]


@cache
def _columns_of(endpoint_name: str) -> _Columns:
    endpoint = ENDPOINTS[endpoint_name]
    in_key = {"meeting_key", *endpoint.key_fields}
    if endpoint.slicing is not Slicing.MEETING:
        in_key.add("session_key")
    prefix = f"{endpoint.family}:"
    names = {field: f"{prefix}{field}".encode() for field in endpoint.fields if field not in in_key}
    signs = {names[field] + _JSON_SIGN.encode(): names[field] for field in sorted(endpoint.text)}
    return _Columns(
        names=names,
        known=frozenset(endpoint.fields),
        in_key=frozenset(in_key),
        keys=frozenset(f"{prefix}{field}".encode() for field in in_key),
        empty=prefix.encode(),
        signs=signs,
        possible=(prefix.encode(), *names.values(), *signs),
    )


def _columns(endpoint: Endpoint) -> _Columns:
    return _columns_of(endpoint.name)


def _row_key(endpoint: Endpoint, year: int, record: Record) -> bytes:
    parts = [str(year), _key_int(record, "meeting_key")]
    if endpoint.slicing is not Slicing.MEETING:
        parts.append(_key_int(record, "session_key"))
    if endpoint.keyed_by_year and _key_int(record, "year") != parts[0]:
        raise EncodeError(f"'year' is {record['year']}, but the meeting's is {year}")
    parts.extend(_component(part, record) for part in endpoint.key)
    return SEPARATOR.join(parts).encode()


def _component(part: KeyPart, record: Record) -> str:
    match part:
        case KeyInt(field):
            return _key_int(record, field)
        case KeyText(field):
            text = _key_text(record, field)
            try:
                text.encode()
            except UnicodeEncodeError as error:
                raise EncodeError(f"the text of '{field}' has no UTF-8 form: {error.reason}") from error
            return escape(text)
        case KeyWord(word):
            return word
        case KeyHash(fields):
            # Halves of surrogate pairs and NaN are refused with the cells of the same fields.
            message = json.dumps([record.get(field) for field in fields], ensure_ascii=False, separators=(",", ":"))
            return sha256(message.encode(errors="surrogatepass")).hexdigest()[:8]


def _key_int(record: Record, field: str) -> str:
    value = record.get(field)
    if type(value) is not int:
        raise EncodeError(_wrong_key(record, field, "a whole number"))
    return str(value)


def _key_text(record: Record, field: str) -> str:
    value = record.get(field)
    if type(value) is not str:
        raise EncodeError(_wrong_key(record, field, "a text"))
    return value


def _wrong_key(record: Record, field: str, wanted: str) -> str:
    if record.get(field) is None:
        return f"the key field '{field}' is missing"
    return f"the key field '{field}' is {raw_json(record[field])[:40]}, not {wanted}"


def _cells(endpoint: Endpoint, record: Record) -> dict[bytes, bytes]:
    columns = _columns(endpoint)
    names, in_key, text = columns.names, columns.in_key, endpoint.text
    cells: dict[bytes, bytes] = {}
    for field, value in record.items():
        if value is None or field in in_key:
            continue
        try:
            column = names.get(field) or _unknown_column(endpoint, field)
            if field not in text:
                cells[column] = _self_describing(field, value)
            elif type(value) is str:
                cells[column] = value.encode()
            else:
                cells[column] = compact_json(value).encode()
                cells[column + _JSON_SIGN.encode()] = b""
        except UnicodeEncodeError as error:
            raise EncodeError(f"the text of '{field}' has no UTF-8 form: {error.reason}") from error
        except EncodeError as error:
            raise EncodeError(f"'{field}' holds {error}") from error
    if not cells:
        cells[columns.empty] = b""
    return cells


def _unknown_column(endpoint: Endpoint, field: str) -> bytes:
    if field.endswith(_JSON_SIGN) and field.removesuffix(_JSON_SIGN) in endpoint.text:
        raise EncodeError(f"the field name '{field}' is one that f1hbase uses itself")
    return f"{endpoint.family}:{field}".encode()


def _self_describing(field: str, value: Any) -> bytes:
    if type(value) is int:  # by far the most values; json.dumps would take five times as long
        return b"%d" % value
    if type(value) is not str:
        return compact_json(value).encode()
    # An empty text under an empty name would look like the sign of a record without cells.
    quote = _parses(value) or (value == "" and field == "")
    return (compact_json(value) if quote else value).encode()


def _parses(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _from_self_describing(value: bytes) -> Any:
    text = value.decode()
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _key_values(endpoint: Endpoint, key: str) -> Record:
    """Take a row key apart into the fields it carries."""
    values: Record = {}
    expected: list[tuple[str, Callable[[str], Any]] | str | None] = [
        ("year", int) if endpoint.keyed_by_year else None,
        ("meeting_key", int),
    ]
    if endpoint.slicing is not Slicing.MEETING:
        expected.append(("session_key", int))
    for part in endpoint.key:
        match part:
            case KeyInt(field):
                expected.append((field, int))
            case KeyText(field):
                expected.append((field, unescape))
            case KeyWord(word):
                expected.append(word)
            case KeyHash():
                expected.append(None)
    components = key.split(SEPARATOR)
    if len(components) != len(expected):
        raise ValueError(f"'{key}' is not a row key of {endpoint.name}")
    for component, wanted in zip(components, expected, strict=True):
        if isinstance(wanted, tuple):
            values[wanted[0]] = wanted[1](component)
        elif isinstance(wanted, str) and component != wanted:
            raise ValueError(f"'{key}' is not a row key of {endpoint.name}: '{component}' is not '{wanted}'")
    return values
