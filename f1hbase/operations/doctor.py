"""The checks before a run: each says what it found and, where something is wrong, how to mend it. Writes nothing."""

from __future__ import annotations

import asyncio
import os
import platform
import re
import resource
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from importlib import metadata
from pathlib import Path
from time import monotonic
from typing import Any

import psutil

from f1hbase.cli.options import Settings
from f1hbase.credentials import Credentials, exposed_file_warning
from f1hbase.errors import F1HBaseError, UnreachableError
from f1hbase.model.catalog import FIRST_YEAR
from f1hbase.model.rates import Rate
from f1hbase.model.text import count, size
from f1hbase.model.units import Query, parse_time
from f1hbase.operations.status import leased
from f1hbase.sources.http.errors import SessionLiveError, SlowDownError
from f1hbase.sources.openf1.source import Probe, shared_path, try_out
from f1hbase.state.hbase.leases import lease_of
from f1hbase.stores.hbase.connector import Gateway, HBaseConnector, find_gateway
from f1hbase.stores.hbase.schema import Tables
from f1hbase.stores.hbase.shell import find_shell

_PACKAGE = "f1hbase"

_ENOUGH_SPACE = 1_000_000_000
_LEAST_SPACE = 100_000_000
"""Bytes of disk. `populate.log` has a line of some 200 bytes for each request: 60 MB for all seasons since 2023."""

_BYTES_PER_PROCESS = 100_000_000
"""What a worker holds at the most, by and large: a decoded answer, waiting ones, and the rows of a put."""

_FILES_PER_PROCESS = 64
"""What a process has open beside its requests: the log, HBase, pipes, the limiter, libraries."""
_FILES_PER_WORKER = 4
"""What the parent has open for each worker."""

_SKEW_WARNING_SECONDS = 5.0
_SKEW_FAILURE_SECONDS = 60.0

_SLOW_SECONDS = 10.0
_LONGEST_ANSWER = timedelta(seconds=30)
_LONGEST_TURN_SECONDS = 75.0
"""How long to wait for a turn within the API's limits: a minute is the longest window that OpenF1 has."""

_CLOSED_AROUND = timedelta(minutes=30)
"""From how long before a session to how long after it the free API is closed (DESIGN.md, Facts about the API)."""
_AHEAD = timedelta(hours=12)
"""How far ahead sessions are looked for; a season takes the free API longer than that to load."""
_PATIENCE_SECONDS = 5.0

_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?\s*\(?([^;)]*)\)?\s*(?:;\s*(.*))?")
_SPECIFIER = re.compile(r"(>=|<=|==|!=|~=|>|<)\s*([0-9][0-9.]*)")


class Grade(StrEnum):
    """How a check went."""

    OK = "OK"
    WARN = "WARN"
    FAIL = "FAIL"
    SKIP = "SKIP"
    """Not looked at, because what it needs has failed."""


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the list.

    Attributes:
        name: What was looked at.
        found: What was found.
        mend: What to do about it; empty where all is well.
    """

    grade: Grade
    name: str
    found: str
    mend: str = ""

    def as_json(self) -> dict[str, str]:
        """Return it in JSON's types."""
        return {"grade": self.grade.value, "name": self.name, "found": self.found, "mend": self.mend}


@dataclass(frozen=True, slots=True)
class SettingsFile:
    """Where settings were read from.

    Attributes:
        path: The file; None if there was none.
        content: Its values.
        complaint: Why its credentials, or those of the environment, cannot be used.
    """

    path: Path | None = None
    content: Mapping[str, Any] | None = None
    complaint: str = ""


