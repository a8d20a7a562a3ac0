from __future__ import annotations

import asyncio
import doctest
import errno
import random
import resource
import selectors
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import limiter_worker
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import f1hbase.model.rates
from f1hbase.model.rates import (
    ByteRate,
    Limits,
    Rate,
    next_grant,
    parse_limits,
    parse_rates,
    with_margin,
)
from f1hbase.sources.http import limiter as limiter_module
from f1hbase.sources.http import shared as shared_module
from f1hbase.sources.http.limiter import SharedRateLimiter, state_path
from f1hbase.sources.http.shared import SharedState

T = TypeVar("T")
FREE = parse_rates("3/s,30/m")
MINUTE = 60.6  # the minute with its margin


# --- simulated time: the event loop's clock jumps to the next timer instead of waiting for it ---


class _JumpingSelector(selectors.DefaultSelector):
    now = 1000.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.now += timeout or 0.0
        ready: list[tuple[selectors.SelectorKey, int]] = super().select(0)
        return ready


class _SimulatedLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now


def simulate(main: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=_SimulatedLoop) as runner:
        return runner.run(main)


def now() -> float:
    return asyncio.get_running_loop().time()


def simulated(
    rates: Sequence[Rate], path: Path, sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
) -> SharedRateLimiter:
    return SharedRateLimiter(rates, path, clock=now, sleep=sleep)


async def take(limiter: SharedRateLimiter, times: list[float], count: int = sys.maxsize) -> None:
    for _ in range(count):
        await limiter.acquire()
        times.append(now())


async def run_for(seconds: float, *work: Coroutine[Any, Any, None]) -> None:
    tasks = [asyncio.ensure_future(each) for each in work]
    await asyncio.sleep(seconds)
    for task in tasks:
        task.cancel()
    for task in tasks:
        with suppress(asyncio.CancelledError):
            await task


def assert_within(times: Sequence[float], rates: Sequence[Rate]) -> None:
    """Any request is at least a window later than the limit-th before it: no sliding window holds more."""
    times = sorted(times)
    for rate in rates:
        for earlier, later in zip(times, times[rate.limit :], strict=False):
            assert later - earlier >= rate.seconds, f"{rate.limit + 1} requests in {later - earlier} s"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return state_path("api.openf1.org", tmp_path / "state")


# --- the arithmetic ---


def test_the_examples_in_the_docstrings_run() -> None:
    assert doctest.testmod(f1hbase.model.rates).failed == 0
    assert doctest.testmod(limiter_module, extraglobs={"Path": Path, "parse_rates": parse_rates}).failed == 0


@pytest.mark.parametrize("text", ["3/s,30/m", "1/h", "10/4.0s", "200/0.5s", "4096/m", "1/2.5s"])
def test_rates_are_read_as_they_are_written(text: str) -> None:
    assert ",".join(map(str, parse_rates(text))) == text


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("3/s,30", "'30'"),
        ("", "''"),
        ("3/s,,30/m", "''"),
        ("0/s", "'0/s'"),
        ("5000/h", "'5000/h'"),
        ("3/9h", "'3/9h'"),
        ("3/s,none", "'none'"),
        ("-3/s", "'-3/s'"),
    ],
)
def test_what_is_not_a_rate_is_named_with_an_example(text: str, named: str) -> None:
    with pytest.raises(ValueError, match=named) as caught:
        parse_rates(text)
    assert "3/s,30/m" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("2.8/s", Rate(14, 5.0)),
        ("2.0/s", Rate(2, 1.0)),
        ("0.5/s", Rate(1, 2.0)),
        ("27.5/m", Rate(55, 120.0)),
        ("1.5/10s", Rate(3, 20.0)),
        ("2.857/s", Rate(2, 2 / 2.857)),
        ("0.01/s", Rate(1, 100.0)),
    ],
)
def test_a_rate_may_have_decimals(text: str, rate: Rate) -> None:
    (parsed,) = parse_rates(text)
    assert parsed.limit == rate.limit
    assert parsed.seconds == pytest.approx(rate.seconds)


