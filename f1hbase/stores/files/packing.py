"""Bytes to gzip and back: the same content always gives the same bytes, and what is damaged is found out."""

from __future__ import annotations

import hashlib
import zlib

LEVEL = 4
"""Of real car_data as CSV: level 1 packs 279 MB/s to 15.6 %, 4 packs 174 MB/s to 12.6 %, 6 packs 70 MB/s to 12.0 %, 9
packs 15 MB/s to 11.2 % (`python -m benchmarks.landing_zone`, docs/landing-zone.md)."""

GZIP, PLAIN = "gzip", "none"
"""How an object is packed, as manifests say it; those that do not say have gzip."""

_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
"""Deflate, no time, no name, no operating system: what differs from machine to machine is left out."""

LARGEST_ANSWER_BYTES = 32_000_000
"""Of an answer of OpenF1, unpacked: six times the largest known, the intervals of a race with 36,000 records."""

LARGEST_OBJECT_BYTES = 4 * LARGEST_ANSWER_BYTES
"""Of an object of a landing zone, packed and unpacked: `dated` keeps a CSV answer as JSON, which is three times as
long."""

LONGEST_LINE_BYTES = 8_000_000
"""Of a file of JSON lines and of a recording, unpacked: eighty times the longest known, a whole state of timing data,
and as much as a message of the live feed may have."""

LARGEST_RATIO = 100
"""How much larger than packed an answer may be: five times what real ones are (`car_data` as JSON at level 9: 19.8)."""

_HARMLESS_BYTES = 2_000_000
"""Up to here an answer may be as monotonous as it likes."""


class DamagedError(ValueError):
    """Bytes that are not what they were; says how."""


def most_unpacked(packed: int) -> int:
    """Return how many bytes so many packed ones may unpack to: a small answer can claim to be immense."""
    return max(_HARMLESS_BYTES, LARGEST_RATIO * packed)


def md5_hex(content: bytes) -> str:
    """Return the MD5 in hex."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def pack(content: bytes) -> bytes:
    """Return the content as a gzip file."""
    deflate = zlib.compressobj(LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    ends = (zlib.crc32(content), len(content) & 0xFFFFFFFF)
    return b"".join((_HEADER, deflate.compress(content), deflate.flush(), *(end.to_bytes(4, "little") for end in ends)))


def unpack(packed: bytes, most: int = LARGEST_OBJECT_BYTES) -> bytes:
    """Return the content of a gzip file, which may have several members.

    Args:
        packed: The file.
        most: How many bytes the content may have, but never more than `LARGEST_OBJECT_BYTES` and `most_unpacked`.

    Raises:
        DamagedError: If it is none, cut off, damaged or larger.
    """
    most = min(max(most, 0), LARGEST_OBJECT_BYTES, most_unpacked(len(packed)))
    parts: list[bytes] = []
    size, rest = 0, packed
    while rest:
        inflate = zlib.decompressobj(zlib.MAX_WBITS | 16)
        try:
            part = inflate.decompress(rest, most - size + 1)
        except zlib.error as error:
            raise DamagedError(f"the gzip file is damaged ({error})") from error
        size += len(part)
        if size > most:
            raise DamagedError(f"the gzip file holds more than {most:,} bytes")
        if not inflate.eof:
            raise DamagedError(f"the gzip file is cut off after {len(packed):,} bytes")
        parts.append(part)
        rest = inflate.unused_data
    if not parts:
        raise DamagedError("the gzip file is empty")
    return parts[0] if len(parts) == 1 else b"".join(parts)
