"""Writes simulated sessions as F1's archive has them, from the records that `python -m simulator make` wrote.

A record of a topic without state comes back from it as it went in, but for what live timing cannot say: a recording's
address is below the session's path, a part of qualifying is a number, a gap is unknown only until it is known.
"""

from __future__ import annotations

import base64
import gzip
import json
import re
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from f1hbase.model.times import parse_time

Record = dict[str, Any]
Messages = dict[str, list[tuple[datetime, Any]]]

_BOM = b"\xef\xbb\xbf"
_BEFORE = timedelta(minutes=1)
_TELEMETRY_SPAN = timedelta(seconds=1)
"""How much telemetry a message holds, about as much as F1's."""

_CHANNELS = {"0": "rpm", "2": "speed", "3": "n_gear", "4": "throttle", "5": "brake", "45": "drs"}
_DRIVER = {
    "BroadcastName": "broadcast_name", "FullName": "full_name", "Tla": "name_acronym", "TeamName": "team_name",
    "TeamColour": "team_colour", "FirstName": "first_name", "LastName": "last_name", "HeadshotUrl": "headshot_url",
    "CountryCode": "country_code",
}  # fmt: skip
_WEATHER = {
    "AirTemp": "air_temperature", "Humidity": "humidity", "Pressure": "pressure", "Rainfall": "rainfall",
    "TrackTemp": "track_temperature", "WindDirection": "wind_direction", "WindSpeed": "wind_speed",
}  # fmt: skip


def write_archive(season: Path, out: Path) -> list[Path]:
    """Write the meetings of a simulated season as an archive, and return the folders of the sessions.

    Args:
        season: What `python -m simulator make` wrote.
        out: Where to write; `simulator.livetiming_server` serves it.
    """
    folders: list[Path] = []
    years: dict[int, list[Record]] = defaultdict(list)
    for meeting_file in sorted(season.glob("*/meetings.jsonl.gz")):
        (meeting,) = _read(meeting_file)
        listed = _meeting(meeting)
        grid: list[Record] = []
        for session_file in sorted(meeting_file.parent.glob("*/sessions.jsonl.gz")):
            (session,) = _read(session_file)
            info = _session(session, listed)
            folder = out / str(info["Path"])
            write_session(session_file.parent, folder, session, {**info, "Meeting": listed}, grid)
            grid_file = session_file.with_name("starting_grid.jsonl.gz")
            grid = list(_read(grid_file)) if grid_file.exists() else []
            folders.append(folder)
            listed.setdefault("Sessions", []).append(info)
        years[meeting["year"]].append(listed)
    for year, meetings in years.items():
        _write(out / str(year) / "Index.json", _BOM + _json({"Year": year, "Meetings": meetings}))
    return folders


def write_session(records: Path, folder: Path, session: Record, info: Record, grid: Iterable[Record] = ()) -> None:
    """Write one session: a file for each topic that has messages, and the index of these.

    Args:
        records: The folder with its records.
        folder: Where to write.
        session: Its record.
        info: What `SessionInfo` says of it.
        grid: Who starts where, of the qualifying session before it.
    """
    found = {path.name.partition(".")[0]: list(_read(path)) for path in sorted(records.glob("*.jsonl.gz"))}
    messages = _messages(found, session, info)
    begin = parse_time(session["date_start"]) - _BEFORE
    places = {str(record["driver_number"]): {"GridPos": str(record["position"])} for record in grid}
    if places:
        messages["TimingAppData"].append((begin, {"Lines": places}))
    best = {
        str(record["driver_number"]): {"BestLapTimes": [{"Value": _lap_time(record["lap_duration"])}]}
        for record in found.get("starting_grid", ())
        if record["lap_duration"] is not None
    }
    if best:
        messages["TimingData"].append((parse_time(session["date_end"]), {"Lines": best}))
    start = min(moment for several in messages.values() for moment, _ in several) - _BEFORE
    topics = {}
    for topic, several in messages.items():
        several.sort(key=lambda item: item[0])
        lines = b"".join(_line(topic, moment - start, content) for moment, content in several)
        _write(folder / f"{topic}.jsonStream", _BOM + lines)
        topics[topic] = {"KeyFramePath": f"{topic}.json", "StreamPath": f"{topic}.jsonStream"}
    _write(folder / "Index.json", _BOM + _json({"Feeds": topics}))


