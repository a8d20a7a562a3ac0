"""A webhook: a server that is posted JSON to."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any, NamedTuple

from threaded_http import listening


class Post(NamedTuple):
    """What was posted: to which path, of which content type, and the object."""

    path: str
    type: str
    body: dict[str, Any]


@contextmanager
def webhook(keep: Callable[[Post], None], status_of: Callable[[str], int]) -> Iterator[str]:
    """Run one, and yield its address.

    Args:
        keep: Is given each post.
        status_of: Gives the status of the answer to a path; one of 307 says `Location: /elsewhere`.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            keep(Post(self.path, self.headers["Content-Type"], body))
            status = status_of(self.path)
            self.send_response(status)
            if status == 307:
                self.send_header("Location", "/elsewhere")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            return

    with listening(Handler) as url:
        yield url
