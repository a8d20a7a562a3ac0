"""Loads what is new of some meetings, a round at a time: leases, what is to be read, the lines of units.

Has Spark do the work by a `SparkDriver`, and knows nothing of how that is done.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from time import monotonic
from typing import Any

from f1hbase.cluster.driver import SparkDriver
from f1hbase.cluster.encoding import EncodedUnit, ObjectTask
from f1hbase.cluster.errors import SparkError
from f1hbase.cluster.rounds import Round
from f1hbase.destinations.base import Destination
from f1hbase.destinations.hbase import HBaseRecipe
from f1hbase.errors import F1HBaseError
from f1hbase.model.answers import Answer
from f1hbase.model.catalog import ENDPOINTS
from f1hbase.model.outcomes import Outcome, Receipt, RunState
from f1hbase.model.plans import MeetingPlan
from f1hbase.model.text import count, duration
from f1hbase.model.units import SEPARATOR, scope_prefix
from f1hbase.pipeline.display import TaskDisplay
from f1hbase.pipeline.engine import Bulk
from f1hbase.pipeline.listed import listed_answer
from f1hbase.pipeline.normalise import Account, AnswerNormaliser, Restart
from f1hbase.sources.files import ZoneReader
from f1hbase.sources.stored import StoredJob, StoredSource
from f1hbase.state.base import Epochs
from f1hbase.state.hbase.cells import run_row

_log = logging.getLogger(__name__)

_LINES_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class Meeting:
    """A meeting, and what of it is new.

    Attributes:
        plan: The meeting.
        jobs: The stored units that are to be loaded, of one object each.
        listed: The records of the meeting and its sessions, which came with the plan.
    """

    plan: MeetingPlan
    jobs: Sequence[StoredJob]
    listed: Sequence[Answer]

    @property
    def records(self) -> int:
        """How many records it has, as far as the zone knows."""
        return sum(int((job.state and job.state.stats.get("records")) or 0) for job in self.jobs)


class MeetingRounds:
    """What the rounds of one load share: the zone, HBase's state, and Spark once there is something for it to do.

    Args:
        bulk: What is to be loaded.
        recipe: How HBase is opened.
        destination: HBase, opened.
        reader: The zone.
        spark: Does the work.
        patience: For how long HBase may be away, in seconds.
    """

    def __init__(
        self,
        bulk: Bulk,
        recipe: HBaseRecipe,
        destination: Destination,
        reader: ZoneReader,
        spark: SparkDriver,
        patience: float,
    ) -> None:
        self.bulk = bulk
        self._recipe = recipe
        self._destination = destination
        self._reader = reader
        self._spark = spark
        self._patience = patience
        self._sizes: dict[str, int] | None = None
        self._held: dict[int, MeetingPlan] = {}
        source = StoredSource(reader)
        self._name = source.name
        self._knows = {name: source.knows(name) for name in ENDPOINTS}

    def begin(self, plan: MeetingPlan) -> Meeting | None:
        """Take the lease of a meeting of which something is new; None if nothing is, or somebody else has it."""
        if not self._new(plan).jobs or self.bulk.parts.leases.take(plan.scope) is not None:
            return None  # the workers wait for whoever has it
        self._held[plan.scope.meeting_key] = plan
        # Read again: whoever had it until now may have loaded some of it.
        meeting = self._new(plan)
        if not meeting.jobs:
            self._give_back(plan)
            return None
        return meeting

    def load(self, number: int, meetings: Sequence[Meeting], display: TaskDisplay) -> None:
        """Load a round, write the lines of its units, and give the leases back.

        Raises:
            SparkError: If Spark fails; nothing of the round is done then.
        """
        began = monotonic()
        jobs = [(meeting, job) for meeting in meetings for job in meeting.jobs]
        records = sum(meeting.records for meeting in meetings)
        text = f"{count(len(meetings), 'meeting')} of {count(records, 'record')}"
        _log.info("Spark: round %d, %s", number, text)
        display.begin(text)
        self._write_run(number)
        folder, encoded = self._spark.encode(
            Round(number, self._tasks([job for _, job in jobs]), *_keys([job for _, job in jobs]), self._knows),
            run_row=run_row(self.bulk.run_id),
            records=records,
            deleted_at=max(self.bulk.parts.leases.epochs(meeting.plan.scope)[0].deleted_at for meeting in meetings),
            living=self._recipe.living_runs(self._patience, self.bulk.stop),
            display=display,
        )
        _log.debug("Spark: the files of round %d are written", number)
        lost = [one.plan.scope.name for one in meetings if self.bulk.parts.leases.lost(one.plan.scope)]
        if lost:
            raise SparkError(
                f"the lease of {lost[0]} ran out while Spark was at work, and another run has the meeting: nothing of "
                "this round is loaded. Run it again."
            )
        if any(unit.receipt.rows for unit in encoded):
            self._spark.hand_over(folder, display)
            _log.debug("Spark: HBase has the files of round %d", number)
        seconds = monotonic() - began
        units: dict[int, list[tuple[StoredJob, EncodedUnit]]] = defaultdict(list)
        for unit in sorted(encoded, key=lambda one: one.number):
            meeting, job = jobs[unit.number]
            units[meeting.plan.scope.meeting_key].append((job, unit))
        for meeting in meetings:
            self._report(meeting, units[meeting.plan.scope.meeting_key], seconds / max(1, records))
            self._give_back(meeting.plan)
        _log.info("Spark: round %d took %s", number, duration(seconds))

    def close(self) -> None:
        """Give back the leases that are still held."""
        for plan in list(self._held.values()):
            self._give_back(plan)

    def _new(self, plan: MeetingPlan) -> Meeting:
        """Return what of a meeting is not stored at all, and can be loaded object by object."""
        remaining = self.bulk.remaining(plan)
        new = [unit for unit in remaining.units() if not remaining.may_be_stored(0, unit)]
        listed = [answer for unit in new if (answer := listed_answer(plan, unit, self._name, {})) is not None]
        others = {answer.unit for answer in listed}
        jobs = [
            job
            for job in StoredSource(self._reader).jobs([unit for unit in new if unit not in others])
            if self._is_plain(job) and not remaining.may_be_stored(0, job.unit)
        ]
        return Meeting(plan, jobs, listed)

    def _is_plain(self, job: StoredJob) -> bool:
        """Return whether a stored unit is one whole object of all drivers.

        What came in several objects, or for one driver alone, may have a row twice, and the order decides. An object
        that is gone or cut off is better named by a worker than met by Spark at each run.
        """
        if job.state is None or job.state.driver is not None or len(job.state.objects) != 1:
            return False
        if self._sizes is None:
            self._sizes = self._reader.sizes()
        (stored,) = job.state.objects
        return self._sizes.get(str(stored["path"])) == stored.get("stored_bytes")

    def _tasks(self, jobs: Sequence[StoredJob]) -> dict[str, ObjectTask]:
        """Return what is to be made of each object."""
        by_path: dict[str, list[tuple[int, StoredJob]]] = defaultdict(list)
        stored: dict[str, Mapping[str, Any]] = {}
        for number, job in enumerate(jobs):
            assert job.state is not None
            path = str(job.state.objects[0]["path"])
            by_path[path].append((number, job))
            stored[path] = job.state.objects[0]
        return {path: ObjectTask(self._name, stored[path], some) for path, some in by_path.items()}

    def _write_run(self, number: int) -> None:
        """Write to the run's row: its time is that of the round's cells, later than whatever was before the leases."""
        runs = self._recipe.open_runs(self._patience, self.bulk.stop)
        runs.write_run(RunState(self.bulk.run_id, meta={"rounds": str(number)}))

    def _report(
        self, meeting: Meeting, units: Sequence[tuple[StoredJob, EncodedUnit]], seconds_per_record: float
    ) -> None:
        """Write the lines of a meeting's units, those that came with the plan included, and tell of them."""
        (epochs,) = self.bulk.parts.leases.epochs(meeting.plan.scope)
        ended: list[tuple[Account, Outcome]] = []
        for job, unit in units:
            if unit.error is not None:
                _log.debug("left to a worker: %s: %s", unit.account.unit, unit.error)
                continue
            assert job.state is not None
            assert job.state.fetched is not None
            seconds = unit.account.records * seconds_per_record
            asked_at, source = job.state.fetched, job.state.source or self._name
            ended.append((unit.account, _outcome(unit.account, asked_at, source, unit.receipt, seconds, epochs)))
        for answer in meeting.listed:
            account, receipt = self._put(answer)
            if receipt.error is None:
                ended.append((account, _outcome(account, answer.asked_at, answer.source, receipt, 0.0, epochs)))
        state = self.bulk.parts.states[0]
        for start in range(0, len(ended), _LINES_AT_ONCE):
            some = ended[start : start + _LINES_AT_ONCE]
            state.put_quarantine(self.bulk.run_id, [record for account, _ in some for record in account.quarantined])
            state.write_units(self.bulk.run_id, [outcome for _, outcome in some])
        self.bulk.report(meeting.plan, [outcome for _, outcome in ended])

    def _put(self, answer: Answer) -> tuple[Account, Receipt]:
        """Put the records of an answer that came with the plan: one each, too few for a file."""
        account, receipt = Account(answer.unit), Receipt(checksum=0)
        for item in AnswerNormaliser(answer, account, self._knows[answer.unit.endpoint]).batches():
            if isinstance(item, Restart):
                receipt = Receipt(checksum=0)
            else:
                receipt += self._destination.writers[0].write(item)
        return account, receipt

    def _give_back(self, plan: MeetingPlan) -> None:
        if self._held.pop(plan.scope.meeting_key, None) is None:
            return
        try:
            self.bulk.parts.leases.give_back(plan.scope)
        except F1HBaseError as error:
            _log.debug("the lease of %s is not given back: %s", plan.scope.name, error)


def _outcome(
    account: Account, asked_at: datetime, source: str, receipt: Receipt, seconds: float, epochs: Epochs
) -> Outcome:
    return Outcome(
        unit=account.unit,
        asked_at=asked_at,
        source=source,
        records=account.records,
        duplicates=account.duplicates,
        quarantined=len(account.quarantined),
        receipt=receipt,
        stats=account.stats,
        seconds=seconds,
        drivers=frozenset(account.drivers),
        unknown_fields=frozenset(account.unknown_fields),
        error=account.error,
        epoch=epochs.of(account.unit.scope),
    )


def _keys(jobs: Iterable[StoredJob]) -> tuple[list[str], list[str]]:
    """Return what the row keys of each session begin with, and those of each car in it."""
    prefixes: set[str] = set()
    cars: set[str] = set()
    for job in jobs:
        scope = job.unit.scope
        prefix = scope_prefix(scope.year, scope.meeting_key, scope.session_key)
        prefixes.add(prefix)
        cars.update(f"{prefix}{SEPARATOR}{driver}" for driver in (job.state.drivers if job.state else ()))
    return sorted(prefixes), sorted(prefixes | cars)
