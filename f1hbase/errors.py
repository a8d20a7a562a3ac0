"""The errors that end a run, each with its exit code and a message that says what to do."""

from __future__ import annotations


class F1HBaseError(Exception):
    """The base of them all; the message is for the user, complete and on one line."""

    exit_code = 1


class NothingToLoadError(F1HBaseError):
    """What was asked for does not exist in the API."""

    exit_code = 2


class UnreachableError(F1HBaseError):
    """HBase or the API does not answer."""

    exit_code = 3


class SchemaError(F1HBaseError):
    """A table exists but is not what the loader needs."""

    exit_code = 2


class ConfigError(F1HBaseError, ValueError):
    """A setting makes no sense, alone or with others; the message says which and what to write.

    From Python it is a `ValueError`, as any wrong argument is.
    """

    exit_code = 2


class StoreError(F1HBaseError):
    """HBase answers, but refuses what it was given for a reason that waiting does not remove."""


class SetupError(F1HBaseError):
    """A file that a run needs for itself cannot be written."""

    exit_code = 2