@given(st.decimals("0.002", "100", places=3))
def test_a_rate_with_decimals_is_as_fast_as_it_says_and_its_window_short(value: Decimal) -> None:
    (parsed,) = parse_rates(f"{value}/s")
    assert parsed.per_second == pytest.approx(float(value))
    assert parsed.seconds <= 10.0 or parsed.limit == 1


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("4MB/10s", ByteRate(4_000_000, 10.0)),
        ("4 MB / 10 s", ByteRate(4_000_000, 10.0)),
        ("1.5kb/m", ByteRate(1_500, 60.0)),
        ("1GB/h", ByteRate(10**9, 3600.0)),
        ("100B/s", ByteRate(100, 1.0)),
    ],
)
def test_bytes_are_limited_beside_requests(text: str, rate: ByteRate) -> None:
    assert parse_limits(f"3/s,{text}") == Limits((Rate(3, 1.0),), (rate,))
    assert parse_limits(str(rate)).bytes == (rate,)
    with pytest.raises(ValueError, match="rate of bytes"):
        parse_rates(text)


@pytest.mark.parametrize("text", ["0MB/s", "4MB", "4TB/s", "4MB/9h", "0.1B/s", "MB/s", "4Mb s", "9999999999999/s"])
def test_what_is_not_a_rate_of_bytes_is_named(text: str) -> None:
    with pytest.raises(ValueError, match=text.split("/", maxsplit=1)[0]):
        parse_limits(text)


rate_lists = st.lists(st.builds(Rate, st.integers(1, 60), st.floats(0.05, 120.0)), min_size=1, max_size=3)


@given(rate_lists, st.lists(st.floats(0.0, 20.0), max_size=150))
def test_requests_made_no_sooner_than_next_grant_keep_every_window(rates: list[Rate], idle: list[float]) -> None:
    grants: list[float] = [0.0]
    for gap in idle:
        grants.append(max(grants[-1] + gap, next_grant(grants, rates)))
    for rate in rates:
        for earlier, later in zip(grants, grants[rate.limit :], strict=False):
            assert later >= earlier + rate.seconds


@given(rate_lists)
def test_the_margin_costs_at_most_one_percent_of_the_throughput(rates: list[Rate]) -> None:
    stretched = with_margin(rates)
    assert all(new.seconds >= 1.01 * old.seconds for new, old in zip(stretched, rates, strict=True))
    slowest = min(rate.per_second for rate in rates)
    assert min(rate.per_second for rate in stretched) >= slowest / 1.0101


# --- one budget, in simulated time ---


@settings(max_examples=12, deadline=None)
@given(
    rates=st.sampled_from(["3/s,30/m", "6/s,60/m", "3/s", "40/m", "10/4s,100/m"]),
    coroutines=st.lists(st.integers(1, 3), min_size=1, max_size=4),
    killed_at=st.none() | st.floats(0.0, 300.0),
    seed=st.integers(0, 2**32),
)
def test_ten_minutes_under_load_never_exceed_and_use_97_percent(
    rates: str, coroutines: list[int], killed_at: float | None, seed: int
) -> None:
    parsed, randomness, times = parse_rates(rates), random.Random(seed), list[float]()

    async def late_sleep(seconds: float) -> None:
        await asyncio.sleep(seconds + randomness.uniform(0.0, 0.005))

    async def mortal_sleep(seconds: float) -> None:
        await late_sleep(seconds)
        if killed_at is not None and now() > 1000.0 + killed_at:
            await asyncio.Event().wait()  # killed: it neither goes on nor cleans up

    async def main() -> None:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "rate"
            limiters = [simulated(parsed, file, late_sleep) for _ in coroutines]
            load = [take(each, times) for each, count in zip(limiters, coroutines, strict=True) for _ in range(count)]
            await run_for(600.0, *load, take(simulated(parsed, file, mortal_sleep), times))

    simulate(main())
    assert_within(times, parsed)
    allowed = min(rate.per_second for rate in parsed) * 600.0
    assert len(times) >= 0.97 * allowed


