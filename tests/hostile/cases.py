"""Cases by seed: what is attacked, and how; a seed always makes the same one."""

from __future__ import annotations

import os
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from .answers import SESSION_KEY, Record
from .api import PASSWORD, TOKEN, Answer, HostileApi, hostile_content, hostile_status, hostile_transport

_FIRST_KINDS = (
    "content", "content", "content", "transport", "transport", "status", "settings", "options", "files", "gateway"
)  # fmt: skip
_SINCE_SEED = 3000
KINDS = (
    *_FIRST_KINDS, "many", "history", "history", "archive", "archive", "zone", "zone", "zone", "ingest", "disk",
    "clock", "served", "served", "liar", "liar",
)  # fmt: skip
"""What is attacked, by how often it is chosen; the first of them alone before seed 3000, so that each seed stays the
case that it once was."""

_LISTED = ("sessions", "meetings")
_LOADED = ("drivers", "laps", "weather", "race_control", "car_data")


@dataclass
class Case:
    """One case.

    Attributes:
        seed: What made it.
        name: What is attacked, for people.
        arguments: Of the command line, after those of every case.
        environment: Variables beside those of every case.
        attack: What the API answers instead; None where it answers as it should.
        prepare: Puts files into its folders before it begins: the working folder and the one of its state.
        gateway: How what listens at the gateway's port answers; None where none is used.
        exit_codes: Those that are right.
        then: What is run afterwards in the same place.
        asked_for: Files in the working folder that the options themselves ask for.
        commands: What is run instead of the usual load and `then`, one after the other.
        between: Is given the working folder after the first command.
        clocks: For each command a clock as libfaketime takes it, such as `+1y`; none for the true one.
        disks: Folders of the case that are disks of their own (tmpfs): their options, and whether they are full.
        right: What an API that is not OpenF1's answers where it is not attacked.
        talk: Attacks a server of ours, whose address it is given; yields what did not hold.
        at_once: Whether the gateway answers several connections at a time.
        is_source: Whether the zone was made by somebody hostile, so that what it says need not be so.
    """

    seed: int
    name: str
    arguments: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    attack: Callable[[HostileApi, str, list[Record]], Answer | None] = lambda *_: None
    prepare: Callable[[Path, Path], None] = lambda *_: None
    gateway: Callable[[socket.socket], None] | None = None
    exit_codes: frozenset[int] = frozenset({0, 1, 2, 3})
    then: tuple[str, ...] = ()
    asked_for: frozenset[str] = frozenset()
    commands: tuple[tuple[str, ...], ...] = ()
    between: Callable[[Path], None] = lambda _: None
    clocks: tuple[str, ...] = ()
    disks: dict[str, tuple[str, bool]] = field(default_factory=dict)
    right: Callable[[HostileApi, str], Answer] | None = None
    talk: Callable[[str, int], Iterator[str]] | None = None
    at_once: bool = False
    is_source: bool = False

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must be shown nowhere: an API may say what it likes of secrets that it was never given."""
        if self.name.startswith(("history", "archive", "liar")):
            return ()  # which are given none
        given = "F1HBASE_API_PASSWORD" in self.environment or not self.name.startswith("status")
        return (PASSWORD, TOKEN) if given else ()


def case_of(seed: int) -> Case:
    """Return the case of a seed."""
    random = Random(seed)
    kind = random.choice(_FIRST_KINDS if seed < _SINCE_SEED else KINDS)
    case = _makers()[kind](random, seed)
    case.name = f"{kind}: {case.name}" if case.name else kind
    if random.random() < 0.4:
        case.environment |= {"F1HBASE_API_USERNAME": "somebody", "F1HBASE_API_PASSWORD": PASSWORD}
    if kind != "gateway" and not case.commands:
        case.arguments += ["--layout", random.choice(("units", "units", "extractor", "dated"))]
        case.then = random.choice(((), (), ("status",), ("verify",), ("plan",)))
    return case


def _from_the_api(random: Random, seed: int, one: Callable[[HostileApi, str, list[Record]], Answer]) -> Case:
    attacked = random.choice((_LISTED, _LOADED, _LOADED, (*_LISTED, *_LOADED), (random.choice(_LOADED),)))
    times = random.choice((1, 3, 1_000, 1_000))
    lock = threading.Lock()
    asked: dict[str, int] = {}

    def attack(api: HostileApi, endpoint: str, found: list[Record]) -> Answer | None:
        with lock:  # requests come at once, and the answers shall depend on the seed alone
            asked[endpoint] = asked.get(endpoint, 0) + 1
            if endpoint not in attacked or asked[endpoint] > times:
                return None
            return one(api, endpoint, found)

    return Case(seed, f"{', '.join(attacked)}; {times} times", attack=attack)


def _content(random: Random, seed: int) -> Case:
    return _from_the_api(
        random, seed, lambda api, endpoint, found: hostile_content(_of(seed, endpoint), api, endpoint, found)
    )


def _transport(random: Random, seed: int) -> Case:
    return _from_the_api(random, seed, lambda api, endpoint, found: hostile_transport(_of(seed, endpoint), api, found))


def _status(random: Random, seed: int) -> Case:
    return _from_the_api(random, seed, lambda api, endpoint, _: hostile_status(_of(seed, endpoint), api))


def _many(random: Random, seed: int) -> Case:
    """An answer of more values than fit into memory, in fewer bytes than are refused for their number."""
    piece = random.choice(
        (b"1", b"{}", b'{"a":1}', b"[]", b'""', b'"x"', b"null", b"[[],[]]", b"0.1", b'{"a":{},"b":[]}')
    )
    size = random.choice((100_000, 3_000_000, 8_000_000, 30_000_000))
    end = random.choice((b"]", b"]", b",NaN]", b""))
    body = b"[" + b",".join([piece] * (size // (len(piece) + 1))) + end
    return _from_the_api(random, seed, lambda api, *_: api.whole(body))


def _of(seed: int, endpoint: str) -> Random:
    return Random(f"{seed} {endpoint}")


_TOML = (
    "x = " + "[" * 5_000, "a" + ".a" * 20_000 + " = 1", "", "\ufeffquiet = true", "num-sessions = 9" + "9" * 5_000,
    "year = 2025\n" * 2,
    "to = '\\u0000'", "to = \"\\u0000\"", "year = 1e308", "year = nan", "date = 9999-12-31",
    "date = 0001-01-01T00:00:00Z",
    "patience = [[['1s']]]", "patience = -1", "rate = '9e9/s'", "'\\u001b[2J' = 1", "\x1b[2J = 1",
    "[load]\nyear = 2025",
    f"api-password = '{PASSWORD}'", f"api-password = ['{PASSWORD}']", f"api-username = '{PASSWORD}'",
    "processes = 10000000",
    "endpoint = " + repr(["laps"] * 10_000), "session-key = " + "9" * 4_000, "log-file = '.'",
    "api-url = 'http://\\u0000'",
    "year = true", "to = {a = 1}", "config = 'f1hbase.toml'", "log_file = ''", "window = '1e999h'",
    "window = '0.0001s'",
    "request-timeout = inf", "retry-delay = '9999999h'", "response-budget = 0", "driver = -1",
)  # fmt: skip
_VALUES = (
    "", " ", "\x1b[2J", "\r\n", "-1", "0", "9" * 5_000, "1e999", "nan", "inf", "../../outside/made", "x" * 100_000,
    "é", "\udcff",
    "http://" + "a" * 64 + ".example/v1", "http://[::1", "http://\x1b[2J", "file:///etc/passwd",
    "http://127.0.0.1:99999",
    "http://127.0.0.1:1", f"http://u:{PASSWORD}@127.0.0.1:1", "9999-12-31", "0001-01-01", "2025-02-30",
    "{0}%s$(touch made)",
    "--year", "/dev/null/x", "/proc/self/x", "s3://\x00", "az://", "s3://../..", "none", "1/s,", "true", "١٢",
    "0x10", "1_0",
)  # fmt: skip
_OPTIONS = (
    "year", "date", "meeting-key", "session-key", "endpoint", "driver", "processes", "max-concurrent-requests",
    "window",
    "response-budget", "max-retries", "retry-delay", "request-timeout", "rate", "api-url", "patience", "put-timeout",
    "log-file", "config", "mode", "num-sessions", "layout", "compression", "table-prefix", "hbase-host",
    "hbase-port", "from",
)  # fmt: skip


def _settings(random: Random, seed: int) -> Case:
    toml = random.choice((*_TOML, *_TOML, "".join(chr(random.randrange(1, 300)) for _ in range(200))))
    raw = random.choice(
        (toml.encode("utf-8", "surrogatepass"),) * 4 + (toml.encode("utf-16", "surrogatepass"), random.randbytes(99))
    )

    def prepare(work: Path, _: Path) -> None:
        (work / "f1hbase.toml").write_bytes(raw)

    return Case(seed, repr(raw[:30]), prepare=prepare)


def _options(random: Random, seed: int) -> Case:
    option, value = random.choice(_OPTIONS), random.choice(_VALUES)
    case = Case(seed, f"--{option} {value[:30]!r}")
    # No argument and no variable of a process can hold NUL; the system refuses it.
    value = value.replace("\x00", "\\0")
    if option == "log-file":
        case.asked_for = frozenset({value.partition("/")[0]})
    if random.random() < 0.5:
        case.arguments = [f"--{option}={value}"]
    else:
        case.environment = {f"F1HBASE_{option.upper().replace('-', '_')}": value}
    return case


def _files(random: Random, seed: int) -> Case:
    what = random.choice(("state", "state", "log", "zone", "zone", "config"))
    how = random.choice(tuple(STRANGE))
    case = Case(seed, f"{what}, {how}")

    def prepare(work: Path, state: Path) -> None:
        outside = work.parent / "outside" / "bait"
        if what == "state":
            (state / "f1hbase").mkdir(mode=0o700)
            for name in ("limits-127.0.0.1", "rate-127.0.0.1", "token"):
                STRANGE[how](state / "f1hbase" / name, outside, random)
            if random.random() < 0.3:
                with suppress(OSError):
                    (state / "f1hbase" / "token").unlink()
                (state / "f1hbase").chmod(0o777)
        elif what == "zone":
            STRANGE[how](
                work / random.choice(("zone", "zone/_f1hbase.json", "zone/_state", "zone/source=openf1")),
                outside,
                random,
            )
        else:
            STRANGE[how](work / ("populate.log" if what == "log" else "f1hbase.toml"), outside, random)

    case.prepare = prepare
    return case


def _link(path: Path, outside: Path, _: Random) -> None:
    path.parent.mkdir(exist_ok=True)
    path.symlink_to("/dev/full" if path.name in {"populate.log", "zone"} else outside)


def _device(path: Path, _: Path, random: Random) -> None:
    path.parent.mkdir(exist_ok=True)
    path.symlink_to(random.choice(("/dev/zero", "/dev/full", "/dev/null", "/proc/self/mem")))


def _pipe(path: Path, _: Path, __: Random) -> None:
    path.parent.mkdir(exist_ok=True)
    os.mkfifo(path)


def _folder(path: Path, _: Path, __: Random) -> None:
    path.mkdir(parents=True)


def _noise(path: Path, _: Path, random: Random) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(
        random.choice((b"", b"\x00" * 5_000, random.randbytes(5_000), b"SQLite format 3\x00" + random.randbytes(99)))
    )


def _nowhere(path: Path, outside: Path, _: Random) -> None:
    path.parent.mkdir(exist_ok=True)
    path.symlink_to(outside.parent / "no-such-folder" / "x")


def _itself(path: Path, _: Path, __: Random) -> None:
    path.parent.mkdir(exist_ok=True)
    path.symlink_to(path.name)


STRANGE: dict[str, Callable[[Path, Path, Random], None]] = {
    "a link": _link, "a device": _device, "a pipe": _pipe, "a folder": _folder, "noise": _noise,
    "a link to nowhere": _nowhere, "a link to itself": _itself,
}  # fmt: skip


def _gateway(random: Random, seed: int) -> Case:
    noise = random.randbytes(random.choice((1, 4, 100, 100_000)))
    length = random.choice(
        (b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff", b"\x80\x01\x00\x02\x7f\xff\xff\xff", b"\x00\x00\x00\x00")
    )

    def talk(connection: socket.socket) -> None:
        if random.random() < 0.3:
            return  # closes at once
        if random.random() < 0.7:
            connection.recv(1_000)
            connection.sendall(
                random.choice((noise, length, length + noise, b"HTTP/1.1 400 Bad\r\n\r\n", b"\x1b[2J" * 99))
            )
        if random.random() < 0.5:
            connection.recv(1)  # until the client goes

    arguments = ["--to", "hbase", "--hbase-host", "127.0.0.1", "--hbase-timeout", "1s"]
    return Case(seed, "", arguments=arguments, gateway=talk, exit_codes=frozenset({3}))


@contextmanager
def listening(talk: Callable[[socket.socket], None], *, at_once: bool = False) -> Iterator[int]:
    """Answer connections at a free port during a block, one after the other or at once."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)
        ended = threading.Event()

        def answer(connection: socket.socket) -> None:
            with connection:
                connection.settimeout(20)
                with suppress(OSError):
                    talk(connection)

        def serve() -> None:
            while not ended.is_set():
                try:
                    connection, _ = server.accept()
                except TimeoutError:
                    continue
                if at_once:
                    threading.Thread(target=answer, args=(connection,), daemon=True).start()
                else:
                    answer(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            ended.set()
            thread.join(5)


def _makers() -> dict[str, Callable[[Random, int], Case]]:
    from . import gateways, histories, places, served  # which are made of cases themselves

    return {
        "content": _content, "transport": _transport, "status": _status, "settings": _settings, "options": _options,
        "files": _files, "gateway": _gateway, "many": _many,
        "history": histories.jolpica, "archive": histories.archive, "zone": places.zone, "ingest": places.ingest,
        "disk": places.disk, "clock": places.clock, "served": served.served,
        "liar": gateways.liar,
    }  # fmt: skip


def is_regular(path: Path) -> bool:
    """Return whether this is a file that can be read to its end."""
    return stat.S_ISREG(path.lstat().st_mode)


USUAL = (
    "load", "--session-key", str(SESSION_KEY), *(word for name in _LOADED for word in ("--endpoint", name)),
    "--rate", "none",
    "--patience", "2s", "--retry-delay", "0", "--request-timeout", "2s", "--max-retries", "1", "--processes", "1",
)  # fmt: skip
"""The arguments of every case; those of a case come behind them and win."""
