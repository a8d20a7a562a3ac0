"""The tables of a session for several threads: a page asks for many charts at once, which need the same tables."""

from __future__ import annotations

import threading
from collections import defaultdict

import pyarrow as pa

from f1hbase.charts import SessionTables
from f1hbase.frames.session import Session


class SharedTables(SessionTables):
    """The tables of one session, each read once, whoever asks for it.

    Args:
        session: The session.
    """

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._lock = threading.Lock()
        self._reading: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    def table(self, endpoint: str) -> pa.Table:
        """Return the table of an endpoint; if another thread reads it, when that has done."""
        with self._lock:
            reading = self._reading[endpoint]
        with reading:
            return super().table(endpoint)
