"""Places that are hostile: landing zones and folders that lie, files to ingest, full disks, and clocks that jump."""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from .answers import FORGED, HOSTILE_TEXTS, HOSTILE_VALUES, SESSION_KEY
from .cases import STRANGE, USUAL, Case, is_regular
from .histories import odd

_PATHS = (
    "../outside/bait",
    "/etc/passwd",
    "..",
    "",
    ".",
    "a/../../outside/bait",
    "_f1hbase.json",
    "\x00",
    "x" * 5_000,
    "s3://elsewhere/x",
    "file:///etc/passwd",
    "_state",
    "~/x",
    "C:\\x",
    "\x1b[2J",
)


def zone(random: Random, seed: int) -> Case:
    """A landing zone in which somebody has changed something, and what reads it."""
    case = Case(seed, "", is_source=True)
    change = random.choice(_CHANGES)
    case.name = change.__name__.strip("_")
    layout = random.choice(("units", "units", "units", "extractor", "dated"))
    read = [
        ("load", "--from", "./zone", "--to", "./zone2", "--session-key", str(SESSION_KEY), "--processes", "1",
         "--patience", "2s"),
        ("verify", "--to", "./zone", "--deep"), ("status", "--to", "./zone"),
        ("plan", "--from", "./zone", "--to", "./zone2"),
        ("export", "--from", "./zone", "--to", "./tables", "--format", random.choice(("jsonl", "csv", "parquet"))),
        ("plot", "lap-times", "--from", "./zone", "--session-key", str(SESSION_KEY), "-o", "laps.svg"),
        ("rollback", "--to", "./zone", "--session-key", str(SESSION_KEY), "--yes"),
    ]  # fmt: skip
    case.commands = ((*USUAL, "--to", "./zone", "--layout", layout), *random.sample(read, 2))
    case.asked_for = frozenset({"tables", "laps.svg"})

    def between(work: Path) -> None:
        for _ in range(random.choice((1, 1, 5))):
            change(random, work / "zone")

    case.between = between
    return case


def _files_of(zone: Path, pattern: str = "*") -> list[Path]:
    return sorted(path for path in zone.rglob(pattern) if is_regular(path))


def _manifest(random: Random, zone: Path) -> tuple[Path, Any] | None:
    found = _files_of(zone / "_state" / "units", "*.json")
    if not found:
        return None
    path = random.choice(found)
    try:
        return path, json.loads(path.read_bytes())
    except ValueError:
        return None


def _lying_path(random: Random, zone: Path) -> None:
    """Name a file outside, with a digest that is right where that can be had."""
    if found := _manifest(random, zone):
        path, manifest = found
        for one in manifest["objects"]:
            one["path"] = random.choice(_PATHS)
            outside = zone.parent.parent / "outside" / "bait"
            one["stored_md5"] = one["md5"] = hashlib.md5(outside.read_bytes(), usedforsecurity=False).hexdigest()
            one["bytes"] = outside.stat().st_size
        path.write_text(json.dumps(manifest))


def _lying_numbers(random: Random, zone: Path) -> None:
    if found := _manifest(random, zone):
        path, manifest = found
        for one in manifest["objects"]:
            one[
                random.choice(("bytes", "records", "status", "md5", "stored_md5", "packing", "select", "content_type"))
            ] = random.choice(HOSTILE_VALUES)
        counts = manifest["counts"]
        counts[random.choice(list(counts) or ["rows"])] = random.choice((-1, 10**30, 1e308, 0, "x", None))
        path.write_text(json.dumps(manifest))


def _odd_manifest(random: Random, zone: Path) -> None:
    if found := _manifest(random, zone):
        path, manifest = found
        path.write_text(json.dumps(odd(random, manifest)))


def _noise_in_state(random: Random, zone: Path) -> None:
    if found := _files_of(zone / "_state") + _files_of(zone, "_f1hbase.json"):
        path = random.choice(found)
        path.write_bytes(
            random.choice(
                (
                    b"",
                    b"{}",
                    b"null",
                    b"[" * 100_000,
                    random.randbytes(500),
                    path.read_bytes()[:-20],
                    FORGED.encode(),
                    b'{"a":' * 100_000,
                    b" " * 5_000_000,
                    b"9" * 5_000,
                )
            )
        )


def _link_in_zone(random: Random, zone: Path) -> None:
    if found := _files_of(zone):
        path = random.choice(found)
        path.unlink()
        random.choice(list(STRANGE.values()))(path, zone.parent.parent / "outside" / "bait", random)


def _gone(random: Random, zone: Path) -> None:
    if found := _files_of(zone):
        random.choice(found).unlink()


