"""The kinds of values that options take: each reads a text, or refuses it with what to write instead."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import click

from f1hbase.model.rates import Rate, parse_rates

_EXAMPLE_URL = "https://api.openf1.org/v1"
_LONGEST_DURATION = timedelta(days=30)
_DURATION_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def refuse_several(value: Any, param: click.Parameter | None, ctx: click.Context | None) -> None:
    """Refuse a list such as `2023,2024` where the option is to be given once for each.

    Raises:
        click.BadParameter: With the options to write instead.
    """
    parts = [part for part in re.split(r"[,;\s]+", str(value)) if part]
    if param is not None and param.multiple and len(parts) > 1:
        options = " ".join(f"{param.opts[0]} {part}" for part in parts)
        raise click.BadParameter(f"'{value}' is not one value; write {options}.", ctx, param)


class Number(click.IntRange):
    """A whole number within bounds."""

    name = "whole number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read the text."""
        refuse_several(value, param, ctx)
        return super().convert(value, param, ctx)


class Key(click.types.IntParamType):
    """A whole number that stands for something: a year, a meeting, a session."""

    name = "whole number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read the text."""
        refuse_several(value, param, ctx)
        return super().convert(value, param, ctx)


class Name(click.ParamType[str]):
    """One of some names, in whatever case; a misspelt one is refused with the one that was probably meant.

    Args:
        what: What the names are of, as people call it.
        names: The names.
    """

    name = "name"

    def __init__(self, what: str, names: Sequence[str]) -> None:
        self._what = what
        self._names = names

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Read the text."""
        refuse_several(value, param, ctx)
        name = str(value).lower()
        if name not in self._names:
            close = difflib.get_close_matches(name, self._names, n=1)
            hint = f"; did you mean '{close[0]}'?" if close else "."
            self.fail(f"there is no {self._what} '{value}'{hint} There are {', '.join(self._names)}.", param, ctx)
        return name


class Duration(click.ParamType[timedelta]):
    """A length of time such as `15m`, `30s`, `1h` or plain seconds, as a timedelta."""

    name = "duration"

    def __init__(self, *, least: timedelta = timedelta(0)) -> None:
        self._least = least

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Read the text."""
        if isinstance(value, timedelta):
            return value
        text = str(value).strip().lower().replace(" ", "")
        number = text.rstrip("dhms")
        try:
            duration = timedelta(seconds=float(number) * _DURATION_UNITS[text[len(number) :] or "s"])
        except (ValueError, KeyError, OverflowError):
            self.fail(f"'{value}' is not a length of time; write 15m, 30s, 1h or 1.5h.", param, ctx)
        if duration > _LONGEST_DURATION:
            self.fail(f"'{value}' is too long; the most is {_LONGEST_DURATION.days} days.", param, ctx)
        if duration < self._least:
            self.fail(f"'{value}' is too short; the least is {self._least.total_seconds():g}s.", param, ctx)
        return duration


class WindowLength(click.ParamType[timedelta | None]):
    """The length of a window, at least a second, or `auto`, which is None."""

    name = "duration|auto"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta | None:
        """Read the text."""
        if value is None or str(value).strip().lower() == "auto":
            return None
        return Duration(least=timedelta(seconds=1)).convert(value, param, ctx)


class Day(click.ParamType[date]):
    """A day such as `2024-12-08`, in UTC."""

    name = "YYYY-MM-DD"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> date:
        """Read the text; a TOML file gives a date already."""
        if isinstance(value, datetime):
            return value.date()
        if isinstance(value, date):
            return value
        refuse_several(value, param, ctx)
        try:
            return datetime.strptime(str(value), "%Y-%m-%d").replace(tzinfo=UTC).date()
        except ValueError:
            self.fail(f"'{value}' is not a date; write it as YYYY-MM-DD, such as 2024-12-08.", param, ctx)


class Rates(click.ParamType[tuple[Rate, ...]]):
    """Limits such as `3/s,30/m`, or `none`."""

    name = "rate"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Rate, ...]:
        """Read the text."""
        if isinstance(value, tuple):
            return value
        try:
            return parse_rates(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Url(click.ParamType[str]):
    """An http or https address without a slash at its end."""

    name = "url"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check the text."""
        text = str(value).rstrip("/")
        if "@" in text:
            self.fail(
                "credentials do not belong in the address, which is logged; "
                "give F1HBASE_API_USERNAME and F1HBASE_API_PASSWORD.", param, ctx,
            )  # fmt: skip
        try:
            parts = urlsplit(text)
            _ = parts.port
        except ValueError as error:
            self.fail(f"'{value}' is not an address: {error}.", param, ctx)
        if parts.query or parts.fragment or text.endswith(("?", "#")):
            self.fail(f"'{value}' must not have a '?' or '#'; it looks like {_EXAMPLE_URL}.", param, ctx)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            self.fail(f"'{value}' is not an address; it looks like {_EXAMPLE_URL}.", param, ctx)
        return text


class Prefix(click.ParamType[str]):
    """The beginning of a table's name, of the characters that HBase takes."""

    name = "prefix"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check the text."""
        text = str(value)
        if text and not (text[0].isalnum() and all(c.isascii() and (c.isalnum() or c in "_-.") for c in text)):
            self.fail(f"'{text}' cannot begin a table's name; use letters, digits, '_', '-' and '.'.", param, ctx)
        return text


class Hosts(click.ParamType[str]):
    """Hosts with or without a port, parted by commas: `a`, `a,b` or `a:9090,b:9091`."""

    name = "host[,host...]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check the text."""
        text = ",".join(part.strip() for part in str(value).split(","))
        try:
            split_hosts(text)
        except ValueError as error:
            self.fail(f"{error}; write a host, a host:port, or several with commas between them.", param, ctx)
        return text


def split_hosts(text: str) -> list[tuple[str, int | None]]:
    """Take a list of hosts apart, each once, with its port where it has one.

    Raises:
        ValueError: Naming the part that is no host.
    """
    hosts: dict[tuple[str, int | None], None] = {}
    for part in text.split(","):
        host, colon, port = part.partition(":")
        if not host or any(c.isspace() or c in "/@" for c in host):
            raise ValueError(f"'{part}' is not a host")
        if colon and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
            raise ValueError(f"'{port}' in '{part}' is not a port")
        hosts[host, int(port) if colon else None] = None
    return list(hosts)
