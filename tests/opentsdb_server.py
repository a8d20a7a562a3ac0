"""A server in a process of its own that takes `/api/put` as OpenTSDB does, and refuses what OpenTSDB refuses."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.request import urlopen

_NAME = re.compile(r"[A-Za-z0-9\-_./]+")
_MOST_TAGS = 8
"""`tsd.storage.max_tags`, as it is by default."""


def fault_of(point: Any) -> str | None:
    """Return what OpenTSDB would refuse of a point."""
    if not isinstance(point, dict) or point.keys() != {"metric", "timestamp", "value", "tags"}:
        return "not the fields of a point"
    texts = [point["metric"], *point["tags"], *point["tags"].values()]
    if not all(isinstance(text, str) and _NAME.fullmatch(text) for text in texts):
        return "a name or tag that is not allowed"
    if not 1 <= len(point["tags"]) <= _MOST_TAGS:
        return "no tag, or too many"
    if type(point["timestamp"]) is not int or not 0 < point["timestamp"] < 2**32:
        return "no time in seconds"
    return None if type(point["value"]) in (int, float) and math.isfinite(point["value"]) else "no number"


class _Handler(BaseHTTPRequestHandler):
    points: list[Any] = []  # noqa: RUF012 - of the one server there is
    hangs = False

    def do_GET(self) -> None:
        self.answer(200, self.points)

    def do_POST(self) -> None:
        if self.hangs:
            time.sleep(600)
        points = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        faults = [fault for fault in map(fault_of, points) if fault is not None]
        if not faults and self.path.startswith("/api/put"):
            self.points.extend(points)
        self.answer(
            400 if faults else 200, {"success": len(points) - len(faults), "failed": len(faults), "errors": faults}
        )

    def answer(self, status: int, content: Any) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        return


class OpenTsdbServer:
    """The server, during a ``with`` block.

    Args:
        hangs: Whether it takes points and never answers.
    """

    address: str
    """``127.0.0.1:PORT``."""

    def __init__(self, *, hangs: bool = False) -> None:
        self._command = [sys.executable, __file__, *(["hang"] if hangs else [])]

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.address = self._process.stdout.readline().strip()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def points(self) -> list[dict[str, Any]]:
        """Return the points that were taken."""
        with urlopen(f"http://{self.address}/") as answer:
            points: list[dict[str, Any]] = json.load(answer)
            return points


if __name__ == "__main__":
    _Handler.hangs = sys.argv[1:] == ["hang"]
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    sys.stdout.write(f"127.0.0.1:{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()
