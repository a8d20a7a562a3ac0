"""A load through an API that fails in every way it can: nothing is lost, no limit is exceeded, and it ends.

`tests/faults/api_faults.py` is the long form, with more seeds.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from cli import Loader, read_until
from faults.api_faults import check_limits, loader_for, rate_option, simulate
from hbase_server import LocalHBase
from replay_server import ReplayServer
from tables import reports, rows_by_family, scan, source_identities, values

pytestmark = pytest.mark.hbase

MakeLoader = Callable[..., Loader]


@pytest.fixture(scope="module")
def meetings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four simulated meetings, for four processes."""
    folder = tmp_path_factory.mktemp("meetings")
    simulate(folder, meetings=4, minutes=1, drivers=3)
    return folder


@pytest.fixture(scope="module")
def truth(
    hbase: LocalHBase, meetings: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[bytes, dict[bytes, bytes]]:
    """The table of a load without failures."""
    with ReplayServer(meetings) as server:
        loader_for(hbase, tmp_path_factory.mktemp("truth"), server.url, "unspoilt", rate="none").run()
    return values(scan(hbase.port, "unspoilt_f1_data"))


@pytest.fixture
def load(hbase: LocalHBase, tmp_path: Path, table_prefix: str) -> MakeLoader:
    """Makes a loader with tables of its own."""
    return lambda url, **settings: loader_for(hbase, tmp_path, url, table_prefix, **settings)


@pytest.fixture
def table(hbase: LocalHBase, table_prefix: str) -> Callable[[], dict[bytes, dict[bytes, bytes]]]:
    return lambda: values(scan(hbase.port, f"{table_prefix}_f1_data"))


@pytest.mark.parametrize(("seed", "window"), [(1, "30s"), (2, "auto")])
def test_with_a_third_of_all_answers_spoilt_the_table_is_the_same_and_no_limit_exceeded(
    load: MakeLoader, table: Callable[[], object], truth: object, meetings: Path, seed: int, window: str
) -> None:
    # A 429 that does not say how long costs ten seconds each, by policy; the long form has them.
    kinds = "500,502,503,504,cut,broken,html,object,closed,reset,429,429-date,silent"
    faults = ["--faults", "0.3", "--fault-seed", str(seed), "--fault-kinds", kinds, "--rate", rate_option()]
    with ReplayServer(meetings, *faults) as server:
        load(server.url, window=window, request_timeout="1s").run()
        assert sum(server.faults()["dealt"].values()) > 20
        assert check_limits(server) == []
    assert table() == truth


def test_an_api_that_is_away_for_a_while_is_waited_for_by_all_together(
    load: MakeLoader, table: Callable[[], object], truth: object, meetings: Path
) -> None:
    with ReplayServer(meetings) as server:
        loader = load(server.url, max_retries="0")
        with loader.start() as process:
            assert process.stdout is not None
            _wait_for(server, requests=30)
            server.faults(down=True)
            # Each line of an outage comes from the one process that looks for all.
            output = read_until(process, "the API is away")
            server.faults(down=False)
            output += process.stdout.read()
        assert process.returncode == 0, output
    assert table() == truth


def test_an_api_that_stays_away_ends_the_run_with_3_and_the_next_run_goes_on(
    load: MakeLoader, table: Callable[[], object], truth: object, meetings: Path
) -> None:
    with ReplayServer(meetings) as server:
        loader = load(server.url, patience="1s")
        with loader.start() as process:
            assert process.stdout is not None
            _wait_for(server, requests=30)
            server.faults(down=True)
            output = process.stdout.read()
        assert process.returncode == 3, output
        assert "the API is away" in output
        server.faults(down=False)
        assert "all that was asked for is loaded" in loader.run()
    assert table() == truth


def test_a_live_session_closes_the_api_and_the_run_waits_until_it_is_over(
    load: MakeLoader, table: Callable[[], object], truth: object, meetings: Path
) -> None:
    with ReplayServer(meetings) as server:
        # Patience is for an API that is away; a session takes as long as it takes.
        loader = load(server.url, patience="1s", max_retries="0")
        with loader.start() as process:
            assert process.stdout is not None
            _wait_for(server, requests=30)
            server.faults(lock_out=True)
            output = read_until(process, "closed while a session is live")
            server.faults(lock_out=False)
            output += process.stdout.read()
        assert process.returncode == 0, output
    assert table() == truth


def test_an_endpoint_that_fails_for_ever_is_named_and_everything_else_loaded(
    load: MakeLoader, hbase: LocalHBase, table_prefix: str, meetings: Path
) -> None:
    with ReplayServer(meetings, "--fail", "location") as server:
        loader = load(server.url, max_retries="1", rate="none", retry_delay="0")
        output = loader.run(exit_code=1)
        asked = [entry for entry in server.log() if entry["path"].endswith("/location")]
    expected = source_identities(meetings)
    units = reports(hbase.port, table_prefix, "unit")
    failed = [key for key, cells in units.items() if cells["meta:status"] == "failed"]
    assert {key.split("#")[4] for key in failed} == {"location"}
    sessions = {key.split("#")[3] for key in failed}
    assert len(asked) < 2 * 24 * len(sessions), "in each of two passes three windows of a session, and not the rest"
    assert "not loaded: location session" in output
    del expected["location"]
    assert rows_by_family(scan(hbase.port, f"{table_prefix}_f1_data")) == expected


def test_what_is_too_much_for_one_answer_is_asked_for_in_parts(
    load: MakeLoader, table: Callable[[], object], truth: object, meetings: Path
) -> None:
    with ReplayServer(meetings, "--max-rows", "60") as server:
        load(server.url, rate="none").run()
    assert table() == truth


def test_with_a_subscription_the_lock_out_does_not_matter(
    load: MakeLoader, table: Callable[[], object], truth: object, meetings: Path
) -> None:
    with ReplayServer(meetings, "--username", "ayrton", "--password", "secret-word") as server:
        server.faults(lock_out=True)
        loader = load(server.url, api_username="ayrton", api_password="secret-word")
        output = loader.run()
    assert table() == truth
    assert "secret-word" not in output + loader.log


def _wait_for(server: ReplayServer, *, requests: int) -> None:
    """Return when the server has had so many requests; each look is one of the server's own pages."""
    while server.faults()["requests"] < requests:
        pass
