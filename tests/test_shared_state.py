"""The file that all processes share: private, never a link, healed aloud; who waits for it says so."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import limiter_worker
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_limiter import FREE, assert_within, go, now, run_for, simulate, simulated, take, workers

from f1hbase.errors import SetupError
from f1hbase.model.rates import ByteRate, parse_rates, with_margin
from f1hbase.sources.http import shared as shared_module
from f1hbase.sources.http.errors import AwayError
from f1hbase.sources.http.limiter import LONGEST_PAUSE_SECONDS, SharedRateLimiter, end_pause, pause_info
from f1hbase.sources.http.shared import SharedState, role, state_path
from f1hbase.sources.http.waits import WaitNotice


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return state_path("api.openf1.org", tmp_path / "state")


# --- whose it is ---


def make_link(path: Path) -> None:
    path.symlink_to(path.parent.parent / "precious")


def make_dangling_link(path: Path) -> None:
    path.symlink_to(path.parent / "nothing")


def make_hard_link(path: Path) -> None:
    path.hardlink_to(path.parent.parent / "precious")


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


@pytest.mark.parametrize("make", [make_link, make_dangling_link, make_hard_link, make_pipe, Path.mkdir])
@pytest.mark.parametrize("suffix", ["", ".probe.lock"])
def test_what_is_not_a_file_of_its_own_is_refused_by_name_and_not_touched(
    path: Path, tmp_path: Path, make: object, suffix: str
) -> None:
    precious = tmp_path / "precious"
    precious.write_text("a letter")
    path.parent.mkdir()
    target = path.with_name(f"{path.name}{suffix}")
    make(target)  # type: ignore[operator]
    with pytest.raises(SetupError, match="Remove it, or set XDG_STATE_HOME") as refused:
        role(path, "probe").__enter__() if suffix else SharedRateLimiter(FREE, path)
    assert f"'{target}'" in str(refused.value)
    assert precious.read_text() == "a letter"
    assert not (path.parent / "nothing").exists()


def test_another_users_file_or_folder_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    SharedRateLimiter(FREE, path)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(SetupError, match="belongs to another user"):
        SharedRateLimiter(FREE, path)


def test_the_folder_is_closed_to_others(path: Path) -> None:
    path.parent.mkdir()
    path.parent.chmod(0o777)
    SharedRateLimiter(FREE, path)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()} == {0o600}


@pytest.mark.parametrize("host", ["", "a b", "api.test\r\nX: 1", "a" * 64 + ".org", f"api.{'b' * 70}", "\x1b[2J"])
def test_what_cannot_be_a_host_has_no_file(host: str) -> None:
    with pytest.raises(ValueError, match="is no host name") as refused:
        state_path(host)
    assert str(refused.value).isprintable()


@given(st.lists(st.text("aZ9-_/\\:é..", max_size=70), max_size=6).map(".".join))
@example(".".join(["a" * 60] * 6))
def test_a_file_name_is_never_another_folders_nor_too_long(host: str) -> None:
    try:
        path = state_path(host, Path("/state"))
    except ValueError:
        return
    assert path.parent == Path("/state")
    assert len(path.name.encode()) < 256 - len("-journal")


# --- healing ---


def test_a_journal_that_a_removed_file_left_behind_is_not_applied_to_the_new_one(path: Path) -> None:
    """A process that was killed leaves a journal; whoever then removes the database alone must not bring it back."""
    with workers(1, "hold", str(path)) as (holder,):
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    journal = path.with_name(f"{path.name}-journal")
    journal.write_bytes(b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7" + bytes(4096))
    path.unlink()
    state = SharedState(path)
    assert state.rows("PRAGMA integrity_check")[0][0] == "ok"
    assert b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7" not in (journal.read_bytes() if journal.exists() else b"")


def test_what_a_killed_process_had_written_without_its_end_is_undone_and_nobody_waits(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The worker is killed when the half of its transaction is in the file, and the rest in its memory."""
    times = [number / 1000.0 for number in range(3000)]
    state = SharedState(path)
    with state.transaction() as (db, _):
        db.executemany("INSERT INTO grants (at) VALUES (?)", [(time,) for time in times])
    state.close()
    before = path.read_bytes()
    assert subprocess.call([sys.executable, limiter_worker.__file__, "die", str(path)]) == -signal.SIGKILL
    assert path.read_bytes() != before, "some of it is in the file"
    assert asyncio.run(SharedRateLimiter(parse_rates("100/s"), path).acquire()) < 1.0
    assert [row["at"] for row in state.rows("SELECT at FROM grants ORDER BY id")][:-1] == times
    assert state.rows("PRAGMA integrity_check")[0][0] == "ok"
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