def _messages(found: Mapping[str, list[Record]], session: Record, info: Record) -> Messages:
    messages: Messages = defaultdict(list)
    begin = parse_time(session["date_start"]) - _BEFORE
    messages["SessionInfo"].append((begin, info))
    messages["DriverList"].append((begin, {str(r["driver_number"]): _driver(r) for r in found.get("drivers", ())}))
    # A whole state first, as F1 sends it, then what says t0: at what time a message was sent.
    messages["SessionData"].append((begin, {"Series": [], "StatusSeries": []}))
    messages["TrackStatus"].append((begin, {"Status": "1", "Message": "AllClear"}))
    if session.get("session_type") == "Race":
        laps = max((record["lap_number"] for record in found.get("laps", ())), default=0)
        messages["LapCount"].append((begin, {"CurrentLap": 1, "TotalLaps": laps}))
    for number in range(3):
        moment = begin + timedelta(seconds=number + 1)
        messages["ExtrapolatedClock"].append((moment, {"Utc": _utc(moment), "Remaining": "01:00:00"}))
    _telemetry(found, messages)
    for record in found.get("weather", ()):
        content: Record = {name: str(record[field]) for name, field in _WEATHER.items()}
        messages["WeatherData"].append((_date(record), content))
    for date, several in _by_date(found.get("position", ())):
        places = {str(r["driver_number"]): {"Line": r["position"], "Position": str(r["position"])} for r in several}
        messages["TimingData"].append((date, {"Lines": places}))
    for date, several in _by_date(found.get("intervals", ())):
        gaps = {
            str(r["driver_number"]): {"Gap": _gap(r["gap_to_leader"]), "Interval": _gap(r["interval"])}
            for r in several
        }  # fmt: skip
        messages["DriverRaceInfo"].append((date, gaps))
    for record in found.get("overtakes", ()):
        overtake: Record = {
            str(record["overtaking_driver_number"]): {"OvertakeState": 2, "Position": str(record["position"])},
            str(record["overtaken_driver_number"]): {"Position": str(record["position"] + 1)},
        }
        messages["DriverRaceInfo"].append((_date(record), overtake))
    _race_control(found, messages)
    for number, record in enumerate(found.get("team_radio", ())):
        name = str(record["recording_url"]).rpartition("/")[2]
        capture = {"Utc": _utc(_date(record)), "RacingNumber": str(record["driver_number"]),
                   "Path": f"TeamRadio/{name}"}  # fmt: skip
        messages["TeamRadio"].append((_date(record), {"Captures": {str(number): capture}}))
    for record in found.get("pit", ()):
        stop = {"RacingNumber": str(record["driver_number"]), "Lap": str(record["lap_number"]),
                "PitLaneTime": str(record["lane_duration"]), "PitStopTime": str(record["stop_duration"])}  # fmt: skip
        entry = {"Timestamp": _utc(_date(record)), "PitStop": stop}
        messages["PitStopSeries"].append((_date(record), {"PitTimes": {str(record["driver_number"]): [entry]}}))
    _championship(found, messages, parse_time(session["date_end"]))
    _laps(found, session, messages)
    return messages


def _telemetry(found: Mapping[str, list[Record]], messages: Messages) -> None:
    for endpoint, topic in (("car_data", "CarData.z"), ("location", "Position.z")):
        some: list[Record] = []
        for date, several in _by_date(found.get(endpoint, ())):
            if some and date - parse_time(some[0]["at"]) >= _TELEMETRY_SPAN:
                messages[topic].append((parse_time(some[-1]["at"]), _of_telemetry(topic, some)))
                some = []
            some.append({"at": date.isoformat(), "cars": several})
        if some:
            messages[topic].append((parse_time(some[-1]["at"]), _of_telemetry(topic, some)))


