"""The kinds of values that settings take: each reads a text, or refuses it with what to write instead.

Knows neither the command line nor where a text comes from.
"""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from f1hbase.credentials import shown_address
from f1hbase.model.rates import Limits, Rate, parse_limits, parse_rates

Parse = Callable[[str], Any]
"""Reads a text; raises ValueError with what is wrong and what to write."""

_EXAMPLE_URL = "https://api.openf1.org/v1"
_EXAMPLE_BROKER = "mqtts://mqtt.openf1.org:8883"
_LONGEST_DURATION = timedelta(days=30)
_DURATION_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_LONGEST_TABLE_PREFIX = 100
"""HBase takes table names of 255 bytes at the most and retries for ever to create a longer one; its folders and the
names of snapshots need some of them."""

_LONGEST_LABEL = 63
"""How long a part of a host's name between two dots may be (RFC 1035)."""

_WHOLE = re.compile(r"\s*[+-]?[0-9]{1,19}\s*")
"""`int` takes more, such as `7_0001` and the digits of other scripts."""

_TRUE, _FALSE = {"true", "1", "yes", "on"}, {"false", "0", "no", "off", ""}


def whole_number(least: int | None = None, most: int | None = None) -> Parse:
    """Return what reads a whole number within bounds."""

    def parse(text: str) -> int:
        if not _WHOLE.fullmatch(text):
            raise ValueError(f"'{shortened(text)}' is not a valid whole number.")
        number = int(text)
        if (least is not None and number < least) or (most is not None and number > most):
            bounds = f"{least}<=x<={most}" if most is not None else f"x>={least}"
            raise ValueError(f"{number} is not in the range {bounds}.")
        return number

    return parse


def one_of(*names: str, ignore_case: bool = False) -> Parse:
    """Return what reads one of some names."""

    def parse(text: str) -> str:
        for name in names:
            if text == name or (ignore_case and text.lower() == name.lower()):
                return name
        raise ValueError(f"'{shortened(text)}' is not one of {', '.join(map(repr, names))}.")

    return parse


def name_of(what: str, names: Sequence[str]) -> Parse:
    """Return what reads one of some names in whatever case; a misspelt one is refused with the one probably meant."""

    def parse(text: str) -> str:
        name = text.lower()
        if name not in names:
            close = difflib.get_close_matches(name[:40], names, n=1)
            hint = f"; did you mean '{close[0]}'?" if close else "."
            raise ValueError(f"there is no {what} '{shortened(text)}'{hint} There are {', '.join(names)}.")
        return name

    return parse


_SPARK_MASTER = re.compile(r"local(?:\[[\d*, ]+\])?|yarn|(?:spark|k8s|mesos)://\S+")


def spark_master(text: str) -> str:
    """Read what `spark-submit --master` takes."""
    if not _SPARK_MASTER.fullmatch(text):
        raise ValueError(f"'{shortened(text)}' is no Spark master: local[2], local[*], yarn or spark://host:7077.")
    return text


_SPARK_NAME = re.compile(r"spark\.[A-Za-z0-9._-]+")
_SECRET_NAME = re.compile(r"secret|passw|token|access\.?key|credential(?!s\.provider)", re.IGNORECASE)


def spark_setting(text: str) -> tuple[str, str]:
    """Read `spark.name=value`; what may be a secret is refused, as Spark puts it into a command line."""
    name, equals, value = text.partition("=")
    if not equals or not _SPARK_NAME.fullmatch(name):
        raise ValueError(f"'{shortened(name)}' is not of the form spark.name=value, such as spark.executor.memory=4g.")
    if _SECRET_NAME.search(name):
        raise ValueError(
            f"{name} may be a secret, which does not belong into a command line: put it into Spark's own "
            "conf/spark-defaults.conf or the environment."
        )
    return name, value


