"""Counts rows of `f1_data` for the endpoints whose keys they have; knows row keys, and no connection."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from f1hbase.model.catalog import Endpoint, KeyHash, KeyInt, KeyText, KeyWord
from f1hbase.model.records import LARGEST_INTEGER_DIGITS
from f1hbase.model.units import SEPARATOR
from f1hbase.operations.verify.reconcile import Reconciliation, Stray
from f1hbase.stores.hbase.codec import NO_NUMBER, Row, checksum

_HASH = SEPARATOR.encode()
_DIGEST = re.compile("[0-9a-f]{8}")


class KeyShape:
    """What follows the session in an endpoint's row keys.

    Attributes:
        driver: Which component is the driver; None if none is.
        date: Which one is the time that orders the rows.
        is_of_samples: Whether the keys are a driver and a date, so that a driver's rows follow each other in order of
            time.
    """

    __slots__ = ("_checks", "_length", "date", "driver", "is_of_samples")

    def __init__(self, endpoint: Endpoint) -> None:
        self._length = len(endpoint.key)
        self._checks: list[tuple[int, Callable[[str], object]]] = []
        self.driver: int | None = None
        self.date: int | None = None
        for index, part in enumerate(endpoint.key):
            match part:
                case KeyInt(name, optional):
                    self._checks.append((index, _is_int_or_none if optional else _is_canonical_int))
                    if name == "driver_number":
                        self.driver = index
                case KeyWord(word):
                    self._checks.append((index, word.__eq__))
                case KeyHash():
                    self._checks.append((index, _DIGEST.fullmatch))
                case KeyText(name):
                    if name == endpoint.time_field:
                        self.date = index
        self.is_of_samples = (self._length, self.driver, self.date) == (2, 0, 1)

    def fits(self, components: Sequence[str]) -> bool:
        """Return whether the endpoint makes such keys."""
        if len(components) != self._length:
            return False
        for index, check in self._checks:  # noqa: SIM110 - all() takes twice as long, and there are many rows
            if not check(components[index]):
                return False
        return True


@dataclass(slots=True)
class FamilyCount:
    """Counts the rows of one column family in one session (or meeting), as they stream by in order of their keys.

    Attributes:
        reconciliations: Those of the endpoints that share the family.
        skip: How long the scope's own row key is.
        others: Endpoints of the family that are not asked about: their rows are passed over.
        foreign: Rows whose keys no endpoint of the family makes.
    """

    reconciliations: Sequence[Reconciliation]
    skip: int
    others: Sequence[Endpoint] = ()
    foreign: Stray | None = None
    _shapes: list[KeyShape] = field(default_factory=list)
    _drivers: dict[int, str] = field(default_factory=dict)  # whose rows each reconciliation counts
    _lead: bytes = b""  # what the last row's key has before its date
    _sampled: Reconciliation | None = None  # whose row it was, if more like it are to be expected

    def __post_init__(self) -> None:
        self._shapes = [KeyShape(one.endpoint) for one in self.reconciliations]
        self._shapes += [KeyShape(endpoint) for endpoint in self.others]

    def add(self, key: bytes, cells: Mapping[bytes, bytes] | None = None) -> None:
        """Count one row; with its cells of the family, to compare them as well."""
        checked = None if cells is None else checksum(Row(key, dict(cells)))
        if self._sampled is not None and key.startswith(self._lead):
            # Nearly all rows are the next sample of the same driver.
            date = key[len(self._lead) :]
            if _HASH not in date:
                self._sampled.count(date.decode(errors="replace"), key, checked)
                return
        components = key[self.skip + 1 :].decode(errors="replace").split(SEPARATOR) if len(key) > self.skip else []
        for number, shape in enumerate(self._shapes):
            if shape.fits(components):
                if number < len(self.reconciliations):
                    self._count(number, shape, components, key, checked)
                return
        self.foreign = self.foreign or Stray(key)
        self.foreign.rows += 1

    def _count(self, number: int, shape: KeyShape, components: Sequence[str], key: bytes, checked: int | None) -> None:
        mine = self.reconciliations[number]
        driver = "" if shape.driver is None else components[shape.driver]
        if driver and self._drivers.get(number) != driver:
            self._drivers[number] = driver
            mine.turn_to(int(driver))
        mine.count("" if shape.date is None else components[shape.date], key, checked)
        self._sampled = mine if shape.is_of_samples else None
        self._lead = key[: key.rindex(_HASH) + 1] if shape.is_of_samples else b""


def _is_int_or_none(text: str) -> bool:
    return text == NO_NUMBER or _is_canonical_int(text)


def _is_canonical_int(text: str) -> bool:
    canonical = text.isdecimal() and text.isascii() and (text[0] != "0" or text == "0")
    return canonical and len(text) <= LARGEST_INTEGER_DIGITS
