"""The user's name and password at OpenF1: where they come from, and how they stay out of sight."""

from __future__ import annotations

import html
import json
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import quote, quote_plus, unquote, urlsplit

USERNAME_VARIABLE = "F1HBASE_API_USERNAME"
PASSWORD_VARIABLE = "F1HBASE_API_PASSWORD"  # noqa: S105 - a name, no password
F1TV_VARIABLE = "F1HBASE_F1TV_TOKEN"
SERVE_VARIABLE = "F1HBASE_SERVE_TOKEN"
SECRET_VARIABLES = frozenset({USERNAME_VARIABLE, PASSWORD_VARIABLE, F1TV_VARIABLE, SERVE_VARIABLE})
"""The variables that hold credentials of this program's."""

USERNAME_KEY = "api-username"
PASSWORD_KEY = "api-password"  # noqa: S105 - a name, no password
CREDENTIAL_KEYS = frozenset({USERNAME_KEY, PASSWORD_KEY})
"""The keys of `f1hbase.toml` that are no settings (also spelled with `_`)."""

ENVIRONMENT = "the environment"
"""Where a setting comes from, as `check_destination` takes it; of a file it is its path as a text."""

OPENF1_HOST = "api.openf1.org"
OPENF1_BROKER = "mqtt.openf1.org"
_SHORTEST_SECRET = 6
"""A shorter text would make holes in every message; a token or a password that short is none."""

_IN_URL = re.compile(r"(://[^\s/?#@:'\"]*:)([^\s/?#]+)(@)")
"""User, password and the at sign of a URL."""

_USER_INFO = re.compile(
    # Bounded, so that a long text is not looked through once from each of its characters.
    r"(?:(?<=://)(?P<user>[^\s/?#@:]{1,1000})|[^\s/?#@:,='\"]{0,1000}:(?P<password>[^\s/?#@]{1,1000}))@(?=[^\s@])"
)
"""Who asks: of a URL the user, or user and password of any host."""

_QUERY_VALUE = re.compile(r"([?&][^\s?&=]*=)([^\s&#'\"]+)")

_secrets: set[str] = set()


