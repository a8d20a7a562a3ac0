"""`verify` after loads of part of a session, of contradictory records, and by the earlier version."""

from __future__ import annotations

import gzip
import itertools
import json
import re
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler
from urllib.request import urlopen

import happybase
import pytest
from cli import Loader
from hbase_server import LocalHBase
from replay_server import ReplayServer
from threaded_http import listening
from verifying import differences, settings_of, simulate

from f1hbase.model.catalog import ENDPOINTS
from f1hbase.model.units import slice_time
from f1hbase.operations.verify.base import Depth
from f1hbase.operations.verify.differences import Kind
from f1hbase.stores.hbase.codec import checksum

_YEAR = 2025
_Cells = dict[bytes, bytes]


@dataclass(frozen=True)
class Small:
    """An API with one practice session."""

    loader: Loader
    hbase: LocalHBase
    api: ReplayServer
    session: str

    def under(self, prefix: str) -> Loader:
        """The command line with a table prefix."""
        return Loader(self.loader.folder, self.loader.environment | {"F1HBASE_TABLE_PREFIX": prefix})


@pytest.fixture(scope="module")
def small(hbase: LocalHBase, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Small]:
    folder = tmp_path_factory.mktemp("small")
    simulate(folder / "api", _YEAR, "--sessions", "practice", "--minutes", "20", "--drivers", "2")
    with ReplayServer(folder / "api") as api:
        environment = {
            "F1HBASE_HBASE_HOST": hbase.host,
            "F1HBASE_HBASE_PORT": str(hbase.port),
            "F1HBASE_API_URL": api.url,
            "XDG_STATE_HOME": str(folder / "state"),
        }
        (sessions,) = (folder / "api").rglob("sessions.jsonl.gz")
        session = json.loads(gzip.decompress(sessions.read_bytes()))["session_key"]
        yield Small(Loader(folder, environment), hbase, api, str(session))


@contextmanager
def stints_that_differ(api: ReplayServer) -> Iterator[str]:
    """An API like another one, which gives the first stint twice, with two values, in turns of their order."""
    asked = itertools.count()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with urlopen(api.url.removesuffix("/v1") + self.path) as answer:
                body = answer.read()
            if self.path.startswith("/v1/stints?"):
                first, *others = json.loads(body)
                both = [first, first | {"compound": "HARD"}]
                body = json.dumps([*(both if next(asked) % 2 else both[::-1]), *others]).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with listening(Handler) as url:
        yield f"{url}/v1"


@pytest.mark.hbase
@pytest.mark.parametrize("endpoint", ["laps", "meetings"])
def test_a_partial_load_is_all_that_is_expected(small: Small, table_prefix: str, endpoint: str) -> None:
    loader = small.under(table_prefix)
    loader.run("load", "--endpoint", endpoint, "--session-key", small.session)
    output = loader.run("verify")
    assert output.splitlines()[-1].startswith("OK: ")


@pytest.mark.hbase
def test_a_partial_load_of_which_the_meeting_was_asked_for_lacks_it(small: Small, table_prefix: str) -> None:
    loader = small.under(table_prefix)
    session = ["--session-key", small.session]
    loader.run("load", "--endpoint", "meetings", "--endpoint", "laps", *session)
    config = settings_of(small.hbase, table_prefix=table_prefix, api_url=small.api.url)
    assert differences(config, Depth()) == []
    connection = happybase.Connection(small.hbase.host, small.hbase.port)
    table = connection.table(f"{table_prefix}_f1_reports")
    for key, _ in list(table.scan(row_prefix=b"unit#")):
        if b"#meetings#" in key:
            table.delete(key)
    connection.close()
    (difference,) = differences(config, Depth())
    assert (difference.kind, difference.endpoint, difference.found) == (Kind.NEVER, "meetings", 1)


@pytest.mark.hbase
def test_a_record_that_lost_against_another_of_its_identity_is_named(small: Small, table_prefix: str) -> None:
    loader = small.under(table_prefix)
    with stints_that_differ(small.api) as url:
        loader.environment["F1HBASE_API_URL"] = url
        loader.run("load", "--endpoint", "stints", "--session-key", small.session, exit_code=1)
        # The same record stands whichever comes first, so that nothing differs.
        output = loader.run("verify", "--deep", "--against-api", "5")
    assert re.search(
        r"quarantine: 1 record; 'status' says where\n"
        r"identity: 1 record of those has the identity of a stored one and other values; see there:\n"
        rf"  quarantine#2025#\d+#{small.session}#stints#[0-9a-f]{{64}}\n",
        output,
    )
    assert "1 unit as openf1 has them" in output.splitlines()[-1]
    found = json.loads(loader.run("verify", "--json"))
    (session,) = (one for one in found["sessions"] if str(one["session_key"]) == small.session)
    assert (found["ok"], session["quarantined"], len(session["identity_conflicts"])) == (True, {"stints": 1}, 1)


