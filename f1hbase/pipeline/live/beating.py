"""The thread that writes the heartbeat of this instance, and says when another one stops."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

from f1hbase.errors import F1HBaseError
from f1hbase.model.units import Scope
from f1hbase.state.live import BEAT_SECONDS, ENDED, STOPPED, Heartbeat, Heartbeats

_log = logging.getLogger(__name__)

_GONE_AFTER = timedelta(minutes=10)


class Beating:
    """Writes a heartbeat every few seconds while the block runs, and a last one at its end.

    Args:
        heartbeats: Where.
        scope: The session.
        beat: Makes the present heartbeat.
        every: How often, in seconds.
    """

    def __init__(
        self, heartbeats: Heartbeats, scope: Scope, beat: Callable[[], Heartbeat], every: float = BEAT_SECONDS
    ) -> None:
        self._heartbeats = heartbeats
        self._scope = scope
        self._beat = beat
        self._every = every
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="f1hbase-heartbeat", daemon=True)
        self._silent: set[str] = set()

    def __enter__(self) -> Beating:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        try:
            self._heartbeats.write(self._beat())
        except F1HBaseError as error:
            _log.debug("the last heartbeat is not written: %s", error)

    def is_last(self) -> bool:
        """Say that this instance has ended, and tell whether all others have; False if that cannot be known.

        Of several that end at once at least one is the last: each says it before it looks at the others.
        """
        self._stop.set()
        self._thread.join()  # which might write an earlier state after this one
        try:
            mine = self._beat()
            self._heartbeats.write(mine)
            others = [beat for beat in self._heartbeats.read(self._scope) if beat.instance != mine.instance]
        except F1HBaseError as error:
            _log.debug("whether other instances go on is not known: %s", error)
            return False
        return not any(map(_goes_on, others))

    def _run(self) -> None:
        while True:
            try:
                mine = self._beat()
                self._heartbeats.write(mine)
                self._watch(self._heartbeats.read(self._scope), mine.instance)
            except F1HBaseError as error:
                _log.debug("the heartbeat is not written: %s", error)
            if self._stop.wait(self._every):
                return

    def _watch(self, beats: Sequence[Heartbeat], mine: str) -> None:
        now = datetime.now(UTC)
        for beat in beats:
            if beat.instance == mine:
                continue
            stopped = beat.has_stopped(now)
            if stopped and beat.instance not in self._silent:
                silent = (now - beat.at).total_seconds()
                _log.warning("the instance %s has been silent for %.0f s: has it stopped?", beat.instance, silent)
                self._silent.add(beat.instance)
            elif not stopped and beat.instance in self._silent:
                _log.warning("the instance %s is back", beat.instance)
                self._silent.discard(beat.instance)


def _goes_on(beat: Heartbeat) -> bool:
    """Return whether another instance may still need the messages that instances share."""
    return beat.state not in {ENDED, STOPPED} and datetime.now(UTC) - beat.at < _GONE_AFTER
