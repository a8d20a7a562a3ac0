"""Runs a case in processes with limits, and says what did not hold."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import psutil

from .answers import FORGED
from .api import HostileApi, hostile_api
from .cases import USUAL, Case, is_regular, listening

ROOT = Path(__file__).resolve().parent.parent.parent
MOST_SECONDS = 60.0
"""How long a command may take; on a quiet machine none takes ten, patience and time limits being 2 s each."""

MOST_MEMORY = 300_000_000
_ADDRESS_SPACE = 8_000_000_000
"""Bytes: nothing here may harm the machine, whatever happens."""

_LOG_LINE = re.compile(r"\[[A-Z]+\] \d{4}-\d\d-\d\d \d\d:\d\d:\d\d - ")
_BAIT = b"somebody else's\n"


FAKETIME = Path(f"/usr/lib/{os.uname().machine}-linux-gnu/faketime/libfaketimeMT.so.1")
"""What gives a process another clock; cases with other clocks run with the true one where it is not installed."""


def complaints(case: Case, folder: Path) -> list[str]:
    """Run a case in a folder of its own and return what did not hold."""
    work, state, home, outside = (folder / name for name in ("work", "state", "home", "outside"))
    for path in (work, state, home, outside):
        path.mkdir(parents=True)
    (outside / "bait").write_bytes(_BAIT)
    found: list[str] = []
    with ExitStack() as stack:
        for name, (options, is_full) in case.disks.items():
            stack.enter_context(_disk(folder / name, options, is_full=is_full))
        case.prepare(work, state)
        made = set(state.rglob("*"))
        api = stack.enter_context(hostile_api(case.attack, case.right))
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("F1HBASE_",
        "AWS_"))} | {
            "F1HBASE_API_URL": api.url, "XDG_STATE_HOME": str(state), "HOME": str(home), "TMPDIR": str(home),
            "F1HBASE_JOLPICA_URL": api.url, "F1HBASE_LIVETIMING_URL": api.url,
            "PYTHONPATH": str(ROOT), "AWS_EC2_METADATA_DISABLED": "true", "MPLCONFIGDIR": str(folder / "fonts"),
            "F1HBASE_PATIENCE": "2s", "F1HBASE_REQUEST_TIMEOUT": "2s", "F1HBASE_RETRY_DELAY": "0", **case.environment,
        }  # fmt: skip
        gateway = 0
        if case.gateway is not None:
            gateway = stack.enter_context(listening(case.gateway, at_once=case.at_once))
        commands = [[word.replace("{gateway}", str(gateway)) for word in command] for command in case.commands]
        if not commands:
            commands = [[*USUAL, *case.arguments]]
            if case.gateway is None:
                commands[0] += ["--to", "./zone"]
            else:
                commands[0] += ["--hbase-port", str(gateway)]
            if case.then:
                commands.append([*case.then, "--to", "./zone"])
        for number, command in enumerate(commands):
            exit_codes = case.exit_codes if number == 0 or case.commands else frozenset({0, 1, 2, 3})
            clock = case.clocks[number] if number < len(case.clocks) and FAKETIME.exists() else ""
            other = {"LD_PRELOAD": str(FAKETIME), "FAKETIME": clock, "DONT_FAKE_MONOTONIC": "1"} if clock else {}
            talk = case.talk if command[0] == "serve" else None
            found += _run(command, work, environment | other, exit_codes, case.secrets, talk)
            if number == 0:
                case.between(work)
        if api.strayed:
            found.append(f"another host was asked: {api.strayed[:3]}")
        for zone in ("zone", "zone2"):
            if not case.is_source or zone == "zone2":
                found += _what_is_done(work / zone, None if case.right or case.is_source else api)
        found += _left_behind(folder, made, case)
    return found


@contextmanager
def _disk(path: Path, options: str, *, is_full: bool) -> Iterator[None]:
    """Make a folder a disk of its own during a block; where only root may and this is not, one that cannot be written.

    Args:
        path: The folder.
        options: Of the mount, such as `size=64k`; `ro` makes it unwritable.
        is_full: Whether there is no room left on it.
    """
    path.mkdir(exist_ok=True)
    if os.geteuid() != 0:
        path.chmod(0o500)
        yield
        path.chmod(0o700)
        return
    mount = ["mount", "-t", "tmpfs", "-o", options.removesuffix(",ro"), "f1hbase-hostile", str(path)]
    subprocess.run(mount, check=True)
    try:
        if is_full:
            with suppress(OSError), (path / "full").open("wb", buffering=0) as file:
                while file.write(b"x" * 4_096):
                    pass
        if options.endswith(",ro"):
            subprocess.run(["mount", "-o", "remount,ro", str(path)], check=True)
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def _run(
    arguments: list[str],
    work: Path,
    environment: dict[str, str],
    exit_codes: frozenset[int],
    secrets: tuple[str, ...],
    talk: Callable[[str, int], Iterator[str]] | None = None,
) -> Iterator[str]:
    command = [sys.executable, "-m", "f1hbase", *arguments]
    output = work.parent / f"{arguments[0]}.out"
    log = work / "populate.log"
    logged = _read(log)
    began = monotonic()
    with output.open("wb") as file, subprocess.Popen(
        command, cwd=work, env=environment, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT,
        start_new_session=True, preexec_fn=_limit,
    ) as process:  # fmt: skip
        watch = _Watch(process.pid)
        watch.start()
        try:
            if talk is not None:
                yield from _attacked(process, output, talk)
            process.wait(MOST_SECONDS)
        except subprocess.TimeoutExpired:
            yield f"{arguments[0]} does not end within {MOST_SECONDS:g} s"
        finally:
            watch.ended.set()
            watch.join()
            for pid in {process.pid, *watch.pids}:
                _end(pid, process.pid)
    if process.returncode not in exit_codes and process.returncode != -signal.SIGKILL:
        seconds = monotonic() - began
        yield f"{arguments[0]} ends with {process.returncode} and not {sorted(exit_codes)} after {seconds:.1f} s"
    if watch.peak > MOST_MEMORY:
        yield f"{arguments[0]} has {watch.peak / 1e6:.0f} MB"
    yield from _what_is_said(output.read_bytes(), arguments[0], secrets)
    log_now = _read(log)
    if not log_now.startswith(logged):
        yield "the log has lost what it held"
    yield from _what_is_said(log_now.removeprefix(logged), "the log", secrets, is_log=True)


def _read(log: Path) -> bytes:
    """Return what a log holds, which may be odd before anything has been logged; nothing if it is no regular file."""
    return log.read_bytes() if log.exists() and is_regular(log) else b""


def _attacked(
    process: subprocess.Popen[bytes], output: Path, talk: Callable[[str, int], Iterator[str]]
) -> Iterator[str]:
    """Attack a server of ours once it listens, and then ask it to end."""
    until = monotonic() + MOST_SECONDS
    while monotonic() < until and process.poll() is None:
        if found := re.search(rb"serving http://([0-9.]+):(\d+)", output.read_bytes()):
            yield from talk(found[1].decode(), int(found[2]))
            break
        sleep(0.05)
    else:
        yield f"it does not serve: {output.read_bytes()[-300:]!r}"
    process.terminate()


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (_ADDRESS_SPACE, _ADDRESS_SPACE))
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000_000, 500_000_000))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _end(pid: int, session: int) -> None:
    """End what is left of a command: a process of its session."""
    try:
        if os.getsid(pid) == session:
            os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


class _Watch(threading.Thread):
    """Follows a process and its children: their ids, and the most memory that one of them ever had."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.peak = 0
        self.pids: set[int] = set()
        self.ended = threading.Event()
        self._pid = pid

    def run(self) -> None:
        """Look every 50 ms."""
        while not self.ended.wait(0.05):
            try:
                children = psutil.Process(self._pid).children(recursive=True)
            except psutil.NoSuchProcess:
                continue
            for pid in [self._pid, *(child.pid for child in children)]:
                self.pids.add(pid)
                self.peak = max(self.peak, _most_memory(pid))


