"""The tables that charts are made of: each endpoint read once, what is missing noted; knows no store."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from f1hbase.frames.schemas import schema_of
from f1hbase.frames.session import NotLoadedError, Session
from f1hbase.model.catalog import ENDPOINTS, RACE

Numbers = npt.NDArray[np.float64]
"""Numbers; NaN where one is unknown."""

Wholes = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Times = npt.NDArray[np.datetime64]
"""Instants in UTC, to the microsecond; NaT where one is unknown."""

Texts = npt.NDArray[np.object_]
"""Texts, `str` each; empty where one is unknown."""

MICROS = 1_000_000


class SessionTables:
    """The tables of one session, each read once; what is missing of them is noted.

    Args:
        session: The session.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self._tables: dict[str, pa.Table] = {}
        self._notes: dict[str, tuple[str, ...]] = {}

    @classmethod
    def of(cls, session: Session | SessionTables) -> SessionTables:
        """Return the tables of a session, which may be such tables already."""
        return session if isinstance(session, SessionTables) else cls(session)

    @property
    def is_race(self) -> bool:
        """Whether the session is a race or a sprint: positions and gaps by lap mean something."""
        return self.session.record.get("session_type") == RACE

    def table(self, endpoint: str) -> pa.Table:
        """Return the table of an endpoint, without a row where it is not loaded; not for car_data and location."""
        if endpoint not in self._tables:
            try:
                frame = self.session.read(endpoint)
                table = frame.to_arrow()
            except NotLoadedError:
                self._tables[endpoint] = schema_of(endpoint).empty_table()
                self._notes[endpoint] = (f"{endpoint}: not loaded",)
            else:
                self._tables[endpoint] = table
                self._notes[endpoint] = self._told(endpoint, frame.state, frame.missing, table.num_rows)
        return self._tables[endpoint]

    def missing(self, *endpoints: str) -> tuple[str, ...]:
        """Return what is missing of some endpoints, for people: `laps: not loaded`, `pit: provisional, ...`."""
        for endpoint in endpoints:
            self.table(endpoint)
        return tuple(note for endpoint in endpoints for note in self._notes[endpoint])

    def _told(self, endpoint: str, state: str, missing: Sequence[str], rows: int) -> tuple[str, ...]:
        if state == "partial":
            return tuple(f"{endpoint}: {text}" for text in missing)
        if state == "provisional":
            return (f"{endpoint}: provisional, it may have been corrected since",)
        if not rows and self.session.record.get("session_type") in ENDPOINTS[endpoint].usual_in:
            return (f"{endpoint}: the session has none",)
        return ()


def numbers(table: pa.Table, name: str) -> Numbers:
    """Return a column as floats; NaN where it is null."""
    values = pc.fill_null(table[name].cast(pa.float64()), float("nan"))
    return np.asarray(values.to_numpy(), np.float64)


def wholes(table: pa.Table, name: str) -> Wholes:
    """Return a column of a key, which has no nulls, as whole numbers."""
    return np.asarray(table[name].to_numpy(), np.int64)


def times(table: pa.Table, name: str) -> Times:
    """Return a column of times; NaT where it is null."""
    micros = table[name].cast(pa.int64())
    known = pc.is_valid(micros).to_numpy()
    moments = np.asarray(pc.fill_null(micros, 0).to_numpy(), np.int64).astype("datetime64[us]")
    moments[~known] = np.datetime64("NaT")
    return moments


def texts(table: pa.Table, name: str) -> Texts:
    """Return a column of texts; empty where it is null."""
    return np.array(pc.fill_null(table[name], "").to_pylist(), object)


def flags(table: pa.Table, name: str) -> Flags:
    """Return a column of truth values; false where it is null."""
    return np.array(pc.fill_null(table[name], False).to_pylist(), bool)


def moment_of(when: Any) -> np.datetime64:
    """Return a datetime as the arrays hold it; NaT of null."""
    if not isinstance(when, datetime):
        return np.datetime64("NaT", "us")
    return np.datetime64(when.astimezone(UTC).replace(tzinfo=None), "us")


def seconds_between(start: np.datetime64, moments: Times) -> Numbers:
    """Return the seconds from a moment to others; NaN where one is unknown."""
    return np.asarray((moments - start) / np.timedelta64(MICROS, "us"), np.float64)


def chosen(drivers: Iterable[int], among: Wholes) -> Flags:
    """Return which rows are of some drivers; of all, if none is named."""
    wanted = list(drivers)
    return np.isin(among, wanted) if wanted else np.ones(len(among), bool)


def columns_of(chart: Any) -> dict[str, list[Any]]:
    """Return the arrays of a chart as columns of JSON's values: null for NaN and NaT, times as ISO 8601 in UTC.

    >>> from dataclasses import dataclass
    >>> @dataclass
    ... class Chart:
    ...     seconds: Numbers
    >>> columns_of(Chart(np.array([1.5, np.nan])))
    {'seconds': [1.5, None]}
    """
    return {
        item.name: _values(getattr(chart, item.name))
        for item in fields(chart)
        if isinstance(getattr(chart, item.name), np.ndarray)
    }


def _values(array: npt.NDArray[Any]) -> list[Any]:
    if array.dtype.kind == "f":
        return [None if value != value else value for value in array.tolist()]
    if array.dtype.kind == "M":
        return [None if np.isnat(value) else f"{value}+00:00" for value in array]
    values: list[Any] = array.tolist()
    return values
