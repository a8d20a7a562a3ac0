"""What a chart of a session shows, as plain typed tables: computed from stored records, drawn by nobody here.

Each function takes a session (`f1hbase.connect().session(9551)`), or the `SessionTables` of one, which reads each
endpoint once for several charts, and returns a frozen dataclass: NumPy arrays of one row each, who drives, and
`missing`, which says in words what the chart lacks. A session without telemetry, without laps or half loaded gives the
chart of what there is, perhaps an empty one, and no error. Numbers that are unknown are NaN, times NaT, texts empty.
`columns_of` makes JSON's values of the arrays of any of them.

This package knows no store and no drawing library.
"""

from f1hbase.charts.conditions import (
    Conditions,
    Period,
    RaceControl,
    neutralisations,
    race_control,
    weather,
)
from f1hbase.charts.drivers import DriverStyle, driver_styles
from f1hbase.charts.laps import (
    Gaps,
    LapTimes,
    Positions,
    fastest_lap,
    gaps_to_leader,
    lap_times,
    positions_by_lap,
    positions_over_time,
)
from f1hbase.charts.results import Classification, classification
from f1hbase.charts.stints import PitStops, Stints, pit_stops, stints
from f1hbase.charts.tables import SessionTables, columns_of
from f1hbase.charts.traces import LapTrace, Traces, TrackOutline, lap_traces, track_outline

__all__ = [
    "Classification",
    "Conditions",
    "DriverStyle",
    "Gaps",
    "LapTimes",
    "LapTrace",
    "Period",
    "PitStops",
    "Positions",
    "RaceControl",
    "SessionTables",
    "Stints",
    "Traces",
    "TrackOutline",
    "classification",
    "columns_of",
    "driver_styles",
    "fastest_lap",
    "gaps_to_leader",
    "lap_times",
    "lap_traces",
    "neutralisations",
    "pit_stops",
    "positions_by_lap",
    "positions_over_time",
    "race_control",
    "stints",
    "track_outline",
    "weather",
]
