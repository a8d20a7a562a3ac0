"""While the API answers nobody all processes wait, and one of them probes whether it is back; nobody waits in vain."""

from __future__ import annotations

import asyncio
import math
import subprocess
import sys
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import circuit_breaker_worker
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_limiter import now, simulate

from f1hbase.sources.http.breaker import LONGEST_LIVE_SECONDS, CircuitBreaker
from f1hbase.sources.http.errors import (
    AwayError,
    GiveUpError,
    NoAnswerError,
    RequestError,
    SessionLiveError,
    SlowDownError,
    SlowQueryError,
    TooMuchError,
    TransientError,
)
from f1hbase.sources.http.shared import role

AWAY = TransientError("HTTP 503: upstream connect error")
LIVE = SessionLiveError("HTTP 401: Live F1 session in progress")
NEVER = math.inf
HALF_AN_HOUR = 1800.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "api.sqlite"


class Api:
    """An API that is away, in simulated time, until some seconds from the start, and notes who looks for it when."""

    def __init__(self, back_after: float = NEVER, failure: RequestError = AWAY) -> None:
        self.failure = failure
        self.looks: list[tuple[str, float]] = []
        self._started = now()
        self._back_after = back_after

    @property
    def times(self) -> list[float]:
        """When it was looked for, in seconds from the start."""
        return [time for _, time in self.looks]

    def breaker(
        self, path: Path, name: str = "one", *, patience: float = HALF_AN_HOUR, clock: Callable[[], float] | None = None
    ) -> CircuitBreaker:
        """Return the circuit breaker of a process."""

        async def look() -> None:
            self.looks.append((name, since(self)))
            await asyncio.sleep(0.01)
            if since(self) < self._back_after:
                raise self.failure

        return CircuitBreaker(path, look, patience, clock=clock or now)


def since(api: Api) -> float:
    return now() - api._started


async def fail(breaker: CircuitBreaker, error: RequestError = AWAY) -> bool:
    """Let a request that was sent a moment ago fail, and return whether it was the API that was away."""
    asked = breaker.now()
    await asyncio.sleep(0.01)
    return await breaker.away(error, asked)


