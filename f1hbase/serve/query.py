"""The query string of a request, as OpenF1 reads it: ``session_key=9159&date>=2023-09-15T13:00:00&csv=true``.

It knows no store. The rules are those of OpenF1's published query API; `docs/serve.md` lists them.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any
from urllib.parse import unquote_plus

from f1hbase.serve.times import DAY, MILLISECOND, filter_span, instant

DATE_FIELDS = frozenset({"date", "date_start", "date_end"})
"""The fields whose strings are compared as instants."""

LATEST_FIELDS = frozenset({"meeting_key", "session_key"})
"""The fields of which ``latest`` names a value."""

_TEXT_FIELDS = frozenset({"gmt_offset", "team_colour"})  # never taken for numbers or dates

# The order in which OpenF1 looks for them in a part: the first that occurs anywhere in it divides it.
_OPERATORS = (">=", "<=", "=", ">", "<")

MOST_BOUNDS = 500
"""How many bounds a query may have; every record is compared with them."""


class QueryError(ValueError):
    """A query that cannot be answered; ``detail`` is what FastAPI would put under that name into a 422."""

    def __init__(self, kind: str, field: str, message: str, text: str) -> None:
        super().__init__(f"{field}: {message}, got {text!r}")
        self.detail = [{"type": kind, "loc": ["query", field], "msg": message, "input": text}]


class NoLatestError(Exception):
    """``latest`` was asked for, and there is no session that has begun and takes place."""


@dataclass(frozen=True, slots=True)
class Filter:
    """One condition on one field.

    Attributes:
        field: The field's name, in lower case.
        op: One of `=`, `<`, `<=`, `>`, `>=`.
        value: What the record's value is compared with. Only values of one kind are ever equal, lower or higher.
        span: The millisecond that a date stands for: half-open, microseconds since 1970.
    """

    field: str
    op: str
    value: bool | float | str
    span: tuple[int, int] | None = None

    @property
    def number(self) -> float | None:
        """The value if it is a number."""
        return None if isinstance(self.value, bool | str) else self.value

    @property
    def kind(self) -> str:
        """What can be compared with it."""
        if self.span is not None:
            return "date"
        return "boolean" if isinstance(self.value, bool) else "text" if isinstance(self.value, str) else "number"

    @property
    def order(self) -> Any:
        """What its bounds are sorted by among those of one kind."""
        return self.value if self.span is None else self.span[0]

    @property
    def edges(self) -> tuple[Any, Any]:
        """What of the positions of its kind it lets pass, half-open; None is open.

        The position of an instant is itself, and that of another value is the value and a 0: a value and a 1 come after
        it and before any other.
        """
        first, after = self.span or ((self.value, 0), (self.value, 1))
        match self.op:
            case "=":
                return first, after
            case "<":
                return None, first
            case "<=":
                return None, after
            case ">":
                return after, None
            case _:
                return first, None


class _Ranges:
    """Many ranges of positions, any of which will do: it takes two bisections to tell, however many they are."""

    def __init__(self, ranges: Iterable[tuple[Any, Any]]) -> None:
        ranges = list(ranges)
        above = [low for low, high in ranges if high is None]
        below = [high for low, high in ranges if low is None]
        closed = sorted((low, high) for low, high in ranges if low is not None and high is not None)
        self._above = min(above, default=None)
        self._below = max(below, default=None)
        self._lows = [low for low, _ in closed]
        self._highest = list(accumulate((high for _, high in closed), max))
        """The highest end of the ranges so far."""

    def meet(self, first: Any, last: Any) -> bool:
        """Tell whether a range begins at or before the position `last`, and ends after `first`."""
        if self._above is not None and last >= self._above:
            return True
        if self._below is not None and first < self._below:
            return True
        index = bisect_right(self._lows, last)
        return index > 0 and bool(self._highest[index - 1] > first)


@dataclass(frozen=True)
class Condition:
    """All that a query says of one field.

    Attributes:
        alternatives: A value fulfils the condition if it fulfils every filter of one of them: an `=`, an interval of
            two bounds, or a bound for which there is no other to make an interval with.
    """

    alternatives: tuple[tuple[Filter, ...], ...]
    _numbers: frozenset[float] = field(init=False, repr=False, compare=False)
    _only_numbers: bool = field(init=False, repr=False, compare=False)
    _equal: dict[str, _Ranges] = field(init=False, repr=False, compare=False)
    _between: dict[str, _Ranges] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Of thousands of repeated keys one look into a set tells what thousands of comparisons would.
        numbers = {one[0].number for one in self.alternatives if one[0].op == "="}
        object.__setattr__(self, "_numbers", frozenset(one for one in numbers if one is not None))
        rest = [one for one in self.alternatives if one[0].op != "=" or one[0].number is None]
        object.__setattr__(self, "_only_numbers", not rest)
        for name, is_equal in (("_equal", True), ("_between", False)):
            by_kind: dict[str, list[tuple[Any, Any]]] = {}
            for alternative in rest:
                # What is no number, such as `nan`, is neither equal to any nor beyond it.
                if (alternative[0].op == "=") is is_equal and not any(one.value != one.value for one in alternative):
                    low, high = alternative[0].edges, alternative[-1].edges
                    by_kind.setdefault(alternative[0].kind, []).append((low[0], high[1]))
            object.__setattr__(self, name, {kind: _Ranges(ranges) for kind, ranges in by_kind.items()})

    @property
    def filters(self) -> tuple[Filter, ...]:
        """Every filter on the field."""
        return tuple(one for alternative in self.alternatives for one in alternative)

    @property
    def numbers(self) -> frozenset[float] | None:
        """The numbers that the field must equal one of; None if there is another way to fulfil the condition."""
        return self._numbers if self._only_numbers else None

    def matches(self, value: Any) -> bool:
        """Tell whether a field's value, as JSON gives it, fulfils the condition. A null fulfils none.

        A list fulfils an `=` or a bound if one of its items does, and an interval if one item is above its lower bound
        and one below its upper, as in MongoDB, which OpenF1 asks.

        Raises:
            ValueError: If a date is none.
        """
        if isinstance(value, list):
            return self._match_list(value)
        if isinstance(value, int | float) and not isinstance(value, bool) and value in self._numbers:
            return True
        if self._only_numbers:
            return False
        kind, position = self._position(value)
        return any(kind in ranges and ranges[kind].meet(position, position) for ranges in (self._equal, self._between))

    def _match_list(self, values: Sequence[Any]) -> bool:
        positions: dict[str, list[Any]] = {}
        waiting = list(values)
        while waiting:
            value = waiting.pop()
            if isinstance(value, list):
                waiting += value
                continue
            if isinstance(value, int | float) and not isinstance(value, bool) and value in self._numbers:
                return True
            kind, position = self._position(value)
            if kind in self._equal and self._equal[kind].meet(position, position):
                return True
            if kind in self._between:
                positions.setdefault(kind, []).append(position)
        return any(self._between[kind].meet(min(found), max(found)) for kind, found in positions.items())

    def _position(self, value: Any) -> tuple[str, Any]:
        """Return of what kind a value is, and where it is among its kind; no kind for what nothing is compared with."""
        if isinstance(value, bool):
            return "boolean", (value, 0)
        if isinstance(value, int | float):
            return "number", (value, 0)
        if not isinstance(value, str):
            return "", None
        if self.alternatives[0][0].field not in DATE_FIELDS:
            return "text", (value, 0)
        if "date" not in self._equal and "date" not in self._between:
            return "", None
        return "date", instant(value)


@dataclass(frozen=True, slots=True)
class Query:
    """A parsed query string.

    Attributes:
        conditions: What each field must fulfil, all of them.
        csv: Whether the answer is to be CSV.
        text: The query string itself.
    """

    conditions: dict[str, Condition]
    csv: bool = False
    text: str = ""


def parse_query(raw: str, latest: Callable[[str], int | None]) -> Query:
    """Parse the raw query string, percent-encoded or not; ``latest`` gives the key for ``<field>=latest``.

    Raises:
        QueryError: When a part has no operator, a date is none, two bounds of a field cannot be compared, or there
            are too many.
        NoLatestError: When ``latest`` is asked for and there is none.
    """
    filters: dict[str, list[Filter]] = {}
    csv: bool | None = None
    bounds = 0
    for part in raw.split("&"):
        if not part:
            continue
        name, op, text = _divide(unquote_plus(part))
        if name == "csv":
            csv = bool(_cast(name, text)) if csv is None else csv  # `csv=no` is a text, and true
            continue
        if name in LATEST_FIELDS and text == "latest":
            key = latest(name)
            if key is None:
                raise NoLatestError
            text = str(key)
        found = _filters(name, op, text)
        bounds += any(one.op != "=" for one in found)
        if bounds > MOST_BOUNDS:
            raise QueryError("too_long", name, f"A query has at most {MOST_BOUNDS} bounds", text)
        filters.setdefault(name, []).extend(found)
    conditions = {name: Condition(_alternatives(found)) for name, found in filters.items()}
    return Query(conditions, bool(csv), raw)


def _divide(part: str) -> tuple[str, str, str]:
    for op in _OPERATORS:
        name, found, text = part.partition(op)
        # `date>=` with an empty value reaches OpenF1 without its `=`, but a name with nothing to compare is no filter.
        if found:
            if not (name.strip() and text):
                break
            return name.strip().lower(), op, text
    shown = part[:100]
    raise QueryError("value_error", shown, "Input should be a filter such as field=value", shown)


def _filters(name: str, op: str, text: str) -> list[Filter]:
    """Return the filter, or for a whole day the two that make it an interval."""
    value = _cast(name, text)
    if not isinstance(value, str) or name in _TEXT_FIELDS:
        return [Filter(name, op, value)]
    try:
        span = filter_span(text)
    except ValueError:
        raise QueryError("datetime_parsing", name, "Input should be a valid date", text) from None
    if span is None and name in DATE_FIELDS and not text.startswith("="):  # `==` compares with a text
        raise QueryError("datetime_parsing", name, "Input should be an ISO 8601 date", text)
    if span is None or span[1] - span[0] < DAY:
        return [Filter(name, op, value, span)]
    # A whole day: after it is from the next one on, and within it is an interval like any other.
    begin, end = ((moment, moment + MILLISECOND) for moment in span)
    bounds = {
        ">": [(">=", end)],
        ">=": [(">=", begin)],
        "<": [("<", begin)],
        "<=": [("<", end)],
        "=": [(">=", begin), ("<", end)],
    }
    return [Filter(name, bound, value, moment) for bound, moment in bounds[op]]


def _cast(name: str, text: str) -> bool | float | str:
    if name in _TEXT_FIELDS:
        return text
    if text.lower() in {"true", "false"}:
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _alternatives(filters: Sequence[Filter]) -> tuple[tuple[Filter, ...], ...]:
    """Return the filters on one field as OpenF1 combines them.

    A lower bound, from the lowest on, makes an interval with the lowest upper bound that is not below it. When one
    finds none, it and all bounds that are left stand alone.
    """
    unique = list(dict.fromkeys(filters))
    bounds = [one for one in unique if one.op != "="]
    if len({one.kind for one in bounds}) > 1:
        one = bounds[-1]
        raise QueryError("value_error", one.field, "Input should be a bound of the kind of the others", str(one.value))
    lower = sorted((one for one in bounds if one.op[0] == ">"), key=lambda one: one.order)
    upper = sorted((one for one in bounds if one.op[0] == "<"), key=lambda one: one.order)
    keys = [one.order for one in upper]
    intervals: list[tuple[Filter, ...]] = []
    paired: set[Filter] = set()
    for low in lower:
        index = bisect_left(keys, low.order)
        if index == len(keys):
            break
        del keys[index]
        high = upper.pop(index)
        intervals.append((low, high))
        paired |= {low, high}
    alone = [(one,) for one in unique if one not in paired]
    return (*intervals, *alone)
