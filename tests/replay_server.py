"""A replay server of its own process for tests, at a free port of the loopback interface."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.request import urlopen

_STOP_SECONDS = 10


class ReplayServer:
    """Serves folders of ``<endpoint>.jsonl[.gz]`` during a ``with`` block; further arguments as of ``serve``.

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
            "f1hbase.replay",
            "serve",
            *map(str, paths),
            "--port",
            "0",
            *args,
        ]
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        process = subprocess.Popen(self._command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self._process = process
        assert process.stdout is not None
        # An end of file instead of the line means that the server has ended, and its errors say why.
        line = process.stdout.readline()
        if not line.startswith("serving "):
            _, errors = process.communicate()
            raise RuntimeError(f"the replay server did not start: {errors.strip()}")
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

    @property
    def pid(self) -> int:
        """The process id of the server."""
        assert self._process is not None
        return self._process.pid

    def log(self) -> list[dict[str, Any]]:
        """Return the requests so far: at, seconds (monotonic), method, path, query, status, bytes."""
        with urlopen(self.url.removesuffix("/v1") + "/_log") as answer:
            log: list[dict[str, Any]] = json.load(answer)
        return log