def _of_telemetry(topic: str, moments: list[Record]) -> Record:
    if topic == "CarData.z":
        return {
            "Entries": [
                {
                    "Utc": _utc(parse_time(moment["at"])),
                    "Cars": {
                        str(car["driver_number"]): {"Channels": {n: car[f] for n, f in _CHANNELS.items()}}
                        for car in moment["cars"]
                    },
                }
                for moment in moments
            ]
        }
    return {
        "Position": [
            {
                "Timestamp": _utc(parse_time(moment["at"])),
                "Entries": {
                    str(car["driver_number"]): {"Status": "OnTrack", "X": car["x"], "Y": car["y"], "Z": car["z"]}
                    for car in moment["cars"]
                },
            }
            for moment in moments
        ]
    }


def _race_control(found: Mapping[str, list[Record]], messages: Messages) -> None:
    phase = None
    series = statuses = said = 0
    for record in sorted(found.get("race_control", ()), key=_date):
        date = _date(record)
        part = record.get("qualifying_phase")
        if part is not None and part != phase:
            phase = part
            content = {"Utc": _utc(date), "QualifyingPart": int(re.sub(r"\D", "", str(part)))}
            # Before the message that it is for.
            messages["SessionData"].append((date - timedelta(milliseconds=1), {"Series": {str(series): content}}))
            series += 1
        if record["category"] == "SessionStatus":
            status = str(record["message"]).removeprefix("SESSION ").capitalize()
            if record["lap_number"] is not None:
                content = {"Utc": _utc(date), "Lap": record["lap_number"]}
                messages["SessionData"].append((date - timedelta(milliseconds=1), {"Series": {str(series): content}}))
                series += 1
            entry = {"Utc": _utc(date), "SessionStatus": status}
            messages["SessionData"].append((date, {"StatusSeries": {str(statuses): entry}}))
            messages["SessionStatus"].append((date, {"Status": status}))
            statuses += 1
            continue
        names = {"RacingNumber": "driver_number", "Lap": "lap_number", "Category": "category", "Flag": "flag",
                 "Scope": "scope", "Sector": "sector", "Message": "message"}  # fmt: skip
        entry = {name: record[field] for name, field in names.items() if record.get(field) is not None}
        if "RacingNumber" in entry:
            entry["RacingNumber"] = str(entry["RacingNumber"])
        entry["Utc"] = _utc(date)
        messages["RaceControlMessages"].append((date, {"Messages": {str(said): entry}}))
        said += 1


def _championship(found: Mapping[str, list[Record]], messages: Messages, at: datetime) -> None:
    parts: Record = {}
    for endpoint, part, key in (
        ("championship_drivers", "Drivers", "driver_number"), ("championship_teams", "Teams", "team_name"),
    ):  # fmt: skip
        parts[part] = {
            str(r[key]): {
                **({"TeamName": r[key]} if part == "Teams" else {"RacingNumber": str(r[key])}),
                "CurrentPosition": r["position_start"] or 0, "CurrentPoints": r["points_start"],
                "PredictedPosition": r["position_current"], "PredictedPoints": r["points_current"],
            }
            for r in found.get(endpoint, ())
        }  # fmt: skip
    if any(parts.values()):
        messages["ChampionshipPrediction"].append((at, parts))


def _laps(found: Mapping[str, list[Record]], session: Record, messages: Messages) -> None:
    """Write laps and stints as they are driven: counts, sectors, times, tyres."""
    race = session["session_type"] == "Race"
    stints = {(r["driver_number"], r["lap_start"]): r for r in found.get("stints", ())}
    for record in found.get("laps", ()):
        if record["date_start"] is None:
            continue
        number, lap, start = record["driver_number"], record["lap_number"], parse_time(record["date_start"])
        stint = stints.get((number, lap))
        if stint is not None:
            tyres = {"Compound": stint["compound"], "TotalLaps": stint["tyre_age_at_start"]}
            entry = {"Stints": {str(stint["stint_number"] - 1): tyres}}
            messages["TimingAppData"].append((start - timedelta(milliseconds=2), {"Lines": {str(number): entry}}))
        first: Record = {"PitOut": True} if record["is_pit_out_lap"] else {}
        if not race or lap > 1:
            first["NumberOfLaps"] = lap - 1 if race else lap
        if first:
            messages["TimingData"].append((start, {"Lines": {str(number): first}}))
        at = start
        for sector in (1, 2, 3):
            seconds = record[f"duration_sector_{sector}"]
            at += timedelta(seconds=seconds if seconds is not None else 5.0)
            segments = record[f"segments_sector_{sector}"] or []
            ends: Record = {"Segments": {str(place): {"Status": status} for place, status in enumerate(segments)}}
            if seconds is not None:
                ends["Value"] = f"{seconds:.3f}"
            line: Record = {"Sectors": {str(sector - 1): ends}}
            speed = {1: ("I1", "i1_speed"), 2: ("I2", "i2_speed"), 3: ("ST", "st_speed")}[sector]
            if record[speed[1]] is not None:
                line["Speeds"] = {speed[0]: {"Value": str(record[speed[1]])}}
            # What ends a lap comes just before the next one begins.
            messages["TimingData"].append((at - timedelta(milliseconds=3), {"Lines": {str(number): line}}))
        if record["lap_duration"] is not None:
            line = {"LastLapTime": {"Value": _lap_time(record["lap_duration"])}}
            messages["TimingData"].append((at - timedelta(milliseconds=3), {"Lines": {str(number): line}}))


