"""A file of any kind that was put into a store once: what is remembered of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field


@dataclass(frozen=True, slots=True)
class FileRecord:
    """What is remembered of a file.

    Attributes:
        basename: Its name without its folder.
        md5: The MD5 of its bytes, in hex; what it is known by.
        size: How many bytes it has.
        headers: What its owner says of it.
        version: Which content of this basename it is, from 1; 0 before it is stored.
        url: Where it is; empty before it is stored.
        recorded: When it was recorded, in UTC and ISO 8601; empty before.
    """

    basename: str
    md5: str
    size: int
    headers: Mapping[str, str] = field(default_factory=dict)
    version: int = 0
    url: str = ""
    recorded: str = ""

    def as_json(self) -> str:
        """Return it as a JSON object, with the names of the attributes."""
        return json.dumps(asdict(self), ensure_ascii=False, indent=1)


def file_record(text: bytes | str) -> FileRecord:
    """Read what `FileRecord.as_json` wrote.

    Raises:
        ValueError: If it is none.
    """
    content = json.loads(text)
    try:
        return FileRecord(
            str(content["basename"]),
            str(content["md5"]),
            int(content["size"]),
            {str(name): str(value) for name, value in content["headers"].items()},
            int(content["version"]),
            str(content["url"]),
            str(content["recorded"]),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"it is no record of a file ({type(error).__name__}: {error})") from error
