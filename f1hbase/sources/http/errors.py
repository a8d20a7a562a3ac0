"""How a request to the API can fail: a class for each kind of failure that is treated in its own way."""

from __future__ import annotations

import re

from f1hbase.errors import UnreachableError


class RequestError(Exception):
    """The base of them all; the message says what the API answered."""


def kind_of(error: RequestError) -> str:
    """Return the kind of a failure as metrics name it.

    >>> kind_of(SlowDownError("HTTP 429", None))
    'slow_down'
    """
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(error).__name__.strip("_").removesuffix("Error")).lower()


class TransientError(RequestError):
    """The answer did not come or cannot be trusted; the same request may succeed later."""


class NoAnswerError(TransientError):
    """Nothing came back at all."""


class SlowQueryError(TransientError):
    """The server gave up (500) or did not answer in time: perhaps because the query is too large for it.

    Attributes:
        body_end: The last line of the answer, such as `ValueError: No results`; empty where there is none.
        seconds: How long the server took.
    """

    def __init__(self, message: str, *, body_end: str = "", seconds: float = 0.0) -> None:
        super().__init__(message)
        self.body_end = body_end
        self.seconds = seconds


class AwayError(RequestError, UnreachableError):
    """The API has answered nothing for as long as patience lasts; the run is over."""


class WrongAnswerError(TransientError):
    """The answer holds records that were not asked for: somebody else's answer, out of a cache perhaps."""


class UnfaithfulError(RequestError):
    """The CSV of an answer does not say all that its JSON would; the same is asked for once more as JSON."""


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


class UnauthorizedError(RequestError):
    """401 to a request with a token: it has been withdrawn, or has run out early."""


class TooMuchError(RequestError):
    """422: more data asked for than the API gives in one answer."""


class TooLargeError(TooMuchError):
    """A body above the largest size: the request is cut smaller only where so much might be real.

    Attributes:
        most: The largest size, in bytes.
    """

    def __init__(self, message: str, most: int) -> None:
        super().__init__(message)
        self.most = most


class GiveUpError(RequestError):
    """Any other refusal; asking again would not help."""
