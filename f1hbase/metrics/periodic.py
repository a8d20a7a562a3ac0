"""Does something every so often in a thread of its own, so that whoever hangs in it holds up nobody else."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

_log = logging.getLogger(__name__)


class Periodic:
    """Calls something every few seconds; what fails is said once, and again after it has worked.

    Args:
        call: What to do.
        every: How often, in seconds.
        what: What that is, for messages, such as `the metrics file './f1.prom' is written`.
        errors: The exceptions with which it may fail.
    """

    def __init__(
        self, call: Callable[[], None], every: float, what: str, errors: tuple[type[Exception], ...] = (OSError,)
    ) -> None:
        self._call = call
        self._every = every
        self._what = what
        self._errors = errors
        self._complained = False
        self.ended = threading.Event()
        """Set when nothing is to be waited for any more."""
        self._thread = threading.Thread(target=self._run, name=what[:40], daemon=True)

    def start(self) -> None:
        """Begin; the first call comes after the first interval."""
        self._thread.start()

    def close(self, seconds: float, *, last: bool) -> None:
        """End, and wait at most so many seconds for a call that is under way and, if wanted, for a last one."""
        self._last = last
        self.ended.set()
        self._thread.join(seconds)

    _last = False

    def _run(self) -> None:
        while not self.ended.wait(self._every):
            self._try()
        if self._last:
            self._try()

    def _try(self) -> None:
        try:
            self._call()
        except self._errors as error:
            level = logging.DEBUG if self._complained else logging.WARNING
            self._complained = True
            _log.log(level, "not so now: %s: %s", self._what, error)
        else:
            self._complained = False