def examine(settings: Settings, credentials: Credentials | None, file: SettingsFile) -> Iterator[Check]:
    """Yield each check as it is done, the quick ones first."""
    yield check_python()
    yield check_packages()
    yield check_settings(file)
    yield check_credentials(credentials, file)
    yield check_log_file(settings.log_file)
    yield check_state_folder(shared_path(settings).parent)
    yield check_open_files(settings, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    yield check_memory(settings.processes, psutil.virtual_memory().available)
    yield check_hbase_command(find_shell())
    yield from check_hbase(settings)
    yield from check_api(settings, credentials)


# --- this machine ---


def check_python(version: str = platform.python_version()) -> Check:
    """Compare the Python version with what the project asks for."""
    wanted = _own_metadata("Requires-Python") or ">=3.11"
    if _fits(version, wanted):
        return Check(Grade.OK, "Python", f"{version} (needs {wanted})")
    mend = "make a virtual environment with a newer one: scripts/setup.sh"
    return Check(Grade.FAIL, "Python", f"{version}, but f1hbase needs {wanted}", mend)


def check_packages(requirements: Iterable[str] | None = None) -> Check:
    """Compare the installed packages with what the project asks for.

    Args:
        requirements: As in the package's metadata (`aiohttp<3.14,>=3.13`); by default those of f1hbase.
    """
    if requirements is None:
        try:
            requirements = metadata.requires(_PACKAGE) or ()
        except metadata.PackageNotFoundError:
            mend = "install it with scripts/setup.sh, or pip install -e ."
            return Check(Grade.WARN, "packages", "f1hbase is not installed, so nothing says which it needs", mend)
    good, wrong, mends = [], [], []
    for requirement in requirements:
        match = _REQUIREMENT.match(requirement)
        if match is None or "extra" in (match[3] or ""):
            continue
        name, wanted = match[1], match[2].replace(" ", "")
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            version = ""
        if version and _fits(version, wanted):
            good.append(f"{name} {version}")
            continue
        wrong.append(f"{name} {version or 'is absent'}, needs {wanted or 'any'}")
        mends.append(f"'{name}{wanted}'")
    if wrong:
        return Check(Grade.FAIL, "packages", "; ".join(wrong), f"pip install {' '.join(mends)}, or scripts/setup.sh")
    return Check(Grade.OK, "packages", ", ".join(good))


def check_settings(file: SettingsFile) -> Check:
    """Say which settings file was read; one that cannot be read ends every command before it begins."""
    if file.path is None:
        return Check(Grade.OK, "settings", "no f1hbase.toml here: options, environment and defaults")
    return Check(Grade.OK, "settings", f"{file.path}, {count(len(file.content or {}), 'key')}")


def check_credentials(credentials: Credentials | None, file: SettingsFile) -> Check:
    """Say whether there are credentials, never which, and whether others can read them."""
    if file.complaint:
        return Check(Grade.FAIL, "credentials", file.complaint, "give both, or neither")
    exposed = None if file.path is None else exposed_file_warning(file.path, file.content or {})
    if exposed is not None:
        found, _, mend = exposed.partition("; ")
        return Check(Grade.WARN, "credentials", found, mend)
    if credentials is None:
        return Check(Grade.OK, "credentials", "none: OpenF1 is used free of charge")
    return Check(Grade.OK, "credentials", "username and password are there")


def check_log_file(path: Path) -> Check:
    """Look whether the log can be written, and whether there is room for it."""
    elsewhere = "name another place with --log-file"
    if path.is_dir():
        return Check(Grade.FAIL, "log file", f"{path} is a folder", elsewhere)
    if path.exists() and not os.access(path, os.W_OK):
        return Check(Grade.FAIL, "log file", f"{path} cannot be written", elsewhere)
    if not path.parent.is_dir():
        return Check(Grade.FAIL, "log file", f"there is no folder {path.parent}", f"make it, or {elsewhere}")
    return _room("log file", str(path), path.parent, elsewhere)


def check_state_folder(folder: Path) -> Check:
    """Look whether the folder can be written that processes share the API's limits through."""
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    mend = "set XDG_STATE_HOME to a folder that can be written"
    return _room("state folder", str(folder), existing, mend)


def check_open_files(settings: Settings, limit: int) -> Check:
    """Compare the limit of open files with what a process needs, the parent of all included."""
    worker = settings.max_concurrent_requests + _FILES_PER_PROCESS
    needed = max(worker, settings.processes * _FILES_PER_WORKER + _FILES_PER_PROCESS)
    if limit in {resource.RLIM_INFINITY, -1} or limit >= needed:
        shown = "unlimited" if limit in {resource.RLIM_INFINITY, -1} else f"{limit:,}"
        return Check(Grade.OK, "open files", f"{shown} allowed, about {needed:,} needed")
    mend = f"ulimit -n {max(1024, 2 * needed)}, or lower --processes and --max-concurrent-requests"
    return Check(Grade.FAIL, "open files", f"{limit:,} allowed, about {needed:,} needed", mend)


def check_memory(processes: int, available: int) -> Check:
    """Compare the free memory, in bytes, with what so many processes take."""
    needed = (processes + 1) * _BYTES_PER_PROCESS
    found = f"{size(available)} free; {processes} and the parent need about {size(needed)} (--processes {processes})"
    if available >= needed:
        return Check(Grade.OK, "memory", found)
    fit = max(1, available // _BYTES_PER_PROCESS - 1)
    return Check(Grade.WARN, "memory", found, f"--processes {fit}")


def check_hbase_command(command: str | None) -> Check:
    """Say whether there is an `hbase` command, without which tables cannot be created as they are best."""
    if command is not None:
        return Check(Grade.OK, "hbase command", command)
    found = "not on the PATH: load cannot set encodings and split points when it creates the tables"
    mend = 'run this where HBase is installed; for the local HBase: PATH="$PWD/scripts/bin:$PATH"'
    return Check(Grade.WARN, "hbase command", found, mend)


def _room(name: str, what: str, folder: Path, mend: str) -> Check:
    try:
        writable, free = os.access(folder, os.W_OK | os.X_OK), psutil.disk_usage(str(folder)).free
    except OSError as error:
        return Check(Grade.FAIL, name, f"{folder}: {(error.strerror or str(error)).lower()}", mend)
    if not writable:
        return Check(Grade.FAIL, name, f"{folder} cannot be written", mend)
    if free >= _ENOUGH_SPACE:
        return Check(Grade.OK, name, f"{what}, {size(free)} free")
    grade = Grade.WARN if free >= _LEAST_SPACE else Grade.FAIL
    return Check(grade, name, f"{what}, only {size(free)} free", f"free {size(_ENOUGH_SPACE)}, or {mend}")


# --- HBase ---


def check_hbase(settings: Settings) -> Iterator[Check]:
    """Look at each gateway, then through the first that answers at the tables and at who loads now."""
    gateways: list[Gateway] = []
    failures: list[Check] = []
    for host, port in settings.gateways:
        began = monotonic()
        try:
            gateway = find_gateway(host, port, settings.hbase_transport, settings.hbase_protocol)
        except UnreachableError as error:
            failures.append(_failed("HBase", error, "look at the logs of HBase and of its Thrift gateway"))
            continue
        gateways.append(gateway)
        yield Check(Grade.OK, "HBase", f"{gateway} answers in {(monotonic() - began) * 1000:,.0f} ms")
    # One of several that is down is done without.
    yield from (replace(failure, grade=Grade.WARN if gateways else Grade.FAIL) for failure in failures)
    if not gateways:
        yield from (Check(Grade.SKIP, name, "HBase does not answer") for name in ("tables", "other runs"))
        return
    connector = HBaseConnector(gateways, _PATIENCE_SECONDS)
    try:
        yield from _tables(connector, Tables(settings.table_prefix))
    except F1HBaseError as error:
        yield _failed("tables", error, "look at the logs of HBase")
    finally:
        connector.close()


def _tables(connector: HBaseConnector, tables: Tables) -> Iterator[Check]:
    listed = connector.tables()
    there = [name for name in tables.families if name in listed]
    if there == [tables.reports]:
        found = f"{tables.data} is gone, but {tables.reports} still says what it held: load would not ask for it again"
        mend = f"if the data are lost, drop '{tables.reports}' in hbase shell, so that all is loaded again"
        yield Check(Grade.FAIL, "tables", found, mend)
    elif there == [tables.data]:
        found = f"{tables.reports} is gone, though {tables.data} is there: load will ask for everything again"
        yield Check(Grade.WARN, "tables", found, "nothing to do, if that is meant; storing twice changes nothing")
    elif not there:
        yield Check(Grade.OK, "tables", f"{' and '.join(tables.families)} are absent: load creates them")
    for name in there:
        missing = [family for family in tables.families[name] if family not in connector.families(name)]
        if missing:
            found = f"{name} lacks {', '.join(missing)}"
            yield Check(Grade.FAIL, "tables", found, "'schema --check' names the lines for hbase shell that add them")
        else:
            yield Check(Grade.OK, "tables", f"{name} has all its families ({len(tables.families[name])})")
    if tables.reports not in there:
        yield Check(Grade.OK, "other runs", "none, as there are no reports")
        return
    loading: dict[str, list[str]] = {}
    for meeting in leased(connector, tables.reports):
        lease = lease_of(connector, tables.reports, meeting)
        if lease is not None:
            loading.setdefault(str(lease), []).append(str(meeting.meeting_key))
    if loading:
        found = "; ".join(f"{who} loads {', '.join(meetings)}" for who, meetings in loading.items())
        yield Check(Grade.WARN, "other runs", found, "nothing to do: another load waits for these meetings")
    else:
        yield Check(Grade.OK, "other runs", "none loads now")


def _failed(name: str, error: F1HBaseError, mend: str) -> Check:
    """Return the check of an error that says first what is wrong and then what to do."""
    found, _, told = str(error).partition(". ")
    return Check(Grade.FAIL, name, found, told or mend)


# --- the API ---


def check_api(settings: Settings, credentials: Credentials | None) -> Iterator[Check]:
    """Ask the API once, for its sessions, and say what that tells: whether it is there, open, and what time it has."""
    settings = replace(settings, request_timeout=min(settings.request_timeout, _LONGEST_ANSWER))
    query = Query("sessions", (f"year>={FIRST_YEAR}",))
    rates = settings.rates(authenticated=credentials is not None)
    try:
        probe = asyncio.run(try_out(settings, credentials, query, _LONGEST_TURN_SECONDS))
    except TimeoutError:
        found = f"no turn within {_LONGEST_TURN_SECONDS:.0f} s: other processes use up {_shown(rates)}, or all wait"
        yield Check(
            Grade.WARN, "API", found, "nothing to do if another load is meant to run; else look for its process"
        )
        yield from _not_asked()
        return
    except F1HBaseError as error:
        yield _failed("API", error, "see 'state folder' above")
        yield from _not_asked()
        return
    yield judge_answer(settings.api_url, probe)
    yield judge_limits(rates, probe.spent)
    yield judge_sessions(probe, datetime.now(UTC), free=credentials is None)
    yield judge_clock(probe)


def _not_asked() -> Iterator[Check]:
    return (Check(Grade.SKIP, name, "the API was not asked") for name in ("limits", "live session", "clock"))


def judge_answer(url: str, probe: Probe) -> Check:
    """Say whether the API answers, as OpenF1 does, and how fast."""
    error, took = probe.error, f"{probe.seconds:.1f} s"
    if isinstance(error, SessionLiveError):
        return Check(Grade.OK, "API", f"{url} answers in {took}, but is closed now")
    if isinstance(error, SlowDownError):
        mend = "wait a minute; what else uses OpenF1 from this address?"
        return Check(Grade.WARN, "API", f"{url} answers in {took}: too many requests from this address", mend)
    if error is not None:
        mend = f"check the network, HTTPS_PROXY and --api-url (OpenF1's ends in /v1), or try: curl -sS {url}/sessions"
        return Check(Grade.FAIL, "API", f"{url}: {error}", mend)
    if not probe.records:
        found = f"{url} answers in {took}, but has no session since {FIRST_YEAR}"
        return Check(Grade.WARN, "API", found, "is it the right --api-url?")
    if not all(isinstance(record, dict) and "session_key" in record for record in probe.records):
        found = f"{url} answers in {took}, but not with sessions as OpenF1 has them"
        return Check(Grade.FAIL, "API", found, "check --api-url: OpenF1's is https://api.openf1.org/v1")
    if probe.seconds > _SLOW_SECONDS:
        mend = "nothing to do: slow queries are asked for in parts; it may be better at another hour"
        return Check(Grade.WARN, "API", f"{url} is slow: {took} for its list of sessions", mend)
    return Check(Grade.OK, "API", f"{url} lists {count(len(probe.records), 'session')} in {took}")


def judge_limits(rates: Sequence[Rate], spent: Sequence[int]) -> Check:
    """Say which limits hold, and what of them was left before the doctor asked."""
    if not rates:
        return Check(Grade.OK, "limits", "none for this address; --rate sets some")
    left = (f"{max(0, rate.limit - used)} of {rate}" for rate, used in zip(rates, spent, strict=True))
    return Check(Grade.OK, "limits", f"{_shown(rates)}, shared by all processes; free now: {', '.join(left)}")


def judge_sessions(probe: Probe, now: datetime, *, free: bool) -> Check:
    """Say whether a session closes the API to free use, now or within the next hours.

    Args:
        probe: Brought the list of sessions.
        now: The present.
        free: Whether the API is used without a subscription.
    """
    name, mend = "live session", "nothing to do: load waits while it is closed; or use a subscription"
    if isinstance(probe.error, SessionLiveError):
        return Check(Grade.WARN, name, "one is on: the free API is closed until half an hour after it", mend)
    if probe.error is not None:
        return Check(Grade.SKIP, name, "the API did not list its sessions")
    coming = sorted(_closings(probe.records, now))
    if not coming:
        return Check(Grade.OK, name, f"none now, nor within {_AHEAD.total_seconds() / 3600:.0f} hours")
    begin, end, what = coming[0]
    when = f"from {begin:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC"
    if not free:
        return Check(Grade.OK, name, f"{what} closes the free API {when}, but not to a subscription")
    others = f", and {count(len(coming) - 1, 'session')} after it" if len(coming) > 1 else ""
    return Check(Grade.WARN, name, f"{what} closes the free API {when}{others}", mend)


def judge_clock(probe: Probe) -> Check:
    """Compare this machine's clock with the API's, which says the time to the second."""
    if probe.server_time is None:
        return Check(Grade.SKIP, "clock", "the API does not say what time it is")
    # Its second had begun somewhere in the second before, and the answer took half of its time to come.
    there = probe.server_time + timedelta(seconds=0.5 + probe.seconds / 2)
    skew = (probe.local_time - there).total_seconds()
    uncertain = 0.5 + probe.seconds / 2
    off = max(0.0, abs(skew) - uncertain)
    found = f"{abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} the API's"
    mend = "set it: sudo timedatectl set-ntp true (or sudo chronyc makestep); sessions and leases go by it"
    if off > _SKEW_FAILURE_SECONDS:
        return Check(Grade.FAIL, "clock", found, mend)
    if off > _SKEW_WARNING_SECONDS:
        return Check(Grade.WARN, "clock", found, mend)
    return Check(Grade.OK, "clock", f"that of the API, within {max(1.0, abs(skew)):.0f} s")


def _closings(records: Iterable[Any], now: datetime) -> Iterator[tuple[datetime, datetime, str]]:
    """Yield when sessions of now and the next hours close the free API, and which."""
    for record in records:
        if not isinstance(record, dict) or record.get("is_cancelled"):
            continue
        try:
            begin, end = (parse_time(record[edge]) for edge in ("date_start", "date_end"))
            begin, end = begin - _CLOSED_AROUND, end + _CLOSED_AROUND
        except (KeyError, TypeError, ValueError, OverflowError):
            continue
        if begin - now <= _AHEAD and now < end:
            yield begin, end, f"{record.get('location')}, {record.get('session_name')}"


def _shown(rates: Sequence[Rate]) -> str:
    return ",".join(map(str, rates))


# --- versions ---


def _own_metadata(name: str) -> str | None:
    try:
        return str(metadata.metadata(_PACKAGE)[name])
    except metadata.PackageNotFoundError:
        return None


def _fits(version: str, wanted: str) -> bool:
    """Return whether a version is one of those wanted (`<3.14,>=3.13`); what cannot be read does not count."""
    have = _numbers(version)
    for sign, text in _SPECIFIER.findall(wanted):
        limit = _numbers(text)
        width = max(len(have), len(limit))
        one, other = (numbers + (0,) * (width - len(numbers)) for numbers in (have, limit))
        fits = {
            ">=": one >= other,
            "<=": one <= other,
            ">": one > other,
            "<": one < other,
            "==": one == other,
            "!=": one != other,
            "~=": one >= other and one[: len(limit) - 1] == limit[:-1],
        }[sign]
        if not fits:
            return False
    return True


def _numbers(version: str) -> tuple[int, ...]:
    leading = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(map(int, leading[0].split("."))) if leading else ()


# --- telling it ---

_LEAD = 20


def doctor_lines(check: Check, width: int | None = None) -> list[str]:
    """Return the line of a check; in a terminal of some width, as many as it takes."""
    line = f"{check.grade:<5}{check.name:<{_LEAD - 5}}{check.found}{f'. Mend: {check.mend}' if check.mend else ''}"
    if width is None:
        return [line]
    return textwrap.wrap(
        line, max(width, 2 * _LEAD), subsequent_indent=" " * _LEAD, break_long_words=False, break_on_hyphens=False
    )


def judgement(checks: Sequence[Check]) -> str:
    """Return in one line how it all went."""
    failed, warned = (sum(check.grade is grade for check in checks) for grade in (Grade.FAIL, Grade.WARN))
    if failed:
        return f"{count(failed, 'check')} failed: mend that before you load."
    return "Ready to load." if not warned else f"Ready to load; {count(warned, 'warning')}."


def doctor_json(checks: Sequence[Check]) -> dict[str, Any]:
    """Return everything in JSON's types."""
    return {
        "ready": not any(check.grade is Grade.FAIL for check in checks),
        "checks": [check.as_json() for check in checks],
    }
