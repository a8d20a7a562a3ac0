"""How a request to the API can fail: a class for each kind of failure that is treated in its own way."""

from __future__ import annotations


class RequestError(Exception):
    """The base of them all; the message says what the API answered."""


class TransientError(RequestError):
    """The answer did not come or cannot be trusted; the same request may succeed later."""


class NoAnswerError(TransientError):
    """Nothing came back at all: no connection, or none in time."""


class SlowDownError(RequestError):
    """429: somebody on this machine's address asks too often, so every process waits.

    Attributes:
        retry_after: The seconds that the API asks to wait; None when it does not say.
    """

    def __init__(self, message: str, retry_after: float | None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class SessionLiveError(RequestError):
    """401 because a session is running: the free API is closed until half an hour after it."""


class TooMuchError(RequestError):
    """422: more data asked for than the API gives in one answer."""


class GiveUpError(RequestError):
    """Any other refusal; asking again would not help."""