class Secret(str):
    """A text that is not shown where objects are: in the repr of what holds it, or a stack trace with variables.

    >>> [Secret("hunter2")]
    [***]

    As a text (in an f-string, in a header) it is itself.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "***"


@dataclass(frozen=True, slots=True, repr=False)
class Credentials:
    """What OpenF1 gives a token for; shows neither name nor password.

    >>> Credentials("ayrton", "hunter2")
    Credentials(***)

    Attributes:
        source: Where both of them come from: `ENVIRONMENT`, or the path of a file; None if from two places.
    """

    username: str
    password: str
    source: str | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "username", Secret(self.username))
        object.__setattr__(self, "password", Secret(self.password))

    def __repr__(self) -> str:
        return "Credentials(***)"


def read_credentials(
    environment: Mapping[str, str], file_values: Mapping[str, object], file: Path | None = None
) -> Credentials | None:
    """Return the credentials from the environment, else from the values of `f1hbase.toml`; None if there are none.

    Each of the two is looked for on its own, so the password may be in the environment and the name in the file.
    What is empty is not there.

    Args:
        environment: The variables.
        file_values: What is in the file.
        file: The file. If one of the two is taken from it, it must be one that only the user (or root) can change.

    Raises:
        ValueError: If only one of the two is there, one is not a text, or others can change the file. No message has a
            value in it.
    """
    username, username_in_file = _find(environment, USERNAME_VARIABLE, file_values, USERNAME_KEY)
    password, password_in_file = _find(environment, PASSWORD_VARIABLE, file_values, PASSWORD_KEY)
    if username and not password:
        raise ValueError(_one_without_the_other(PASSWORD_VARIABLE, PASSWORD_KEY, "a username"))
    if password and not username:
        raise ValueError(_one_without_the_other(USERNAME_VARIABLE, USERNAME_KEY, "a password"))
    if username is None or password is None:
        return None
    if file is not None and (username_in_file or password_in_file):
        check_credentials_file(file)
    source = None
    if username_in_file == password_in_file:
        source = ENVIRONMENT if not password_in_file else str(file or "f1hbase.toml")
    register_secret(password)
    return Credentials(username, password, source)


def check_credentials_file(path: Path) -> None:
    """Refuse a file with credentials that others than the user and root can change.

    Raises:
        ValueError: If the file is writable by its group or all, or belongs to somebody else.
    """
    check_own_file(path, "credentials for the API")


def check_own_file(path: Path, what: str) -> None:
    """Refuse a file that others than the user and root can change.

    Args:
        path: The file.
        what: What is in it that nobody else may say.

    Raises:
        ValueError: If the file is writable by its group or all, or belongs to somebody else.
    """
    status = path.stat()
    if status.st_uid not in {os.geteuid(), 0}:
        raise ValueError(
            f"'{path}' has {what} in it, but belongs to another user (uid {status.st_uid}), so they "
            "are not used. Put them into a file of your own, or into the environment."
        )
    if status.st_mode & 0o022:
        raise ValueError(
            f"'{path}' has {what} in it, but others can change it (mode "
            f"{stat.S_IMODE(status.st_mode):04o}), so they are not used; close it with: chmod 600 '{path}'"
        )


def check_destination(
    credentials: Credentials | None, api_url: str, url_source: str | None, credentials_source: str | None
) -> None:
    """Refuse to send credentials over an open line, or to a host that was not named beside them.

    A file that somebody left in the folder where f1hbase is started can so name any API, but not collect the
    credentials that are in the environment.

    Args:
        credentials: None if there are none: then any API will do.
        api_url: The API, such as `https://api.openf1.org/v1`.
        url_source: Where it was named: `ENVIRONMENT`, the path of a file, anything else for elsewhere.
        credentials_source: Where they come from, in the same words; see `Credentials.source`.

    Raises:
        ValueError: If they must not go there; it names the host and the way out, and none of them.
    """
    if credentials is None:
        return
    url = urlsplit(api_url)
    host = (url.hostname or "").rstrip(".").lower()
    try:
        port = url.port
    except ValueError:
        port = -1
    unset = f"unset {USERNAME_VARIABLE} and {PASSWORD_VARIABLE} (or the keys of the file) to ask without them"
    if url.scheme != "https" and not (url.scheme == "http" and is_loopback_host(host)):
        raise ValueError(f"the credentials for the API are sent over https only, not to {_origin(api_url)}; {unset}.")
    if host == OPENF1_HOST and port in {None, 443}:
        return
    if credentials_source is None or url_source != credentials_source:
        beside = {
            None: "both of them and the URL in one place",
            ENVIRONMENT: "F1HBASE_API_URL in the environment, too",
        }.get(credentials_source, f"api-url in '{credentials_source}', too")
        raise ValueError(
            f"the credentials for the API are not sent to {_origin(api_url)}, which was not named beside them: set "
            f"{beside}, or {unset}."
        )


def read_f1tv_token(environment: Mapping[str, str], url: str, url_source: str | None, own_url: str) -> Secret:
    """Return the token of F1 TV from the environment, to be sent to a hub; empty if there is none.

    Args:
        environment: The variables.
        url: The hub.
        url_source: Where it was named: `ENVIRONMENT`, the path of a file, anything else for elsewhere.
        own_url: F1's own hub, to whose host it may always go.

    Raises:
        ValueError: If it must not go there: over an open line, or to a host that a file names; or if it cannot be sent.
    """
    token = environment.get(F1TV_VARIABLE, "").strip()
    if not token:
        return Secret("")
    register_secret(token)
    if not (token.isascii() and token.isprintable()):
        raise ValueError(f"{F1TV_VARIABLE} has a character in it that no token has.")
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".").lower()
    if parts.scheme != "https" and not is_loopback_host(host):
        raise ValueError(f"the token of F1 TV is sent over https only, not to {_origin(url)}; unset {F1TV_VARIABLE}.")
    in_file = url_source not in {None, ENVIRONMENT, "given", "default"}
    if in_file and host != (urlsplit(own_url).hostname or "") and not is_loopback_host(host):
        raise ValueError(
            f"the token of F1 TV is not sent to {_origin(url)}, which '{url_source}' names: name the hub with "
            f"--hub-url or F1HBASE_HUB_URL, or unset {F1TV_VARIABLE}."
        )
    return Secret(token)


def check_broker(credentials: Credentials | None, url: str, url_source: str | None) -> None:
    """Refuse to send a token of OpenF1 to a broker over an open line, or to a host that only a file names.

    Args:
        credentials: What the token is got with; None if there are none: then only a broker of one's own will do.
        url: The broker, such as `mqtts://mqtt.openf1.org:8883`.
        url_source: Where it was named: `ENVIRONMENT`, the path of a file, anything else for elsewhere.

    Raises:
        ValueError: If it must not go there, or there is none to send; it says the way out.
    """
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".").lower()
    if is_loopback_host(host):
        return
    if credentials is None:
        raise ValueError(
            f"the live feed of OpenF1 needs a subscription: set {USERNAME_VARIABLE} and {PASSWORD_VARIABLE}, or record "
            "with --from livetiming."
        )
    if parts.scheme not in {"mqtts", "wss"}:
        raise ValueError(
            f"the token of OpenF1 is sent over TLS only, not to {_origin(url)}; such a broker is mqtts:// or wss://."
        )
    in_other_file = url_source not in {None, ENVIRONMENT, "given", "default", credentials.source}
    if in_other_file and host != OPENF1_BROKER:
        raise ValueError(
            f"the token of OpenF1 is not sent to {_origin(url)}, which '{url_source}' names: name the broker with "
            "--mqtt-url or F1HBASE_MQTT_URL."
        )


def register_secret(value: str) -> None:
    """Have `redacted` hide a text from now on, for as long as the process lives."""
    if len(value) >= _SHORTEST_SECRET and value not in _secrets:
        _secrets.update(_spellings(value))


def register_secrets_in(text: str) -> None:
    """Have `redacted` hide what in an address is nobody else's business: who asks, and the values of its query.

    Of `http://user:password@host/?key=value` that is `password` and `value`; of a user without a password the user.

    Args:
        text: What a user gave: an argument, a setting, a variable.
    """
    found = [match["password"] or match["user"] or "" for match in _USER_INFO.finditer(text)]
    for secret in (*found, *(match[2] for match in _QUERY_VALUE.finditer(text))):
        register_secret(secret)
        register_secret(unquote(secret))


def shown_address(text: str) -> str:
    """Return what a user gave as an address, without who asks and without the values of its query.

    >>> shown_address("http://user:hunter2@host/path?key=abc&x=1"), shown_address("user:hunter2@host:9090")
    ('http://***@host/path?key=***&x=***', '***@host:9090')
    """
    return _QUERY_VALUE.sub(r"\1***", _USER_INFO.sub("***@", text))


def redacted(text: str) -> str:
    """Return a text without the secrets that were registered: for log handlers, and words of a server.

    Passwords in URLs are no secrets of f1hbase's own, and are hidden wherever they turn up.

    >>> redacted("cannot ask http://user:hunter2@proxy:3128")
    'cannot ask http://user:***@proxy:3128'
    """
    text = _without(text, _secrets)
    return _IN_URL.sub(r"\1***\3", text) if "://" in text and "@" in text else text


def redact(text: str, *secrets: str) -> str:
    """Return a text with `***` for each of some secrets, also where it is spelled for a URL, JSON or a page.

    >>> redact("no user hunter2%21", "hunter2!")
    'no user ***'
    """
    return _without(text, {spelling for secret in secrets if secret for spelling in _spellings(secret)})


def _without(text: str, spellings: set[str]) -> str:
    for spelling in sorted(spellings, key=len, reverse=True):
        text = text.replace(spelling, "***")
    return text


def _spellings(secret: str) -> set[str]:
    plain = str(secret)
    quoted = {quote(plain, safe=""), quote_plus(plain), quote(plain)}
    in_json = {json.dumps(plain)[1:-1], json.dumps(plain, ensure_ascii=False)[1:-1]}
    return {plain, *quoted, *(each.lower() for each in quoted if each != plain), *in_json, html.escape(plain)}


def is_loopback_host(host: str) -> bool:
    """Return whether a host is this machine, and nobody else can see what is sent there."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return ascii(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}")[1:-1]