def _most_memory(pid: int) -> int:
    """Return the high water mark of a process, in bytes."""
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return 0
    return int(found[1]) * 1024 if found else 0


def _what_is_said(raw: bytes, where: str, secrets: tuple[str, ...], *, is_log: bool = False) -> Iterator[str]:
    text = raw.decode(errors="surrogateescape")
    if "Traceback (most recent call last)" in text or re.search(r'^  +File ".*", line \d+', text, re.MULTILINE):
        yield f"{where} has a stack trace: {text[text.find('Traceback') :][-600:]}"
    for secret in secrets:
        if secret in text:
            yield f"{where} shows a secret: {_line_with(text, secret)}"
    for line in text.split("\n"):
        if not line.replace("\t", "").isprintable():
            yield f"{where} has control characters: {line[:200]!r}"
        if line.startswith((FORGED, "[SUCCESS] 2024")):
            yield f"{where} has a forged line"
        if len(line) > 12_000:
            yield f"{where} has a line of {len(line)} characters: {line[:100]!r}"
        if is_log and line and not _LOG_LINE.match(line):
            yield f"{where} has a line of no form: {line[:200]!r}"


def _line_with(text: str, word: str) -> str:
    return next(line for line in text.split("\n") if word in line)[:300]


def _what_is_done(zone: Path, api: HostileApi | None) -> Iterator[str]:
    """Yield each unit that is marked as done and is not there, or was never answered by an API, if one is given."""
    if not zone.is_dir():
        return
    for path in zone.glob("_state/units/**/*.json"):
        if not is_regular(path):
            continue
        text = path.read_text()
        if not text:
            yield f"{path.name} is empty"
            continue
        manifest: Any = json.loads(text)
        if manifest["status"] not in {"done", "provisional"}:
            continue
        records = 0
        for one in manifest["objects"]:
            records += one["records"]
            stored = zone / one["path"]
            if zone.resolve() not in stored.resolve().parents:
                yield f"{path.name} names a file outside: {one['path']}"
            elif not stored.exists():
                yield f"{path.name} is done, but {one['path']} is not there"
            elif hashlib.md5(stored.read_bytes(), usedforsecurity=False).hexdigest() != one["stored_md5"]:
                yield f"{path.name} is done, but {one['path']} is another"
            elif (
                api is not None
                and one["request"]
                and one["status"] in {200, 404}
                and stored.name.endswith((".json.gz", ".csv.gz"))
            ):
                body = gzip.decompress(stored.read_bytes())
                if hashlib.md5(body, usedforsecurity=False).hexdigest() not in api.served:
                    yield f"{path.name} is done with an answer that was not sent whole: {body[:80]!r}"
        if manifest["counts"]["rows"] > 0 and not records:
            yield f"{path.name} counts rows and has no object"


