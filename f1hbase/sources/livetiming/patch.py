"""Merge patches: the service sends what has changed, not what there is; knows no topic.

An object goes into an object field by field; an object with numeric fields goes into a list by index; `_deleted` names
what is removed; anything else replaces what was there.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

DELETED = "_deleted"
KEY_FRAME = "_kf"
"""The sign of a live message that is the whole state of its topic."""

_MOST_ITEMS = 10_000
"""An index beyond this is a mistake: it would fill memory with empty entries (the longest list known has 1,200)."""


def merged(state: Any, change: Any) -> Any:
    """Return the state after a change; the state given is changed in place where it can be, the change never is.

    >>> merged({"Lines": {"4": {"Position": "1"}}}, {"Lines": {"4": {"InPit": True}}})
    {'Lines': {'4': {'Position': '1', 'InPit': True}}}
    >>> merged({"Stints": [{"Compound": "SOFT"}]}, {"Stints": {"0": {"TotalLaps": 3}, "1": {"Compound": "HARD"}}})
    {'Stints': [{'Compound': 'SOFT', 'TotalLaps': 3}, {'Compound': 'HARD'}]}

    Raises:
        ValueError: If the change cannot be one to the state.
    """
    if isinstance(change, dict) and isinstance(state, list):
        return _into_list(state, change)
    if isinstance(change, dict) and isinstance(state, dict):
        return _into_object(state, change)
    return deepcopy(change)


def _into_object(state: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    for name, value in change.items():
        if name == DELETED:
            for gone in value if isinstance(value, list) else [value]:
                state.pop(str(gone), None)
        elif name in state:
            state[name] = merged(state[name], value)
        else:
            state[name] = deepcopy(value)
    return state


def _into_list(state: list[Any], change: dict[str, Any]) -> list[Any]:
    for name, value in change.items():
        if name == KEY_FRAME:
            continue
        if name == DELETED:
            gone = {_index(one) for one in (value if isinstance(value, list) else [value])}
            state[:] = [item for place, item in enumerate(state) if place not in gone]
            continue
        place = _index(name)
        while len(state) <= place:
            state.append({})
        state[place] = merged(state[place], value)
    return state


def _index(name: Any) -> int:
    try:
        place = int(name)
    except (TypeError, ValueError):
        raise ValueError(f"{name!r:.40} is no place in a list") from None
    if not 0 <= place < _MOST_ITEMS:
        raise ValueError(f"{place} is no place in a list")
    return place
