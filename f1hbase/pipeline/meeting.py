"""Loads what remains of one meeting: fetch, normalise, store in every destination that lacks it, report."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import Any, TypeVar

from f1hbase.destinations.base import Batch, Destination
from f1hbase.errors import StoreError
from f1hbase.metrics import names
from f1hbase.metrics.meter import METER
from f1hbase.model.answers import Answer, RawAnswer
from f1hbase.model.outcomes import Outcome, Receipt
from f1hbase.model.plans import MeetingPlan
from f1hbase.model.units import Unit
from f1hbase.pipeline.listed import listed_answer
from f1hbase.pipeline.messages import Message, Planned, Reported
from f1hbase.pipeline.normalise import Account, AnswerNormaliser, Restart
from f1hbase.pipeline.quarantine import QuarantineIndex
from f1hbase.pipeline.remaining import Remaining
from f1hbase.sources.base import AsksConditionally, Source
from f1hbase.state.base import Epochs

_log = logging.getLogger(__name__)

_REPORT_UNITS = 100
_REPORT_SECONDS = 1.0
"""The lines of units are written in one call for so many, or so often: what a kill makes a run fetch again."""

_BATCHES_WAITING = 1
"""Batches that wait while others are being stored; more would only take memory."""

_Result = TypeVar("_Result")


@dataclass(eq=False)
class _Attempt:
    """The batches of one answer under way to the destinations; void if the answer turned out to be none."""

    receipts: list[Receipt]
    under_way: int = 0
    is_void: bool = False
    drained: asyncio.Event = field(default_factory=asyncio.Event)

    def ended(self) -> None:
        """Count a batch that is stored everywhere."""
        self.under_way -= 1
        if not self.under_way:
            self.drained.set()

    async def drain(self) -> None:
        """Wait until no batch is under way."""
        while self.under_way:
            self.drained.clear()
            await self.drained.wait()


@dataclass(eq=False)
class _Pending:
    """A unit that is being stored.

    Attributes:
        lacking: For each destination whether it is to get it.
        overwrite: For each destination whether records of it may be there already.
    """

    account: Account
    lacking: Sequence[bool]
    overwrite: list[bool]
    began: float = field(default_factory=monotonic)
    attempts: list[_Attempt] = field(default_factory=list)
    answer: Answer | None = None  # the last one


class MeetingLoader:
    """Loads what remains of one meeting.

    Args:
        meeting: The meeting and its sessions.
        remaining: What of it is not stored yet.
        source: Where the records come from.
        destinations: Where they go.
        run_id: The run that this is part of.
        epochs: Those of the meeting's sessions, of each destination.
        tell: Receives what the parent should know.
        stopping: Set when nothing more is to be fetched; `run` then returns when what has been fetched is stored.
        listing: The answers that the plan was made from; see `Listing.answers`.
    """

    def __init__(
        self,
        meeting: MeetingPlan,
        remaining: Remaining,
        *,
        source: Source,
        destinations: Sequence[Destination],
        run_id: str,
        epochs: Sequence[Epochs],
        tell: Callable[[Message], None],
        stopping: asyncio.Event,
        listing: Mapping[str, RawAnswer] | None = None,
    ) -> None:
        self._meeting = meeting
        self._remaining = remaining
        self._source = source
        self._destinations = destinations
        self._run_id = run_id
        self._epochs = epochs
        self._tell = tell
        self._stopping = stopping
        self._listing = listing or {}
        self._quarantine = [QuarantineIndex(destination.state) for destination in destinations]
        self._pending: dict[Unit, _Pending] = {}
        self._batches: asyncio.Queue[tuple[_Pending, _Attempt, Batch] | None] = asyncio.Queue(_BATCHES_WAITING)
        self._done: list[tuple[_Pending, list[Outcome | None]]] = []
        self._ended = 0
        self._reported = monotonic()
        self._reporting = asyncio.Lock()
        self._writer_count = max(len(destination.writers) for destination in destinations)
        self._writers = ThreadPoolExecutor(self._writer_count, "writer")
        self._normaliser = ThreadPoolExecutor(1, "normaliser")
        self._reporter = ThreadPoolExecutor(1, "reporter")

    async def run(self) -> bool:
        """Load all units, and return whether all were tried.

        When it is to stop, what has been delivered is still stored and reported, and no more is fetched.

        Raises:
            UnreachableError: If source or destination is away for longer than patience lasts.
        """
        try:
            units = self._remaining.units()
            answers = (listed_answer(self._meeting, unit, self._source.name, self._listing) for unit in units)
            known = [answer for answer in answers if answer is not None]
            unknown = [unit for unit in units if unit not in {answer.unit for answer in known}]
            expected = len(known) + self._source.expected(unknown)
            # Told before the first unit is stored, so that what the parent shows does not fall back.
            self._tell(Planned(expected))
            await self._load(known, unknown)
            if not self._stopping.is_set():
                self._tell(Planned(self._ended - expected))
        finally:
            # In a thread: the loop must hear meanwhile that it is to stop, or that its parent is gone.
            for pool in (self._normaliser, self._writers, self._reporter):
                await asyncio.to_thread(pool.shutdown)
        return not self._stopping.is_set()

    async def _load(self, known: Sequence[Answer], unknown: Sequence[Unit]) -> None:
        if self._stopping.is_set():
            return
        if isinstance(self._source, AsksConditionally):
            self._source.stored(self._remaining.validators(self._source.name))
        async with asyncio.TaskGroup() as group:
            for number in range(self._writer_count):
                group.create_task(self._store_all(number))
            for answer in known:
                await self._deliver(answer)
            await self._until_stopped(self._source.fetch(unknown, self._deliver))
            await self._batches.put(None)
        await self._report()

    async def _until_stopped(self, work: Coroutine[Any, Any, None]) -> None:
        fetching = asyncio.ensure_future(work)
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait({fetching, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            # A request under way is abandoned: its unit has no line in the state and is asked for again.
            stopping.cancel()
            fetching.cancel()
            # Not awaited itself: a cancellation of ours must not be taken for one of its own.
            await asyncio.wait({fetching})
        if not fetching.cancelled():
            fetching.result()

    async def _deliver(self, answer: Answer) -> None:
        """Take an answer from the source: read its records to their end, and queue them for the writers."""
        pending = self._pending_of(answer.unit)
        if answer.unchanged:
            pending.account.stats.add(answer.stats)
            pending.answer = answer
            await self._end_if_stored(pending)
            return
        knows = self._source.knows(answer.unit.endpoint)
        normalised = AnswerNormaliser(answer, pending.account, knows).batches()
        attempt = self._new_attempt(pending)
        try:
            while (item := await _run(self._normaliser, _next, normalised)) is not None:
                if isinstance(item, Restart):
                    await self._void(pending, attempt)
                    attempt = self._new_attempt(pending)
                else:
                    attempt.under_way += 1
                    await self._batches.put((pending, attempt, item))
        except asyncio.CancelledError:
            # Nothing comes in its place. Not waited for: the writers may be gone, as one of them failed.
            attempt.is_void = True
            raise
        except BaseException:
            await self._void(pending, attempt)
            raise
        if answer.complete:
            pending.answer = answer
            await self._end_if_stored(pending)

    def _pending_of(self, unit: Unit) -> _Pending:
        if unit not in self._pending:
            overwrite = [self._remaining.may_be_stored(n, unit) for n in range(len(self._destinations))]
            self._pending[unit] = _Pending(Account(unit), self._remaining.lacking(unit), overwrite)
        return self._pending[unit]

    def _new_attempt(self, pending: _Pending) -> _Attempt:
        attempt = _Attempt([Receipt()] * len(self._destinations))
        pending.attempts.append(attempt)
        return attempt

    async def _void(self, pending: _Pending, attempt: _Attempt) -> None:
        """Let what was given of an answer count for nothing; it comes again, or another answer in its place."""
        # What is under way is waited for: it must not overwrite what comes.
        attempt.is_void = True
        pending.overwrite = [True] * len(pending.overwrite)  # what has been stored of it may be wrong
        await attempt.drain()
        pending.attempts.remove(attempt)

    async def _store_all(self, number: int) -> None:
        """Store batches until there are no more, and report now and then."""
        counted = monotonic()
        while True:
            now = monotonic()
            METER.count(names.WRITER_SECONDS, now - counted)
            counted = now
            item = None
            # Not wait_for, which in Python 3.11 may swallow a cancellation and leave this waiting for ever.
            with suppress(TimeoutError):
                async with asyncio.timeout(_REPORT_SECONDS):
                    item = await self._batches.get()
                    if item is None:
                        METER.count(names.WRITER_SECONDS, monotonic() - counted)
                        await self._batches.put(None)  # for the other writers
                        return
            if item is not None:
                await self._store(number, *item)
            if len(self._done) >= _REPORT_UNITS or monotonic() - self._reported >= _REPORT_SECONDS:
                await self._report()

    async def _store(self, number: int, pending: _Pending, attempt: _Attempt, batch: Batch) -> None:
        for place, destination in enumerate(self._destinations):
            if pending.lacking[place] and not attempt.is_void and attempt.receipts[place].error is None:
                writer = destination.writers[number % len(destination.writers)]
                mine = replace(batch, overwrite=pending.overwrite[place])
                began = monotonic()
                receipt = await _run(self._writers, writer.write, mine)
                METER.observe(names.STORE_SECONDS, monotonic() - began, destination.name)
                attempt.receipts[place] += receipt
        attempt.ended()
        await self._end_if_stored(pending)

    async def _end_if_stored(self, pending: _Pending) -> None:
        """Queue a unit's line once its last answer has come and all of it is stored."""
        unit = pending.account.unit
        if pending.answer is None or any(a.under_way for a in pending.attempts) or unit not in self._pending:
            return
        del self._pending[unit]
        self._done.append((pending, self._outcomes(pending, pending.answer)))
        self._ended += 1

    def _outcomes(self, pending: _Pending, last: Answer) -> list[Outcome | None]:
        """Return what became of a unit in each destination; None in one that had it already."""
        account = pending.account
        outcomes: list[Outcome | None] = []
        for place, lacking in enumerate(pending.lacking):
            receipt = sum((attempt.receipts[place] for attempt in pending.attempts), Receipt())
            outcome = Outcome(
                unit=account.unit,
                asked_at=last.asked_at,
                source=last.source,
                records=account.records,
                duplicates=account.duplicates,
                quarantined=len(account.quarantined),
                receipt=receipt,
                stats=account.stats,
                seconds=last.seconds + monotonic() - pending.began,
                drivers=frozenset(account.drivers),
                unknown_fields=frozenset(account.unknown_fields),
                error=account.error or receipt.error,
                epoch=self._epochs[place].of(account.unit.scope),
                validator=last.validator,
                unchanged=last.unchanged,
            )
            outcomes.append(outcome if lacking else None)
        return outcomes

    async def _report(self) -> None:
        """Write the lines of the units that have ended, then tell the parent of them."""
        async with self._reporting:
            self._reported = monotonic()
            done, self._done = self._done, []
            if not done:
                return
            for place in range(len(self._destinations)):
                await _run(self._reporter, self._write_lines, place, done)
            now = monotonic()
            for pending, _ in done:
                METER.observe(names.LAG_SECONDS, now - pending.began, pending.account.unit.endpoint)
            self._tell(Reported([_told(outcomes) for _, outcomes in done if any(outcomes)]))

    def _write_lines(self, place: int, done: Sequence[tuple[_Pending, list[Outcome | None]]]) -> None:
        state, index = self._destinations[place].state, self._quarantine[place]
        lines: list[Outcome] = []
        for pending, outcomes in done:
            outcome = outcomes[place]
            if outcome is None:
                continue
            try:
                state.put_quarantine(self._run_id, pending.account.quarantined)
                if pending.overwrite[place] and outcome.error is None and not outcome.unchanged:
                    index.release(outcome.unit, pending.account.quarantined)
            except StoreError as error:
                outcome = outcomes[place] = outcome.failed(str(error))
            lines.append(outcome)
        if lines:
            state.write_units(self._run_id, lines)


def _told(outcomes: Sequence[Outcome | None]) -> Outcome:
    """Return what the parent hears of a unit: its failure, if it failed anywhere."""
    mine = [outcome for outcome in outcomes if outcome is not None]
    failed = next((outcome for outcome in mine if outcome.error is not None), None)
    return failed or mine[0]


def _next(batches: Any) -> Batch | Restart | None:
    item: Batch | Restart | None = next(batches, None)
    return item


async def _run(executor: Executor, call: Callable[..., _Result], *arguments: Any) -> _Result:
    return await asyncio.get_running_loop().run_in_executor(executor, call, *arguments)
