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
import math
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, lru_cache
from hashlib import blake2b
from typing import Any, NamedTuple, cast

from f1hbase.model.catalog import ALL_ENDPOINTS, Endpoint, KeyHash, KeyInt, KeyPart, KeyText, KeyWord
from f1hbase.model.memo import Memo
from f1hbase.model.records import JSON_SIGN, compact_json, key_hash
from f1hbase.model.samples import Record, Samples
from f1hbase.model.units import SEPARATOR, scope_prefix

# A text cell holds the string as it is, so a value there that is no string needs a sign that it is JSON: an empty cell
# beside it whose qualifier ends in JSON_SIGN. Without it, 1 would come back as "1".
_SIGN = JSON_SIGN.encode()

_FORMER_TEXTS = {"race_control": ("qualifying_phase",)}
"""Fields that earlier versions stored as texts, so that their rows may have signs of them; rewriting deletes those."""


NO_NUMBER = "-"
"""What stands in a row key where a number is null that may be."""


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


def escape(text: str) -> str:
    """Make a text safe as one component of a row key; `unescape` reverses it."""
    return text.replace("%", "%25").replace(SEPARATOR, "%23")


def unescape(component: str) -> str:
    """Give back the text that `escape` was given."""
    return component.replace("%23", SEPARATOR).replace("%25", "%")


def encode(endpoint: Endpoint, year: int, record: Record) -> Row:
    """Turn a record that `model.records.check` has let through into its row.

    Args:
        endpoint: Where the record came from.
        year: The meeting's year, which every row key begins with.
        record: The record, with the fields that say what it is of.
    """
    return Row(_row_key(endpoint, year, record), _cells(endpoint, record))


def encode_samples(year: int, samples: Samples) -> Block | None:
    """Turn samples, each identity once, into their rows, the same that `encode` makes; None if one has a null."""
    meetings, sessions, drivers, dates = samples.keys
    if not dates or any(None in column for column in samples.texts):
        return None
    prefixes = {
        place: f"{scope_prefix(year, place[0], place[1])}{SEPARATOR}{place[2]}{SEPARATOR}".encode()
        for place in set(zip(meetings, sessions, drivers, strict=True))
    }
    places = map(prefixes.__getitem__, zip(meetings, sessions, drivers, strict=True))
    return Block(
        [place + date.encode() for place, date in zip(places, dates, strict=True)],
        tuple(_columns(samples.endpoint).names.values()),
        cast("Sequence[Sequence[bytes]]", samples.texts),
    )


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
            is_json = column + _SIGN in cells
            record[name] = from_self_describing(value) if is_json else value.decode()
        elif name == "" and value == b"":
            continue  # the sign that a record without any other cell exists
        elif not (name.endswith(JSON_SIGN) and name.removesuffix(JSON_SIGN) in endpoint.known):
            record[name] = from_self_describing(value)
    return record


def null_columns(
    endpoint: Endpoint, record: Record, cells: Mapping[bytes, bytes], knows: frozenset[str] | None = None
) -> list[bytes]:
    """Return the columns that the row of a record must not have when it is stored again.

    They are those of the fields that are null, of known fields that its source would have given, and of the signs that
    its cells do without.

    Args:
        endpoint: The endpoint.
        record: The record.
        cells: What it is encoded to.
        knows: The fields that the source would give where there is a value; all known ones by default.
    """
    columns = _columns(endpoint)
    absent = columns.possible if knows is None else columns.possible_of(knows)
    unknown = [f"{endpoint.family}:{field}".encode() for field, value in record.items() if value is None]
    # A sign beside a value that is written now must go, whoever knows its field.
    gone = {*absent, *unknown, *stale_signs(endpoint, cells)}
    return [column for column in gone if column not in cells and column not in columns.keys]


