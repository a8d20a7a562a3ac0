"""The services beside OpenF1: Jolpica's API and the archive of live timing, with something odd in what they answer."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import tempfile
import threading
import urllib.error
import urllib.request
import zlib
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from aiohttp import web

from simulator.history import History, Scale
from simulator.history_server import create_history
from simulator.livetiming import write_archive
from simulator.season import Plan, simulate

from .answers import HOSTILE_TEXTS, HOSTILE_VALUES, Record
from .api import Answer, HostileApi, head, hostile_status, hostile_way
from .cases import Case

_YEAR = "2025"
_WAITS = ("--rate", "none", "--patience", "2s", "--max-retries", "1", "--processes", "1", "--to", "./zone")
_BOM = b"\xef\xbb\xbf"


def jolpica(random: Random, seed: int) -> Case:
    """A season of Jolpica's, of which some answers are hostile."""
    attacked = random.choice(("", "races", "results", "seasons", "laps", "pitstops", "standings", "qualifying"))
    case = Case(
        seed, f"{attacked or 'all'} of Jolpica", attack=_attack(random, seed, attacked, _jolpica), right=_jolpica
    )
    load = ("load", "--from", "jolpica", "--year", _YEAR, *_WAITS)
    case.commands = (load, random.choice((("status", "--to", "./zone"), ("verify", "--to", "./zone"), load)))
    return case


def archive(random: Random, seed: int) -> Case:
    """A session of the archive, of which some files are hostile."""
    attacked = random.choice(
        ("", "Index.json", "CarData", "Position", "TimingData", "RaceControl", "DriverList", "Weather")
    )
    case = Case(seed, f"{attacked or 'all'} of live timing", attack=_attack(random, seed, attacked, _file), right=_file)
    load = ("load", "--from", "livetiming", "--year", _YEAR, *_WAITS)
    case.commands = (load, random.choice((("status", "--to", "./zone"), ("verify", "--to", "./zone"), load)))
    return case


def _attack(random: Random, seed: int, attacked: str, right: Any) -> Any:
    way = random.choice(("content", "content", "content", "transport", "status"))
    times = random.choice((1, 1_000))
    asked: dict[str, int] = {}
    lock = threading.Lock()

    def attack(api: HostileApi, path: str, _: list[Record]) -> Answer | None:
        with lock:
            asked[path] = asked.get(path, 0) + 1
            if attacked not in path or asked[path] > times:
                return None
        own = Random(f"{seed} {path}")
        if way == "status":
            return hostile_status(own, api)
        body = b"".join(right(api, path).body)
        return hostile_way(own, api, body) if way == "transport" else api.whole(_changed(own, body))

    return attack


def _changed(random: Random, body: bytes) -> bytes:
    """Return an answer with something odd in it."""
    ways = [_cut, _noise, _odd_value, _odd_value, _odd_value, _odd_line, _bomb, _repeated]
    return random.choice(ways)(random, body)


def _cut(random: Random, body: bytes) -> bytes:
    return body[: random.randrange(len(body) + 1)]


def _noise(random: Random, body: bytes) -> bytes:
    changed = bytearray(body or b"x")
    for _ in range(random.randint(1, 20)):
        changed[random.randrange(len(changed))] = random.randrange(256)
    return bytes(changed)


def _odd_value(random: Random, body: bytes) -> bytes:
    """Change some values of a JSON document, or of lines that hold one each."""
    try:
        document = json.loads(body.removeprefix(_BOM))
    except ValueError:
        lines = body.split(b"\n")
        number = random.randrange(len(lines))
        found = re.match(rb'([^{"\[]*)([{"\[].*)', lines[number].strip())
        if found:
            try:
                lines[number] = found[1] + json.dumps(odd(random, json.loads(found[2]))).encode()
            except ValueError:
                lines[number] = _noise(random, lines[number])
        return b"\n".join(lines)
    for _ in range(random.randint(1, 5)):
        document = odd(random, document)
    return json.dumps(document).encode()


def odd(random: Random, value: Any) -> Any:
    """Return a JSON value with one odd value somewhere in it."""
    if isinstance(value, dict) and value and random.random() < 0.9:
        name = random.choice(list(value))
        if random.random() < 0.1:
            return {other: one for other, one in value.items() if other != name}
        if random.random() < 0.05:
            return {**value, random.choice(HOSTILE_TEXTS): random.choice(HOSTILE_VALUES)}
        return {**value, name: odd(random, value[name])}
    if isinstance(value, list) and value and random.random() < 0.9:
        number = random.randrange(len(value))
        return [*value[:number], odd(random, value[number]), *value[number + 1 :]]
    return random.choice(HOSTILE_VALUES)


def _odd_line(random: Random, body: bytes) -> bytes:
    line = random.choice(
        (
            b"00:00:01.000" + b'{"a":' * 100_000,
            b"99:99:99.999{}",
            b"-1:00:00.000{}",
            b"9" * 5_000 + b":00:00.000{}",
            b"\x00",
            b'00:00:01.000"' + b"A" * 5_000_001 + b'"',
            b"00:00:01.000[]",
            b"00:00:01.000null",
            b"x" * 1_000_000,
            b"\xff\xfe",
            b"00:00:01.000" + json.dumps(random.choice(HOSTILE_TEXTS)).encode(),
        )
    )
    lines = body.split(b"\r\n")
    lines.insert(random.randrange(len(lines) + 1), line)
    return b"\r\n".join(lines)


def _bomb(random: Random, _: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    filling = random.choice((b"[", b" ", b'{"a":1},')) * 1_000_000
    packed = b"".join(packer.compress(filling) for _ in range(60)) + packer.flush()
    line = b'00:00:01.000"' + base64.b64encode(packed) + b'"\r\n'
    return line * random.choice((1, 50))


def _repeated(random: Random, body: bytes) -> bytes:
    return body * min(random.choice((2, 1_000)), 30_000_000 // (len(body) + 1) + 1)


# --- what they answer where nothing is wrong ---


def _jolpica(api: HostileApi, path: str) -> Answer:
    try:
        with urllib.request.urlopen(_upstream() + path.removeprefix("/v1"), timeout=20) as answer:
            return api.whole(answer.read())
    except urllib.error.HTTPError as error:
        return api.whole(error.read(), f"{error.code} No")


@cache
def _upstream() -> str:
    """Serve a simulated season for as long as this process lives."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()

    async def begin() -> str:
        history = History(7, Scale(cars=4, laps=3, rounds=2, first=int(_YEAR), last=int(_YEAR)))
        runner = web.AppRunner(create_history(history), access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}/ergast/f1"

    return asyncio.run_coroutine_threadsafe(begin(), loop).result()


def _file(api: HostileApi, path: str) -> Answer:
    body = _archive().get(path.removeprefix("/v1/"))
    if body is None:
        return Answer(head("404 Not Found", "Content-Type: application/xml", "Content-Length: 8"), [b"<Error/>"])
    return api.whole(body, content_type="application/octet-stream")


_making = threading.Lock()


def _archive() -> dict[str, bytes]:
    with _making:
        return _made_archive()


@cache
def _made_archive() -> dict[str, bytes]:
    """Return the files of a simulated race of a minute, by path."""
    with tempfile.TemporaryDirectory(prefix="f1hbase-hostile-") as name:
        folder = Path(name)
        for _ in simulate(folder / "season", Plan(sessions=("race",), minutes=1, drivers=2)):
            pass
        write_archive(folder / "season", folder / "static")
        return {
            str(path.relative_to(folder / "static")): path.read_bytes()
            for path in (folder / "static").rglob("*")
            if path.is_file()
        }
