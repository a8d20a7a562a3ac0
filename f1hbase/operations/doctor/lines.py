"""What `doctor` has found, for people and for machines."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

from f1hbase.model.text import count
from f1hbase.operations.doctor.base import Check, Grade

_LEAD = 20


def doctor_lines(check: Check, width: int | None = None) -> list[str]:
    """Return the line of a check; in a terminal of some width, as many as it takes."""
    line = f"{check.grade:<5}{check.name:<{_LEAD - 5}}{check.found}{f'. Fix: {check.fix}' if check.fix else ''}"
    if width is None:
        return [line]
    return textwrap.wrap(
        line, max(width, 2 * _LEAD), subsequent_indent=" " * _LEAD, break_long_words=False, break_on_hyphens=False
    )


def judgement(checks: Sequence[Check]) -> str:
    """Return in one line how it all went."""
    failed, warned = (sum(check.grade is grade for check in checks) for grade in (Grade.FAIL, Grade.WARN))
    if failed:
        return f"{count(failed, 'check')} failed: fix that before you load."
    return "Ready to load." if not warned else f"Ready to load; {count(warned, 'warning')}."


def doctor_json(checks: Sequence[Check]) -> dict[str, Any]:
    """Return everything in JSON's types."""
    return {
        "ready": not any(check.grade is Grade.FAIL for check in checks),
        "checks": [check.as_json() for check in checks],
    }