def _object(random: Random, zone: Path, make: Callable[[bytes], bytes]) -> None:
    """Change an object, and, as somebody would who can write there, what its manifest says of it."""
    found = [path for path in _files_of(zone) if "_state" not in path.parts and path.name != "_f1hbase.json"]
    if not found:
        return
    path = random.choice(found)
    old = path.read_bytes()
    try:
        body = gzip.decompress(old) if path.suffix == ".gz" else old
    except (OSError, EOFError, zlib.error):
        return
    content = make(body)
    new = content if path.suffix != ".gz" or content[:2] == b"\x1f\x8b" else gzip.compress(content, mtime=0)
    path.write_bytes(new)
    if random.random() < 0.3:
        return
    name = str(path.relative_to(zone))
    for other in _files_of(zone / "_state" / "units", "*.json"):
        try:
            manifest = json.loads(other.read_bytes())
            for one in manifest["objects"]:
                if one["path"] == name:
                    one["stored_md5"] = hashlib.md5(new, usedforsecurity=False).hexdigest()
                    one["md5"] = hashlib.md5(content, usedforsecurity=False).hexdigest()
                    one["bytes"], one["stored_bytes"] = len(content), len(new)
            other.write_text(json.dumps(manifest))
        except (ValueError, KeyError, TypeError):
            continue


def _odd_object(random: Random, zone: Path) -> None:
    def make(body: bytes) -> bytes:
        try:
            return json.dumps(odd(random, json.loads(body))).encode()
        except ValueError:
            return body[: len(body) // 2]

    _object(random, zone, make)


def _noise_in_object(random: Random, zone: Path) -> None:
    _object(
        random, zone, lambda body: random.choice((b"", body[:-1], random.randbytes(1_000), b"[" * 1_000_000, body * 2))
    )


def _bomb_in_zone(random: Random, zone: Path) -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    filling = random.choice((b" ", b"1,", b'{"a":1},')) * 500_000
    bomb = b"".join(packer.compress(filling) for _ in range(600)) + packer.flush()
    _object(random, zone, lambda _: bomb)


_CHANGES: tuple[Callable[[Random, Path], None], ...] = (
    _lying_path,
    _lying_path,
    _lying_numbers,
    _lying_numbers,
    _odd_manifest,
    _odd_manifest,
    _noise_in_state,
    _link_in_zone,
    _gone,
    _odd_object,
    _odd_object,
    _noise_in_object,
    _bomb_in_zone,
)


def ingest(random: Random, seed: int) -> Case:
    """Files whose names, kinds and headers are odd, given to `ingest`."""
    names = (
        "laps.csv",
        "-rf",
        "a\nb.csv",
        "\x1b[2J.csv",
        "é" * 100,
        "x" * 240,
        "..csv",
        "%2e%2e%2fx",
        "a b",
        "_state",
        "$(x)",
    )
    name, header = random.choice(names), random.choice(HOSTILE_TEXTS).replace("\x00", "").replace("\ud800", "")
    how = random.choice(("a file", "a file", *STRANGE))
    case = Case(seed, f"{name[:20]!r}, {how}")

    def prepare(work: Path, _: Path) -> None:
        (work / "night").mkdir()
        path = work / "night" / name
        if how == "a file":
            path.write_bytes(random.choice((b"", b"lap,seconds\n1,88.1\n", b"x" * 5_000_000)))
        else:
            STRANGE[how](path, work.parent / "outside" / "bait", random)

    case.prepare = prepare
    there = random.choice(("./night", f"./night/{name}", "/dev/zero", "/proc/self/mem", "./nowhere"))
    headers = ("--header", f"{random.choice(('SITE', 'DATE-OBS', header[:50]))}={header[:1_000]}")
    words = ("ingest", there, "--to", "./zone", "--patience", "2s", *random.choice(((), headers)))
    case.commands = (words, random.choice((words, (*words, "--check-only"))))
    case.asked_for = frozenset({"night"})
    return case


def disk(random: Random, seed: int) -> Case:
    """State, zone and log on disks that are full, become full, or cannot be written."""
    where = random.choice(("state", "work/zone", "work/disk"))
    options, is_full = random.choice(
        (("size=64k", True), ("size=64k", False), ("size=300k", False), ("size=1m,ro", False))
    )
    case = Case(seed, f"{where}, {options}{', full' if is_full else ''}", disks={where: (options, is_full)})
    layout = random.choice(("units", "extractor", "dated"))
    load = (*USUAL, "--to", "./zone", "--layout", layout)
    if where == "work/disk":
        load += ("--log-file", "./disk/populate.log")
    case.commands = (load, random.choice((load, ("status", "--to", "./zone"), ("verify", "--to", "./zone"))))
    case.asked_for = frozenset({"disk"})
    return case


def clock(random: Random, seed: int) -> Case:
    """A clock that is another one from command to command."""
    clocks = (
        "",
        "+1y",
        "-1y",
        "+30d",
        "-30d",
        "+200y",
        "-30y",
        "@2025-03-09 13:00:30",
        "@2038-01-19 03:14:00",
        "+0 x100",
    )
    case = Case(seed, "", clocks=tuple(random.choice(clocks) for _ in range(3)))
    case.name = ", ".join(case.clocks)
    load = (*USUAL, "--to", "./zone", "--rate", random.choice(("none", "100/s", "60/m")))
    case.commands = (
        load,
        random.choice((load, ("doctor", "--to", "./zone"))),
        random.choice((load, ("status", "--to", "./zone"))),
    )
    return case
