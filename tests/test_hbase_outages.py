"""What is said while no gateway answers; needs no HBase."""

from __future__ import annotations

import logging
import threading

import pytest
from hbase_server import HOST, free_ports

from f1hbase.errors import UnreachableError
from f1hbase.stores.hbase.connector import DIALECTS, Gateway, HBaseConnector
from f1hbase.stores.hbase.frames import RowMutation


def test_an_outage_is_one_warning_a_minute_however_many_puts_wait(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    gateway = Gateway(HOST, free_ports(1)[0], DIALECTS[0])

    def put() -> None:
        connector = HBaseConnector([gateway], patience=2.0)
        with pytest.raises(UnreachableError, match="does not answer: connection refused"):
            connector.put("f1_data", [RowMutation(b"row", {b"car:speed": b"1"})])

    threads = [threading.Thread(target=put) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    told = [record.levelno for record in caplog.records if "trying again in" in record.getMessage()]
    assert told.count(logging.WARNING) == 1
    assert told.count(logging.DEBUG) > 3, "the log file has each try"