def test_runs_started_again_and_again_share_one_budget(path: Path) -> None:
    times: list[float] = []

    async def main() -> None:
        for _ in range(40):
            # Each run ends in the midst of its work and leaves nothing but the file.
            await run_for(7.0, take(simulated(FREE, path), times), take(simulated(FREE, path), times))

    simulate(main())
    assert_within(times, FREE)
    assert len(times) >= 0.97 * 0.5 * 280


def test_each_limiter_keeps_its_own_rates_counting_everyones_requests(path: Path) -> None:
    slow: list[float] = []
    fast: list[float] = []

    async def main() -> None:
        await run_for(
            300.0,
            take(simulated(FREE, path), slow),
            take(simulated(parse_rates("6/s,60/m"), path), fast),
        )

    simulate(main())
    both = sorted(slow + fast)
    assert_within(both, parse_rates("6/s,60/m"))
    for time in slow:
        assert sum(time - 60.0 < other < time for other in both) < 30
    assert len(slow) > 60
    assert len(fast) > 60


def test_processes_are_served_in_turn_whatever_number_of_coroutines_they_have(path: Path) -> None:
    served: list[int] = []

    async def serve(limiter: SharedRateLimiter, name: int) -> None:
        while True:
            await limiter.acquire()
            served.append(name)

    async def main() -> None:
        limiters = [simulated(parse_rates("1/s"), path) for _ in range(3)]
        await run_for(60.0, *(serve(limiters[name], name) for name in (0, 1, 1, 1, 1, 2)))

    simulate(main())
    assert len(served) >= 57
    # The first comes back for more before the others have come at all.
    for start in range(1, len(served) - 2):
        assert set(served[start : start + 3]) == {0, 1, 2}


def mortal(until: float) -> Callable[[float], Awaitable[object]]:
    """A sleep of a process that is killed at a time: it never wakes up, and cleans up nothing."""

    async def sleep(seconds: float) -> None:
        await asyncio.sleep(seconds)
        if now() >= until:
            await asyncio.Event().wait()

    return sleep


@pytest.mark.parametrize("killed_after", [0.0, 5.0, 9.5, 10.0], ids="{} s".format)
def test_a_waiter_that_is_killed_holds_up_nobody(path: Path, killed_after: float) -> None:
    async def main() -> float:
        rates = [Rate(1, 10.0)]
        killed, behind = simulated(rates, path, mortal(now() + killed_after)), simulated(rates, path)
        await killed.acquire()
        waiting = asyncio.ensure_future(killed.acquire())
        await asyncio.sleep(0.1)
        waited = await behind.acquire()
        waiting.cancel()
        return waited

    assert 10.0 <= simulate(main()) <= 10.05


def test_those_behind_move_up_when_one_is_cancelled_and_one_is_killed(path: Path) -> None:
    async def main() -> float:
        rates = [Rate(1, 10.0)]
        first, killed, last = simulated(rates, path), simulated(rates, path, mortal(0.0)), simulated(rates, path)
        await first.acquire()
        waiting = [asyncio.ensure_future(each.acquire()) for each in (first, killed)]
        await asyncio.sleep(1.0)
        turn = asyncio.ensure_future(last.acquire())
        await asyncio.sleep(1.0)
        waiting[0].cancel()
        waited = await turn
        waiting[1].cancel()
        return waited

    assert 9.1 <= simulate(main()) <= 9.15


def test_one_who_comes_just_as_a_slot_becomes_free_does_not_jump_the_queue(path: Path) -> None:
    async def late_sleep(seconds: float) -> None:
        await asyncio.sleep(seconds + 0.01)

    async def main() -> tuple[float, float]:
        rates = [Rate(1, 10.0)]
        late, newcomer = simulated(rates, path, late_sleep), simulated(rates, path)
        await late.acquire()
        waiting = asyncio.ensure_future(late.acquire())
        await asyncio.sleep(10.105)  # 5 ms after the slot
        return await newcomer.acquire(), await waiting

    newcomer, waited = simulate(main())
    assert 10.1 <= waited <= 10.12
    assert newcomer >= 10.1