def stale_signs(endpoint: Endpoint, cells: Mapping[bytes, bytes]) -> list[bytes]:
    """Return the signs that the row must not have, because a value is written where another kind may have been."""
    signs = _columns(endpoint).signs
    return [sign for sign, column in signs.items() if column in cells and sign not in cells] if signs else []


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
    in_key: frozenset[str]
    keys: frozenset[bytes]  # the columns that fields in the key would have
    empty: bytes
    signs: dict[bytes, bytes]  # the sign of each field that may have one, and the column it stands beside
    possible: tuple[bytes, ...]

    def possible_of(self, fields: frozenset[str]) -> list[bytes]:
        """Return the columns that a record has where these fields have a value."""
        mine = {column for field, column in self.names.items() if field in fields}
        return [self.empty, *mine, *(sign for sign, column in self.signs.items() if column in mine)]


@cache
def _columns_of(endpoint_name: str) -> _Columns:
    endpoint = ALL_ENDPOINTS[endpoint_name]
    in_key = {*endpoint.scope_fields, *endpoint.key_fields}
    prefix = f"{endpoint.family}:"
    names = {field: f"{prefix}{field}".encode() for field in endpoint.fields if field not in in_key}
    texts = [*sorted(endpoint.text), *_FORMER_TEXTS.get(endpoint_name, ())]
    signs = {names[field] + _SIGN: names[field] for field in texts}
    return _Columns(
        names=names,
        in_key=frozenset(in_key),
        keys=frozenset(f"{prefix}{field}".encode() for field in in_key),
        empty=prefix.encode(),
        signs=signs,
        possible=(prefix.encode(), *names.values(), *signs),
    )


def _columns(endpoint: Endpoint) -> _Columns:
    return _columns_of(endpoint.name)


def _row_key(endpoint: Endpoint, year: int, record: Record) -> bytes:
    parts = [str(year)] if endpoint.dataset.led_by_year else []
    parts += [str(record[field]) for field in endpoint.scope_fields]
    parts.extend(_component(part, record) for part in endpoint.key)
    return SEPARATOR.join(parts).encode()


def _component(part: KeyPart, record: Record) -> str:
    match part:
        case KeyInt(field, optional):
            return NO_NUMBER if optional and record.get(field) is None else str(record[field])
        case KeyText(field):
            return escape(record[field])
        case KeyWord(word):
            return word
        case KeyHash():
            return key_hash(part, record)


def _cells(endpoint: Endpoint, record: Record) -> dict[bytes, bytes]:
    columns = _columns(endpoint)
    names, in_key, text = columns.names, columns.in_key, endpoint.text
    cells: dict[bytes, bytes] = {}
    for field, value in record.items():
        if value is None or field in in_key:
            continue
        column = names.get(field) or f"{endpoint.family}:{field}".encode()
        if field not in text:
            cells[column] = _self_describing(field, value)
        elif type(value) is str:
            cells[column] = value.encode()
        else:
            cells[column] = compact_json(value).encode()
            cells[column + _SIGN] = b""
    if not cells:
        cells[columns.empty] = b""
    return cells


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


def from_self_describing(value: bytes) -> Any:
    """Return what a cell holds that is of no text field: its JSON, or the text where it is none.

    What Python reads and no record can have (NaN, numbers beyond all, half a character) is no JSON here.
    """
    text = value.decode()
    try:
        content = _DECODER.decode(text)
        if "\\u" in text:
            compact_json(content).encode()  # half of a surrogate pair has no bytes
    except (ValueError, RecursionError):
        return text
    return content


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:20]} is no number that can be kept")
    return number


_DECODER = json.JSONDecoder(parse_float=_finite, parse_constant=_finite)


def _number_or_none(component: str) -> int | None:
    return None if component == NO_NUMBER else int(component)


def _key_values(endpoint: Endpoint, key: str) -> Record:
    """Take a row key apart into the fields it carries."""
    values: Record = {}
    expected: list[tuple[str, Callable[[str], Any]] | str | None] = []
    if endpoint.dataset.led_by_year:
        expected.append(("year", int) if endpoint.keyed_by_year else None)
    expected += [(field, int) for field in endpoint.scope_fields]
    for part in endpoint.key:
        match part:
            case KeyInt(field, optional):
                expected.append((field, _number_or_none if optional else int))
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
