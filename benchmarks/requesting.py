"""How many requests a load takes, how large the answers are, and how long that is at OpenF1's limits."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic

from benchmarks.options import Options, Tell
from benchmarks.records import YEAR
from benchmarks.results import markdown_table, number
from benchmarks.season import remaining_of, write_season
from benchmarks.servers import ReplayServer
from benchmarks.stage import Stage
from benchmarks.storage import REAL
from f1hbase.model.answers import Answer
from f1hbase.model.catalog import ENDPOINTS
from f1hbase.model.plans import Selection
from f1hbase.model.units import Unit
from f1hbase.pipeline.plan import make_plan
from f1hbase.pipeline.remaining import Remaining
from f1hbase.sources.openf1.source import OpenF1Options, expected_requests, open_source
from simulator import Plan, simulate

_REQUESTS_A_MINUTE = 30
"""Of the free limits, 3/s,30/m, the one that counts over more than ten seconds."""

_PLANNING = 2
_SEASON = 24
_LIMIT_BYTES = (4_500_000, 9_000_000)


def run(stage: Stage, options: Options, tell: Tell) -> str:
    """Ask for all that a load asks for, decode it, and count; nothing is stored."""
    days: list[tuple[str, Path]] = []
    real = options.data or REAL
    if real.is_dir() and options.minutes is None:
        days.append((f"the real {real.name}", real))
    weekend = stage.scratch / "weekend"
    tell("simulating a weekend")
    for _ in simulate(weekend, Plan(year=YEAR, minutes=options.minutes)):
        pass
    length = "of real length" if options.minutes is None else f"of {options.minutes:g} minutes"
    days.append((f"a simulated weekend: 5 sessions {length}, 20 cars", weekend))
    lines = []
    for name, folder in days:
        with ReplayServer(folder) as api:
            began = monotonic()
            planned = asyncio.run(_ask_for_all(api.url))
            answers = api.requests_since(began)
        tell(f"{name}: {len(answers)} requests")
        sizes = sorted(one["bytes"] for one in answers)
        samples = sorted(one["bytes"] for one in answers if one["path"].endswith(("/car_data", "/location")))
        lines.append(
            [
                name, number(len(answers)), number(planned + _PLANNING), number(len(answers) / _REQUESTS_A_MINUTE),
                number(sum(sizes) / 1e6),
                *(number(_quantile(samples, share) / 1e6) for share in (0.5, 0.95, 1.0)),
                *(number(sum(size > most for size in sizes)) for most in _LIMIT_BYTES),
            ]
        )  # fmt: skip
    plans = list(write_season(stage.scratch / "requests-season", _SEASON))
    season = _PLANNING + sum(expected_requests(_asked_for(remaining_of(plan)), OpenF1Options()) for plan in plans)
    table = markdown_table(
        [
            "loaded", "requests", "as planned", "minutes at 3/s,30/m", "MB", "MB of car_data and location: median",
            "95 of 100", "largest", "answers above 4.5 MB", "above 9 MB",
        ],
        lines,
    )  # fmt: skip
    return (
        "All endpoints with --window auto, planning included; sizes as they are before compression on the way.\n\n"
        f"{table}\n\nA season of {_SEASON} weekends of four sessions of an hour and one of two is planned with "
        f"{number(season)} requests: {number(season / _REQUESTS_A_MINUTE)} minutes."
    )


async def _ask_for_all(url: str) -> int:
    """Ask for all that an API has, as workers do, a meeting at a time; return how many requests were planned."""
    options = OpenF1Options(api_url=url)
    selection = Selection(endpoints=tuple(ENDPOINTS))
    async with open_source(options, 10.0) as source:
        plan = await make_plan(source, selection, datetime.now(UTC))
    planned = 0
    for meeting in plan.meetings:
        units = _asked_for(Remaining(meeting, [[]], selection, datetime.now(UTC)).units())
        planned += expected_requests(units, options)
        async with open_source(options, 10.0) as source:
            await source.fetch(units, _read)
    return planned


def _asked_for(units: Sequence[Unit]) -> list[Unit]:
    """Return the units that are asked for: meetings and sessions come with the plan."""
    return [unit for unit in units if unit.endpoint not in {"meetings", "sessions"}]


async def _read(answer: Answer) -> None:
    """Decode an answer to its end, which is what the sizes of the next ones are judged by."""
    if answer.error is not None:
        raise AssertionError(f"{answer.unit}: {answer.error}")
    for _ in answer.records:
        pass


def _quantile(sizes: Sequence[int], share: float) -> float:
    """Return the size that so many of the answers do not exceed.

    >>> _quantile([1, 2, 3, 4], 0.5), _quantile([1, 2, 3, 4], 1.0), _quantile([], 0.5)
    (2, 4, 0)
    """
    return sizes[max(0, math.ceil(len(sizes) * share) - 1)] if sizes else 0
