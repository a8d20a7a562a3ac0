"""The lines of a topic's file: a time since the start, and JSON, which topics in `.z` deflate; knows no topic."""

from __future__ import annotations

import base64
import binascii
import re
import zlib
from datetime import timedelta
from typing import Any

import msgspec

from f1hbase.model.text import excerpt
from f1hbase.sources.livetiming.spelling import offset
from f1hbase.stores.files.packing import LONGEST_LINE_BYTES

_LINE = re.compile(rb"(\d+:\d\d:\d\d(?:\.\d+)?)(.*)", re.ASCII | re.DOTALL)
_decoder = msgspec.json.Decoder()
_BOM = b"\xef\xbb\xbf"

LARGEST_MESSAGE_BYTES = LONGEST_LINE_BYTES
"""How large a message may be, inflated; the largest known, a whole state of TimingData, has 100 KB."""


_MOST_VALUES = 1_000_000
"""How many values and objects it may have, which take some hundred bytes each in memory."""


class BadLineError(ValueError):
    """A line that is no message; the text says why."""


def split(line: bytes) -> tuple[timedelta, bytes] | None:
    """Return the time since the start and the rest of a line; None for an empty line.

    A byte order mark is passed over, wherever lines begin: archives are put together from pieces.

    Raises:
        BadLineError: If it does not begin with a time.
    """
    line = line.strip().removeprefix(_BOM)
    if not line:
        return None
    match = _LINE.fullmatch(line)
    if match is None:
        raise BadLineError(f"it does not begin with a time: {excerpt(line)}")
    try:
        return offset(match[1].decode("ascii")), match[2]
    except (ValueError, OverflowError) as error:
        raise BadLineError(str(error)) from None


def decode(topic: str, body: bytes) -> Any:
    """Return the content of a message of an archive.

    Raises:
        BadLineError: If it is broken off or no JSON.
    """
    return parse(inflate(quoted(body)) if is_deflated(topic) else body)


def is_deflated(topic: str) -> bool:
    """Return whether the messages of a topic are deflated."""
    return topic.endswith(".z")


def quoted(body: bytes) -> str:
    """Return the text of a JSON string."""
    text = parse(body)
    if not isinstance(text, str):
        raise BadLineError(f"it is not base64 in quotes: {excerpt(body)}")
    return text


def inflate(text: str) -> bytes:
    """Return the JSON that base64 of raw deflate holds, without its byte order mark.

    Raises:
        BadLineError: If it is broken, or larger than any message can be.
    """
    try:
        packed = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise BadLineError(f"broken base64: {excerpt(text.encode())}") from None
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        body = inflater.decompress(packed, LARGEST_MESSAGE_BYTES)
    except zlib.error:
        raise BadLineError(f"broken deflate: {excerpt(text.encode())}") from None
    if inflater.unconsumed_tail:
        raise BadLineError(f"it is larger than {LARGEST_MESSAGE_BYTES:,} bytes when inflated")
    if not inflater.eof:
        raise BadLineError(f"the deflated message is cut off: {excerpt(text.encode())}")
    return body.removeprefix(_BOM)


def parse(body: bytes) -> Any:
    """Return what JSON says.

    Raises:
        BadLineError: If it is none, or larger than any message can be.
    """
    if len(body) > LARGEST_MESSAGE_BYTES:
        raise BadLineError(f"it is larger than {LARGEST_MESSAGE_BYTES:,} bytes: {excerpt(body)}")
    if len(body) > _MOST_VALUES and body.count(b",") + body.count(b"{") + body.count(b"[") > _MOST_VALUES:
        raise BadLineError(f"it has more than {_MOST_VALUES:,} values: {excerpt(body)}")
    try:
        return _decoder.decode(body.removeprefix(_BOM))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise BadLineError(f"no JSON: {excerpt(body)}") from None
