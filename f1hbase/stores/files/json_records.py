"""The records of an answer as the texts that it has them in, without reading a number; knows no endpoint's meaning.

>>> list(record_texts("text/csv", b"date,speed\\n2024-07-07 14:00:00+00:00,315\\n"))
[b'{"date":"2024-07-07T14:00:00+00:00","speed":315}']
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

import msgspec

from f1hbase.model.ergast import is_page, read_page
from f1hbase.stores.files.answers import JSON_LINES

_SLICE_BYTES = 250_000
"""How much of a CSV answer is turned into text at once."""

_RAW = msgspec.json.Decoder(list[msgspec.Raw])


def record_texts(content_type: str, body: bytes) -> Iterator[bytes]:
    """Yield the JSON text of each record of an answer: numbers and texts are spelt as they were.

    The records of a page of Jolpica are spelt as f1hbase has them (docs/jolpica.md). CSV is what f1hbase asks for only
    where every value is a number but for the date, so its values stand as they are; dates get the `T` that JSON answers
    have. What is no JSON although most readers take it (NaN) is left out, as it is
    in quarantine.

    Raises:
        ValueError: If the answer is no list of records.
    """
    if not body.strip():
        return
    if content_type == JSON_LINES:
        yield from (line for line in body.splitlines() if line.strip())
    elif content_type.startswith("text/csv"):
        yield from _of_csv(body)
    elif is_page(body):
        encode = msgspec.json.Encoder().encode
        yield from (encode(record) for record in read_page(body).records)
    else:
        try:
            yield from map(bytes, _RAW.decode(body))
        except (msgspec.MsgspecError, UnicodeDecodeError):
            yield from _of_loose_json(body)


def with_fields(text: bytes, added: bytes) -> bytes:
    """Return the text of a record with further fields at its end, which `fields_text` has spelt."""
    if not added:
        return text
    bare = text.rstrip()
    if not bare.endswith(b"}"):
        raise ValueError(f"{text[:60]!r} is no record")
    inner = bare[:-1].rstrip()
    return inner + (b"" if inner.endswith(b"{") else b",") + added


def fields_text(fields: Mapping[str, str | None]) -> bytes:
    """Return how further fields end a record: `"batch_day":"2024-07-07"}`; empty for none."""
    if not fields:
        return b""
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode(errors="backslashreplace")[1:]


def _of_csv(body: bytes) -> Iterator[bytes]:
    header, _, rest = body.partition(b"\n")
    names = header.decode().rstrip("\r").split(",")
    pattern = "{" + ",".join(f'"{name}":' + ('"%s"' if name == "date" else "%s") for name in names) + "}"
    dates = [place for place, name in enumerate(names) if name == "date"]
    position = 0
    while position < len(rest):
        end = rest.find(b"\n", min(position + _SLICE_BYTES, len(rest) - 1)) + 1 or len(rest)
        for line in rest[position:end].decode().splitlines():
            values = line.split(",")
            for place in dates:
                values[place] = values[place].replace(" ", "T", 1)
            if "" in values:
                yield _with_nulls(names, values)
            else:
                yield (pattern % tuple(values)).encode()
        position = end


def _with_nulls(names: list[str], values: list[str]) -> bytes:
    pairs = zip(names, values, strict=True)
    shown = (f'"{name}":' + (f'"{value}"' if value and name == "date" else value or "null") for name, value in pairs)
    return ("{" + ",".join(shown) + "}").encode()


def _of_loose_json(body: bytes) -> Iterator[bytes]:
    try:
        records = json.loads(body)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    if not isinstance(records, list):
        return  # `{"detail": "No results found."}`
    for record in records:
        try:
            yield json.dumps(record, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
        except (ValueError, RecursionError):
            continue