def _meeting(record: Record) -> Record:
    return {
        "Key": record["meeting_key"], "Location": record["location"], "OfficialName": record["meeting_official_name"],
        "Name": record["meeting_name"],
        "Country": {"Key": record["country_key"], "Code": record["country_code"], "Name": record["country_name"]},
        "Circuit": {"Key": record["circuit_key"], "ShortName": record["circuit_short_name"]},
    }  # fmt: skip


def _session(record: Record, meeting: Record) -> Record:
    zone = re.fullmatch(r"(-?)(\d+):(\d+):(\d+)", record["gmt_offset"])
    assert zone is not None
    ahead = timedelta(hours=int(zone[2]), minutes=int(zone[3]), seconds=int(zone[4])) * (-1 if zone[1] else 1)
    start, end = (parse_time(record[name]) + ahead for name in ("date_start", "date_end"))
    name = str(record["session_name"]).replace(" ", "_")
    folder = str(meeting["Name"]).replace(" ", "_")
    return {
        "Key": record["session_key"], "Type": record["session_type"], "Name": record["session_name"],
        "StartDate": f"{start:%Y-%m-%dT%H:%M:%S}", "EndDate": f"{end:%Y-%m-%dT%H:%M:%S}",
        "GmtOffset": record["gmt_offset"],
        "Path": f"{record['year']}/{start:%Y-%m-%d}_{folder}/{start:%Y-%m-%d}_{name}/",
    }  # fmt: skip


def _driver(record: Record) -> Record:
    names = {name: record[field] for name, field in _DRIVER.items() if record.get(field) is not None}
    return {"RacingNumber": str(record["driver_number"]), **names}


def _gap(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else ("LAP 1" if value == 0 else f"+{value:.3f}")


def _lap_time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds * 1000), 60_000)
    return f"{minutes}:{rest // 1000:02d}.{rest % 1000:03d}" if minutes else f"{rest // 1000}.{rest % 1000:03d}"


def _by_date(records: Iterable[Record]) -> Iterator[tuple[datetime, list[Record]]]:
    by_date: dict[datetime, list[Record]] = defaultdict(list)
    for record in records:
        by_date[_date(record)].append(record)
    yield from sorted(by_date.items(), key=lambda item: item[0])


def _date(record: Record) -> datetime:
    return parse_time(record["date"])


def _utc(moment: datetime) -> str:
    return moment.isoformat().removesuffix("+00:00") + "Z"


def archive_line(since: timedelta, body: bytes) -> bytes:
    """Return a line of a topic's file: a time since the start of its clock, cut to milliseconds, and what it holds."""
    milliseconds = since // timedelta(milliseconds=1)
    seconds, rest = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{rest:03d}".encode() + body + b"\r\n"


def _line(topic: str, since: timedelta, content: Any) -> bytes:
    body = _json(content)
    if topic.endswith(".z"):
        packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        body = b'"' + base64.b64encode(packer.compress(_BOM + body) + packer.flush()) + b'"'
    return archive_line(since, body)


def _json(content: Any) -> bytes:
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()


def _read(path: Path) -> Iterator[Record]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        yield from map(json.loads, file)


def _write(path: Path, body: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body)