@pytest.mark.parametrize("statement", ["DROP TABLE grants", "DELETE FROM host", "DROP TABLE host"])
def test_a_file_that_lacks_something_is_made_anew_aloud(
    path: Path, caplog: pytest.LogCaptureFixture, statement: str
) -> None:
    async def main() -> float:
        limiter = simulated(FREE, path)
        await limiter.acquire()
        state = SharedState(path)
        with state.transaction() as (db, _):
            db.execute(statement)
        return await limiter.acquire()

    assert simulate(main()) == pytest.approx(60.6, abs=0.05)
    assert "cannot be trusted" in caplog.text


def test_a_clock_that_goes_back_costs_a_window_and_is_said(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> float:
        await SharedRateLimiter(FREE, path, clock=lambda: now() + 500.0).acquire()
        return await simulated(FREE, path).acquire()

    assert simulate(main()) == pytest.approx(60.6, abs=0.05)
    assert "the clock went back: requests wait" in caplog.text
    assert "waiting, until" in caplog.text


def test_a_connection_is_not_carried_into_a_forked_child(path: Path) -> None:
    state = SharedState(path)
    state.host()
    child = os.fork()
    if not child:
        with state.transaction() as (db, _):
            db.execute("INSERT INTO grants (at) VALUES (1.0)")
        os._exit(0 if len(shared_module._LEAKED) == 1 else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert [row["at"] for row in state.rows("SELECT at FROM grants")] == [1.0]


# --- a holder that does not move ---


async def test_while_a_stopped_process_holds_the_lock_the_loop_goes_on_and_says_why_it_waits(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    elapsed = [0.0]

    async def sleep(seconds: float) -> None:
        elapsed[0] += max(seconds, 0.05)
        await asyncio.sleep(0)

    limiter = SharedRateLimiter(FREE, path, sleep=sleep)
    limiter._notice = WaitNotice(limiter._notice._log, lambda: elapsed[0])
    with workers(1, "hold", str(path)) as (holder,):
        holder.send_signal(signal.SIGSTOP)
        waiting = asyncio.ensure_future(limiter.acquire())
        for _ in range(2000):
            await asyncio.sleep(0)
            if "another process holds the lock" in caplog.text:
                break
        assert "another process holds the lock" in caplog.text
        assert not waiting.done()
        limiter.pause(0.0)  # gives up after 20 ms
        holder.kill()
        holder.wait()
        assert await asyncio.wait_for(waiting, 5.0) >= 0.0


def test_four_processes_with_four_coroutines_each_keep_the_windows_exactly(path: Path) -> None:
    with workers(4, "take", str(path), "1.5", "4") as running:
        for worker in running:
            go(worker)
        logs = [sorted(map(float, worker.communicate()[0].split())) for worker in running]
    granted = [row["at"] for row in SharedState(path).rows("SELECT at FROM grants ORDER BY id")]
    assert len(granted) == sum(map(len, logs)) > 100
    assert_within(granted, with_margin(parse_rates("200/s,20/0.05s")))


# --- pauses ---


def test_a_pause_is_bounded_and_says_who_when_and_why(path: Path) -> None:
    limiter = SharedRateLimiter(FREE, path)
    assert pause_info(path) is None
    limiter.pause(86_400.0, "HTTP 429: come back tomorrow")
    assert limiter.paused_for() == pytest.approx(LONGEST_PAUSE_SECONDS, abs=1.0)
    limiter.pause(86_400.0, "HTTP 429: later", bound=2000.0)
    info = pause_info(path)
    assert info is not None
    assert (info.until - info.since).total_seconds() == pytest.approx(2000.0, abs=1.0)
    assert str(os.getpid()) in info.by
    assert "HTTP 429: later" in str(info)
    assert "paused until 20" in str(info)


async def test_the_user_can_end_a_pause_for_all(path: Path) -> None:
    one, other = SharedRateLimiter(FREE, path), SharedRateLimiter((), path)
    one.pause(1000.0, "HTTP 429")
    assert end_pause(path)
    assert pause_info(path) is None
    assert one.paused_for() == other.paused_for() == 0.0
    assert await one.acquire() < 5.0
    assert await other.acquire() < 5.0
    assert not end_pause(path.with_name("absent"))
    assert not path.with_name("absent").exists()


def test_a_later_run_says_at_once_until_when_it_is_paused_and_then_every_minute(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        simulated(FREE, path).pause(150.0, "HTTP 429: slow down")
        later = simulated(FREE, path)
        waiting = asyncio.ensure_future(later.acquire())
        await asyncio.sleep(0.1)
        assert caplog.text.count("HTTP 429: slow down") == 1
        await waiting

    simulate(main())
    said = [record.getMessage() for record in caplog.records if "HTTP 429: slow down" in record.getMessage()]
    assert len(said) == 3
    assert said[0].startswith("waiting, until ")
    assert f"by process {os.getpid()}" in said[0]


@pytest.mark.parametrize("rates", [FREE, ()], ids=["rates", "none"])
def test_a_pause_that_is_longer_than_patience_is_not_waited_for(path: Path, rates: object) -> None:
    async def main() -> None:
        simulated(FREE, path).pause(600.0, "HTTP 429: busy")
        limiter = SharedRateLimiter(rates, path, patience=60.0, clock=now)  # type: ignore[arg-type]
        with pytest.raises(AwayError, match=r"longer than patience lasts.*HTTP 429: busy"):
            await limiter.acquire()
        assert now() == pytest.approx(1000.0)

    simulate(main())


# --- bytes ---


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 3_000_000), min_size=5, max_size=40))
def test_a_window_has_no_more_bytes_than_its_budget_and_one_answer(sizes: list[int]) -> None:
    times: list[float] = []

    async def main() -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "rate"
            limiters = [
                SharedRateLimiter((), path, byte_rates=[ByteRate(4_000_000, 10.0)], clock=now) for _ in range(2)
            ]
            for number, size in enumerate(sizes):
                await limiters[number % 2].acquire()
                times.append(now())
                limiters[number % 2].spend(size)

    simulate(main())
    for start in range(len(times)):
        window = [size for time, size in zip(times, sizes, strict=True) if times[start] <= time < times[start] + 10.0]
        assert sum(window[:-1]) < 4_000_000
    allowed = sum(sizes) / 400_000
    assert times[-1] - times[0] <= allowed + 10.0, "and it waits no longer than needed"


def test_bytes_of_others_count_and_without_a_budget_none_do(path: Path) -> None:
    times: list[float] = []

    async def main() -> float:
        simulated(FREE, path).spend(5_000_000)
        await run_for(1.0, take(simulated(FREE, path), times, 2))
        return await SharedRateLimiter(FREE, path, byte_rates=[ByteRate(4_000_000, 10.0)], clock=now).acquire()

    assert simulate(main()) == pytest.approx(9.0, abs=0.1)
    assert len(times) == 2
