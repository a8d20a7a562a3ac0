"""Whose names a server answers to, and which requests come from a web page of somebody else's."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from f1hbase.credentials import is_loopback_host


def is_own_name(given: str | None, hosts: frozenset[str]) -> bool:
    """Tell whether the `Host` of a request is one of some names, in lower case, or a name of this machine.

    Of a server that only this machine reaches: a web page that points a name of its own at 127.0.0.1 sends that name.

    >>> is_own_name("LOCALHOST:80", frozenset()), is_own_name("evil.example", frozenset())
    (True, False)
    """
    if given is None:  # HTTP/1.0, which no browser speaks
        return True
    if "@" in given:
        return False
    try:
        name = (urlsplit(f"//{given}").hostname or "").lower()
    except ValueError:
        return False
    return name in hosts or is_loopback_host(name)


def is_of_other_site(headers: Mapping[str, str]) -> bool:
    """Tell whether a browser sent a request for a page that the server has not answered itself.

    Browsers say so themselves (`Sec-Fetch-Site`), and older ones name the page with each POST (`Origin`).
    """
    if headers.get("Sec-Fetch-Site", "none").lower() not in {"none", "same-origin"}:
        return True
    origin = headers.get("Origin")
    return origin is not None and origin.lower() != f"http://{headers.get('Host', '')}".lower()