def duration(least: timedelta = timedelta(0)) -> Parse:
    """Return what reads a length of time such as `15m`, `30s`, `1h` or plain seconds."""

    def parse(text: str) -> timedelta:
        bare = text.strip().lower().replace(" ", "")
        number = bare.rstrip("dhms")
        try:
            if "_" in number or not number.isascii():
                raise ValueError(number)
            length = timedelta(seconds=float(number) * _DURATION_UNITS[bare[len(number) :] or "s"])
        except (ValueError, KeyError, OverflowError):
            raise ValueError(f"'{shortened(text)}' is not a length of time; write 15m, 30s, 1h or 1.5h.") from None
        if length > _LONGEST_DURATION:
            raise ValueError(f"'{shortened(text)}' is too long; the most is {_LONGEST_DURATION.days} days.")
        if length < least:
            raise ValueError(f"'{shortened(text)}' is too short; the least is {least.total_seconds():g}s.")
        return length

    return parse


def window(text: str) -> timedelta | None:
    """Read the length of a window, at least a second; `auto` is None."""
    if text.strip().lower() == "auto":
        return None
    length: timedelta = duration(timedelta(seconds=1))(text)
    return length


def day(text: str) -> date:
    """Read a day such as `2024-12-08`."""
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).date()
    except ValueError:
        raise ValueError(f"'{shortened(text)}' is not a date; write it as YYYY-MM-DD, such as 2024-12-08.") from None


def rates(text: str) -> tuple[Rate, ...]:
    """Read rates of requests such as `3/s,30/m`, or `none`."""
    return parse_rates(text)


def limits(text: str) -> Limits:
    """Read limits of requests and bytes such as `3/s,30/m,4MB/10s`, or `none`."""
    return parse_limits(text)


def url(text: str) -> str:
    """Read an http or https address; a slash at its end is taken away."""
    return _address(text, {"http", "https"}, _EXAMPLE_URL)


def told_of_failure(text: str) -> str:
    """Read who is told of a failure: an http or https address, or a command with its arguments, as a shell quotes them.

    The messages do not repeat it: addresses of webhooks are secrets.
    """
    bare = text.strip()
    if bare.lower().startswith(("http://", "https://")):
        if any(character.isspace() or not character.isprintable() for character in bare):
            raise ValueError("the address has a space or a control character in it.")
        try:
            parts = urlsplit(bare)
            host, _ = parts.hostname, parts.port
        except ValueError:
            host = None
        if not host:
            raise ValueError("that is no address; write https://hooks.example/..., or a command.")
        if "@" in parts.netloc:
            raise ValueError("a user name before @ is not sent; put what the receiver needs into the path.")
        return bare
    try:
        words = shlex.split(bare)
    except ValueError as error:
        raise ValueError(f"the command cannot be read: {str(error).lower()}.") from None
    if not words or not words[0] or "\0" in bare:
        raise ValueError("write an https address, or a command with its arguments.")
    return bare


def broker_url(text: str) -> str:
    """Read the address of an MQTT broker; a slash at its end is taken away."""
    return _address(text, {"mqtt", "mqtts", "ws", "wss"}, _EXAMPLE_BROKER)


def _address(text: str, schemes: set[str], example: str) -> str:
    address = text.rstrip("/")
    shown = shortened(text)
    if "@" in address:
        raise ValueError(
            "credentials do not belong in the address, which is logged; "
            "give F1HBASE_API_USERNAME and F1HBASE_API_PASSWORD."
        )
    if any(character.isspace() or not character.isprintable() for character in address):
        raise ValueError(f"'{shown}' has a space or a control character in it.")
    try:
        parts = urlsplit(address)
        _ = parts.port
    except ValueError as error:
        raise ValueError(f"'{shown}' is not an address: {error}.") from None
    if parts.query or parts.fragment or address.endswith(("?", "#")):
        raise ValueError(f"'{shown}' must not have a '?' or '#'; it looks like {example}.")
    if parts.scheme not in schemes or not parts.hostname:
        raise ValueError(f"'{shown}' is not an address; it looks like {example}.")
    check_host(parts.hostname)
    return address


def check_host(host: str) -> None:
    """Refuse a host's name that no resolver takes.

    Raises:
        ValueError: Saying what is wrong with it.
    """
    if len(host) > 253 or any(len(label) > _LONGEST_LABEL for label in host.split(".")):
        raise ValueError(f"'{shortened(host)}' is no host: its name, or a part of it, is too long.")


