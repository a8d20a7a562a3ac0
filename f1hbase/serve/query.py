"""The query string of a request, as OpenF1 reads it: ``session_key=9159&date>=2023-09-15T13:00:00&csv=true``.

Rules and spellings: "Facts about the API" in the design, and OpenF1's own documentation of filtering.
"""

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_plus

from f1hbase.serve.times import filter_span, instant

DATE_FIELDS = frozenset({"date", "date_start", "date_end"})
INTEGER_FIELDS = frozenset(
    {
        "circuit_key",
        "country_key",
        "driver_number",
        "lap_number",
        "meeting_key",
        "overtaken_driver_number",
        "overtaking_driver_number",
        "session_key",
        "stint_number",
        "year",
    }
)
_LATEST_FIELDS = frozenset({"meeting_key", "session_key"})

# HTTP clients given `date>=` as a parameter's name send one `=` more than was written: `date>==D`.
_PART = re.compile(r"\s*(?P<field>\w+)\s*(?:(?P<order>[<>]=?)=?|(?P<equal>=))(?P<text>.*)", re.DOTALL)

_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class QueryError(ValueError):
    """A query that cannot be answered; ``detail`` is what FastAPI would put under that name into a 422."""

    def __init__(self, kind: str, field: str, message: str, text: str) -> None:
        super().__init__(f"{field}: {message}, got {text!r}")
        self.detail = [{"type": kind, "loc": ["query", field], "msg": message, "input": text}]


@dataclass(frozen=True, slots=True)
class Filter:
    """One condition on one field. ``span`` is what a date stands for: half-open, microseconds since 1970."""

    field: str
    op: str
    text: str
    number: float | None = None
    span: tuple[int, int] | None = None

    def matches(self, value: Any) -> bool:
        """Tell whether a field's value, as JSON gives it, fulfils the condition. A null fulfils none."""
        if value is None:
            return False
        if isinstance(value, list):
            return any(self.matches(item) for item in value)
        if isinstance(value, bool):
            return self.op == "=" and self.text.lower() == str(value).lower()
        if isinstance(value, int | float):
            return self.number is not None and _COMPARE[self.op](value, self.number)
        if self.span is not None:
            return self._holds(instant(value))
        return _COMPARE[self.op](str(value), self.text)

    def _holds(self, moment: int) -> bool:
        begin, end = self.span or (0, 0)
        match self.op:
            case "=":
                return begin <= moment < end
            case "<":
                return moment < begin
            case "<=":
                return moment < end
            case ">":
                return moment >= end
            case _:
                return moment >= begin


@dataclass(frozen=True, slots=True)
class Condition:
    """All that a query says of one field: any of the equals, and every one of the comparisons."""

    equals: tuple[Filter, ...] = ()
    bounds: tuple[Filter, ...] = ()

    def matches(self, value: Any) -> bool:
        """Tell whether a field's value fulfils the condition."""
        if self.equals and not any(one.matches(value) for one in self.equals):
            return False
        return all(one.matches(value) for one in self.bounds)


@dataclass(frozen=True, slots=True)
class Query:
    """A parsed query string: a condition for each field it names, and the form of the answer."""

    conditions: dict[str, Condition]
    csv: bool = False


def parse_query(raw: str, latest: Callable[[str], int | None]) -> Query:
    """Parse the raw query string, percent-encoded or not; ``latest`` gives the key for ``<field>=latest``.

    Raises `QueryError` when a part has no operator, or a date or a whole number is none.
    """
    filters: dict[str, list[Filter]] = {}
    csv = False
    for part in raw.split("&"):
        if not part:
            continue
        decoded = unquote_plus(part)
        match = _PART.fullmatch(decoded)
        if match is None:
            raise QueryError("value_error", decoded, "Input should be a filter such as field=value", decoded)
        field, op, text = match["field"].lower(), match["order"] or match["equal"], match["text"]
        if field == "csv":
            csv = text.lower() in {"true", "1", "yes", "on"}
            continue
        if field in _LATEST_FIELDS and text == "latest":
            text = str(latest(field) or 0)
        filters.setdefault(field, []).append(_filter(field, op, text))
    conditions = {
        field: Condition(
            equals=tuple(one for one in found if one.op == "="),
            bounds=tuple(one for one in found if one.op != "="),
        )
        for field, found in filters.items()
    }
    return Query(conditions, csv)


def _filter(field: str, op: str, text: str) -> Filter:
    if field in DATE_FIELDS:
        try:
            return Filter(field, op, text, span=filter_span(text))
        except ValueError:
            raise QueryError("datetime_parsing", field, "Input should be a valid date", text) from None
    number = _number(text)
    if field in INTEGER_FIELDS and number is None:
        raise QueryError("int_parsing", field, "Input should be a valid integer", text)
    return Filter(field, op, text, number=number)


def _number(text: str) -> float | None:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return None
