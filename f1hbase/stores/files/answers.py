"""Answers as objects: what a manifest says of one, and how an answer that is kept byte for byte is written.

Knows neither where an answer lies (layouts do) nor what is in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from f1hbase.model.answers import RawAnswer
from f1hbase.stores.files.objects import Objects, UnreadableObjectError
from f1hbase.stores.files.packing import GZIP, PLAIN, DamagedError, md5_hex, pack, unpack

JSON_LINES = "application/jsonl"
"""The content type of records that came without an answer."""


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """An answer that is stored.

    Attributes:
        path: Of the object.
        body: What the object says, unpacked.
        content: The bytes of the object.
        content_type: Of the body.
        packing: `gzip`, or `none`.
    """

    path: str
    body: bytes
    content: bytes
    content_type: str
    packing: str = GZIP

    def described(self, raw: RawAnswer) -> Mapping[str, Any]:
        """Return what a manifest says of it, but for which of its records are a unit's."""
        return {
            "path": self.path,
            "source": raw.source,
            "request": raw.request,
            "asked_at": raw.asked_at.isoformat(),
            "stored_at": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "status": raw.status,
            "content_type": self.content_type,
            "bytes": len(self.body),
            "md5": raw.md5 if self.body is raw.body else md5_hex(self.body),
            "stored_bytes": len(self.content),
            "stored_md5": md5_hex(self.content),
            "packing": self.packing,
        }


def put_packed(objects: Objects, path: str, raw: RawAnswer) -> StoredAnswer:
    """Store an answer byte for byte, packed, unless it is there."""
    packed = pack(raw.body)
    match objects.holds(path, packed):
        case None:
            objects.put(path, packed)
        case False:
            # Packed by another zlib, and then it stays, as manifests name its MD5; or damaged.
            there = objects.get(path) or b""
            if _is_of(there, raw):
                packed = there
            else:
                objects.put(path, packed)
    return StoredAnswer(path, raw.body, packed, raw.content_type)


def _is_of(packed: bytes, raw: RawAnswer) -> bool:
    try:
        return bool(packed) and md5_hex(unpack(packed, len(raw.body))) == raw.md5
    except DamagedError:
        return False


def read_body(objects: Objects, stored: Mapping[str, Any]) -> bytes:
    """Return the uncompressed bytes of an object that a manifest names.

    Raises:
        DamagedError: If it is not there, or not what the manifest says; names it.
    """
    path = stored["path"]
    try:
        content = objects.try_all([path])[0]
        if isinstance(content, UnreadableObjectError):
            raise content
        return checked_body(content, stored)
    except UnreadableObjectError as error:
        raise DamagedError(str(error).rstrip(".")) from error
    except DamagedError as error:
        raise DamagedError(f"'{objects.location}/{path}': {error}") from error


def checked_body(packed: bytes | None, stored: Mapping[str, Any]) -> bytes:
    """Return the uncompressed bytes of an object, given its bytes (None: it does not exist) and its manifest's words.

    Raises:
        DamagedError: If it is not there, or not what the manifest says.
    """
    if packed is None:
        raise DamagedError("it does not exist")
    plain = stored.get("packing") == PLAIN
    if md5_hex(packed) == stored["stored_md5"]:
        return packed if plain else unpack(packed, stored["bytes"])
    body = packed if plain else unpack(packed, stored["bytes"])
    if md5_hex(body) != stored["md5"]:
        raise DamagedError(f"its MD5 is not the {stored['md5']} of its manifest")
    return body  # packed by another zlib, and the same
