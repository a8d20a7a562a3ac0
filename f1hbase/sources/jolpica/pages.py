"""All pages of a question, proved complete: an answer that changes while it is read is read again."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence

from f1hbase.model.catalog import Endpoint
from f1hbase.model.records import InvalidRecordError, canonical_json, check, identity
from f1hbase.model.text import count
from f1hbase.sources.http.errors import GiveUpError
from f1hbase.sources.jolpica.client import PageAnswer

_log = logging.getLogger(__name__)

PAGE = 100
"""How many entries are asked for at once: the most that Jolpica gives (`max_limit` of its pagination)."""

_READS = 4
"""How often an answer is read that changes meanwhile: a correction takes a moment; four in a row are no accident."""

_MOST_ENTRIES = 100_000
"""More than four times all results since 1950; what is asked for is of one season or race."""

Ask = Callable[[str], Awaitable[PageAnswer]]


async def read_pages(ask: Ask, path: str, endpoint: Endpoint) -> list[PageAnswer]:
    """Return the pages of a question.

    They are complete if all say the same total, each has as many entries as it should, and none comes twice. Where
    one does, something was taken away before it while the pages were read, and something else is missing; so all is
    read again. Two readings that are the same to the last entry are what the API has, entries that come twice included.

    Args:
        ask: Sends a request.
        path: What is asked for, such as `1991/results`.
        endpoint: What the entries are records of.

    Raises:
        GiveUpError: If the pages do not fit together after several readings.
        RequestError: If a page cannot be had.
    """
    before: str | None = None
    reason = ""
    for reading in range(1, _READS + 1):
        pages, reason = await _read_once(ask, path)
        if not reason:
            reason = _twice(endpoint, pages)
            content = canonical_json([answer.page.records for answer in pages]) if reason else ""
            if not reason or content == before:
                return pages
            before = content
        if reading < _READS:
            _log.warning("%s changed while it was read (%s): read again", path, reason)
    raise GiveUpError(f"{path} changed each of {_READS} times that it was read ({reason}): it may be incomplete")


def request_of(path: str, offset: int = 0) -> str:
    """Return the request for a page."""
    return f"{path}/?limit={PAGE}&offset={offset}"


async def _read_once(ask: Ask, path: str) -> tuple[list[PageAnswer], str]:
    """Return the pages, and what does not fit together in them; nothing if all does."""
    pages: list[PageAnswer] = []
    offset = 0
    while True:
        answer = await ask(request_of(path, offset))
        page, first = answer.page, (pages[0].page if pages else answer.page)
        if page.total > _MOST_ENTRIES:
            raise GiveUpError(f"{path} has {count(page.total, 'entry')} in all".replace("entrys", "entries"))
        if page.offset != offset:
            return pages, f"it answers with entries from {page.offset} on where those from {offset} on were asked for"
        if page.total != first.total:
            return pages, f"{count(first.total, 'entry')} in all, then {page.total:,}".replace("entrys", "entries")
        expected = max(0, min(page.limit, page.total - offset))
        if len(page.records) != expected:
            return pages, f"a page has {len(page.records)} entries where {expected} should be"
        pages.append(answer)
        offset += expected
        if offset >= page.total or not expected:
            return pages, ""


def _twice(endpoint: Endpoint, pages: Sequence[PageAnswer]) -> str:
    """Return which entry comes twice; empty if none does."""
    seen = set()
    for answer in pages:
        for record in answer.page.records:
            try:
                mine = identity(endpoint, check(endpoint, record.get("season", 0), record))
            except InvalidRecordError:
                continue  # it goes to quarantine
            if mine in seen:
                return f"{endpoint.name} {' '.join(str(part) for part in mine if part is not None)} comes twice"
            seen.add(mine)
    return ""
