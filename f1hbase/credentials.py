"""The user's name and password at OpenF1: where they come from, and how they stay out of sight."""

from __future__ import annotations

import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

USERNAME_VARIABLE = "F1HBASE_API_USERNAME"
PASSWORD_VARIABLE = "F1HBASE_API_PASSWORD"  # noqa: S105 - a name, no password
USERNAME_KEY = "api-username"
PASSWORD_KEY = "api-password"  # noqa: S105 - a name, no password
CREDENTIAL_KEYS = frozenset({USERNAME_KEY, PASSWORD_KEY})
"""The keys of `f1hbase.toml` that are no settings (also spelled with `_`)."""


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
    """

    username: str
    password: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "username", Secret(self.username))
        object.__setattr__(self, "password", Secret(self.password))

    def __repr__(self) -> str:
        return "Credentials(***)"


def read_credentials(environment: Mapping[str, str], file_values: Mapping[str, object]) -> Credentials | None:
    """Return the credentials from the environment, else from the values of `f1hbase.toml`; None if there are none.

    Each of the two is looked for on its own, so the password may be in the environment and the name in the file.
    What is empty is not there.

    Raises:
        ValueError: If only one of the two is there, or one is not a text. No message has a value in it.
    """
    username = _find(environment, USERNAME_VARIABLE, file_values, USERNAME_KEY)
    password = _find(environment, PASSWORD_VARIABLE, file_values, PASSWORD_KEY)
    if username and password:
        return Credentials(username, password)
    if username:
        raise ValueError(_one_without_the_other(PASSWORD_VARIABLE, PASSWORD_KEY, "a username"))
    if password:
        raise ValueError(_one_without_the_other(USERNAME_VARIABLE, USERNAME_KEY, "a password"))
    return None


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


def _find(environment: Mapping[str, str], variable: str, file_values: Mapping[str, object], key: str) -> Secret | None:
    """Return a value that can be sent, from the first place that has one."""
    value: object = environment.get(variable)
    name = variable
    if not value:
        value, name = _in_file(file_values, key), f"'{key}' in f1hbase.toml"
    if value is None:
        return None
    if not isinstance(value, str):
        raise ValueError(f"{name} must be a text in quotes, not {type(value).__name__}.")  # noqa: TRY004
    if not _is_unicode(value):
        raise ValueError(f"{name} is not valid UTF-8.")
    return Secret(value)


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
