"""What the messages of each topic mean: what turns them into the records of each endpoint."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from f1hbase.sources.livetiming.topics.base import Normaliser
from f1hbase.sources.livetiming.topics.championship import ChampionshipDrivers, ChampionshipTeams
from f1hbase.sources.livetiming.topics.drivers import Drivers
from f1hbase.sources.livetiming.topics.gaps import Intervals, Overtakes
from f1hbase.sources.livetiming.topics.laps import Laps
from f1hbase.sources.livetiming.topics.pit import Pit
from f1hbase.sources.livetiming.topics.position import Position
from f1hbase.sources.livetiming.topics.race_control import RaceControl
from f1hbase.sources.livetiming.topics.results import SessionResult, StartingGrid
from f1hbase.sources.livetiming.topics.stints import Stints
from f1hbase.sources.livetiming.topics.team_radio import TeamRadio
from f1hbase.sources.livetiming.topics.telemetry import TELEMETRY
from f1hbase.sources.livetiming.topics.weather import Weather

_ALL: tuple[type[Normaliser], ...] = (
    Drivers, SessionResult, StartingGrid, ChampionshipDrivers, ChampionshipTeams, Intervals, Position, TeamRadio, Laps,
    Pit, Stints, Weather, RaceControl, Overtakes,
)  # fmt: skip

NORMALISERS: Mapping[str, type[Normaliser]] = MappingProxyType({kind.endpoint: kind for kind in _ALL})
"""What makes the records of each endpoint but for telemetry (`TELEMETRY`), sessions and meetings (`schedule`)."""

__all__ = ["NORMALISERS", "TELEMETRY", "Normaliser"]