def _left_behind(folder: Path, made: set[Path], case: Case) -> Iterator[str]:
    """Yield what was made or changed where nothing may be; `made` is what the case itself put into its state."""
    bait = folder / "outside" / "bait"
    if [path.name for path in bait.parent.iterdir()] != ["bait"] or bait.read_bytes() != _BAIT:
        yield f"something outside was touched: {sorted(path.name for path in bait.parent.iterdir())}"
    usual = {"populate.log", "zone", "f1hbase.toml"} | case.asked_for
    if case.commands:
        usual |= {"zone2"}
    for place, allowed in (("work", usual), ("home", set[str]())):
        strange = {path.name for path in (folder / place).iterdir()} - allowed
        if strange:
            yield f"left behind in {place}: {sorted(strange)[:5]}"
    strange = {path.name for path in folder.iterdir() if path.is_dir()} - {"work", "state", "home", "outside", "fonts"}
    if strange or (folder.parent / "outside").exists():
        yield f"folders were made: {sorted(strange)}"
    for path in {*(folder / "state").rglob("*")} - made:
        if is_regular(path) and path.stat().st_mode & 0o077:
            yield f"others can read {path.relative_to(folder)}"
    zone = folder / "work" / "zone"
    for path in zone.rglob("*") if zone.is_dir() else ():
        if is_regular(path) and any(secret.encode() in path.read_bytes() for secret in case.secrets):
            yield f"a secret is in {path.relative_to(folder)}"
