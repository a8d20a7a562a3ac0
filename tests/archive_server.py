"""An archive of live timing for tests: a server in the test's event loop, and what a source makes of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiohttp import web
from serving import in_thread

from f1hbase.model.answers import Answer
from f1hbase.model.catalog import ALL_ENDPOINTS, ENDPOINTS
from f1hbase.model.outcomes import Quarantined
from f1hbase.model.plans import Selection
from f1hbase.model.records import identity
from f1hbase.model.samples import Record, Row, Samples
from f1hbase.model.units import Scope, Unit
from f1hbase.pipeline.normalise import Account, AnswerNormaliser, Restart
from f1hbase.pipeline.plan import make_plan
from f1hbase.sources.base import Source
from f1hbase.sources.livetiming.source import LiveTimingOptions, LiveTimingSource, open_source
from simulator.livetiming_server import ArchiveFaults, ArchiveLog, create_archive

SHARED = Path(__file__).resolve().parents[2] / "shared" / "livetiming-real"
"""Real sessions and reference records; not part of the project, so that tests skip where it is absent."""


@asynccontextmanager
async def serving(
    folder: Path, faults: ArchiveFaults | None = None, log: ArchiveLog | None = None
) -> AsyncIterator[str]:
    """Serve a folder as an archive, and yield its address."""
    runner = web.AppRunner(create_archive(folder, faults, log), access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        yield f"http://127.0.0.1:{port}/static"
    finally:
        await runner.cleanup()


@contextmanager
def archive_in_thread(folder: Path) -> Iterator[str]:
    """Serve an archive from a thread, for a loader of another process."""
    with in_thread(serving(folder)) as url:
        yield url


@asynccontextmanager
async def opened(
    folder: Path,
    faults: ArchiveFaults | None = None,
    log: ArchiveLog | None = None,
    *,
    patience: float = 5.0,
    **options: Any,
) -> AsyncIterator[LiveTimingSource]:
    """Yield the source over a folder."""
    async with serving(folder, faults, log) as url:
        settings = LiveTimingOptions(url, **{"max_retries": 3, "retry_delay": 0.001, **options})
        async with open_source(settings, patience) as source:
            yield source


@dataclass
class Loaded:
    """What a source gave, after the pipeline's own validation.

    Attributes:
        records: By endpoint and identity.
        rows: The samples, by endpoint and key, where they are wanted as rows.
        quarantined: What was put aside.
        errors: Of units that failed.
        answers: All of them.
    """

    records: dict[str, dict[Any, Record]] = field(default_factory=dict)
    rows: dict[str, dict[Row, Row]] = field(default_factory=dict)
    quarantined: list[Quarantined] = field(default_factory=list)
    errors: dict[str, str] = field(default_factory=dict)
    answers: list[Answer] = field(default_factory=list)

    def of(self, endpoint: str) -> list[Record]:
        """The records of an endpoint."""
        return list(self.records.get(endpoint, {}).values())


async def scopes(source: Source, **selection: Any) -> list[Scope]:
    """Return the sessions that a selection means."""
    plan = await make_plan(source, Selection(**selection), datetime.now(UTC))
    return [session.scope for meeting in plan.meetings for session in meeting.sessions]


async def load(source: Source, units: Iterable[Unit], *, as_rows: bool = False) -> Loaded:
    """Fetch units, and pass what comes through the pipeline's validation; samples may be wanted as rows."""
    loaded = Loaded()

    async def deliver(answer: Answer) -> None:
        loaded.answers.append(answer)
        if answer.error is not None:
            loaded.errors[str(answer.unit)] = answer.error
        account = Account(answer.unit)
        endpoint = ALL_ENDPOINTS[answer.unit.endpoint]
        known = loaded.records.setdefault(endpoint.name, {})
        for batch in AnswerNormaliser(answer, account, source.knows(endpoint.name)).batches():
            if isinstance(batch, Restart):
                continue
            if isinstance(batch.records, Samples) and as_rows:
                loaded.rows.setdefault(endpoint.name, {}).update({row[:4]: row for row in batch.records.rows})
            elif isinstance(batch.records, Samples):
                known.update({row[:4]: dict(zip(endpoint.fields, row, strict=True)) for row in batch.records.rows})
            else:
                known.update({_key(endpoint, record): record for record in batch.records})
        loaded.quarantined += account.quarantined

    await source.fetch(units, deliver)
    return loaded


async def load_session(source: Source, scope: Scope, *, as_rows: bool = False) -> Loaded:
    """Load all endpoints of a session."""
    units = [Unit(name, scope) for name, endpoint in ENDPOINTS.items() if not endpoint.of_meeting]
    return await load(source, units, as_rows=as_rows)


def _key(endpoint: Any, record: Record) -> Any:
    key = identity(endpoint, record)
    # Samples that are no samples have the identity in another order.
    return tuple(record[name] for name in endpoint.fields[:4]) if endpoint.sampled else key