def task(work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    return asyncio.ensure_future(work)


async def kill(process: asyncio.Task[Any]) -> None:
    """End a process that waits: its lock is free, and what it has written stays."""
    process.cancel()
    with suppress(asyncio.CancelledError):
        await process


# --- whose fault a failure is ---


@pytest.mark.parametrize("answered_by", ["one", "other"])
def test_a_failure_is_the_requests_own_when_the_api_has_answered_anybody_meanwhile(
    path: Path, answered_by: str
) -> None:
    async def main() -> tuple[bool, Api]:
        api = Api()
        breakers = {"one": api.breaker(path), "other": api.breaker(path, "other")}
        asked = breakers["one"].now()
        await asyncio.sleep(1.0)
        breakers[answered_by].answered()
        await asyncio.sleep(1.0)
        return await breakers["one"].away(AWAY, asked), api

    was_away, api = simulate(main())
    assert not was_away
    assert api.looks == [], "no request is spent on it"


def test_an_answer_from_before_the_request_was_sent_says_nothing(path: Path) -> None:
    async def main() -> tuple[bool, Api]:
        api = Api(back_after=100.0)
        breaker = api.breaker(path)
        breaker.answered()
        await asyncio.sleep(1.0)
        return await fail(breaker), api

    was_away, api = simulate(main())
    assert was_away
    assert api.looks


def test_a_failure_is_the_requests_own_when_the_api_answers_one_look(path: Path) -> None:
    async def main() -> tuple[bool, Api]:
        api = Api(back_after=0.0)
        return await fail(api.breaker(path)), api

    was_away, api = simulate(main())
    assert not was_away
    assert len(api.looks) == 1


@pytest.mark.parametrize(
    "refusal", [GiveUpError("HTTP 403"), SlowDownError("HTTP 429", None), TooMuchError("HTTP 422")]
)
def test_a_refusal_is_an_answer(path: Path, refusal: RequestError) -> None:
    async def main() -> tuple[bool, float]:
        api = Api(failure=refusal)
        return await fail(api.breaker(path)), since(api)

    was_away, seconds = simulate(main())
    assert not was_away
    assert seconds < 1.0


def test_of_many_failures_at_once_one_look_tells_for_all(path: Path) -> None:
    async def main() -> tuple[list[bool], Api]:
        api = Api(back_after=0.0)
        breaker = api.breaker(path)
        return await asyncio.gather(*(fail(breaker) for _ in range(10))), api

    were_away, api = simulate(main())
    assert not any(were_away)
    assert len(api.looks) == 1


@pytest.mark.parametrize("while_waiting", [False, True])
def test_a_probe_that_must_not_be_sent_ends_the_run_and_is_no_answer(path: Path, while_waiting: bool) -> None:
    """The limiter says so when requests are paused for longer than patience lasts."""

    async def main() -> float:
        api = Api(failure=AWAY if while_waiting else AwayError("paused"))
        failing = task(fail(api.breaker(path)))
        await asyncio.sleep(1.0)
        api.failure = AwayError("paused")
        with pytest.raises(AwayError, match="paused"):
            await failing
        return since(api)

    assert simulate(main()) < 10.0


# --- waiting ---


@pytest.mark.parametrize("error", [AWAY, NoAnswerError("refused"), SlowQueryError("no answer within 60 s")], ids=repr)
def test_when_the_api_answers_nothing_the_request_waits_until_it_is_back(path: Path, error: RequestError) -> None:
    async def main() -> tuple[bool, float]:
        api = Api(back_after=100.0)
        return await fail(api.breaker(path), error), since(api)

    was_away, seconds = simulate(main())
    assert was_away
    assert 100.0 <= seconds <= 165.0, "it is looked for every minute"


def test_looks_begin_after_5_seconds_and_end_at_one_a_minute(path: Path) -> None:
    async def main() -> list[float]:
        api = Api(back_after=600.0)
        await fail(api.breaker(path))
        return api.times

    first, *times = simulate(main())
    gaps = [round(later - earlier) for earlier, later in zip([first, *times], times, strict=False)]
    assert gaps[:5] == [5, 10, 20, 40, 60]
    assert set(gaps[4:]) == {60}


def test_the_run_says_that_it_waits_and_why(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "f1hbase")

    async def main() -> None:
        await fail(Api(back_after=300.0).breaker(path))

    simulate(main())
    waits = [record for record in caplog.records if "HTTP 503: upstream connect error" in record.getMessage()]
    assert 5 <= len(waits) <= 9, "a line a minute, and some at first"
    assert "away for 0 s" not in caplog.text
    assert "answers again" in caplog.text


@given(st.floats(0.0, 3000.0), st.floats(0.0, 3000.0))
@example(8.0, 10.0)
@example(1790.0, HALF_AN_HOUR)
@settings(deadline=None, max_examples=40)
def test_the_api_is_waited_for_as_long_as_patience_lasts_and_no_longer(back_after: float, patience: float) -> None:
    async def main() -> None:
        with tempfile.TemporaryDirectory() as folder:
            api = Api(back_after)
            breaker = api.breaker(Path(folder) / "api.sqlite", patience=patience)
            if back_after < patience - 1.0:
                await fail(breaker)
            elif back_after > patience + 60.0:
                with pytest.raises(AwayError, match="HTTP 503: upstream connect error"):
                    await fail(breaker)
            assert since(api) <= patience + 1.0 or back_after < since(api)

    simulate(main())


def test_an_api_that_is_away_for_good_is_given_up_within_the_last_minute_of_patience(path: Path) -> None:
    async def main() -> float:
        api = Api()
        with pytest.raises(AwayError):
            await fail(api.breaker(path))
        return since(api)

    assert HALF_AN_HOUR - 60.0 <= simulate(main()) <= HALF_AN_HOUR + 1.0


def test_while_the_api_is_away_nobody_passes_and_all_do_when_it_is_back(path: Path) -> None:
    async def main() -> list[float]:
        api = Api(back_after=100.0)
        breakers = [api.breaker(path, name) for name in ("one", "one", "other")]
        failing = task(fail(breakers[0]))
        await asyncio.sleep(1.0)
        passed: list[float] = []

        async def pass_through(breaker: CircuitBreaker) -> None:
            await breaker.wait()
            passed.append(since(api))

        await asyncio.gather(*(pass_through(breaker) for breaker in breakers for _ in range(3)))
        assert await failing
        return passed

    passed = simulate(main())
    assert len(passed) == 9
    assert min(passed) >= 100.0
    assert max(passed) <= 170.0


def test_while_the_api_answers_a_request_passes_through_at_once_without_a_look(path: Path) -> None:
    async def main() -> tuple[float, Api]:
        api = Api()
        breaker = api.breaker(path)
        await breaker.wait()
        breaker.answered()
        await breaker.wait()
        return since(api), api

    seconds, api = simulate(main())
    assert seconds == 0.0
    assert api.looks == []


def test_an_answer_to_a_request_that_was_still_under_way_lets_all_pass(path: Path) -> None:
    async def main() -> float:
        api = Api()
        one, other = api.breaker(path), api.breaker(path, "other")
        failing = [task(fail(one)), task(fail(other))]
        await asyncio.sleep(20.0)
        api.breaker(path, "third").answered()
        await asyncio.sleep(2.0)
        await api.breaker(path, "third").wait()
        for each in failing:
            each.cancel()
        return since(api)

    assert simulate(main()) == pytest.approx(22.0, abs=0.1)


# --- a live session ---


def test_a_live_session_is_waited_for_whatever_the_patience(path: Path) -> None:
    async def main() -> float:
        api = Api(back_after=4 * 3600.0, failure=LIVE)
        await api.breaker(path).closed(LIVE)
        return since(api)

    assert 4 * 3600.0 <= simulate(main()) <= 4 * 3600.0 + 61.0


@pytest.mark.parametrize("away_between", [False, True])
def test_a_live_session_that_lasts_longer_than_any_ends_the_wait(path: Path, away_between: bool) -> None:
    async def main() -> float:
        api = Api(back_after=1e9, failure=LIVE)
        waiting = task(api.breaker(path).closed(LIVE))
        while not waiting.done():
            await asyncio.sleep(600.0)
            if away_between:
                api.failure = AWAY if api.failure is LIVE else LIVE
        with pytest.raises(AwayError, match="closed for a live session for 12 h"):
            await waiting
        return since(api)

    assert LONGEST_LIVE_SECONDS <= simulate(main()) <= LONGEST_LIVE_SECONDS + 1300.0


def test_an_api_that_is_away_after_a_live_session_has_all_of_the_patience(path: Path) -> None:
    async def main() -> float:
        api = Api(failure=LIVE)
        waiting = task(api.breaker(path).closed(LIVE))
        await asyncio.sleep(3 * 3600.0)
        api.failure = AWAY
        with pytest.raises(AwayError):
            await waiting
        return since(api) - 3 * 3600.0

    assert HALF_AN_HOUR - 120.0 <= simulate(main()) <= HALF_AN_HOUR + 60.0


def test_a_live_session_that_begins_while_the_api_is_away_does_not_use_up_patience(path: Path) -> None:
    async def main() -> bool:
        api = Api(back_after=3 * 3600.0)
        failing = task(fail(api.breaker(path)))
        await asyncio.sleep(600.0)
        api.failure = LIVE
        return bool(await failing)

    assert simulate(main())


# --- several processes ---


def test_one_process_looks_and_the_others_follow(path: Path) -> None:
    async def main() -> tuple[list[float], Api]:
        api = Api(back_after=1000.0)
        back: list[float] = []

        async def one_process(name: str) -> None:
            assert await fail(api.breaker(path, name))
            back.append(since(api))

        await asyncio.gather(*(one_process(name) for name in ("one", "two", "three")))
        return back, api

    back, api = simulate(main())
    later = [name for name, time in api.looks if time > 1.0]
    assert len(set(later)) == 1, "after its own failure each has looked once, and then only one"
    assert max(back) - min(back) <= 2.0


def test_when_the_one_who_looks_gives_up_all_do_when_their_patience_ends(path: Path) -> None:
    async def main() -> list[float]:
        api = Api()
        ended: list[float] = []

        async def one_process(name: str) -> None:
            with pytest.raises(AwayError):
                await fail(api.breaker(path, name))
            ended.append(since(api))

        await asyncio.gather(*(one_process(name) for name in ("one", "two", "three")))
        return ended

    ended = simulate(main())
    assert len(ended) == 3
    assert all(HALF_AN_HOUR - 60.0 <= seconds <= HALF_AN_HOUR + 3.0 for seconds in ended)


def test_when_the_one_who_looks_is_cancelled_another_goes_on_looking(path: Path) -> None:
    async def main() -> tuple[bool, Api]:
        api = Api(back_after=500.0)
        looking = task(fail(api.breaker(path, "one")))
        await asyncio.sleep(1.0)
        following = task(fail(api.breaker(path, "other")))
        await asyncio.sleep(100.0)
        await kill(looking)
        return await following, api

    was_away, api = simulate(main())
    assert was_away
    assert {name for name, time in api.looks if time > 110.0} == {"other"}


def test_when_the_one_who_probes_has_stopped_the_others_do_not_wait_for_ever_and_say_that_they_wait(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "f1hbase")

    async def main() -> float:
        api = Api()
        # It has the role, and never probes.
        with role(path, "probe"), pytest.raises(AwayError, match=r"has stopped.*HTTP 503"):
            await fail(api.breaker(path))
        return since(api)

    assert HALF_AN_HOUR <= simulate(main()) <= HALF_AN_HOUR + 180.0
    assert 29 <= caplog.text.count("another process probes whether the API is back") <= 33, "once a minute"


def test_processes_that_wait_for_different_apis_do_not_wait_for_each_other(tmp_path: Path) -> None:
    async def main() -> float:
        away, api = Api(), Api(back_after=100.0)
        other = task(fail(away.breaker(tmp_path / "api-127.0.0.1_8000")))
        await asyncio.sleep(10.0)
        async with asyncio.timeout(600.0):
            assert await fail(api.breaker(tmp_path / "api-127.0.0.1_8001"))
        await kill(other)
        return since(api)

    assert 100.0 <= simulate(main()) <= 170.0


def test_what_a_killed_process_left_closed_is_looked_at_at_once(path: Path) -> None:
    async def main() -> float:
        left_behind = task(fail(Api().breaker(path, "killed")))
        await asyncio.sleep(60.0)
        await kill(left_behind)

        api = Api(back_after=0.0)
        await api.breaker(path).wait()
        assert len(api.looks) == 1
        await api.breaker(path, "next").wait()
        assert len(api.looks) == 1, "and it is open for all"
        return since(api)

    assert simulate(main()) < 0.1


def test_what_a_killed_process_left_closed_stays_closed_while_the_api_is_away(path: Path) -> None:
    async def main() -> list[float]:
        left_behind = task(fail(Api().breaker(path, "killed")))
        await asyncio.sleep(60.0)
        await kill(left_behind)

        api = Api(back_after=50.0)
        await api.breaker(path).wait()
        assert since(api) >= 50.0
        return api.times

    times = simulate(main())
    assert [round(time) for time in times[:4]] == [0, 5, 15, 35]


@contextmanager
def waiting_process(path: Path, back: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process that waits until the file `back` exists."""
    command = [sys.executable, circuit_breaker_worker.__file__, str(path), str(back)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def said(process: subprocess.Popen[bytes]) -> tuple[str, float]:
    assert process.stdout is not None
    word, time = process.stdout.readline().split()
    return word.decode(), float(time)


def test_a_process_that_is_killed_while_it_looks_is_followed_by_another(path: Path, tmp_path: Path) -> None:
    back = tmp_path / "back"
    with waiting_process(path, back) as first:
        looks = [said(first) for _ in range(2)]
        assert [word for word, _ in looks] == ["look", "look"], "the second one as the one who holds the lock"
        with waiting_process(path, back) as second:
            assert said(second)[0] == "look"  # whether it is the API or its own request
            said(first)
            said(first)
            killed_at = circuit_breaker_worker.clock()
            first.kill()
            word, time = said(second)
            assert word == "look"
            assert time >= killed_at, "until then it has followed"
            back.touch()
            while word == "look":
                word, _ = said(second)
            assert word == "open"
            assert second.wait(10.0) == 0


# --- the file ---


@given(st.binary(max_size=64))
@example(bytes(17))
@example(bytes(4096))
@settings(deadline=None, max_examples=20)
def test_whatever_is_in_the_file_processes_wait_for_each_other_and_go_on_when_the_api_is_back(content: bytes) -> None:
    async def main() -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "api.sqlite"
            path.write_bytes(content)
            await Api(back_after=0.0).breaker(path, "before").wait()

            api = Api(back_after=200.0)

            async def one_process(name: str) -> float:
                assert await fail(api.breaker(path, name))
                return since(api)

            for seconds in await asyncio.gather(one_process("one"), one_process("other")):
                assert 200.0 <= seconds <= 270.0
            assert len({name for name, time in api.looks if time > 1.0}) == 1

    simulate(main())


def test_what_was_written_before_the_machine_started_counts_for_nothing(path: Path) -> None:
    async def main() -> tuple[bool, Api]:
        # The clock of another start of the machine, which ran for longer.
        before = Api().breaker(path, "before", clock=lambda: now() + 1e6)
        failing = task(fail(before))
        await asyncio.sleep(60.0)
        await kill(failing)

        started = Api(back_after=100.0)
        breaker = started.breaker(path)
        await breaker.wait()
        assert (since(started), started.looks) == (0.0, []), "the breaker is not closed"
        Api().breaker(path, "before", clock=lambda: now() + 1e6).answered()
        return await fail(breaker), started

    was_away, api = simulate(main())
    assert was_away, "and an answer of then is none of now"
    assert api.looks


def test_without_a_file_that_can_be_written_a_failure_is_still_told_from_an_api_that_is_away(path: Path) -> None:
    path.mkdir()

    async def main() -> tuple[bool, bool]:
        back, away = Api(back_after=0.0), Api(back_after=100.0)
        return await fail(back.breaker(path)), await fail(away.breaker(path))

    assert simulate(main()) == (False, True)
