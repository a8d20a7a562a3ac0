"""Which process holds a lease, so that another process of the same machine can tell whether it still lives.

A host name and a process number are not enough: containers may share the name, and each has a process 1. What a process
sees of the machine is told apart by the machine's boot and by the namespace that its process numbers belong to.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import psutil

_CLOCK_SECONDS = 2.0
"""When a process began is worked out from the clock, which may have been set by a little since."""


@cache
def process_space() -> str:
    """Return what is the same for all processes that see each other's numbers, and for no others.

    On Linux the boot's random number and the inode of the process namespace; elsewhere, where containers share no
    kernel with their host, the host's name and the minute of its boot.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{Path('/proc/self/ns/pid').readlink()}"
    except (OSError, UnicodeDecodeError):
        return f"{socket.gethostname()}/{int(psutil.boot_time()) // 60}"


@dataclass(frozen=True, slots=True)
class Holder:
    """A process: where its number counts, its number, and when it began, as the number is given again later."""

    space: str
    pid: int
    began: float

    @classmethod
    def of(cls, pid: int | None = None) -> Holder:
        """Describe a process of this machine, this one unless another is named.

        Raises:
            psutil.NoSuchProcess: If there is none of that number.
        """
        number = os.getpid() if pid is None else pid
        return cls(process_space(), number, psutil.Process(number).create_time())

    @classmethod
    def parse(cls, content: Mapping[str, Any]) -> Holder:
        """Return the holder that `asdict` made this of.

        Raises:
            KeyError, TypeError, ValueError: If it did not.
        """
        return cls(str(content["space"]), int(content["pid"]), float(content["began"]))

    @property
    def is_here(self) -> bool:
        """Whether this process can see whether it lives."""
        return self.space == process_space()

    def is_alive(self) -> bool:
        """Return whether it runs; only to be asked where `is_here`."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.began) < _CLOCK_SECONDS
            return same and process.status() != psutil.STATUS_ZOMBIE
        except (psutil.NoSuchProcess, ValueError):  # nor can there be a process of a negative number
            return False
        except psutil.AccessDenied:
            return True