# --- pauses ---


def test_a_pause_holds_back_every_process_and_is_never_shortened(path: Path) -> None:
    times: list[float] = []

    async def main() -> None:
        one, other, unlimited = simulated(FREE, path), simulated(FREE, path), simulated((), path)
        load = [asyncio.ensure_future(take(each, times, 10)) for each in (one, other)]
        await asyncio.sleep(2.0)
        one.pause(30.0)
        other.pause(5.0)
        one.pause(0.0)
        assert other.paused_for() == unlimited.paused_for() == 30.0
        assert await unlimited.acquire() == pytest.approx(30.0, abs=0.01)
        await asyncio.gather(*load)
        assert await unlimited.acquire() == unlimited.paused_for() == 0.0

    simulate(main())
    assert not [time for time in times if 1002.0 < time < 1032.0]
    assert len(times) == 20
    assert_within(times, FREE)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.floats(0.0, 60.0), st.integers(0, 2), st.floats(0.0, 40.0)), max_size=4))
def test_no_request_is_sent_during_any_pause(pauses: list[tuple[float, int, float]]) -> None:
    times: list[float] = []
    spans: list[tuple[float, float]] = []

    async def main() -> None:
        with tempfile.TemporaryDirectory() as folder:
            limiters = [simulated(FREE, Path(folder) / "rate") for _ in range(3)]

            async def pauser() -> None:
                for after, who, seconds in pauses:
                    await asyncio.sleep(after)
                    limiters[who].pause(seconds)
                    spans.append((now(), now() + seconds))

            await run_for(200.0, pauser(), *(take(each, times) for each in limiters))

    simulate(main())
    assert_within(times, FREE)
    for start, end in spans:
        assert not [time for time in times if start < time < end]


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf")])
def test_a_pause_must_be_a_time(path: Path, seconds: float) -> None:
    with pytest.raises(ValueError, match="'seconds'"):
        SharedRateLimiter(FREE, path).pause(seconds)


# --- the file ---


@settings(max_examples=60, deadline=None)
@given(taken=st.integers(1, 40), damage=st.binary(min_size=1, max_size=200), size=st.integers(0, 2**17))
def test_a_damaged_file_costs_a_window_and_nothing_else(taken: int, damage: bytes, size: int) -> None:
    times: list[float] = []

    async def main() -> float:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "rate"
            await take(simulated(FREE, file), times, taken)
            file.write_bytes((damage * size)[:size] or damage)
            damaged = now()
            await take(simulated(FREE, file), times, 40)
            return times[taken] - damaged

    if any(damage):
        assert simulate(main()) == pytest.approx(MINUTE, abs=0.01)
        assert_within(times, FREE)


