"""What the service sends: a message of a topic at a moment, of one session; knows no file, feed or endpoint."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

STATIC_URL = "https://livetiming.formula1.com/static"
"""Where the archive is; the addresses of recordings are spelt with it, whichever mirror they came from."""


class Message(NamedTuple):
    """One message.

    Attributes:
        moment: When the service sent it (UTC).
        topic: The topic as the service names it, such as `TimingData` or `CarData.z`.
        content: The decoded JSON; of a topic in `.z` what was inflated.
        baseline: Whether it is the whole state at some moment, as a feed sends it to who joins, and no event: it
            brings state up to date, and dates no record.
    """

    moment: datetime
    topic: str
    content: Any
    baseline: bool = False


@dataclass(frozen=True, slots=True)
class SessionContext:
    """What every record of a session says of it.

    Attributes:
        kind: F1's `Type`: Practice, Qualifying or Race (sprints too).
        path: Where its files are below `STATIC_URL`, ending in a slash; empty if that is not known.
    """

    meeting_key: int
    session_key: int
    kind: str = ""
    path: str = ""

    @property
    def is_race(self) -> bool:
        """Whether laps and gaps count as in a race."""
        return self.kind.lower() == "race"

    @property
    def keys(self) -> dict[str, int]:
        """The keys that every record begins with."""
        return {"meeting_key": self.meeting_key, "session_key": self.session_key}


def numbered(lines: Any) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the driver number and the object of each entry that is one driver's; other entries are signs (`_kf`).

    Raises:
        TypeError: If the entries are no object at all.
    """
    if not isinstance(lines, dict):
        raise TypeError(f"its entries are no object, but {type(lines).__name__}")
    for number, entry in lines.items():
        if number.isascii() and number.isdecimal() and isinstance(entry, dict):
            yield int(number), entry


def items(several: Any) -> Iterator[dict[str, Any]]:
    """Yield the objects of a list, or of the object by index that stands for a change to one."""
    if isinstance(several, dict):
        several = several.values()
    elif not isinstance(several, list):
        raise TypeError(f"its entries are neither list nor object, but {type(several).__name__}")
    yield from (item for item in several if isinstance(item, dict))
