"""Raw lines of a feed in any landing zone: a gzipped object a minute, `raw-live/{S}/{instance}/{minute}.txt.gz`.

A failed upload is tried again for as long as it takes, and keeps nobody waiting: what is not uploaded waits in memory,
beyond a limit in a private file, and is uploaded by the next instance of the same name. The lines are those of a
recording, so `load --from` reads the folder back (`f1hbase.sources.livetiming.recorded`).
"""

from __future__ import annotations

import gzip
import json
import logging
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from f1hbase.config import Config
from f1hbase.errors import F1HBaseError
from f1hbase.model.units import SEPARATOR, Scope
from f1hbase.pipeline.live.backlog import Backlog, wait_until_empty
from f1hbase.pipeline.live.choosing import file_name
from f1hbase.stores.files.objects import Objects
from f1hbase.stores.files.urls import Location, LocationError, parse_location
from f1hbase.stores.files.zone import MARKER, RAW_LIVE
from f1hbase.version import __version__

_log = logging.getLogger(__name__)

_VERSION = 1
_STARTUP_PATIENCE_SECONDS = 10.0
_MINUTE = 60
_MOST_IN_MEMORY_BYTES = 16_000_000
_FIRST_REST, _LONGEST_REST = 1.0, 30.0
_SAY_EVERY_SECONDS = 60.0
_CLOSE_SECONDS = 10.0


class RawLines:
    """Keeps lines as objects; see `f1hbase.pipeline.live.run.Keeper`.

    Args:
        objects: Where.
        prefix: What the names of the objects begin with.
        spool: The file for what cannot be uploaded.
    """

    def __init__(self, objects: Objects, prefix: str, spool: Path) -> None:
        self._objects = objects
        self._prefix = prefix
        self._waiting = Backlog(spool, _MOST_IN_MEMORY_BYTES)
        self._lines: list[bytes] = []
        self._minute = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="f1hbase-raw-lines", daemon=True)
        self._thread.start()

    def add(self, line: bytes, arrived: float) -> None:
        """Keep a line; with the first one of another minute the object of the last one is due."""
        minute = int(arrived) // _MINUTE
        if minute != self._minute:
            self._pack()
            self._minute = minute
        self._lines.append(line)

    def close(self) -> None:
        """Upload what is left; what cannot be stays in the file."""
        self._pack()
        if not wait_until_empty(self._waiting, _CLOSE_SECONDS):
            _log.error(
                "raw lines could not be uploaded to '%s' in time; the next recording does", self._objects.location
            )
        self._stop.set()
        self._thread.join()
        self._waiting.close()

    def _pack(self) -> None:
        """Put the lines so far into the queue, as an object with its name before it."""
        if not self._lines:
            return
        body = gzip.compress(b"\n".join(self._lines) + b"\n", 6, mtime=0)
        # A second run within the minute must not overwrite the first one's.
        when = datetime.fromtimestamp(self._minute * _MINUTE, UTC)
        name = f"{self._prefix}{when:%Y%m%dT%H%M}-{time.time_ns() % 10**9:09d}.txt.gz"
        self._lines = []
        self._waiting.put(name.encode() + b"\n" + body)

    def _run(self) -> None:
        rest, said = _FIRST_REST, 0.0
        while not self._stop.is_set():
            for item in self._waiting.take(1, 0.5):
                name, _, body = item.partition(b"\n")
                while True:
                    try:
                        self._objects.put(name.decode(), body)
                        rest = _FIRST_REST
                        break
                    except F1HBaseError as error:
                        if time.monotonic() - said > _SAY_EVERY_SECONDS or not said:
                            said = time.monotonic()
                            _log.warning("raw lines are not uploaded yet: %s; trying again", error)
                        if self._stop.wait(rest):
                            return
                        rest = min(2 * rest, _LONGEST_REST)
                self._waiting.done()


@dataclass(frozen=True, slots=True)
class RawLinesRecipe:
    """See `f1hbase.pipeline.live.run.KeeperRecipe`."""

    location: Location

    def open(self, scope: Scope, instance: str, folder: Path) -> RawLines:
        """Open the place, and mark it as one of raw lines.

        Raises:
            LocationError: If it is a landing zone of another layout, or no place.
            UnreachableError: If it cannot be written.
        """
        objects = Objects(self.location, _STARTUP_PATIENCE_SECONDS)
        marker = {"layout": RAW_LIVE, "version": _VERSION, "written_by": f"f1hbase {__version__}"}
        if not objects.create(MARKER, json.dumps(marker, indent=1).encode() + b"\n"):
            _check(objects)
        prefix = "/".join([RAW_LIVE, *scope.prefix.split(SEPARATOR), file_name(instance), ""])
        name = f"{file_name(instance)}.{scope.session_key}.{file_name(self.location.shown)}.raw"
        return RawLines(objects, prefix, folder / name)


def keeper_recipe(config: Config, place: str) -> RawLinesRecipe:
    """Return how raw lines are kept in a place.

    Raises:
        LocationError: If it is no place.
    """
    del config
    return RawLinesRecipe(parse_location(place))


def _check(objects: Objects) -> None:
    try:
        layout = json.loads(objects.get(MARKER) or b"{}")["layout"]
    except (ValueError, KeyError, TypeError, RecursionError):
        layout = "(damaged)"
    if layout != RAW_LIVE:
        raise LocationError(
            f"the landing zone '{objects.location}' has the layout '{layout}', not '{RAW_LIVE}'. Choose another folder."
        )