def test_processes_that_are_killed_while_they_write_cost_nothing(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A worker forks 40 that take slots as fast as they can, and kills each after a few milliseconds."""
    taken = int(subprocess.check_output([sys.executable, limiter_worker.__file__, "kill", str(path), "40"]))
    state = SharedState(path)
    granted = [row["at"] for row in state.rows("SELECT at FROM grants ORDER BY id")]
    # One may be granted and written just before its process could say so.
    assert taken <= len(granted) <= taken + 40
    assert granted == sorted(granted)
    assert len(granted) > 100
    assert state.rows("PRAGMA integrity_check")[0][0] == "ok"
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


def test_a_file_that_is_removed_during_a_run_costs_a_window(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> float:
        limiter = simulated(FREE, path)
        await limiter.acquire()
        shutil.rmtree(path.parent)
        return await limiter.acquire()

    assert simulate(main()) == pytest.approx(MINUTE, abs=0.01)
    assert "removed or replaced" in caplog.text
    assert "what was sent before is not known" in caplog.text


def test_grants_from_before_the_machine_started_are_as_old_as_its_start(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def wait_after_start(uptime: float) -> float:
        monkeypatch.setattr(shared_module, "boot_id", lambda: "x")
        await take(simulated(FREE, path), [], 30)
        monkeypatch.setattr(shared_module, "boot_id", lambda: "y")
        zero = now() - uptime
        return await SharedRateLimiter(FREE, path, clock=lambda: now() - zero).acquire()

    assert simulate(wait_after_start(100.0)) == 0.0
    path.unlink()
    assert simulate(wait_after_start(20.0)) == pytest.approx(MINUTE - 20.0, abs=0.01)


def test_nothing_is_granted_that_cannot_be_written_down(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> float:
        limiter = simulated(FREE, path)
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        # Python ignores SIGXFSZ, so that writing fails as on a disk that takes nothing more.
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
        try:
            waiting = asyncio.ensure_future(limiter.acquire())
            await asyncio.sleep(10.0)
            assert not waiting.done()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        return await waiting

    assert 10.0 <= simulate(main()) <= 11.0
    assert caplog.text.count("no request is sent until that works") == 1


def test_a_full_disk_is_an_error_of_the_disk_and_changes_nothing(path: Path) -> None:
    state = SharedState(path)

    def fill() -> None:
        with state.transaction() as (db, _):
            db.execute("PRAGMA max_page_count = 1")
            db.executemany("INSERT INTO grants (at) VALUES (?)", [(1.0,)] * 1000)

    with pytest.raises(OSError, match="No space left on device") as full:
        fill()
    assert full.value.errno == errno.ENOSPC
    assert state.rows("SELECT * FROM grants") == []


def test_a_folder_that_cannot_be_used_is_an_error_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        SharedRateLimiter(FREE, tmp_path / "file" / "rate")


# --- real processes ---


@contextmanager
def workers(count: int, *args: str) -> Iterator[list[subprocess.Popen[bytes]]]:
    started = [
        subprocess.Popen(
            [sys.executable, limiter_worker.__file__, *args],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for _ in range(count)
    ]
    try:
        for worker in started:
            assert worker.stdout is not None
            assert worker.stdout.readline() == b"ready\n"
        yield started
    finally:
        for worker in started:
            worker.kill()
            worker.communicate()


def go(worker: subprocess.Popen[bytes]) -> None:
    assert worker.stdin is not None
    worker.stdin.write(b"\n")
    worker.stdin.flush()


def test_eight_processes_one_killed_share_a_fast_rate(path: Path) -> None:
    with workers(8, "take", str(path), "2.5") as running:
        for worker in running:
            go(worker)
        victim, *survivors = running
        assert victim.stdout is not None
        said = [victim.stdout.readline() for _ in range(20)]
        victim.kill()
        said += victim.stdout.readlines()
        logs = [[float(line) for line in said]]
        for worker in survivors:
            output, _ = worker.communicate()
            assert worker.returncode == 0
            logs.append([float(line) for line in output.split()])

    granted = [row["at"] for row in SharedState(path).rows("SELECT at FROM grants ORDER BY id")]
    sent = sorted(time for log in logs for time in log)

    # The file's times are exact; a process sees its own a little later, and only the killed one may not have.
    assert_within(granted, with_margin(limiter_worker.RATES))
    assert len(granted) - 1 <= len(sent) <= len(granted)
    assert all(seen >= grant for seen, grant in zip(sent, granted, strict=False))

    # How fast and how fairly is tested in simulated time: here it depends on who gets a processor when.
    assert all(logs), [len(log) for log in logs]
    assert max(granted) > max(logs[0]), "the others go on when one is killed"


async def test_a_killed_process_takes_the_lock_with_it(path: Path) -> None:
    limiter = SharedRateLimiter(FREE, path)
    with workers(1, "hold", str(path)) as (holder,):
        waiting = asyncio.ensure_future(limiter.acquire())
        done, _ = await asyncio.wait([waiting], timeout=0.05)
        assert not done  # and this loop went on meanwhile
        holder.kill()
        assert await asyncio.wait_for(waiting, 5.0) > 0.0