@pytest.mark.hbase
def test_a_table_loaded_by_the_earlier_version_is_as_good(small: Small, table_prefix: str) -> None:
    loader = small.under(table_prefix)
    loader.run("load", "--year", str(_YEAR))
    _make_earlier(small.hbase, table_prefix)
    found = json.loads(loader.run("verify", "--deep", "--against-api", "200", "--json"))
    assert (found["ok"], found["differences"]) == (True, [])
    (session,) = (one for one in found["sessions"] if str(one["session_key"]) == small.session)
    # Two drivers, and twenty minutes in windows of fifteen.
    assert session["endpoints"]["location"]["units"] == {"done": 4}
    assert session["endpoints"]["location"]["found"] > 0
    assert all(not unit["error"] for unit in found["against_api"]["units"])
    # What that version left out is still missed.
    connection = happybase.Connection(small.hbase.host, small.hbase.port)
    table = connection.table(f"{table_prefix}_f1_reports")
    line = next(key for key, _ in table.scan(row_prefix=b"unit#") if b"#location#1#" in key)
    table.delete(line)
    connection.close()
    assert re.search(
        r"location session \d+ driver 1 .*: no report that it was loaded, but", loader.run("verify", exit_code=1)
    )


def _make_earlier(hbase: LocalHBase, prefix: str) -> None:
    """Rewrite the reports as the version of early 2026 wrote them: samples by driver in windows of 15 minutes.

    Its lines had no source and no epoch; those of samples named everybody who drove (`meta:entrants`). Its run rows had
    no `from` and no `to`.
    """
    connection = happybase.Connection(hbase.host, hbase.port)
    data, reports = (connection.table(f"{prefix}_f1_{name}") for name in ("data", "reports"))
    lines = dict(reports.scan())
    sampled: dict[str, tuple[bytes, _Cells]] = {}
    for key, cells in lines.items():
        reports.delete(key, columns=[b"meta:source", b"meta:epoch", b"meta:from", b"meta:to"])
        if key.startswith(b"unit#") and (b"#car_data#" in key or b"#location#" in key):
            sampled["#".join(key.decode().split("#")[1:5])] = (key, cells)
            reports.delete(key)
    for place, (_, cells) in sampled.items():
        *scope, endpoint = place.split("#")
        session = data.row("#".join(scope).encode())
        start, end = (
            datetime.fromisoformat(session[b"session:" + name].decode()) for name in (b"date_start", b"date_end")
        )
        family = ENDPOINTS[endpoint].family.encode()
        by_driver: dict[str, list[tuple[bytes, _Cells]]] = defaultdict(list)
        for row in data.scan(row_prefix=f"{'#'.join(scope)}#".encode(), columns=[family]):
            by_driver[row[0].decode().split("#")[3]].append(row)
        drivers = json.dumps(sorted(map(int, by_driver))).encode()
        for driver, rows in by_driver.items():
            for window in slice_time(start, end, timedelta(minutes=15)):
                mine = [row for row in rows if datetime.fromisoformat(row[0].decode().split("#")[4]) in window]
                edges = ["-" if edge is None else edge.isoformat() for edge in (window.start, window.end)]
                number = str(len(mine)).encode()
                reports.put(
                    "#".join(["unit", *scope, endpoint, driver, *edges]).encode(),
                    {
                        b"meta:status": b"done",
                        b"meta:run": cells[b"meta:run"],
                        b"meta:fetched": cells[b"meta:fetched"],
                        b"meta:drivers": f"[{driver}]".encode() if mine else b"[]",
                        b"meta:entrants": drivers,
                        b"stats:records": number, b"stats:rows": number,
                        b"stats:duplicates": b"0", b"stats:quarantined": b"0",
                        b"stats:bytes": b"1000", b"stats:attempts": b"1", b"stats:seconds": b"0.500",
                        b"stats:checksum": f"{sum(map(checksum, mine)) % 2**64:016x}".encode(),
                    },
                )  # fmt: skip
    connection.close()
