"""Waits are seen: whoever waits longer than a few seconds says for what and until when, at once and every minute."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

_QUIET_SECONDS = 5.0
_REPEAT_SECONDS = 60.0


class WaitNotice:
    """Logs what one process waits for, however many of its coroutines do.

    >>> notice = WaitNotice(logging.getLogger("f1hbase"), time.monotonic)
    >>> notice.waiting("HTTP 429", 60.0)  # says it at once, and again a minute later if it is told again
    >>> notice.over()

    Args:
        log: Where to.
        clock: Tells seconds.
    """

    def __init__(self, log: logging.Logger, clock: Callable[[], float]) -> None:
        self._log = log
        self._clock = clock
        self._since: float | None = None
        self._said: tuple[str, float] | None = None

    def waiting(self, what: str, seconds: float | None = None, *, level: int = logging.WARNING) -> None:
        """Note that this process waits for `what`, for so many more seconds if that is known, and say it when due."""
        now = self._clock()
        self._since = now if self._since is None else min(self._since, now)
        if max(now - self._since, seconds or 0.0) < _QUIET_SECONDS:
            return
        if self._said is not None and self._said[0] == what and 0.0 <= now - self._said[1] < _REPEAT_SECONDS:
            return
        self._said = (what, now)
        until = "" if seconds is None else f", until {clock_time(seconds)} ({seconds:.0f} s)"
        self._log.log(level, "waiting%s: %s", until, what)

    def over(self) -> None:
        """Note that it goes on."""
        self._since = None


def clock_time(seconds: float) -> str:
    """Return the time of day, UTC, so many seconds from now; with its day unless that is today."""
    now = datetime.now(UTC)
    moment = now + timedelta(seconds=seconds)
    return f"{moment:%H:%M:%S} UTC" if moment.date() == now.date() else f"{moment:%Y-%m-%d %H:%M:%S} UTC"
