"""Remembers what was made of short values, most of which come again and again: speeds, gears, positions."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TypeVar

_Key = TypeVar("_Key")
_Made = TypeVar("_Made")

_MOST = 12_000
"""How many values are remembered: most of those of car_data and the nearer ones of location. About 2 MB when full."""

_LARGEST_BYTES = 56
"""The size in memory of the largest value that is remembered: any usual number, some 20 bytes, a text of 7 letters.
What is longer hardly comes again, and would fill the place of what does."""


class Memo(dict[_Key, _Made]):
    """A dict that makes what it lacks.

    Values that are equal must make the same: 1, 1.0 and True are one key.

    Args:
        make: Makes what belongs to a value; what it raises, the look-up raises.
    """

    def __init__(self, make: Callable[[_Key], _Made]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, key: _Key) -> _Made:
        made = self._make(key)
        if len(self) < _MOST and sys.getsizeof(key) <= _LARGEST_BYTES:
            self[key] = made
        return made
