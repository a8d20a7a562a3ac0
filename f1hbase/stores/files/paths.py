"""Parts of paths that several modules build: the folder of a session, and a text as a name."""

from __future__ import annotations

import re

from f1hbase.model.units import Scope

_UNSAFE = re.compile(r"[^A-Za-z0-9._=+-]+")


def scope_folder(scope: Scope) -> str:
    """Return `year=2024/meeting=1240/session=9558`; without the last of a meeting as such."""
    folder = f"year={scope.year}/meeting={scope.meeting_key}"
    return folder if scope.session_key is None else f"{folder}/session={scope.session_key}"


def safe_name(text: str) -> str:
    """Return a text as a part of a path: no slash, no colon, and no dot in front."""
    return _UNSAFE.sub("-", text).strip("-.") or "unknown"
