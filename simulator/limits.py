"""The server's request limits, counted exactly: at most so many requests in any stretch of so many seconds.

Written apart from the limiter that the loader holds itself to, so that one can be tested against the other.
"""

import time
from collections import deque
from collections.abc import Callable, Sequence

from f1hbase.model.rates import Rate


class SlidingWindows:
    """Holds a request against several rates at once. A refused request does not count.

    >>> windows = SlidingWindows([Rate(1, 1.0)], clock=iter([0.0, 0.25]).__next__)
    >>> windows.admit(), windows.admit()
    (0.0, 0.75)
    """

    def __init__(self, rates: Sequence[Rate], clock: Callable[[], float] = time.monotonic) -> None:
        self._windows = [(rate, deque[float](maxlen=rate.limit)) for rate in rates]
        self._clock = clock

    def admit(self) -> float:
        """Return 0 and count the request when every rate allows it, otherwise the seconds until they do."""
        now = self._clock()
        wait = 0.0
        for rate, times in self._windows:
            if len(times) == rate.limit:
                wait = max(wait, times[0] + rate.seconds - now)
        if wait > 0:
            return wait
        for _, times in self._windows:
            times.append(now)
        return 0.0
