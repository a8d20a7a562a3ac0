"""Client processes: each prepares what it needs, all begin at the same moment, each tells what it took."""

from __future__ import annotations

import gc
import multiprocessing
import signal
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from time import monotonic, process_time
from types import TracebackType
from typing import Protocol, Self

from benchmarks.errors import BenchmarkError
from benchmarks.measuring import forget_peak, peak_rss

_processes = multiprocessing.get_context("spawn")

Work = Callable[[], int]
"""What is timed; returns how many rows it has put."""


class Job(Protocol):
    """What one client process does; is sent to it."""

    def prepare(self) -> Work:
        """Make ready all that is not to be measured."""


@dataclass(frozen=True, slots=True)
class Done:
    """What a client took.

    Attributes:
        rows: How many rows it put.
        begun, ended: When, by the monotonic clock, which all processes share.
        cpu: Its processor seconds in between.
        peak: The most memory it had in between, in bytes, what was prepared included.
    """

    rows: int
    begun: float
    ended: float
    cpu: float
    peak: int


class Clients:
    """Processes that wait for their start, during a `with` block.

    Args:
        jobs: What each of them does.
    """

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._links: list[Connection] = []
        self._members = []
        for job in jobs:
            ours, theirs = _processes.Pipe()
            self._links.append(ours)
            self._members.append(_processes.Process(target=_run, args=(job, theirs), daemon=True))

    def __enter__(self) -> Self:
        try:
            for member in self._members:
                member.start()
            self._hear()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def go(self) -> list[Done]:
        """Let all of them begin, and return what each took."""
        for link in self._links:
            link.send("go")
        return [answer for answer in self._hear() if isinstance(answer, Done)]

    def _hear(self) -> list[object]:
        answers = []
        for link in self._links:
            try:
                answer = link.recv()
            except EOFError:
                raise BenchmarkError("a client process has ended") from None
            if isinstance(answer, str) and answer != "ready":
                raise BenchmarkError(f"a client process failed: {answer}")
            answers.append(answer)
        return answers

    def _end(self) -> None:
        for member in self._members:
            if member.pid is not None:
                member.kill()
                member.join()


def _run(job: Job, link: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the benchmark ends its clients itself
    try:
        work = job.prepare()
        # What was prepared is not the contender's, so its collections of garbage need not look at it.
        gc.collect()
        gc.freeze()
        forget_peak()
        link.send("ready")
        link.recv()
        begun, cpu = monotonic(), process_time()
        rows = work()
        link.send(Done(rows, begun, monotonic(), process_time() - cpu, peak_rss()))
    except Exception:  # noqa: BLE001 - whatever it is, the parent tells it
        link.send(traceback.format_exc())
