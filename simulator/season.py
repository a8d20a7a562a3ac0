"""A season in files: meetings, their sessions, and every endpoint's records in the layout that the server reads."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from random import Random

from simulator.files import Folder
from simulator.people import CIRCUITS, Circuit, Driver, make_drivers
from simulator.session_records import Points, SessionFacts, write_safety_car, write_session
from simulator.telemetry import spell
from simulator.track import Track, make_track

_FIRST_MEETING_KEY = 7001
_FIRST_SESSION_KEY = 70_001
_YEAR_OF_FIRST_KEYS = 2025
"""The keys of a season of 2025; those of other years are apart by hundreds and thousands, so that several seasons can
be served as one API. All are well above OpenF1's own (1304 and 11465 in early 2026), so both can be in one table."""

WEEKEND = ("practice", "practice", "practice", "qualifying", "race")
_MINUTES = {"practice": 60.0, "qualifying": 60.0, "sprint-qualifying": 44.0, "sprint": 60.0, "race": 120.0}
_NAMES = {"qualifying": "Qualifying", "sprint-qualifying": "Sprint Qualifying", "sprint": "Sprint", "race": "Race"}
_TYPES = {"practice": "Practice", "qualifying": "Qualifying", "sprint-qualifying": "Sprint Qualifying"}
KINDS = tuple(_MINUTES)

# Days and hours (local) at which the last sessions of a meeting start; earlier ones go before.
_SLOTS = ((0, 13.5), (0, 17.0), (1, 12.5), (1, 16.0), (2, 15.0))
_CANCELLED_FROM = 6  # a season of so many meetings loses one


@dataclass(frozen=True, slots=True)
class Plan:
    """What to simulate.

    ``minutes`` None: as long as real sessions; ``first_day`` None: early in March. ``safety_car``: races have a car
    with number 241 that has a location for some minutes, and that no list names.
    """

    seed: int = 1
    year: int = 2025
    meetings: int = 1
    sessions: Sequence[str] = WEEKEND
    minutes: float | None = None
    drivers: int = 20
    first_day: date | None = None
    safety_car: bool = False


@dataclass(frozen=True, slots=True)
class Written:
    """A session that is in the files: how many records, in all endpoints."""

    meeting_key: int
    session_key: int
    name: str
    records: int


@dataclass(slots=True)
class _Meeting:
    key: int
    circuit: Circuit
    day: date
    cancelled: bool
    sessions: list[SessionFacts] = field(default_factory=list)


def simulate(out: Path, plan: Plan) -> Iterator[Written]:
    """Write a season below ``out`` and yield each session when its files are complete.

    One folder a meeting and in it one a session; memory holds one session. Raises ``FileExistsError`` when
    ``out`` already has something in it.
    """
    if out.exists() and any(out.iterdir()):
        raise FileExistsError(f"{out} is not empty; name a new folder")
    points = Points()
    drivers = make_drivers(plan.drivers)
    for meeting in _meetings(plan):
        folder = out / f"meeting-{meeting.key}-{_slug(meeting.circuit.name)}"
        with Folder(folder) as files:
            files.write("meetings", [_meeting_record(meeting, plan)])
        random = Random(f"{plan.seed} {meeting.key}")  # noqa: S311
        track = _track(plan, meeting, random)
        grid: list[tuple[Driver, float | None]] = [(one, None) for one in drivers]
        for session in meeting.sessions:
            with Folder(folder / f"session-{session.key}-{_slug(session.name)}") as files:
                files.write("sessions", [session.record])
                if not meeting.cancelled:
                    rng = Random(f"{plan.seed} {session.key}")  # noqa: S311
                    grid = write_session(files, session, track, drivers, grid, points, rng)
                    if plan.safety_car and session.is_race:
                        # With randomness of its own: all other records are those without it.
                        write_safety_car(files, session, track, Random(f"{plan.seed} {session.key} 241"))  # noqa: S311
            yield Written(meeting.key, session.key, session.name, files.records)


def _track(plan: Plan, meeting: _Meeting, random: Random) -> Track:
    """Return the circuit, short enough for some laps in the shortest of the sessions."""
    shortest = 60 * min((plan.minutes or _MINUTES[kind]) for kind in plan.sessions)
    lap_time = min(random.uniform(76, 96), max(9.0, shortest / 6))
    return make_track(Random(f"{plan.seed} {meeting.circuit.key}"), lap_time)  # noqa: S311


