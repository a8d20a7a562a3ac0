"""Processor time and memory of processes, and what one run of a contender is described by."""

from __future__ import annotations

import resource
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Self

import psutil

MB = 1_000_000

_LOOK_SECONDS = 0.2
_LOOKS_A_SIZE = 3
"""After how many looks at processor times the memory is looked at, which takes the kernel ten times as long."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """One run of a contender.

    Attributes:
        rows: How many rows it put.
        seconds: How long that took.
        cpu: Processor seconds, user and system: of all `clients` together, and of each server by its name.
        peak: The most memory (RSS, bytes) that one process had, by kind of process.
        notes: Further numbers of this kind of contender.
    """

    rows: int
    seconds: float
    cpu: Mapping[str, float] = field(default_factory=dict)
    peak: Mapping[str, int] = field(default_factory=dict)
    notes: Mapping[str, float] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Rows a second."""
        return self.rows / self.seconds


class CpuClock:
    """Says how much processor time processes have used since it was made.

    Args:
        pids: The processes, by name.
    """

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._processes = {name: psutil.Process(pid) for name, pid in pids.items()}
        self._before = {name: _cpu(process) for name, process in self._processes.items()}

    def spent(self) -> dict[str, float]:
        """Return the seconds of each process, its children not included."""
        return {name: _cpu(process) - self._before[name] for name, process in self._processes.items()}


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def children_cpu() -> float:
    """Return the processor seconds of all child processes that have been waited for, and of theirs."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def forget_peak() -> None:
    """Let the peak of this process begin anew, where the system can do that."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_rss() -> int:
    """Return the most memory that this process has had, in bytes."""
    return _high_water("self") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
        1 if sys.platform == "darwin" else 1024
    )


def _high_water(pid: int | str) -> int:
    """Return VmHWM in bytes; 0 where there is none. `ru_maxrss` would be that of the parent after a fork, too."""
    with suppress(OSError, ValueError):
        for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


@dataclass(slots=True)
class Course:
    """The memory of one process over time.

    Attributes:
        kind: `parent` or `worker`.
        at: When it was looked at, in seconds.
        rss: What it had then, in bytes.
        peak: The most it ever had, in bytes.
    """

    kind: str
    at: list[float] = field(default_factory=list)
    rss: list[int] = field(default_factory=list)
    peak: int = 0


class _Watch:
    """Looks at a process from a thread, during a `with` block."""

    def __init__(self, pid: int) -> None:
        self._root = psutil.Process(pid)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        raise NotImplementedError


class MemoryWatch(_Watch):
    """Watches the memory of a process and its children, from a thread, during a `with` block.

    Args:
        pid: The process.
        seconds: How often it looks.
    """

    def __init__(self, pid: int, seconds: float) -> None:
        super().__init__(pid)
        self._seconds = seconds
        self._begun = monotonic()
        self.courses: dict[int, Course] = {}

    def peaks(self) -> dict[str, int]:
        """Return the highest peak of each kind of process."""
        peaks: dict[str, int] = {}
        for course in self.courses.values():
            peaks[course.kind] = max(peaks.get(course.kind, 0), course.peak)
        return peaks

    def _watch(self) -> None:
        while not self._stop.wait(self._seconds):
            with suppress(psutil.Error):
                self._look(self._root, "parent")
                for child in self._root.children():
                    with suppress(psutil.Error):
                        self._look(child, "worker")

    def _look(self, process: psutil.Process, kind: str) -> None:
        # A load may have other children, too; only its workers are of interest.
        if kind == "worker" and process.pid not in self.courses and not _is_worker(process):
            return
        rss = process.memory_info().rss
        course = self.courses.setdefault(process.pid, Course(kind))
        course.at.append(monotonic() - self._begun)
        course.rss.append(rss)
        course.peak = max(course.peak, rss, _high_water(process.pid))


def _is_worker(process: psutil.Process) -> bool:
    return any("f1hbase.pipeline.worker" in argument for argument in process.cmdline())


class TreeWatch(_Watch):
    """Watches a process and all below it, from a thread, during a `with` block.

    Args:
        pid: The process.

    Attributes:
        peak: The most memory (PSS, bytes) that all had together: what several share is counted once.
    """

    def __init__(self, pid: int) -> None:
        super().__init__(pid)
        self._cpu: dict[int, float] = {}
        self.peak = 0

    @property
    def cpu(self) -> float:
        """Processor seconds of all, those that have ended included, up to the last look at each."""
        return sum(self._cpu.values())

    def _watch(self) -> None:
        looks = 0
        while not self._stop.wait(_LOOK_SECONDS):
            looks += 1
            with suppress(psutil.Error):
                tree = [self._root, *self._root.children(recursive=True)]
                self._look(tree, with_memory=looks % _LOOKS_A_SIZE == 0)

    def _look(self, tree: Sequence[psutil.Process], *, with_memory: bool) -> None:
        total = 0
        for process in tree:
            with suppress(psutil.Error):
                self._cpu[process.pid] = _cpu(process)
                if with_memory:
                    total += process.memory_full_info().pss
        self.peak = max(self.peak, total)