def exposed_file_warning(path: Path, file_values: Mapping[str, object]) -> str | None:
    """Return a warning if the file holds a password that others on this machine may read or change; else None.

    `file_values` are the file's own, as parsed. A file that cannot be looked at gives no warning.
    """
    if not _in_file(file_values, PASSWORD_KEY):
        return None
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return None
    if not mode & 0o077:
        return None
    return (
        f"'{path}' holds '{PASSWORD_KEY}' and is open to other users of this machine (mode {mode:04o}); "
        f"close it with: chmod 600 '{path}'"
    )


def _find(
    environment: Mapping[str, str], variable: str, file_values: Mapping[str, object], key: str
) -> tuple[Secret | None, bool]:
    """Return a value that can be sent, from the first place that has one, and whether that is the file."""
    value: object = environment.get(variable)
    name, in_file = variable, not value
    if in_file:
        value, name = _in_file(file_values, key), f"'{key}' in f1hbase.toml"
    if value is None:
        return None, False
    if not isinstance(value, str):
        raise ValueError(f"{name} must be a text in quotes, not {type(value).__name__}.")  # noqa: TRY004
    if not _is_unicode(value):
        raise ValueError(f"{name} is not valid UTF-8.")
    return Secret(value), in_file


def _in_file(file_values: Mapping[str, object], key: str) -> object:
    """Return the value of a key spelled with hyphens or underscores; None if it is absent or empty."""
    for spelling in (key, key.replace("-", "_")):
        value = file_values.get(spelling)
        if value is not None and value != "":
            return value
    return None


def _is_unicode(text: str) -> bool:
    """Tell whether a text can be encoded; the error of a failed attempt has the whole text in it."""
    # Bytes of the environment that are not UTF-8 arrive as lone surrogates.
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _one_without_the_other(variable: str, key: str, given: str) -> str:
    return f"{variable} (or '{key}' in f1hbase.toml) is missing: there is {given} for the API, but it needs both."
