"""Spark at work in a thread of its own, so that leases are kept and an interrupt is heard meanwhile."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace
from time import monotonic
from typing import Any, TypeVar

from f1hbase.cluster.errors import SparkError, explain, is_of_spark
from f1hbase.cluster.session import SparkApplication, SparkSettings
from f1hbase.errors import F1HBaseError
from f1hbase.pipeline.display import TaskDisplay

_log = logging.getLogger(__name__)
_Result = TypeVar("_Result")

_TICK_SECONDS = 0.5
_CANCEL_SECONDS = 5.0
"""How long Spark may take to end what it is told to end; then its Java is killed: HBase's client may try on."""


_STARTED_WITHIN_SECONDS = 60.0
_LOOK_SECONDS = 15.0
"""How often Spark itself says that it gets nothing to run on."""


class StoppedError(F1HBaseError):
    """It was told to stop while Spark was at work."""


class SparkThread:
    """Spark, started when there is something for it to do.

    Args:
        settings: How it is started.
        jars: The jars of HBase.
        name: What Spark's own pages call it.
    """

    def __init__(self, settings: SparkSettings, jars: Sequence[str], name: str) -> None:
        self._settings = settings
        self._jars = jars
        self._name = name
        self._thread = ThreadPoolExecutor(1, "spark")
        self._application: SparkApplication | None = None
        self._under_way: Future[Any] | None = None
        self._looked_at = 0.0
        self._told_of: set[str] = set()

    def do(
        self,
        call: Callable[[SparkApplication], _Result],
        display: TaskDisplay,
        stop: threading.Event | None = None,
        *,
        brief: bool = False,
    ) -> _Result:
        """Call something in Spark's thread, and show meanwhile how far it is.

        Args:
            call: Is given the application.
            display: Shows how far it is.
            stop: Ends it early when it is set; None lets it end by itself.
            brief: As of `SparkSettings`; only what is done first has a say.

        Raises:
            StoppedError: If it was ended early.
            SparkError: If Spark fails; says why.
        """
        future = self._thread.submit(lambda: call(self._opened(brief=brief)))
        self._under_way = future
        until: float | None = None
        self._looked_at = monotonic()
        while not wait([future], _TICK_SECONDS).done:
            application = self._application
            if application is None:
                continue
            if stop is not None and stop.is_set():
                until = until or monotonic() + _CANCEL_SECONDS
                _end(application, at_once=monotonic() > until)
            else:
                self._watch(application, display)
        error: Any = future.exception()
        if error is None:
            return future.result()
        if stop is not None and stop.is_set():
            raise StoppedError("interrupted while Spark was at work: nothing of this round is loaded") from error
        if isinstance(error, F1HBaseError):
            raise error
        # Of an error of Spark's own the stack says nothing of this program; Spark's words are logged when it ends.
        _log.debug("Spark failed (%s)", type(error).__name__, exc_info=None if is_of_spark(error) else error)
        application = self._application
        raise SparkError(explain(error, "" if application is None else application.printed)) from error

    def close(self, last: Callable[[], None] | None = None) -> None:
        """End Spark, whatever has happened.

        Args:
            last: What is done in its thread before; what fails in it is logged.
        """
        application = self._application
        try:
            if application is not None and self._under_way is not None and not self._under_way.done():
                # The user would not wait any longer.
                _end(application)
                if not wait([self._under_way], _CANCEL_SECONDS).done:
                    application.kill()
        except BaseException:
            # Nor would whoever interrupts this.
            if application is not None:
                application.kill()
            raise
        finally:
            self._thread.submit(self._close, last)
            self._thread.shutdown()

    def _watch(self, application: SparkApplication, display: TaskDisplay) -> None:
        """Show how far it is, and say so if it waits for the cluster."""
        passed = monotonic() - self._looked_at
        if not application.is_started:
            if passed > _STARTED_WITHIN_SECONDS:
                self._tell_once(
                    "Spark has not started within a minute, and is waited for: its master may have no room for it (of "
                    "YARN, yarn application -list says so), or its packages are being fetched"
                )
            return
        done, total = application.stages()
        display.show(done, total)
        if total and not done and passed > _LOOK_SECONDS:
            self._looked_at = monotonic()
            if application.is_starved:
                self._tell_once(
                    "Spark gets no executors from its master, and waits for some: the cluster is busy, or none of its "
                    "machines has what spark.executor.memory and spark.executor.cores ask for"
                )

    def _tell_once(self, text: str) -> None:
        if text not in self._told_of:
            self._told_of.add(text)
            _log.warning("%s", text)

    def _opened(self, *, brief: bool) -> SparkApplication:
        if self._application is None:
            settings = replace(self._settings, brief=brief)
            application = self._application = SparkApplication(settings, self._jars, self._name)
            try:
                application.start()
            except BaseException:
                self._application = None
                raise
            _log.debug("Spark: started")
        return self._application

    def _close(self, last: Callable[[], None] | None) -> None:
        try:
            if last is not None:
                last()
        except Exception as error:  # noqa: BLE001 - of Py4J
            _log.debug("Spark has not tidied up: %s", explain(error))
        if self._application is not None:
            self._application.stop()


def _end(application: SparkApplication, *, at_once: bool = False) -> None:
    """End what an application is at: its jobs if possible, else its Java."""
    if application.is_started and not at_once:
        application.cancel()
    else:
        application.kill()
