"""How long a window of samples one request may ask for, so that its answer is near the aimed size.

The API counts requests, not bytes: the fuller the answers, the sooner a season is loaded. But an answer that is too
large, or a query that takes the server more than 5 s, fails.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from f1hbase.model.catalog import ENDPOINTS, RACE
from f1hbase.model.samples import Samples
from f1hbase.model.units import ALL_TIME, Scope, Unit, Window, slice_time
from f1hbase.sources.openf1.query import api_time
from f1hbase.sources.openf1.requests import RequestBatch, batch_of

_BUSY_RATE = 20 * 3.7 * 65.0
"""Bytes of CSV a second that twenty cars make at 3.7 samples a second (measured on real sessions: 65 bytes a sample of
car_data, 61 of location)."""

_LARGEST_RATE = 22 * 3.9 * 66.0
"""Bytes a second that nothing has exceeded yet: all cars that ever took part in a session, at their highest rate."""

_AIM = 0.9
"""How much of the budget a window is aimed at when only the recent past says how busy it will be. With this and the
two below, 25 answers for the car_data of a real test day of nine hours, the largest 3.9 MB (docs/performance.md)."""

_PROFILED_AIM = 0.95
"""The same where the car_data of the very span say how busy it was."""

_FORGETTING = 0.7
"""How much of a higher rate is remembered at each answer: cars that are in the garage may come out again."""

_LARGEST_STEP = 2.0
"""How much longer than any window so far the next may be."""

_LARGEST_SHARE = 2.25
"""How many times the budget an answer must not exceed however busy the cars become (9 MB of 4): bounds the length of a
window by the largest rate."""

_RECOVERY = 1.05
"""By how much a window may grow again with each answer, once something was too much: a server's slow hour ends."""

_BYTES_PER_CAR_SAMPLE = 75.0
"""Of location, beside each sample of car_data in the same span, before an answer has said so (61 bytes a sample, and
up to 1.4 times as many of them)."""

BEFORE_THE_START = timedelta(minutes=5)
AFTER_THE_END = timedelta(minutes=15)
"""How long samples are expected before and after a session; 12 minutes after one have been seen."""

_SHARE_OFF_TRACK = 0.25
"""Of what twenty cars make on track, what they make before and after a session, when most of them stand still."""

_LONGEST_USUAL_SESSION = timedelta(hours=3)
_SHARE_OF_TEST_DAY = 0.32
"""What is longer is a day of tests, with few cars out at a time: one of nine hours had 755,919 samples of car_data, a
third of what twenty cars would have made."""

_SHARE_BEFORE_THE_START, _SHARE_AFTER_THE_END = 0.25, 1 / 3
"""How busy the minutes before and after a session are: some cars go out early, and all have a lap to the pits."""

_INTERVALS_BYTES_PER_SECOND = 36_000 * 130 / 7_200
"""Of the intervals of a race, in JSON: some 36,000 records of 130 bytes in two hours."""

_MINUTE = timedelta(minutes=1)


@dataclass(slots=True)
class Pace:
    """How many bytes a second of a session makes, learnt from the answers.

    Attributes:
        budget: The size in bytes that answers are to stay near.
        rate: Bytes a second, at the most, of what comes next.
        longest: The longest window that was answered, in seconds; None before the first answer.
        ceiling: The longest window that is asked for after something was too much, in seconds.
    """

    budget: float
    rate: float = _BUSY_RATE
    longest: float | None = None
    ceiling: float = math.inf

    @property
    def longest_safe(self) -> float:
        """The longest window whose answer cannot become too large, in seconds."""
        return min(self.ceiling, _LARGEST_SHARE * self.budget / _LARGEST_RATE)

    def learn(self, seconds: float, size: int, busy_seconds: float | None = None, *, forget: bool = True) -> None:
        """Take an answer into account.

        Args:
            seconds: How long its window was.
            size: How many bytes it had.
            busy_seconds: How much of the window may have been busy; all of it by default.
            forget: Whether it says anything of what comes next if it was quiet.
        """
        self.longest = max(self.longest or 0.0, seconds)
        self.ceiling *= _RECOVERY
        self.rate = max(size / (busy_seconds or seconds), (_FORGETTING if forget else 1.0) * self.rate, 1.0)

    def shrink(self, seconds: float) -> None:
        """Ask for half of what was too large, or too slow for the server."""
        self.ceiling = max(1.0, min(self.ceiling, seconds / 2))

    def seconds(self, least_rate: float = 0.0) -> float:
        """Return how long the next window may be, where so many bytes a second are to be expected at the least."""
        step = _LARGEST_STEP * self.longest if self.longest is not None else math.inf
        return min(_AIM * self.budget / max(self.rate, least_rate), step, self.longest_safe)


