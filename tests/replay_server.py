"""The simulated API in a process of its own for tests, at a free port of the loopback interface."""

import json
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.request import Request, urlopen

_STOP_SECONDS = 10


class ReplayServer:
    """`python -m simulator serve` over folders during a ``with`` block; further arguments as of that command.

    >>> with ReplayServer([folder], "--rate", "3/s") as server:
    ...     answer = requests.get(f"{server.url}/drivers")
    """

    url: str
    """Where the API is: ``http://127.0.0.1:PORT/v1``."""

    def __init__(self, folders: Path | str | Sequence[Path | str], *args: str) -> None:
        paths = [folders] if isinstance(folders, Path | str) else folders
        self._command = [
            sys.executable,
            "-m",
            "simulator",
            "serve",
            *map(str, paths),
            "--port",
            "0",
            *args,
        ]
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        # A pipe that nobody reads would stop the server once it is full.
        self._errors = tempfile.TemporaryFile("w+")
        process = subprocess.Popen(self._command, stdout=subprocess.PIPE, stderr=self._errors, text=True)
        self._process = process
        assert process.stdout is not None
        # An end of file instead of the line means that the server has ended, and its errors say why.
        line = process.stdout.readline()
        if not line.startswith("serving "):
            process.communicate()
            self._errors.seek(0)
            errors = self._errors.read().strip()
            self._errors.close()
            raise RuntimeError(f"the simulated API did not start: {errors}")
        self.url = line.removeprefix("serving ").strip()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.communicate(timeout=_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
        finally:
            self._errors.close()

    @property
    def pid(self) -> int:
        """The process id of the server."""
        assert self._process is not None
        return self._process.pid

    def log(self) -> list[dict[str, Any]]:
        """Return the requests so far, in order of arrival, without those to /_log and /_faults.

        at (when it arrived), seconds (both monotonic), method, path, query, status (0: none sent), bytes, and
        fault: null, one of `simulator.faults.KINDS`, or fail, lock-out, down.
        """
        with urlopen(self.url.removesuffix("/v1") + "/_log") as answer:
            log: list[dict[str, Any]] = json.load(answer)
        return log

    def faults(self, **changes: Any) -> dict[str, Any]:
        """Change what the server does wrong from now on, and return its fault settings.

        The names are the fields of `simulator.faults.FaultSettings`, and JSON their values:
        ``share=0.3, seed=2, kinds=["504"], fail={"laps": 500}, down=True``; ``lock_out`` is true, false or a text
        such as ``20-60``. Besides the settings: ``dealt``, faults by kind, and ``requests``, those under /v1.
        """
        body = json.dumps(changes).encode() if changes else None
        with urlopen(Request(self.url.removesuffix("/v1") + "/_faults", data=body)) as answer:
            settings: dict[str, Any] = json.load(answer)
        return settings


def asked(server: ReplayServer, since: int = 0) -> list[str]:
    """Return the endpoints that were asked for, a word a request, without the first ones; in order of arrival."""
    return [entry["path"].rpartition("/")[2] for entry in server.log()[since:] if entry["path"].startswith("/v1/")]


def most_requests(log: Sequence[Mapping[str, Any]], seconds: float) -> int:
    """Return how many requests under /v1 arrived within ``seconds`` of each other, at the busiest moment.

    >>> most_requests([{"path": "/v1/laps", "at": at} for at in (0.0, 0.5, 1.0)], 1.0)
    2
    """
    most = 0
    window = deque[float]()
    for at in sorted(one["at"] for one in log if one["path"].startswith("/v1/")):
        window.append(at)
        while at - window[0] >= seconds:
            window.popleft()
        most = max(most, len(window))
    return most
