"""One session as people work with it: a method for each endpoint, and the telemetry of a lap."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from f1hbase.errors import F1HBaseError
from f1hbase.frames import telemetry
from f1hbase.frames.arrow import batch_of
from f1hbase.frames.frame import Frame
from f1hbase.frames.reading import Completeness, read_made, stored_fingerprint
from f1hbase.frames.schemas import schema_of, sort_keys
from f1hbase.model.catalog import ALL_ENDPOINTS, Endpoint
from f1hbase.model.plans import SessionPlan
from f1hbase.model.samples import Record
from f1hbase.model.times import parse_time
from f1hbase.model.units import ALL_TIME, Scope, Unit, Window, endpoints_of
from f1hbase.sources.base import Reader
from f1hbase.values import name_of

Moment = datetime | date | str
"""A time: a datetime, or ISO 8601 text. Without a zone it is in UTC; a date is its beginning."""

_PAD = timedelta(seconds=5)
"""What is read around a lap, so that there are samples before its start and after its end to interpolate between."""


class NotLoadedError(F1HBaseError, LookupError):
    """What was asked for is not in the store; the message says what is, and how it is loaded."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class _Request:
    endpoint: Endpoint
    driver: int | None
    window: Window
    lap: int | None = None


class Session:
    """One session of a store.

    Each method returns the table of an endpoint, of one driver if it is named. `start` and `end` are times (a datetime,
    or text such as `2024-07-07T14:03`), the one included and the other not; `lap` takes the time of a driver's lap.

    Args:
        reader: The store.
        plan: The session, and its record.
    """

    def __init__(self, reader: Reader, plan: SessionPlan) -> None:
        self._reader = reader
        self.scope: Scope = plan.scope
        self.record: Record = dict(plan.record)

    @property
    def key(self) -> int:
        """Its `session_key`."""
        assert self.scope.session_key is not None
        return self.scope.session_key

    @property
    def name(self) -> str:
        """What people call it, such as `British Grand Prix, Race`."""
        return self.scope.name

    def __repr__(self) -> str:
        return f"<f1hbase.Session {self.key} ({self.scope.year} {self.name}) in {self._reader.home}>"

    # --- one method an endpoint ---

    def drivers(self) -> Frame:
        """Return who drives, with names and teams."""
        return self.read("drivers")

    def laps(self, driver: int | None = None, *, lap: int | None = None) -> Frame:
        """Return the laps: times of lap and sectors in seconds, speeds in km/h."""
        return self.read("laps", driver=driver, lap=lap)

    def car_data(
        self, driver: int | None = None, *, start: Moment | None = None, end: Moment | None = None,
        lap: int | None = None,
    ) -> Frame:  # fmt: skip
        """Return the samples of the cars, about four a second: speed, rpm, gear, throttle, brake, DRS."""
        return self.read("car_data", driver=driver, start=start, end=end, lap=lap)

    def location(
        self, driver: int | None = None, *, start: Moment | None = None, end: Moment | None = None,
        lap: int | None = None,
    ) -> Frame:  # fmt: skip
        """Return where the cars were, about four times a second, in tenths of a metre."""
        return self.read("location", driver=driver, start=start, end=end, lap=lap)

    def intervals(
        self, driver: int | None = None, *, start: Moment | None = None, end: Moment | None = None,
        lap: int | None = None,
    ) -> Frame:  # fmt: skip
        """Return the gaps to the leader and to the car ahead, in seconds (races only)."""
        return self.read("intervals", driver=driver, start=start, end=end, lap=lap)

    def position(
        self, driver: int | None = None, *, start: Moment | None = None, end: Moment | None = None,
        lap: int | None = None,
    ) -> Frame:  # fmt: skip
        """Return the positions, a row for each change."""
        return self.read("position", driver=driver, start=start, end=end, lap=lap)

    def team_radio(
        self, driver: int | None = None, *, start: Moment | None = None, end: Moment | None = None,
        lap: int | None = None,
    ) -> Frame:  # fmt: skip
        """Return the addresses of the recordings of team radio."""
        return self.read("team_radio", driver=driver, start=start, end=end, lap=lap)

    def pit(self, driver: int | None = None, *, lap: int | None = None) -> Frame:
        """Return the pit stops: seconds in the lane, and standing."""
        return self.read("pit", driver=driver, lap=lap)

    def stints(self, driver: int | None = None) -> Frame:
        """Return the stints with their tyres."""
        return self.read("stints", driver=driver)

    def weather(self, *, start: Moment | None = None, end: Moment | None = None) -> Frame:
        """Return the weather, about once a minute."""
        return self.read("weather", start=start, end=end)

    def race_control(
        self, driver: int | None = None, *, start: Moment | None = None, end: Moment | None = None
    ) -> Frame:
        """Return the messages of race control."""
        return self.read("race_control", driver=driver, start=start, end=end)

    def overtakes(self, *, start: Moment | None = None, end: Moment | None = None) -> Frame:
        """Return the overtakes."""
        return self.read("overtakes", start=start, end=end)

    def session_result(self, driver: int | None = None) -> Frame:
        """Return the classification."""
        return self.read("session_result", driver=driver)

    def starting_grid(self, driver: int | None = None) -> Frame:
        """Return the starting grid."""
        return self.read("starting_grid", driver=driver)

    def championship_drivers(self, driver: int | None = None) -> Frame:
        """Return the drivers' championship before and after the race."""
        return self.read("championship_drivers", driver=driver)

    def championship_teams(self) -> Frame:
        """Return the teams' championship before and after the race."""
        return self.read("championship_teams")

    # --- all of them ---

    def read(
        self,
        endpoint: str,
        *,
        driver: int | None = None,
        start: Moment | None = None,
        end: Moment | None = None,
        lap: int | None = None,
    ) -> Frame:
        """Return the table of an endpoint.

        Args:
            endpoint: Its name, such as `laps`.
            driver: Only this driver's.
            start: From this time on, where it has one.
            end: Up to and without this time.
            lap: Only of this lap; of what is dated, from the lap's start up to its end, and only with `driver`.

        Raises:
            NotLoadedError: If the store has nothing of the endpoint, or no such driver or lap.
            ValueError: If the endpoint has not what it is asked by, or a time is none.
        """
        request = self._request(endpoint, driver, start, end, lap)
        unit = Unit(endpoint, self.scope, driver if request.endpoint.by_driver else None, request.window)
        completeness = Completeness(unit, self._states)
        if completeness.state == "absent":
            raise NotLoadedError(
                f"{endpoint} of session {self.key} is not loaded in {self._reader.home}. Load it: "
                f"f1hbase load --session-key {self.key} --endpoint {endpoint}"
            )
        if driver is not None:
            self._check_driver(driver, endpoint)
        metadata = {
            "store": self._reader.home, "endpoint": endpoint, "session_key": str(self.key),
            "state": completeness.state, "missing": json.dumps(completeness.missing),
        }  # fmt: skip
        schema = schema_of(endpoint).with_metadata({f"f1hbase.{name}": text for name, text in metadata.items()})
        return Frame(schema, lambda: self._batches(request, unit), sort_keys(request.endpoint))

    def telemetry(
        self, driver: int, *, lap: int | None = None, start: Moment | None = None, end: Moment | None = None
    ) -> Frame:
        """Return car data and location of a driver joined in time, with the distance driven since the beginning.

        Its rows are the moments of both kinds of samples and the first and last moment. Speed, rpm, throttle and place
        are interpolated between samples; gear, brake and DRS are those of the sample before.
        `f1hbase.frames.telemetry.SCHEMA` says what the columns are, and their units.

        Args:
            driver: The driver.
            lap: The lap; or, instead:
            start: From when on.
            end: Until when.

        Raises:
            NotLoadedError: If car data or location is not loaded, or there is no such driver or lap.
            ValueError: If both a lap and a time are given, or a time is none.
        """
        window = self._request("car_data", driver, start, end, lap).window
        wide = {
            "start": None if window.start is None else window.start - _PAD,
            "end": None if window.end is None else window.end + _PAD,
        }
        frames = [self.read(name, driver=driver, **wide) for name in ("car_data", "location")]  # type: ignore[arg-type]

        def batches() -> Iterator[pa.RecordBatch]:
            car, location = (frame.to_arrow() for frame in frames)
            yield from telemetry.joined(car, location, window.start, window.end, driver).to_batches()

        states = {frame.state for frame in frames}
        metadata = {
            **frames[0].metadata, "endpoint": "telemetry",
            "state": next((state for state in ("partial", "provisional") if state in states), "complete"),
            "missing": json.dumps([text for frame in frames for text in frame.missing]),
        }  # fmt: skip
        schema = telemetry.SCHEMA.with_metadata({f"f1hbase.{name}": text for name, text in metadata.items()})
        return Frame(schema, batches, [("date", "ascending")])

    def completeness(self) -> dict[str, Completeness]:
        """Return how much of each endpoint is stored, by its name.

        Those are in it that were asked for, and those that such a session usually has (`Endpoint.usual_in`).
        """
        asked = {state.endpoint for state in self._states}
        return {
            endpoint.name: Completeness(Unit(endpoint.name, self.scope), self._states)
            for endpoint in endpoints_of(self.scope)
            if endpoint.name in asked or self.scope.kind in endpoint.usual_in
        }

    def fingerprint(self) -> str:
        """Return what changes when something else is stored of the session: hexadecimal digits."""
        lines = [
            [endpoint.name, *stored_fingerprint(Unit(endpoint.name, self.scope), self._states)]
            for endpoint in endpoints_of(self.scope)
        ]
        return hashlib.sha256(json.dumps([self.record, lines], default=str).encode()).hexdigest()[:32]

    def refresh(self) -> None:
        """Forget what is known of the session, as more of it may have been loaded since."""
        self.__dict__.pop("_states", None)
        self.__dict__.pop("_driver_numbers", None)

    # --- how ---

    @cached_property
    def _states(self) -> Any:
        return self._reader.units(self.scope)

    @cached_property
    def _driver_numbers(self) -> frozenset[int]:
        """Everybody who is known to drive."""
        seen = {number for state in self._states for number in state.drivers}
        unit = Unit("drivers", self.scope)
        listed = read_made(self._reader, unit, self._states, lambda part: [one["driver_number"] for one in part])
        return frozenset(seen.union(*listed))

    def _check_driver(self, driver: int, endpoint: str) -> None:
        known = self._driver_numbers
        if not known or driver in known:
            return
        unit = Unit(endpoint, self.scope, driver)
        if any(read_made(self._reader, unit, self._states, len)):
            return  # a car that no list names, such as a safety car
        raise NotLoadedError(
            f"there is no driver {driver} in session {self.key} in {self._reader.home}; there are "
            f"{', '.join(map(str, sorted(known)))}."
        )

    def _request(
        self, name: str, driver: int | None, start: Moment | None, end: Moment | None, lap: int | None
    ) -> _Request:
        names = [endpoint.name for endpoint in endpoints_of(self.scope)]
        endpoint = ALL_ENDPOINTS[name_of("endpoint", names)(name)]
        if driver is not None and "driver_number" not in endpoint.known:
            raise ValueError(f"{name} has no driver; leave out driver={driver}.")
        if (start is not None or end is not None) and endpoint.time_field is None:
            raise ValueError(f"{name} has no time that all of its records have; leave out start and end.")
        window = Window(_moment("start", start), _moment("end", end))
        if window.is_closed and window.start >= window.end:  # type: ignore[operator]
            raise ValueError(f"start ({window.start}) is not before end ({window.end}).")
        if lap is None:
            return _Request(endpoint, driver, window)
        if start is not None or end is not None:
            raise ValueError("lap says from when to when: leave out start and end, or lap.")
        if endpoint.time_field is None and "lap_number" in endpoint.key_fields:
            return _Request(endpoint, driver, window, lap)
        if endpoint.time_field is None:
            raise ValueError(f"{name} has no laps; leave out lap={lap}.")
        if driver is None:
            raise ValueError(f"lap={lap} is a driver's: say whose with driver.")
        return _Request(endpoint, driver, self._lap_window(driver, lap))

    def _lap_window(self, driver: int, lap: int) -> Window:
        """Return from when to when a lap was driven: up to its end, else to the next one's start, else for good."""
        laps = {row["lap_number"]: row for row in self.laps(driver).to_pylist()}
        row = laps.get(lap)
        if row is None:
            some = f"it has laps {min(laps)} to {max(laps)}" if laps else "it has none"
            raise NotLoadedError(
                f"driver {driver} has no lap {lap} in session {self.key} in {self._reader.home}; {some}."
            )
        start = row["date_start"]
        if start is None:
            raise NotLoadedError(f"lap {lap} of driver {driver} in session {self.key} has no date_start: take a time.")
        if row["lap_duration"] is not None:
            return Window(start, start + timedelta(seconds=row["lap_duration"]))
        following = laps.get(lap + 1, {}).get("date_start")
        return Window(start, following)

    def _batches(self, request: _Request, unit: Unit) -> Iterator[pa.RecordBatch]:
        conditions = _conditions(request)
        for batch in read_made(self._reader, unit, self._states, lambda part: batch_of(unit.endpoint, part)):
            chosen = batch if conditions is None else _filtered(batch, conditions)
            if chosen.num_rows:
                yield chosen