@dataclass(slots=True)
class Profile:
    """How many samples of car_data there were in each minute of a session, as far as they were fetched."""

    samples: Counter[str] = field(default_factory=Counter)
    known: list[Window] = field(default_factory=list)

    def add(self, samples: Samples) -> None:
        """Count samples."""
        self.samples.update([date[:16] for date in samples.keys[-1]])

    def of_minute(self, minute: datetime) -> int | None:
        """Return how many there were in a minute; None where that is not known."""
        if not any(minute in window for window in self.known):
            return None
        return self.samples[api_time(minute)[:16]]


class Sizes:
    """What is known of the sizes of answers; one for all that a process asks.

    Args:
        budget: The size in bytes that answers are to stay near.
        window: A fixed length of windows instead.
    """

    def __init__(self, budget: int, window: timedelta | None = None) -> None:
        self.budget = budget
        self.window = window
        self._paces: dict[str, Pace] = defaultdict(lambda: Pace(budget))
        self._profiles: dict[Scope, Profile] = defaultdict(Profile)
        self._per_car_sample = _BYTES_PER_CAR_SAMPLE

    def learn(self, batch: RequestBatch, size: int) -> None:
        """Take the answer to a request for samples into account."""
        unit = batch.units[0]
        seconds = window_seconds(batch.window, batch.scope)
        if not batch.endpoint.sampled or unit.driver is not None or seconds <= 0:
            return
        # Counted in full, the quiet minutes before and after the session would make it seem quieter than it is, and
        # the next window too long.
        before, after = _around(*_bounds(batch.window, batch.scope), batch.scope)
        inside = seconds - before - after
        busy = max(inside, 0.0) + _SHARE_BEFORE_THE_START * before + _SHARE_AFTER_THE_END * after
        self._paces[unit.endpoint].learn(seconds, size, busy, forget=inside > 0)
        profile = self._profiles[batch.scope]
        if unit.endpoint == "car_data":
            profile.known.append(batch.window)
        else:
            cars = sum(profile.of_minute(minute) or 0 for minute in _minutes(batch.window, batch.scope))
            if cars > _AIM * self.budget / (2 * self._per_car_sample):  # enough to judge by
                self._per_car_sample = max(size / cars, _FORGETTING * self._per_car_sample)

    def count(self, batch: RequestBatch, samples: Samples) -> None:
        """Note when the samples of an answer were; before `learn`."""
        if batch.units[0].endpoint == "car_data" and batch.units[0].driver is None:
            self._profiles[batch.scope].add(samples)

    def suppose(self, batch: RequestBatch) -> None:
        """Take an answer into account as it is to be expected: twenty cars on track while the session is on."""
        scope = batch.scope
        if not batch.endpoint.sampled or batch.units[0].driver is not None or self.window is not None:
            return
        size, samples = 0.0, self._profiles[scope].samples
        busy = _SHARE_OF_TEST_DAY if _lasts(scope) > _LONGEST_USUAL_SESSION else 1.0
        for minute in _minutes(batch.window, scope):
            on_track = (scope.date_start is None or minute >= scope.date_start) and (
                scope.over_at is None or minute < scope.over_at
            )
            of_minute = 60 * _BUSY_RATE * (busy if on_track else _SHARE_OFF_TRACK)
            size += of_minute
            if batch.units[0].endpoint == "car_data":
                samples[api_time(minute)[:16]] = round(of_minute / _BYTES_PER_CAR_SAMPLE)
        self.learn(batch, round(size))

    def shrink(self, batch: RequestBatch) -> None:
        """Ask for less at once after a request was too much."""
        if batch.endpoint.sampled:
            self._paces[batch.units[0].endpoint].shrink(window_seconds(batch.window, batch.scope))

    def next_window(self, unit: Unit) -> Window:
        """Return what of a unit of samples to ask for next: a window at its beginning, all of it at the most."""
        scope, whole = unit.scope, unit.window
        begin, end = _bounds(whole, scope)
        if begin is None or end is None or scope.cancelled:
            return whole  # of a session that was called off there is little, if anything
        if self.window is not None:
            cut = self._fixed_edge(scope, begin, self.window)
        else:
            cut = begin + timedelta(seconds=max(1, int(self._seconds(unit, begin, end))))
            cut = cut.replace(microsecond=0)
        return whole if cut is None or cut >= end else Window(whole.start, cut)

    @staticmethod
    def _fixed_edge(scope: Scope, begin: datetime, step: timedelta) -> datetime | None:
        """Return where the fixed window ends that a moment is in; None where it is open."""
        if scope.date_start is None or scope.over_at is None:
            return None
        edge = scope.date_start + step * max(1, (begin - scope.date_start) // step + 1)
        return edge if edge < scope.over_at else None

    def _seconds(self, unit: Unit, begin: datetime, end: datetime) -> float:
        if unit.driver is not None:
            # Of one driver a twentieth; no answer is near the budget, and a session is two or three of them.
            return 20 * _AIM * self.budget / _BUSY_RATE
        pace = self._paces[unit.endpoint]
        left = (end - begin).total_seconds()
        if unit.endpoint != "car_data":
            profiled = self._profiled(unit.scope, begin, end, pace)
            if profiled is not None:
                return profiled
        # Windows of one length instead of full ones and a rest. The quiet minutes before and after the session are
        # added to the first and the last one, unless these could become too large.
        before, after = _around(begin, end, unit.scope)
        busy = left - (1 - _SHARE_BEFORE_THE_START) * before - (1 - _SHARE_AFTER_THE_END) * after
        # In a race all cars are on track from its first minute, however quiet the session before it was.
        length = pace.seconds(_BUSY_RATE if unit.scope.kind == RACE else 0.0)
        number = max(1, -(-busy // length), -(-left // pace.longest_safe))
        if number == 1:
            return left
        return min((1 - _SHARE_BEFORE_THE_START) * before + busy / number, pace.longest_safe)

    def _profiled(self, scope: Scope, begin: datetime, end: datetime, pace: Pace) -> float | None:
        """Return how long a window of location may be by what car_data have shown; None where they have not."""
        profile = self._profiles[scope]
        size, minute = 0.0, begin
        # Cars that stand still send their location all the same: half of the least rate seen is taken for granted.
        idle = 60 * min(pace.rate / 4, _BUSY_RATE / 8)
        while minute < end:
            samples = profile.of_minute(minute)
            if samples is None:
                break
            size += max(samples * self._per_car_sample, idle)
            if size > _PROFILED_AIM * self.budget:
                break
            minute += _MINUTE
        covered = (minute - begin).total_seconds()
        known_to_its_end = size > _PROFILED_AIM * self.budget or minute >= end
        return min(max(covered, 60.0), 2 * pace.longest_safe) if known_to_its_end else None


def _lasts(scope: Scope) -> timedelta:
    if scope.date_start is None or scope.over_at is None:
        return timedelta(0)
    return scope.over_at - scope.date_start


def window_seconds(window: Window, scope: Scope) -> float:
    """Return how much of a window may have samples, in seconds; an open side ends where they are expected to."""
    begin, end = _bounds(window, scope)
    if begin is None or end is None or end <= begin:
        return AFTER_THE_END.total_seconds()
    return (end - begin).total_seconds()


def _around(begin: datetime | None, end: datetime | None, scope: Scope) -> tuple[float, float]:
    """Return how much of a span is before and how much after its session, in seconds."""
    if begin is None or end is None or scope.date_start is None or scope.over_at is None:
        return 0.0, 0.0
    before = (min(end, scope.date_start) - begin).total_seconds()
    after = (end - max(begin, scope.over_at)).total_seconds()
    return max(0.0, before), max(0.0, after)


def _bounds(window: Window, scope: Scope) -> tuple[datetime | None, datetime | None]:
    begin, end = window.start, window.end
    if begin is None and scope.date_start is not None:
        begin = scope.date_start - BEFORE_THE_START
        if end is not None:
            begin = min(begin, end)
    if end is None and scope.over_at is not None:
        end = scope.over_at + AFTER_THE_END
        if begin is not None:
            end = max(end, begin)
    return begin, end


def _minutes(window: Window, scope: Scope) -> Iterator[datetime]:
    begin, end = _bounds(window, scope)
    if begin is None or end is None:
        return
    minute = begin
    while minute < end:
        yield minute
        minute += _MINUTE


def cut_beforehand(unit: Unit, budget: float) -> list[Unit]:
    """Return a unit in windows of which each stays near the budget, where its size is known beforehand: intervals."""
    scope = unit.scope
    if unit.endpoint != "intervals" or unit.driver is not None or scope.kind != RACE:
        return [unit]
    begin, end = scope.date_start, scope.over_at
    if unit.window != ALL_TIME or begin is None or end is None or end <= begin:
        return [unit]
    length = (end - begin).total_seconds()
    parts = -(-length * _INTERVALS_BYTES_PER_SECOND // budget)
    if parts < 2:
        return [unit]
    step = timedelta(seconds=int(length / parts) + 1)
    return [replace(unit, window=window) for window in slice_time(begin, end, step)]


class Packer:
    """Cuts the units that are to be fetched into requests, the next one only when it can be sent.

    Units without windows, of the same endpoint and driver, share a request for all the sessions of a meeting.

    Args:
        units: What to fetch.
        sizes: What is known of the sizes of answers.
    """

    def __init__(self, units: Iterable[Unit], sizes: Sizes) -> None:
        self._sizes = sizes
        self._spans: list[Unit] = []
        self._batches: list[RequestBatch] = []
        together: dict[tuple[str, int | None, int], list[Unit]] = defaultdict(list)
        for unit in units:
            if ENDPOINTS[unit.endpoint].sampled:
                self._spans.append(unit)
                continue
            for part in cut_beforehand(unit, sizes.budget):
                if part.window != ALL_TIME or unit.endpoint == "intervals" or unit.scope.session_key is None:
                    self._batches.append(batch_of(part))
                else:
                    together[unit.endpoint, unit.driver, unit.scope.meeting_key].append(part)
        # All of a session before the next one: what its car_data show sizes the windows of its locations.
        order = {scope: number for number, scope in enumerate(dict.fromkeys(unit.scope for unit in self._spans))}
        self._spans.sort(key=lambda unit: order[unit.scope])
        shared = [RequestBatch(tuple(some)) for some in together.values()]
        self._batches = [*shared, *self._batches]

    def __bool__(self) -> bool:
        return bool(self._spans or self._batches)

    def put_back(self, batches: Iterable[RequestBatch]) -> None:
        """Let requests be sent before all others."""
        self._batches = [*batches, *self._batches]

    def take(self) -> RequestBatch:
        """Return the next request; there must be one."""
        if self._batches:
            return self._batches.pop(0)
        unit = self._spans.pop(0)
        window = self._sizes.next_window(unit)
        if window != unit.window:
            self._spans.insert(0, replace(unit, window=Window(window.end, unit.window.end)))
        return batch_of(replace(unit, window=window))

    def remove(self, endpoint: str, scope: Scope) -> list[Unit]:
        """Take away all that is left of an endpoint and session, and return the units."""
        removed: list[Unit] = [u for u in self._spans if (u.endpoint, u.scope) == (endpoint, scope)]
        self._spans = [unit for unit in self._spans if (unit.endpoint, unit.scope) != (endpoint, scope)]
        kept = []
        for batch in self._batches:
            mine = [unit for unit in batch.units if (unit.endpoint, unit.scope) == (endpoint, scope)]
            rest = tuple(unit for unit in batch.units if unit not in mine)
            removed += mine
            if rest:
                kept.append(replace(batch, units=rest) if mine else batch)
        self._batches = kept
        return removed
