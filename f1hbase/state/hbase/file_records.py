"""The rows `file#<md5>` of `f1_reports`: the records of files that `ingest` has stored."""

from __future__ import annotations

import json

from f1hbase.model.files import FileRecord
from f1hbase.stores.hbase.connector import HBaseConnector
from f1hbase.stores.hbase.frames import RowMutation

FILE = b"file#"
_URL = b"meta:url"


class HBaseFileRecords:
    """Reads and writes the records; several threads may use it.

    Args:
        connector: The connection.
        table: The name of the table.
    """

    def __init__(self, connector: HBaseConnector, table: str) -> None:
        self._connector = connector
        self._table = table

    def get(self, md5: str) -> str | None:
        """Return where the file with this MD5 is; None if it is not recorded."""
        value = self._connector.get(self._table, FILE + md5.encode(), _URL)
        return None if value is None else value.decode(errors="backslashreplace")

    def put(self, record: FileRecord) -> None:
        """Write a record; all of it is there at once."""
        texts = {
            "meta:basename": record.basename,
            "meta:headers": json.dumps(dict(record.headers), ensure_ascii=False),
            "meta:md5": record.md5,
            "meta:url": record.url,
            "meta:recorded": record.recorded,
            "stats:size": str(record.size),
            "stats:version": str(record.version),
        }
        cells = {name.encode(): text.encode(errors="backslashreplace") for name, text in texts.items()}
        self._connector.put(self._table, [RowMutation(FILE + record.md5.encode(), cells)])