def _conditions(request: _Request) -> pc.Expression | None:
    found = []
    if request.driver is not None and not request.endpoint.by_driver:
        found.append(pc.field("driver_number") == request.driver)
    if request.lap is not None:
        found.append(pc.field("lap_number") == request.lap)
    if request.window != ALL_TIME:
        assert request.endpoint.time_field is not None
        moment = pc.field(request.endpoint.time_field)
        if request.window.start is not None:
            found.append(moment >= pa.scalar(request.window.start, pa.timestamp("us", "UTC")))
        if request.window.end is not None:
            found.append(moment < pa.scalar(request.window.end, pa.timestamp("us", "UTC")))
    if not found:
        return None
    whole = found[0]
    for one in found[1:]:
        whole &= one
    return whole


def _filtered(batch: pa.RecordBatch, conditions: pc.Expression) -> pa.RecordBatch:
    found = pa.Table.from_batches([batch]).filter(conditions).combine_chunks().to_batches()
    return found[0] if found else batch.slice(0, 0)


def _moment(name: str, given: Moment | None) -> datetime | None:
    if given is None:
        return None
    if isinstance(given, datetime):
        return given.replace(tzinfo=UTC) if given.tzinfo is None else given.astimezone(UTC)
    if isinstance(given, date):
        return datetime(given.year, given.month, given.day, tzinfo=UTC)
    try:
        return parse_time(given)
    except (ValueError, OverflowError, TypeError):
        raise ValueError(f"{name}={given!r} is not a time; write 2024-07-07T14:03, or give a datetime.") from None
