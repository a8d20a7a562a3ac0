"""One answer over HTTP, as it came."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """An answer that is one: records, or that there are none.

    Attributes:
        status: The HTTP status.
        content_type: Without its parameters.
        body: The uncompressed bytes.
        asked_at: When the request was sent.
        received_at: When the last byte had come.
        url: What was asked.
    """

    status: int
    content_type: str
    body: bytes = field(repr=False)
    asked_at: datetime
    received_at: datetime
    url: str

    @property
    def is_empty(self) -> bool:
        """Whether it says that there are no records."""
        # The first bytes say it: `strip` would copy the megabytes of the others.
        return self.status != 200 or (len(self.body) < 100 and self.body.strip() == b"[]")
