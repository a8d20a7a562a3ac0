"""OpenF1's CSV form of an answer."""

import csv
import io
from collections.abc import Sequence
from typing import Any

from f1hbase.replay.query import DATE_FIELDS


def to_csv(records: Sequence[dict[str, Any]]) -> bytes:
    """Return the records as OpenF1's CSV: the fields present, sorted; dates with a space; nulls empty.

    Lists and booleans are spelled as Python prints them, and lines end in CRLF, as the API's do.
    """
    fields = sorted(set().union(*records))
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(fields)
    for record in records:
        writer.writerow([_cell(field, record.get(field)) for field in fields])
    return out.getvalue().encode()


def _cell(field: str, value: Any) -> Any:
    if field in DATE_FIELDS and isinstance(value, str):
        return value.replace("T", " ", 1)
    return value
