"""An API of a test's own: it answers with exactly the records that it is given, or with whatever the test says.

The simulator's server keeps each identity once and fails as OpenF1 is known to fail; this one does neither by itself.
"""

from __future__ import annotations

import csv
import io
import json
import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from time import monotonic
from typing import Any
from urllib.parse import unquote

from threaded_http import listening

Record = Mapping[str, Any]

_FILTER = re.compile(r"(\w+?)(>=|<=|>|<|=)(.*)")
_COMPARE = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}


@dataclass(frozen=True)
class Question:
    """One request."""

    endpoint: str
    query: str
    at: float

    @property
    def as_csv(self) -> bool:
        """Whether the answer is to be CSV."""
        return "csv=true" in self.query


@dataclass(frozen=True)
class Reply:
    """What is answered."""

    status: int
    body: str
    headers: Mapping[str, str] = field(default_factory=dict)


NO_RESULTS = Reply(
    500,
    "Traceback (most recent call last):\n"
    '  File "/app/query_api/app.py", line 12, in to_csv\n'
    '    raise ValueError("No results")\n'
    "ValueError: No results\n",
    {"Content-Type": "text/plain"},
)
"""What OpenF1's own software answers when CSV is asked for and there is no record (its query API, run unmodified)."""


class OwnApi:
    """The records of some endpoints, and how they are answered with; see `own_api`.

    Attributes:
        url: Where it is.
        records: What it has, by endpoint; may be changed at any time.
        intercept: Answers a question instead, where it returns something.
        log: The questions so far.
    """

    def __init__(self, records: Mapping[str, Sequence[Record]]) -> None:
        self.url = ""
        self.records = dict(records)
        self.intercept: Callable[[Question], Reply | None] = lambda _: None
        self.log: list[Question] = []

    def answer(self, question: Question) -> Reply:
        """Return what a question is answered with."""
        self.log.append(question)
        return self.intercept(question) or self._found(question)

    def asked(self, *endpoints: str) -> list[Question]:
        """Return the questions to some endpoints."""
        return [question for question in self.log if question.endpoint in endpoints]

    def _found(self, question: Question) -> Reply:
        found = [record for record in self.records.get(question.endpoint, []) if _matches(record, question.query)]
        if not question.as_csv:
            return Reply(200, json.dumps(found), {"Content-Type": "application/json"})
        return Reply(200, _csv(found), {"Content-Type": "text/csv"}) if found else NO_RESULTS


@contextmanager
def own_api(records: Mapping[str, Sequence[Record]]) -> Iterator[OwnApi]:
    """Serve records during a block, at a free port of the loopback interface."""
    api = OwnApi(records)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path, _, query = self.path.partition("?")
            reply = api.answer(Question(path.rpartition("/")[2], unquote(query), monotonic()))
            body = reply.body.encode()
            self.send_response(reply.status)
            for name, value in {**reply.headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with listening(Handler) as url:
        api.url = f"{url}/v1"
        yield api


def _matches(record: Record, query: str) -> bool:
    wanted: dict[str, set[str]] = {}
    for item in query.split("&"):
        found = _FILTER.fullmatch(item)
        if found is None or found[1] == "csv":
            continue
        name, sign, value = found.groups()
        if sign == "=":
            wanted.setdefault(name, set()).add(value)
        elif not _COMPARE[sign](_comparable(record.get(name)), _comparable(value)):
            return False
    return all(str(record.get(name)) in values for name, values in wanted.items())


def _comparable(value: Any) -> Any:
    """Return a number, or the seconds of a time, which is enough of it for whole ones."""
    text = str(value)
    return (0, int(text), "") if text.isdecimal() else (1, 0, text[:19])


def _csv(records: Sequence[Record]) -> str:
    names = sorted({name for record in records for name in record})
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(names)
    for record in records:
        values = (record.get(name) for name in names)
        writer.writerow(["" if v is None else v.replace("T", " ", 1) if isinstance(v, str) else v for v in values])
    return file.getvalue()
