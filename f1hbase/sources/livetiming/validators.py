"""What a unit was made of: the files of the archive, each by its tag; remembered in the unit's line, as text.

With it a later run asks the archive whether the files are still the same, and need not fetch them if they are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from f1hbase.version import __version__

UNLISTED = None
"""The tag of a file that the session's index does not list: as long as the index is the same, it is not there."""

MISSING = ""
"""The tag of a file that is not there although nothing says so: it must be asked for to know."""

Tags = Mapping[str, str | None]
"""Files by their path in the archive, each with its tag."""


@dataclass(frozen=True, slots=True)
class Validator:
    """What a unit was made of.

    Attributes:
        url: The archive.
        tags: The files.
        version: That of f1hbase: another one may make something else of the same files.
    """

    url: str
    tags: Tags = field(default_factory=dict)
    version: str = __version__

    def __str__(self) -> str:
        content = {"version": self.version, "url": self.url, "files": dict(sorted(self.tags.items()))}
        return json.dumps(content, separators=(",", ":"))


def parse_validator(text: str, url: str) -> Validator | None:
    """Return what a unit was made of; None if that was another archive or version, or cannot be read."""
    try:
        content = json.loads(text)
        version, where, tags = content["version"], content["url"], dict(content["files"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    if (version, where) != (__version__, url) or not tags:
        return None
    if not all(isinstance(tag, str | None) for tag in tags.values()):
        return None
    return Validator(url, tags)
