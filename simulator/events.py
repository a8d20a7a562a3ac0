"""What happens around the cars: weather, race control, team radio.

Wording, categories and flags of race control: the real records of a practice session and OpenF1's documentation.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from simulator.sessions import Drive, Entry

Fields = dict[str, object]


def weather(drive: Drive, random: Random) -> Iterator[tuple[float, Fields]]:
    """Yield when, and the weather then, once a minute; a little rain in one session of five."""
    air = random.uniform(14, 32)
    humidity, pressure = random.uniform(30, 80), random.uniform(935, 1020)
    wind, direction = random.uniform(0.5, 4), random.randint(0, 359)
    rain_at = random.uniform(-1, 4) * drive.seconds
    when = -drive.lead + 1.0
    while when < drive.seconds + drive.tail:
        rain = rain_at <= when < rain_at + 0.2 * drive.seconds
        yield (
            when,
            {
                "air_temperature": round(air, 1),
                "humidity": float(round(min(100.0, humidity + 15 * rain))),
                "pressure": round(pressure, 1),
                "rainfall": int(rain),
                "track_temperature": round(air + 12 - 6 * rain, 1),
                "wind_direction": direction,
                "wind_speed": round(wind, 1),
            },
        )
        air += random.uniform(-0.1, 0.1)
        humidity = max(20.0, humidity + random.uniform(-1, 1))
        pressure += random.uniform(-0.1, 0.1)
        wind = max(0.0, wind + random.uniform(-0.5, 0.5))
        direction = (direction + random.randint(-20, 20)) % 360
        when += 60.0 + random.uniform(-0.3, 0.3)


def team_radio(drive: Drive, random: Random) -> Iterator[tuple[Entry, float]]:
    """Yield who spoke and when: one message in about six minutes for each driver, one at least in a session."""
    for entry in drive.entries:
        count = max(1, round(drive.seconds / 360 * random.uniform(0.5, 1.5)))
        for moment in sorted(random.uniform(-0.5 * drive.lead, drive.seconds) for _ in range(count)):
            yield entry, moment


def race_control(drive: Drive, random: Random, *, race: bool, wings: bool) -> list[tuple[float, Fields]]:
    """Return the messages in time, several in one second: flags and messages come at whole seconds."""
    messages = _Messages()
    say = messages.say
    parts = drive.phases or [(0.0, drive.seconds)]
    for number, (begin, end) in enumerate(parts, 1):
        phase = f"Q{number}" if drive.phases else None
        say(begin, "GREEN LIGHT - PIT EXIT OPEN", "Flag", flag="GREEN", scope="Track", phase=phase)
        say(begin + 0.009, "SESSION STARTED", "SessionStatus", phase=phase, exact=True)
        last = min(end, drive.finish)
        say(last, "CHEQUERED FLAG", "Flag", flag="CHEQUERED", scope="Track", phase=phase)
        say(last + 0.101, "SESSION FINISHED", "SessionStatus", phase=phase, exact=True)
    if race:
        say(-drive.lead * 0.5, "RISK OF RAIN FOR F1 RACE IS 0%", "Other")
        say(-drive.lead * 0.3, "FORMATION LAP WILL START AT THE SCHEDULED TIME", "Other")
    _incidents(drive, messages, random)
    if wings:
        say(min(0.1 * drive.seconds, 2.5 * drive.track.lap.duration), "DRS ENABLED", "Drs")
    if race:
        _blue_flags(drive, messages)
    return sorted(messages.said, key=lambda one: one[0])


class _Messages:
    def __init__(self) -> None:
        self.said: list[tuple[float, Fields]] = []
        self._known: set[tuple[object, ...]] = set()

    def say(
        self,
        when: float,
        message: str,
        category: str,
        *,
        flag: str | None = None,
        scope: str | None = None,
        sector: int | None = None,
        driver: int | None = None,
        lap: int | None = None,
        phase: str | None = None,
        exact: bool = False,
    ) -> None:
        moment = when if exact else float(round(when))
        fields: Fields = {
            "category": category,
            "driver_number": driver,
            "flag": flag,
            "lap_number": lap,
            "message": message,
            "qualifying_phase": phase,
            "scope": scope,
            "sector": sector,
        }
        known = (moment, *fields.values())
        if known not in self._known:
            self._known.add(known)
            self.said.append((moment, fields))


def _incidents(drive: Drive, messages: _Messages, random: Random) -> None:
    """Yellow flags, cleared some seconds later; deleted lap times, noted incidents and a warning."""
    say = messages.say
    sectors = len(drive.track.marks)
    for _ in range(max(1, round(drive.seconds / 900))):
        when = random.uniform(0.2, 0.8) * drive.finish
        sector = random.randint(1, sectors)
        flag = random.choice(("YELLOW", "DOUBLE YELLOW"))
        say(when, f"{flag} IN TRACK SECTOR {sector}", "Flag", flag=flag, scope="Sector", sector=sector)
        # Two messages in one second, as real ones often come.
        say(
            when,
            f"{flag} IN TRACK SECTOR {sector % sectors + 1}",
            "Flag",
            flag=flag,
            scope="Sector",
            sector=sector % sectors + 1,
        )
        for one in (sector, sector % sectors + 1):
            say(when + 9, f"CLEAR IN TRACK SECTOR {one}", "Flag", flag="CLEAR", scope="Sector", sector=one)
    driven = [(entry, lap) for entry in drive.entries for lap in entry.car.laps if lap.end < drive.seconds]
    for entry, lap in random.sample(driven, min(len(driven), max(1, len(driven) // 60))):
        car = f"CAR {entry.driver.number} ({entry.driver.acronym})"
        turn = random.randint(1, 18)
        seconds = lap.time
        spelled = f"{int(seconds // 60)}:{seconds % 60:06.3f}"
        say(lap.end + 20, f"{car} TIME {spelled} DELETED - TRACK LIMITS AT TURN {turn} LAP {lap.number}", "Other")
        if random.random() < 0.3:
            say(
                lap.end + 40,
                f"BLACK AND WHITE FLAG FOR {car} - TRACK LIMITS",
                "Flag",
                flag="BLACK AND WHITE",
                scope="Driver",
                driver=entry.driver.number,
                lap=lap.number,
            )
        say(lap.end + 40, f"TURN {turn} INCIDENT INVOLVING {car} NOTED - LEAVING THE TRACK", "Other")
    for entry in drive.entries:
        if entry.car.retired is not None:
            car = f"CAR {entry.driver.number} ({entry.driver.acronym})"
            say(
                entry.car.retired + 3,
                f"{car} STOPPED ON TRACK",
                "CarEvent",
                driver=entry.driver.number,
                lap=entry.car.laps[-1].number,
            )


def _blue_flags(drive: Drive, messages: _Messages) -> None:
    """Wave blue flags at each car that is about to be lapped."""
    leader: list[float] = []
    for entry in drive.entries:
        for index, lap in enumerate(entry.car.laps):
            if index == len(leader):
                leader.append(lap.end)
            leader[index] = min(leader[index], lap.end)
    for entry in drive.entries:
        down = 0
        for lap in entry.car.laps:
            if lap.begin >= drive.finish:
                break
            ahead = sum(1 for end in leader if end <= lap.end) - lap.number
            if ahead > down:
                down = ahead
                car = f"CAR {entry.driver.number} ({entry.driver.acronym})"
                messages.say(
                    lap.begin + 5,
                    f"WAVED BLUE FLAG FOR {car}",
                    "Flag",
                    flag="BLUE",
                    scope="Driver",
                    driver=entry.driver.number,
                    lap=lap.number,
                )
