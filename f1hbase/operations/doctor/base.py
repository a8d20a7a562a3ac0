"""What a check of `doctor` says; knows nothing of what is looked at."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from f1hbase.errors import F1HBaseError


class Grade(StrEnum):
    """How a check went."""

    OK = "OK"
    WARN = "WARN"
    FAIL = "FAIL"
    SKIP = "SKIP"
    """Not looked at, because what it needs has failed."""


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the list.

    Attributes:
        name: What was looked at.
        found: What was found.
        fix: What to do about it; empty where all is well.
    """

    grade: Grade
    name: str
    found: str
    fix: str = ""

    def as_json(self) -> dict[str, str]:
        """Return it in JSON's types."""
        return {"grade": self.grade.value, "name": self.name, "found": self.found, "fix": self.fix}


def failed(name: str, error: F1HBaseError, fix: str) -> Check:
    """Return the check of an error that says first what is wrong and then what to do."""
    found, _, told = str(error).partition(". ")
    return Check(Grade.FAIL, name, found if told else found.removesuffix("."), told or fix)
