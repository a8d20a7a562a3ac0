"""Spark at work in a thread of its own, so that leases are kept and an interrupt is heard meanwhile."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace
from typing import Any, TypeVar

from f1hbase.cluster.errors import SparkError, explain, is_of_spark
from f1hbase.cluster.session import SparkApplication, SparkSettings
from f1hbase.errors import F1HBaseError
from f1hbase.pipeline.display import TaskDisplay

_log = logging.getLogger(__name__)
_Result = TypeVar("_Result")

_TICK_SECONDS = 0.5
_CANCEL_SECONDS = 5.0
"""How long Spark may take to end what it is told to end; then its Java is killed."""


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
        while not wait([future], _TICK_SECONDS).done:
            application = self._application
            if application is None:
                continue
            if stop is not None and stop.is_set():
                application.cancel()
            display.show(*application.stages())
        error: Any = future.exception()
        if error is None:
            return future.result()
        if stop is not None and stop.is_set():
            raise StoppedError("interrupted while Spark was at work: nothing of this round is loaded") from error
        if isinstance(error, F1HBaseError):
            raise error
        # Of an error of Spark's own the stack says nothing of this program; Spark's words are logged when it ends.
        _log.debug("Spark failed (%s)", type(error).__name__, exc_info=None if is_of_spark(error) else error)
        raise SparkError(explain(error)) from error

    def close(self, last: Callable[[], None] | None = None) -> None:
        """End Spark, whatever has happened.

        Args:
            last: What is done in its thread before; what fails in it is logged.
        """
        application = self._application
        if application is not None and self._under_way is not None and not self._under_way.done():
            # The user would not wait any longer.
            application.cancel()
            if not wait([self._under_way], _CANCEL_SECONDS).done:
                application.kill()
        self._thread.submit(self._close, last)
        self._thread.shutdown()

    def _opened(self, *, brief: bool) -> SparkApplication:
        if self._application is None:
            self._application = SparkApplication(replace(self._settings, brief=brief), self._jars, self._name)
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
