"""The library itself: imported when it is needed, told where to ask and to keep its cache; and a session loaded by it.

It is the only module that imports FastF1.
"""

from __future__ import annotations

import logging
import os
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import platformdirs

from f1hbase.errors import SetupError
from f1hbase.sources.http.shared import private_folder

_log = logging.getLogger(__name__)

INSTALL = "FastF1 is not installed: pip install 'f1hbase[fastf1]'"


class NoSessionError(Exception):
    """FastF1 has nothing of a session; the message says why."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where FastF1 asks.

    Attributes:
        livetiming_url: F1's archive, such as `https://livetiming.formula1.com/static`.
        ergast_url: Jolpica, for results.
    """

    livetiming_url: str
    ergast_url: str


def cache_folder(places: Places) -> Path:
    """Return where FastF1 keeps what it has fetched of an archive: below the user's state folder."""
    name = re.sub(r"[^a-z0-9.-]", "_", urlsplit(places.livetiming_url).netloc.rpartition("@")[2].lower())
    return platformdirs.user_state_path("f1hbase") / "fastf1" / name


def open_library(places: Places) -> Any:
    """Return FastF1, which asks these places from now on, and keeps its cache in the state folder.

    Raises:
        SetupError: If it is not installed, or the folder of its cache cannot be made.
    """
    folder = cache_folder(places)
    try:
        private_folder(folder)
    except OSError as error:
        raise SetupError(
            f"cannot make '{folder}', where FastF1 keeps what it has fetched: "
            f"{(error.strerror or str(error)).lower()}. Set XDG_STATE_HOME to a folder that can be written."
        ) from error
    # FastF1 makes a cache of its own when it is imported, unless it is told where.
    os.environ.setdefault("FASTF1_CACHE", str(folder))
    try:
        import fastf1
        import fastf1._api
        import fastf1.ergast.interface
        import fastf1.req
    except ImportError as error:
        raise SetupError(f"{INSTALL} ({error}).") from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fastf1.Cache.configure(cache_dir=str(folder))
    # What is asked for is not done or due again, and parsed files of an earlier day would answer it for ever. The
    # answers themselves are kept for twelve hours, and asked for again only if they have changed.
    fastf1.Cache._FORCE_RENEW = True
    fastf1.set_log_level(logging.ERROR)
    parts = urlsplit(places.livetiming_url)
    origin = f"{parts.scheme}://{parts.netloc}"
    if origin != fastf1._api.base_url:
        # A stand-in has no mirror, and FastF1's limits are for F1's host; those for Jolpica stay.
        fastf1._api.base_url = fastf1._api.base_url_mirror = origin
        session = fastf1.req._SessionWithRateLimiting
        session._RATE_LIMITS = {host: some for host, some in session._RATE_LIMITS.items() if "jolpi" in host.pattern}
    fastf1.ergast.interface.BASE_URL = places.ergast_url
    return fastf1


def season_meetings(library: Any, places: Places, year: int) -> list[dict[str, Any]]:
    """Return the meetings of the archive's index of a season, as it has them.

    Raises:
        NoSessionError: If there is no index of that season, or it cannot be had.
    """
    try:
        # Not by `season_schedule`, which keeps what it has parsed for good.
        found = library._api.fetch_page(f"{_folder(places)}/{year}/", "index")
        meetings = found["Meetings"] if found else []
    except Exception as error:
        _log.debug("FastF1 failed", exc_info=True)
        raise NoSessionError(f"FastF1 has no index of {year} ({type(error).__name__}: {error})") from error
    return [meeting for meeting in meetings if isinstance(meeting, dict)]


def load_session(library: Any, places: Places, info: dict[str, Any], year: int) -> Any:
    """Return a session of FastF1's, with laps, telemetry, weather and results loaded.

    Telemetry is always loaded: without it FastF1 cannot tell when a lap began, nor when it rained.

    Args:
        library: As `open_library` returns it.
        places: Where it asks.
        info: The session as the index has it, with its `Meeting`.
        year: The season.

    Raises:
        NoSessionError: If FastF1 finds nothing of it.
    """
    import pandas

    meeting, name = info["Meeting"], str(info.get("Name"))
    begins = pandas.Timestamp(str(info.get("StartDate")))
    # Jolpica has no results of tests, nor of what has no round.
    testing = "test" in str(meeting.get("Name")).lower() or not meeting.get("Number")
    about: dict[str, Any] = {
        "EventName": meeting.get("Name"),
        "EventDate": begins.normalize(),
        "EventFormat": "testing" if testing else "conventional",
        "RoundNumber": int(meeting.get("Number") or 0),
        "Location": meeting.get("Location"),
        "F1ApiSupport": True,
    }
    # An event has five sessions; this one is all that is asked about.
    for number in range(1, 6):
        own = number == 1
        about |= {
            f"Session{number}": name if own else None,
            f"Session{number}Date": begins if own else None,
            f"Session{number}DateUtc": begins if own else None,
        }
    try:
        event = library.events.Event(about, year=year)
        session = library.core.Session(event, name, f1_api_support=True)
        session.api_path = f"{_folder(places)}/{str(info.get('Path')).strip('/')}/"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            session.load(laps=True, telemetry=True, weather=True, messages=False)
    except Exception as error:
        # The library raises whatever its parsers meet in a file that is not as they expect.
        _log.debug("FastF1 failed", exc_info=True)
        raise NoSessionError(f"FastF1 cannot read this session ({type(error).__name__}: {error})") from error
    return session


def _folder(places: Places) -> str:
    return urlsplit(places.livetiming_url).path.rstrip("/")