def table_prefix(text: str) -> str:
    """Read the beginning of a table's name, of the characters that HBase takes."""
    if text and not (text[0].isalnum() and all(c.isascii() and (c.isalnum() or c in "_-.") for c in text)):
        raise ValueError(f"'{shortened(text)}' cannot begin a table's name; use letters, digits, '_', '-' and '.'.")
    if len(text) > _LONGEST_TABLE_PREFIX:
        raise ValueError(
            f"'{shortened(text)}' is longer than {_LONGEST_TABLE_PREFIX} letters, the most a prefix may have."
        )
    return text


def instance(text: str) -> str:
    """Read the name of a live instance: letters, digits, `_`, `-` and `.`, 60 at the most."""
    if not text or len(text) > 60 or not all(c.isascii() and (c.isalnum() or c in "_-.") for c in text):
        raise ValueError(f"'{shortened(text)}' names no instance; use up to 60 letters, digits, '_', '-' and '.'.")
    return text


def hosts(text: str) -> str:
    """Read hosts with or without a port, parted by commas: `a`, `a,b`, `a:9090,b:9091` or `[::1]:9090`."""
    bare = ",".join(part.strip() for part in text.split(","))
    try:
        split_hosts(bare)
    except ValueError as error:
        raise ValueError(f"{error}; write a host, a host:port, or several with commas between them.") from None
    return bare


_HOST = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.%a-z]+)\]|(?P<name>[^\[\]:]*))(?::(?P<port>.*))?", re.DOTALL)


def split_hosts(text: str) -> list[tuple[str, int | None]]:
    """Take a list of hosts apart, each once, with its port where it has one.

    Raises:
        ValueError: Naming the part that is no host.
    """
    found: dict[tuple[str, int | None], None] = {}
    for part in text.split(","):
        bare = f"[{part}]" if part.count(":") > 1 and not part.startswith("[") else part
        match = _HOST.fullmatch(bare)
        host = match and (match["six"] or match["name"])
        if match is None or not host or any(c.isspace() or c in "/@" or not c.isprintable() for c in host):
            raise ValueError(f"'{shortened(part)}' is not a host")
        check_host(host)
        port = match["port"]
        if port is not None and not (port.isascii() and port.isdigit() and len(port) < 6 and 0 < int(port) < 65536):
            raise ValueError(f"'{shortened(port)}' in '{shortened(part)}' is not a port")
        found[host, None if port is None else int(port)] = None
    return list(found)


def listener(default_port: int) -> Parse:
    """Return what reads where to listen: `host:port`, a host, or a port of this machine alone."""

    def parse(text: str) -> str:
        bare = text.strip()
        try:
            places = split_hosts(f"127.0.0.1:{bare}" if bare.isascii() and bare.isdigit() else bare)
        except ValueError as error:
            raise ValueError(f"{error}; write a port of this machine, or host:port.") from None
        if len(places) != 1:
            raise ValueError(f"'{shortened(text)}' is more than one place to listen at; write host:port.")
        host, port = places[0]
        return f"{f'[{host}]' if ':' in host else host}:{port or default_port}"

    return parse


def path(text: str) -> Path:
    """Read the path of a file."""
    if "\0" in text:
        raise ValueError("a path cannot have a zero byte in it.")
    return Path(text)


def switch(text: str) -> bool:
    """Read `true` or `false`."""
    bare = text.strip().lower()
    if bare in _TRUE:
        return True
    if bare in _FALSE:
        return False
    raise ValueError(f"'{shortened(text)}' is neither true nor false.")


def text(value: str) -> str:
    """Read any text of one line."""
    if any(not character.isprintable() for character in value):
        raise ValueError(f"'{shortened(value)}' has a control character in it.")
    return value


def shortened(value: str) -> str:
    """Return a text as it is quoted in an error: without control characters and secrets of addresses, not too long."""
    from f1hbase.model.text import safe

    return safe(shown_address(value), 80)