def _meetings(plan: Plan) -> Iterator[_Meeting]:
    random = Random(f"{plan.seed} season")  # noqa: S311
    circuits = list(CIRCUITS)
    random.shuffle(circuits)
    # The first Friday from the 2nd of March on.
    day = plan.first_day or date(plan.year, 3, 2) + timedelta(days=(4 - date(plan.year, 3, 2).weekday()) % 7)
    cancelled = random.randrange(1, plan.meetings) if plan.meetings >= _CANCELLED_FROM else -1
    later = plan.year - _YEAR_OF_FIRST_KEYS
    session_key = _FIRST_SESSION_KEY + 1000 * later
    for index in range(plan.meetings):
        circuit = circuits[index % len(circuits)]
        meeting = _Meeting(_FIRST_MEETING_KEY + 100 * later + index, circuit, day, index == cancelled)
        practices = 0
        for number, kind in enumerate(plan.sessions):
            practices += kind == "practice"
            name = _NAMES.get(kind) or f"Practice {practices}"
            seconds = 60 * (plan.minutes or _MINUTES[kind])
            start = _start(meeting, number - len(plan.sessions))
            facts = SessionFacts(session_key, meeting.key, name, kind, start, seconds, plan.year)
            facts.record = _session_record(facts, meeting)
            meeting.sessions.append(facts)
            session_key += 1
        yield meeting
        # 24 meetings fit into the 40 weeks from March to December.
        day += timedelta(days=7 if index % 3 else 14)


def _start(meeting: _Meeting, place: int) -> int:
    """Return when the session at ``place`` from the end of the meeting (-1 is the last) starts, in ms since 1970."""
    days, hour = _SLOTS[max(place, -len(_SLOTS))]
    extra = min(0, place + len(_SLOTS))
    midnight = datetime(meeting.day.year, meeting.day.month, meeting.day.day, tzinfo=UTC)
    local = midnight + timedelta(days=days + extra, hours=hour)
    return int((local - timedelta(hours=meeting.circuit.offset)).timestamp()) * 1000


def _session_record(facts: SessionFacts, meeting: _Meeting) -> dict[str, object]:
    circuit = meeting.circuit
    return {
        "circuit_key": circuit.key,
        "circuit_short_name": circuit.name,
        "country_code": circuit.country_code,
        "country_key": circuit.country_key,
        "country_name": circuit.country,
        "date_end": spell(facts.start + round(facts.seconds * 1000)),
        "date_start": spell(facts.start),
        "gmt_offset": circuit.gmt_offset,
        "is_cancelled": meeting.cancelled,
        "location": circuit.location,
        "meeting_key": meeting.key,
        "session_key": facts.key,
        "session_name": facts.name,
        "session_type": _TYPES.get(facts.kind, "Race"),
        "year": facts.year,
    }


def _meeting_record(meeting: _Meeting, plan: Plan) -> dict[str, object]:
    circuit = meeting.circuit
    name = f"{circuit.grand_prix} Grand Prix" if "Gr" not in circuit.grand_prix else circuit.grand_prix
    return {
        "circuit_image": None,
        "circuit_info_url": f"https://media.example.com/circuits/{circuit.key}/{plan.year}",
        "circuit_key": circuit.key,
        "circuit_short_name": circuit.name,
        "circuit_type": "Temporary - Street" if circuit.street else "Permanent",
        "country_code": circuit.country_code,
        "country_flag": f"https://media.example.com/flags/{circuit.country_code.lower()}.png",
        "country_key": circuit.country_key,
        "country_name": circuit.country,
        "date_end": spell(max(one.start + round(one.seconds * 1000) for one in meeting.sessions)),
        "date_start": spell(min(one.start for one in meeting.sessions)),
        "gmt_offset": circuit.gmt_offset,
        "is_cancelled": meeting.cancelled,
        "location": circuit.location,
        "meeting_key": meeting.key,
        "meeting_name": name,
        "meeting_official_name": f"FORMULA 1 SIMULATED {name.upper()} {plan.year}",
        "year": plan.year,
    }


def _slug(name: str) -> str:
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-")
